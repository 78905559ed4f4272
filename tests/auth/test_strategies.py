"""The strategies, row by row of the Go library's, and what they must refuse."""

from typing import Any

import pytest

from dromos import auth
from dromos.errors import PermanentError, TokenError
from dromos.model import AuthStrategy, Handshake, Token

URL = "wss://far.example/ws"
CANARY = "CANARY-5f3a"


def applied(
    kind: str,
    credentials: dict[str, Any],
    config: dict[str, Any] | None = None,
    *,
    url: str = URL,
    headers: tuple[tuple[str, str], ...] = (),
) -> Handshake:
    token = Token(credentials, strategy=AuthStrategy(kind, config or {}))
    return auth.apply(Handshake(url=url, headers=headers), token, 0.0)


def refused(kind: str, credentials: dict[str, Any], config: dict[str, Any] | None = None) -> str:
    with pytest.raises(PermanentError) as caught:
        applied(kind, credentials, config)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__context__ is None
    return str(caught.value)


# --- The rows of `TestApplyAuthentication` --------------------------------------------------------


def test_row_header_auth_default():
    """Only `credential_field` set: the raw value in `Authorization`, no prefix."""
    made = applied("header", {"token": "abc"}, {"credential_field": "token"})

    assert (("Authorization", "abc"),) == made.headers


def test_row_header_auth_custom():
    made = applied(
        "header",
        {"token": "abc-123"},
        {"header_name": "X-API-Key", "credential_field": "token", "value_prefix": "Token "},
    )

    assert (("X-API-Key", "Token abc-123"),) == made.headers


def test_row_query_param_auth():
    made = applied(
        "query_param", {"key": "xyz-987"}, {"param_name": "auth_token", "credential_field": "key"}
    )

    assert f"{URL}?auth_token=xyz-987" == made.url
    assert () == made.headers


def test_row_basic_auth():
    made = applied(
        "basic_auth",
        {"u": "bob", "p": "secret"},
        {"username_field": "u", "password_field": "p"},
    )

    assert (("Authorization", "Basic Ym9iOnNlY3JldA=="),) == made.headers


def test_row_oauth2():
    made = applied("oauth2", {"access_token": "oauth-token-123"}, {"header_name": "X-Ignored"})

    assert (("Authorization", "Bearer oauth-token-123"),) == made.headers


def test_row_error_basic_auth_missing_credentials():
    assert "credential field 'username' (username) is missing" == refused("basic_auth", {})
    assert "credential field 'pw' (password) is missing" == refused(
        "basic_auth", {"username": CANARY}, {"password_field": "pw"}
    )


def test_row_error_query_auth_missing_param_name():
    assert "config 'param_name' is required for query auth strategy" == refused(
        "query_param", {"api_key": CANARY}
    )


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("magic_wand", "magic_wand"), ("", ""), ("api_key", "api_key"), ("a\nb", r"'a\nb'")],
    ids=ascii,
)
def test_row_error_unsupported_strategy(kind: str, shown: str):
    assert f"unsupported auth strategy type: {shown}" == refused(kind, {"api_key": CANARY})


# --- Defaults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [{}, {"header_name": ""}, {"header_name": 3}, {"header_name": None}], ids=repr
)
def test_a_setting_that_is_empty_or_of_another_type_counts_as_absent(config: dict[str, Any]):
    assert (("Authorization", "k"),) == applied("header", {"api_key": "k"}, config).headers


@pytest.mark.parametrize("name", ["", 3, None, []], ids=repr)
def test_a_parameter_name_that_is_empty_or_of_another_type_counts_as_absent(name: Any):
    assert "is required" in refused("query_param", {"api_key": CANARY}, {"param_name": name})


def test_basic_auth_speaks_utf_8():
    made = applied("basic_auth", {"username": "bjørn", "password": "påss"})

    assert (("Authorization", "Basic YmrDuHJuOnDDpXNz"),) == made.headers


def test_a_header_replaces_the_one_of_the_same_name():
    made = applied("header", {"api_key": "k"}, headers=(("authorization", "old"), ("X", "1")))

    assert (("X", "1"), ("Authorization", "k")) == made.headers


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://h/ws", "wss://h/ws?key=s+%26%3D%2B"),
        ("wss://h/ws?b=2&a=1&a=0", "wss://h/ws?a=1&a=0&b=2&key=s+%26%3D%2B"),
        ("wss://h/ws?zz", "wss://h/ws?key=s+%26%3D%2B&zz="),
        ("wss://h/ws?key=old", "wss://h/ws?key=old&key=s+%26%3D%2B"),
        ("wss://h?q=%ff%20x", "wss://h?key=s+%26%3D%2B&q=%FF+x"),
    ],
)
def test_a_query_parameter_is_added_and_the_query_is_sorted(url: str, expected: str):
    made = applied("query_param", {"api_key": "s &=+"}, {"param_name": "key"}, url=url)

    assert expected == made.url


def test_a_query_strategy_does_not_show_its_value():
    made = applied("query_param", {"api_key": CANARY}, {"param_name": "key"})

    assert CANARY not in repr(made)


# --- 4, 21: what is refused -----------------------------------------------------------------------

KINDS = [
    ("oauth2", "access_token", {}, "credential field 'access_token'"),
    ("header", "api_key", {}, "credential field 'api_key'"),
    ("header", "k", {"credential_field": "k"}, "credential field 'k'"),
    ("query_param", "api_key", {"param_name": "p"}, "credential field 'api_key'"),
    ("basic_auth", "username", {}, "credential field 'username' (username)"),
]


@pytest.mark.parametrize(("kind", "field", "config", "named"), KINDS)
def test_a_missing_credential_is_named(kind: str, field: str, config: dict[str, Any], named: str):
    assert f"{named} is missing" == refused(kind, {"other": CANARY}, config)
    assert f"{named} is missing" == refused(kind, {field: None}, config)


@pytest.mark.parametrize(("kind", "field", "config", "named"), KINDS)
@pytest.mark.parametrize("value", ["", 7, True, [CANARY], {"a": CANARY}], ids=repr)
def test_an_empty_credential_or_one_that_is_no_string_is_named(
    kind: str, field: str, config: dict[str, Any], named: str, value: Any
):
    assert f"{named} is empty or not a string" == refused(kind, {field: value}, config)


@pytest.mark.parametrize(("kind", "field", "config", "named"), KINDS)
@pytest.mark.parametrize(
    "value",
    [f"{CANARY}\n", f"CAN\r\nX: {CANARY}", f"{CANARY}\0", f"{CANARY}\x85", f"{CANARY}\ud800"],
    ids=ascii,
)
def test_4_a_credential_with_a_control_character_is_refused(
    kind: str, field: str, config: dict[str, Any], named: str, value: str
):
    assert refused(kind, {field: value}, config).startswith(f"{named} holds")


@pytest.mark.parametrize("value", [f"{CANARY} x", f"{CANARY}é"])
def test_4_a_bearer_token_with_a_space_or_beyond_ascii_is_refused(value: str):
    refused("oauth2", {"access_token": value})


def test_4_a_header_value_beyond_ascii_is_refused():
    assert "no header may hold" in refused("header", {"api_key": f"{CANARY}é"})


def test_an_empty_password_is_an_error():
    assert "credential field 'password' (password) is empty or not a string" == refused(
        "basic_auth", {"username": CANARY, "password": ""}
    )


@pytest.mark.parametrize(
    "name",
    ["Host", "host", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding",
     "Sec-WebSocket-Key", "sec-websocket-protocol", "Sec-WebSocket-Anything"],
)  # fmt: skip
def test_21_a_header_of_the_protocol_is_refused(name: str):
    assert "belongs to the protocol" in refused(
        "header", {"api_key": CANARY}, {"header_name": name}
    )


@pytest.mark.parametrize(
    "name", ["X\r\nEvil", "X:", "X Y", "Ü", "X\0", "x" * 300], ids=lambda name: f"{name!a:.9}"
)
def test_21_a_header_name_that_is_none_is_refused(name: str):
    assert "is not an HTTP field name" in refused(
        "header", {"api_key": CANARY}, {"header_name": name}
    )


def test_21_a_prefix_can_t_smuggle_a_header_in():
    assert "no header may hold" in refused(
        "header", {"api_key": CANARY}, {"value_prefix": "Tok\r\nHost: evil "}
    )


@pytest.mark.parametrize("name", ["a&b", "a=b", "a#b", "a b", "a\nb", "a?b", "a%26b", "a+b", "a;b"])
def test_21_a_parameter_name_that_changes_the_query_is_refused(name: str):
    assert "param_name" in refused("query_param", {"api_key": CANARY}, {"param_name": name})


# --- The registry ---------------------------------------------------------------------------------


@pytest.fixture
def strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_strategies", dict(auth._strategies))


@pytest.mark.usefixtures("strategies")
def test_a_registered_strategy_is_used_and_gets_the_time():
    def mine(handshake: Handshake, token: Token, now: float) -> Handshake:
        return handshake.with_header("X-Signed", f"{token.credentials['a']}@{now:g}")

    auth.register("mine", mine)
    token = Token({"a": "b"}, strategy=AuthStrategy("mine"))

    made = auth.apply(Handshake(url=URL), token, 17.0)

    assert (("X-Signed", "b@17"),) == made.headers


@pytest.mark.usefixtures("strategies")
def test_a_strategy_that_breaks_is_permanent_and_keeps_its_cause():
    def broken(handshake: Handshake, token: Token, now: float) -> Handshake:
        raise ZeroDivisionError(CANARY)

    auth.register("broken", broken)

    with pytest.raises(PermanentError, match=r"'broken' failed \(ZeroDivisionError\)") as caught:
        applied("broken", {"a": "b"})

    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert CANARY not in str(caught.value)


@pytest.mark.usefixtures("strategies")
def test_a_strategy_s_own_error_passes_unchanged():
    error = TokenError("not yet")

    def unready(handshake: Handshake, token: Token, now: float) -> Handshake:
        raise error

    auth.register("unready", unready)

    with pytest.raises(TokenError) as caught:
        applied("unready", {"a": "b"})
    assert error is caught.value


@pytest.mark.usefixtures("strategies")
def test_a_strategy_that_returns_no_handshake_is_permanent():
    auth.register("none", lambda handshake, token, now: None)  # type: ignore[arg-type,return-value]

    assert "returned NoneType instead of a Handshake" in refused("none", {"a": "b"})


@pytest.mark.parametrize(
    ("name", "function", "error"),
    [(3, len, TypeError), ("", len, ValueError), ("x", 3, TypeError)],
)
def test_a_registration_that_can_t_be_right_is_refused(
    name: Any, function: Any, error: type[Exception]
):
    with pytest.raises(error):
        auth.register(name, function)
