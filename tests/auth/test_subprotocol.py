"""`subprotocol`: a credential among what `Sec-WebSocket-Protocol` offers."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos.dialers._request import Request, check_subprotocols
from dromos.errors import PermanentError
from tests.auth.support import CANARY, applied, refused


@pytest.mark.parametrize(
    ("config", "offered"),
    [
        ({}, ("bearer", "tok.en")),
        ({"protocol": "graphql-ws"}, ("graphql-ws", "tok.en")),
        ({"protocol": ""}, ("tok.en",)),
        ({"protocol": []}, ("tok.en",)),
        ({"protocol": ["realtime", "v1"]}, ("realtime", "v1", "tok.en")),
        ({"protocol": ["tok.en"]}, ("tok.en",)),
        # of the wrong type: absent
        ({"protocol": None}, ("bearer", "tok.en")),
        ({"protocol": 3}, ("bearer", "tok.en")),
        ({"protocol": ["a", 3]}, ("bearer", "tok.en")),
        ({"encoding": 3, "value_prefix": [], "credential_field": {}}, ("bearer", "tok.en")),
    ],
    ids=repr,
)
def test_the_credential_is_offered_after_its_markers(
    config: dict[str, Any], offered: tuple[str, ...]
):
    made = applied("subprotocol", {"access_token": "tok.en"}, config)

    assert offered == made.subprotocols
    assert () == made.headers


def test_it_speaks_openai():
    made = applied(
        "subprotocol",
        {"api_key": "sk-1"},
        {
            "credential_field": "api_key",
            "protocol": "realtime",
            "value_prefix": "openai-insecure-api-key.",
        },
    )

    assert ("realtime", "openai-insecure-api-key.sk-1") == made.subprotocols


def test_it_speaks_kubernetes():
    made = applied(
        "subprotocol",
        {"access_token": "ey/+=é"},
        {
            "protocol": "",
            "value_prefix": "base64url.bearer.authorization.k8s.io.",
            "encoding": "base64url",
        },
    )

    assert ("base64url.bearer.authorization.k8s.io.ZXkvKz3DqQ",) == made.subprotocols


@pytest.mark.parametrize(
    "value", [f"{CANARY} x", f"{CANARY},x", f'{CANARY}"', f"{CANARY}é", f"{CANARY}=", f"a/{CANARY}"]
)
def test_4_a_credential_that_is_no_token_is_refused(value: str):
    assert "no subprotocol may hold" in refused("subprotocol", {"access_token": value})


@pytest.mark.parametrize(
    "config",
    [{"value_prefix": "a b"}, {"value_prefix": "a, b"}, {"value_prefix": "a\r\nX: 1"}],
    ids=repr,
)
def test_21_a_prefix_that_is_no_token_is_refused(config: dict[str, Any]):
    assert "no subprotocol may hold" in refused("subprotocol", {"access_token": CANARY}, config)


@pytest.mark.parametrize("marker", ["a b", "a,b", "a\r\nX: 1", "é", ["a", "b,c"], [""]], ids=ascii)
def test_21_a_marker_that_is_no_token_is_refused(marker: Any):
    assert "config 'protocol' holds what is not a token (RFC 6455, 4.1)" == refused(
        "subprotocol", {"access_token": CANARY}, {"protocol": marker}
    )


def test_an_unknown_encoding_is_named():
    assert "unsupported encoding: base64" == refused(
        "subprotocol", {"access_token": CANARY}, {"encoding": "base64"}
    )


@given(value=st.text(min_size=1), encoding=st.sampled_from(["none", "base64url"]))
def test_what_is_offered_can_be_sent_and_read_back(value: str, encoding: str):
    try:
        made = applied(
            "subprotocol",
            {"access_token": value},
            {"encoding": encoding, "protocol": "", "value_prefix": "p."},
        )
    except PermanentError:
        return

    assert made.subprotocols == check_subprotocols(made.subprotocols)
    (offered,) = made.subprotocols
    read = offered.removeprefix("p.")
    if encoding == "base64url":
        read = base64.urlsafe_b64decode(read + "=" * (-len(read) % 4)).decode()
    assert value == read


def test_what_is_offered_is_secret_to_the_dialer():
    made = applied("subprotocol", {"access_token": CANARY})

    assert CANARY not in repr(made)
    assert CANARY not in Request.of(made).redactor.text(f"no such protocol: {CANARY}")
