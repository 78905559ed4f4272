"""The registry: whose functions are called, and what none of them may do."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from dromos import auth
from dromos.errors import TokenError
from dromos.model import AuthStrategy, Handshake, Token
from tests.auth.support import CANARY, URL, applied, laid_open, refused


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
def test_a_strategy_can_be_made_of_others():
    def both(handshake: Handshake, token: Token, now: float) -> Handshake:
        return auth.query_param(auth.oauth2(handshake, token, now), token, now)

    auth.register("both", both)

    made = applied("both", {"access_token": "a", "api_key": "k"}, {"param_name": "key"})

    assert (("Authorization", "Bearer a"),) == made.headers
    assert f"{URL}?key=k" == made.url


# --- S2, S3: of a failure, only the error itself is left ------------------------------------------


def broken(handshake: Handshake, token: Token, now: float, *, error: BaseException) -> Handshake:
    value = f"{token.credentials['a']}-in-a-local"
    if isinstance(error, ValueError):
        int(value)
    try:
        {}[value]
    except KeyError:
        raise error from ArithmeticError(value)  # both a cause and a context
    return handshake


@pytest.mark.usefixtures("strategies")
def test_a_strategy_that_breaks_is_permanent_and_says_where_but_shows_nothing():
    auth.register("broken", partial(broken, error=ValueError()))

    message = refused("broken", {"a": CANARY})

    line = broken.__code__.co_firstlineno + 3
    assert f"the auth strategy 'broken' failed (ValueError at test_registry.py:{line})" == message


@pytest.mark.usefixtures("strategies")
def test_a_function_that_hides_a_secret_in_its_repr_does_not_show_it():
    def signs(handshake: Handshake, token: Token, now: float, *, key: str) -> Handshake:
        raise LookupError(key)

    auth.register("signs", partial(signs, key=CANARY))

    assert "'signs' failed (LookupError at" in refused("signs", {"a": CANARY})


@pytest.mark.usefixtures("strategies")
def test_a_function_without_frames_is_named_without_a_place():
    auth.register("c", int)  # type: ignore[arg-type]

    assert "the auth strategy 'c' failed (TypeError)" == refused("c", {"a": CANARY})


@pytest.mark.usefixtures("strategies")
def test_a_strategy_s_own_error_passes_alone():
    error = TokenError("not yet")
    auth.register("unready", partial(broken, error=error))

    with pytest.raises(TokenError) as caught:
        applied("unready", {"a": CANARY})

    assert error is caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert CANARY not in laid_open(error)


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_failure_goes_through(kind: type[BaseException]):
    auth.register("stopped", partial(broken, error=kind()))

    with pytest.raises(kind):
        applied("stopped", {"a": "b"})


# --- S10, S11: what no strategy may do ------------------------------------------------------------


def handing(name: str, change: Callable[[Handshake], object]) -> None:
    auth.register(name, lambda handshake, token, now: change(handshake))  # type: ignore[arg-type,return-value]


@pytest.mark.usefixtures("strategies")
def test_a_strategy_that_returns_no_handshake_is_permanent():
    auth.register("none", lambda handshake, token, now: None)  # type: ignore[arg-type,return-value]

    assert "returned NoneType instead of a Handshake" in refused("none", {"a": "b"})


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    "url",
    [
        f"ws://far.example/{CANARY}",
        f"wss://evil.example/{CANARY}",
        f"wss://far.example:8443/{CANARY}",
        f"wss://far.example.:443/{CANARY}",
        f"wss://{CANARY}@far.example/ws",
        f"wss://:{CANARY}@far.example/ws",
        f"wss://far.example\\@evil.example/{CANARY}",
        f"wss://[far.example/{CANARY}",
        f"wss://far.example:{CANARY}/",
        f"//far.example/{CANARY}",
        f"{CANARY}",
        "",
        f"wss://{'x' * 70}ü.example/{CANARY}",
    ],
    ids=ascii,
)
def test_21_the_target_is_not_a_strategy_s_to_change(url: str):
    handing("mine", lambda handshake: handshake.with_url(url))

    message = refused("mine", {"a": CANARY})

    assert "the auth strategy 'mine' changed the scheme, host or port of the URL" == message


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    "url",
    [
        *(f"wss://far.example/{CANARY}{one}" for one in "\r\n\t\0\x1f\x7f\x85\u2028\ud800 #"),
        f"wss://far.exam\nple/{CANARY}",
        CANARY.encode(),
        None,
    ],
    ids=ascii,
)
def test_21_a_url_with_characters_that_none_may_hold_is_refused(url: Any):
    handing("mine", lambda handshake: handshake.with_url(url))

    assert "'mine' made a URL that is not a str, or holds characters" in refused("mine", {})


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("wss://far.example/ws", "wss://far.example:443/ws?k=v"),
        ("wss://far.example:443/ws", "wss://far.example/ws?k=v"),
        ("ws://127.0.0.1:80/ws", "ws://127.0.0.1/ws/secret"),
        ("WSS://Far.Example/ws", "wss://far.example/ws"),
        ("wss://bücher.example/", "wss://xn--bcher-kva.example/?ü"),
        ("ws://[::1]:80/", "ws://[::1]/?k=v"),
        # What the user configured is the dialer's to judge, not ours.
        ("wss://far.example/ a", "wss://far.example/ a"),
    ],
)
def test_the_same_target_may_be_spelled_in_another_way(before: str, after: str):
    handing("mine", lambda handshake: handshake.with_url(after))

    assert after == applied("mine", {}, url=before).url


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    "name",
    ["Host", "HOST", "connection", "Upgrade", "Content-Length", "Transfer-Encoding",
     "Sec-WebSocket-Key", "sec-websocket-extensions", "Sec-WebSocket-Protocol"],
)  # fmt: skip
def test_21_a_header_of_the_protocol_is_not_a_strategy_s_to_set(name: str):
    handing("mine", lambda handshake: handshake.with_header(name, CANARY))

    message = refused("mine", {"a": CANARY})

    assert f"the auth strategy 'mine' set header {name!r}, which belongs to the protocol" == message


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    "value", ["\r\nEvil: 1", "a\nb", "a\rb", "a\0", "\x7f", "é", "\x85", "\ud800"], ids=ascii
)
def test_4_an_illegal_header_value_is_refused(value: str):
    handing("mine", lambda handshake: handshake.with_header("X-Mine", f"{CANARY}{value}"))

    message = refused("mine", {"a": CANARY})

    assert message.endswith(
        "set header 'X-Mine', which would get a value with characters that no header may hold"
    )


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    "name", [f"{CANARY}\n", f"{CANARY} x", "", "é", "X:", "x" * 300], ids=ascii
)
def test_21_an_illegal_header_name_may_be_the_value_and_is_not_shown(name: str):
    handing("mine", lambda handshake: handshake.with_header("X", "1").with_header(name, "X"))

    message = refused("mine", {"a": CANARY})

    assert (
        "the auth strategy 'mine' set header number 2, which is not an HTTP field name" == message
    )


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"headers": [("X", CANARY)]}, "left headers that are not a tuple"),
        ({"headers": None}, "left headers that are not a tuple"),
        ({"headers": (("X", "1"), ("Y", 2))}, "left header number 2 that is not a pair of str"),
        ({"headers": (["X", CANARY],)}, "left header number 1 that is not a pair of str"),
        ({"headers": (CANARY,)}, "left header number 1 that is not a pair of str"),
        ({"subprotocols": CANARY}, "left subprotocols that are not a tuple"),
        ({"subprotocols": ("a", f"{CANARY}, b")}, "offered subprotocol number 2, which is not"),
        ({"subprotocols": (f"{CANARY}\r\nX: 1",)}, "offered subprotocol number 1, which is not"),
        ({"subprotocols": ("",)}, "offered subprotocol number 1, which is not"),
        ({"subprotocols": (3,)}, "offered subprotocol number 1, which is not"),
        ({"first_message": f"{CANARY}\ud800"}, "left a first message that is not text"),
        ({"first_message": CANARY.encode()}, "left a first message that is not text"),
    ],
    ids=repr,
)
def test_what_can_t_be_sent_is_refused(changed: dict[str, Any], message: str):
    handing("mine", lambda handshake: replace(handshake, **changed))

    assert f"the auth strategy 'mine' {message}" in refused("mine", {"a": CANARY})


# --- Registering ----------------------------------------------------------------------------------


class Asynchronous:
    async def __call__(self, handshake: Handshake, token: Token, now: float) -> Handshake:
        return handshake


async def asynchronous(handshake: Handshake, token: Token, now: float) -> Handshake:
    return handshake


@pytest.mark.parametrize(
    ("name", "function", "error"),
    [
        (3, len, TypeError),
        ("", len, ValueError),
        ("x", 3, TypeError),
        ("x", asynchronous, TypeError),
        ("x", Asynchronous(), TypeError),
    ],
)
def test_a_registration_that_can_t_be_right_is_refused(
    name: Any, function: Any, error: type[Exception]
):
    with pytest.raises(error):
        auth.register(name, function)


# --- The handshake that they shape ----------------------------------------------------------------


def test_a_handshake_keeps_what_is_not_changed():
    made = (
        Handshake(url=URL)
        .with_first_message(CANARY)
        .with_subprotocols("a", CANARY)
        .with_subprotocols("b", "a")
        .with_header("X", CANARY)
        .with_url(f"{URL}?k={CANARY}")
    )

    assert (
        Handshake(
            url=f"{URL}?k={CANARY}",
            headers=(("X", CANARY),),
            subprotocols=("a", CANARY, "b"),
            first_message=CANARY,
        )
        == made
    )
    assert CANARY not in repr(made)
    assert repr(made).endswith("subprotocols=3, first_message=<redacted>)")
    assert "first_message" not in repr(Handshake(url=URL))
