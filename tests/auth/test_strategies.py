"""The strategies, row by row of the Go library's, and what they must refuse."""

from typing import Any

import pytest

from tests.auth.support import CANARY, URL, applied, refused

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
    [("magic_wand", "magic_wand"), ("", ""), ("OAuth2", "OAuth2"), ("a\nb", r"'a\nb'")],
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


# --- The alias that older documents use -----------------------------------------------------------


def test_an_api_key_goes_where_the_broker_puts_it():
    assert (("X-API-Key", "k-1"),) == applied("api_key", {"api_key": "k-1"}).headers


def test_an_api_key_follows_the_settings_of_a_header():
    made = applied(
        "api_key",
        {"key": "k-1"},
        {"header_name": "Authorization", "credential_field": "key", "value_prefix": "Key "},
    )

    assert (("Authorization", "Key k-1"),) == made.headers


def test_an_api_key_names_itself_in_messages():
    assert "api_key auth strategy: header 'Host' belongs to the protocol" == refused(
        "api_key", {"api_key": CANARY}, {"header_name": "Host"}
    )
