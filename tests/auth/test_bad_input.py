"""Every strategy and every sort of bad input: refused without a trace, or harmless.

What a reviewer of the strategies would try first.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos import auth
from dromos.dialers._request import Request
from dromos.errors import PermanentError
from dromos.model import Handshake
from tests.auth.support import CANARY, applied, refused, shows_nothing

# strategy, credentials, settings
GOOD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("oauth2", {"access_token": "t"}, {}),
    ("header", {"api_key": "k"}, {}),
    ("header", {"k": "k"}, {"header_name": "X", "credential_field": "k", "value_prefix": "P "}),
    ("api_key", {"api_key": "k"}, {}),
    ("query_param", {"api_key": "k"}, {"param_name": "p"}),
    ("basic_auth", {"username": "u", "password": "p"}, {}),
    ("hmac_payload", {"api_secret": "s"}, {"header_name": "X-Sig"}),
    ("hmac", {"s": "s"}, {"header_name": "X-Sig", "secret_field": "s", "algo": "sha1"}),
    ("aws_sigv4", {"access_key": "a", "secret_key": "s"}, {"service": "x"}),
    ("aws_sigv4", {"access_key": "a", "secret_key": "s"}, {"service": "s3", "presign": True}),
    ("subprotocol", {"access_token": "t"}, {}),
    ("subprotocol", {"t": "t"}, {"credential_field": "t", "encoding": "base64url"}),
    ("cookie", {"session": "s"}, {"cookie_name": "sid"}),
    ("headers", {"a": "1", "b": "2"}, {"headers": {"A": "{a}", "B": "{b}"}}),
    ("first_message", {"access_token": "t"}, {}),
    ("first_message", {"t": "t"}, {"template": "AUTH {t}"}),
]
FIELDS = [
    pytest.param(kind, credentials, config, field, id=f"{number}-{kind}-{field}")
    for number, (kind, credentials, config) in enumerate(GOOD)
    for field in credentials
]
KINDS_BEYOND_ASCII = {"query_param", "basic_auth", "hmac_payload", "hmac", "first_message"}


def test_every_strategy_is_here():
    assert set(auth._strategies) - {"dpop"} == {kind for kind, _, _ in GOOD}


@pytest.mark.parametrize(("kind", "credentials", "config"), GOOD)
def test_the_good_input_is_good(kind: str, credentials: dict[str, Any], config: dict[str, Any]):
    made = applied(kind, credentials, config)

    assert Request.of(made)


@pytest.mark.parametrize(("kind", "credentials", "config", "field"), FIELDS)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "is missing"),
        ("", "is empty or not a string"),
        (7, "is empty or not a string"),
        (True, "is empty or not a string"),
        ([CANARY], "is empty or not a string"),
        ({"a": CANARY}, "is empty or not a string"),
        (CANARY.encode(), "is empty or not a string"),
        (f"{CANARY}\n", "holds a line break or another control character"),
        (f"CAN\r\nX: {CANARY}", "holds a line break or another control character"),
        (f"{CANARY}\0", "holds a line break or another control character"),
        (f"{CANARY}\x85", "holds a line break or another control character"),
        (f"{CANARY}\u2028", "holds a line break or another control character"),
        (f"{CANARY}\ud800", "holds a line break or another control character"),
        (CANARY * 100_000, "is longer than 16384 characters"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_4_a_bad_credential_is_refused_by_name(
    kind: str,
    credentials: dict[str, Any],
    config: dict[str, Any],
    field: str,
    value: Any,
    problem: str,
):
    bad = dict.fromkeys(credentials, CANARY) | {field: value}

    message = refused(kind, bad, config)

    assert message.startswith(f"credential field {field!r}")
    assert message.endswith(problem)


@pytest.mark.parametrize(("kind", "credentials", "config", "field"), FIELDS)
def test_4_a_credential_beyond_ascii_is_refused_where_it_can_t_be_sent(
    kind: str, credentials: dict[str, Any], config: dict[str, Any], field: str
):
    bad = credentials | {field: f"{CANARY}é"}

    if kind in KINDS_BEYOND_ASCII or config.get("encoding") == "base64url":
        assert Request.of(applied(kind, bad, config))
    else:
        refused(kind, bad, config)


@pytest.mark.parametrize(("kind", "credentials", "config"), GOOD)
def test_no_credentials_at_all_are_refused(
    kind: str, credentials: dict[str, Any], config: dict[str, Any]
):
    assert f"credential field {next(iter(credentials))!r}" in refused(kind, {}, config)


SETTINGS = (
    "header_name", "credential_field", "value_prefix", "param_name", "username_field",
    "password_field", "secret_field", "algo", "encoding", "service", "region", "presign",
    "expires", "sign_session_token", "single_encoding", "protocol", "cookie_name", "template",
    "headers",
)  # fmt: skip
TEXTS = st.text() | st.sampled_from(
    [
        "Host",
        "Sec-WebSocket-Key",
        "X\r\nEvil: 1",
        "a&b",
        "a\0",
        "\ud800",
        "a{a}\ud800",
        "{access_token}",
        "{a}",
        "{",
        "s3",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def harmless(made: Handshake) -> bool:
    """Whether a dialer would send a handshake, to where it was to go."""
    request = Request.of(made)
    names = [name.lower() for name, _ in request.headers]
    return request.origin == "wss://far.example:443" and len(names) == len(set(names))


@pytest.mark.parametrize(("kind", "credentials", "config"), GOOD)
@given(changes=st.dictionaries(st.sampled_from(SETTINGS), JSON), value=TEXTS)
def test_21_whatever_the_settings_it_is_harmless_or_refused(
    kind: str,
    credentials: dict[str, Any],
    config: dict[str, Any],
    changes: dict[str, Any],
    value: str,
):
    held = credentials | {"access_token": CANARY, "a": value}

    try:
        made = applied(kind, held, config | changes)
    except PermanentError as error:
        refusal = error
    else:
        assert harmless(made)
        return
    assert shows_nothing(refusal)
    assert "failed (" not in str(refusal)


BAD_SETTINGS: tuple[Any, ...] = (
    None, "", 7, -1, 1.5, True, False, [], {}, [3], [""], {"": ""}, {3: "x"}, {"X": 3}, b"x",
    "a\r\nX: 1", "\0", "é", "\ud800", "X\ud800", "Host", "a b", "a&b", "a/b", "{", "{}", "{\ud800}",
    "{missing}", {"Host": "x"}, {"X\r\n": "x"}, {"X": "a\r\nb"}, {"X": "{"}, ["\ud800"], ["{"],
    "x" * 2**20, "\n" * 2**20, {"x" * 2**20: "{" + "y" * 2**20 + "}"}, ["{" + "y" * 2**20 + "}"],
)  # fmt: skip


@pytest.mark.parametrize(("kind", "credentials", "config"), GOOD)
@pytest.mark.parametrize("key", SETTINGS)
def test_21_a_bad_setting_is_harmless_or_refused(
    kind: str, credentials: dict[str, Any], config: dict[str, Any], key: str
):
    for value in BAD_SETTINGS:
        try:
            made = applied(kind, credentials, config | {key: value})
        except PermanentError as error:
            refusal = error
        else:
            assert harmless(made)
            continue
        assert str(refusal).isprintable()
        assert 400 > len(str(refusal))
        assert "failed (" not in str(refusal)


def test_a_strategy_of_a_megabyte_is_not_shown():
    with pytest.raises(PermanentError) as caught:
        applied("x" * 2**20, {})

    assert 200 > len(str(caught.value))
