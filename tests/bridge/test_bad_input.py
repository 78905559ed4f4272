"""Bad input: a clear error that names the argument, at once, and never a secret."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from dromos import Bridge, RetryPolicy, Token, Verdict
from dromos.model import AuthStrategy
from dromos.testing.virtual import VirtualTime
from tests.driver.harness import Notes, Stage, Tokens, until

URL = "wss://far.example/ws"


class Awaited:
    async def __call__(self, event: object) -> None:
        raise AssertionError("nobody awaits it")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"logger": object()}, TypeError),
        ({"metrics": object()}, TypeError),
        ({"on_event": 3}, TypeError),
        ({"on_event": asyncio.sleep}, TypeError),
        ({"on_event": Awaited()}, TypeError),
        ({"dialer": object()}, TypeError),
        ({"retry_policy": "often"}, TypeError),
        ({"verdicts": 1008}, TypeError),
        ({"verdicts": {1008: "P"}}, TypeError),
        ({"verdicts": {"1008": Verdict.PERMANENT}}, TypeError),
        ({"refresh_buffer": "soon"}, TypeError),
        ({"refresh_buffer": -1}, ValueError),
        ({"refresh_buffer": float("nan")}, ValueError),
        ({"renewal": "sometimes"}, ValueError),
        ({"initial_token": True}, ValueError),
        ({"max_link_age": 0}, ValueError),
        ({"ping_interval": 0}, ValueError),
        ({"ping_interval": float("inf")}, ValueError),
        ({"ping_timeout": -1}, ValueError),
        ({"write_timeout": 0}, ValueError),
        ({"close_timeout": None}, TypeError),
        ({"connect_timeout": True}, TypeError),
        ({"message_size_limit": 0}, ValueError),
        ({"message_size_limit": 1.5}, TypeError),
        ({"fragment_limit": "many"}, TypeError),
        ({"send_size_limit": 0}, ValueError),
        ({"send_buffer_limit": True}, TypeError),
        ({"max_concurrent_dials": 0}, ValueError),
        ({"handler_errors": "ignore"}, ValueError),
        ({"allow_insecure_transport": "yes"}, TypeError),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], error: type[Exception]) -> None:
    [name] = options

    with pytest.raises(error, match=name):
        Bridge(Tokens(), **options)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="ping_intervall"):
        Bridge(Tokens(), ping_intervall=3)  # type: ignore[call-arg]


async def test_an_unknown_session_option_is_refused() -> None:
    with pytest.raises(TypeError, match="logger"):
        await Bridge(Tokens()).maintain_websocket("c", URL, Notes(), logger=None)  # type: ignore[call-arg]


@pytest.mark.parametrize("tokens", [None, object(), Tokens])
def test_a_token_source_without_the_methods_is_refused(tokens: Any) -> None:
    with pytest.raises(TypeError, match="tokens"):
        Bridge(tokens)


@pytest.mark.parametrize(
    ("retry", "error"),
    [
        ({"min_backoff": -1}, ValueError),
        ({"min_backoff": "1"}, TypeError),
        ({"max_backoff": 0.5}, ValueError),
        ({"max_backoff": 10**400}, ValueError),
        ({"jitter": "half"}, ValueError),
        ({"jitter": -1}, ValueError),
        ({"stable_after": None}, TypeError),
        ({"max_attempts": 0}, ValueError),
        ({"max_attempts": 2.0}, TypeError),
        ({"max_elapsed": -1}, ValueError),
    ],
)
def test_a_wrong_retry_policy_is_named(retry: dict[str, Any], error: type[Exception]) -> None:
    [name] = retry

    with pytest.raises(error, match=name):
        RetryPolicy(**retry)


def test_durations_may_be_timedeltas() -> None:
    Bridge(
        Tokens(),
        refresh_buffer=timedelta(minutes=10),
        ping_interval=timedelta(seconds=30),
        retry_policy=RetryPolicy(max_backoff=timedelta(minutes=2)),
    )


async def test_a_task_factory_that_takes_no_context_is_named() -> None:
    def old(loop: Any, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=loop)

    asyncio.get_running_loop().set_task_factory(old)
    with pytest.raises(TypeError, match="task factory must take `context`"):
        await Bridge(Tokens()).maintain_websocket("c-1", URL, Notes())


def test_a_task_factory_that_takes_one_is_used() -> None:
    made: list[str] = []

    def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def live() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        stage = Stage()
        stage.start()
        await until(lambda: stage.handler.sends)
        await stage.bridge.close()

    VirtualTime().run(live())
    assert made


@pytest.mark.parametrize(
    ("connection_id", "error"), [("", ValueError), ("  ", ValueError), (7, TypeError)]
)
async def test_a_wrong_connection_id_is_named(connection_id: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="connection_id"):
        await Bridge(Tokens()).maintain_websocket(connection_id, URL, Notes())


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (None, TypeError),
        (b"wss://x.example", TypeError),
        ("", ValueError),
        ("http://x.example", ValueError),
        ("wss:x.example", ValueError),
        ("wss:///path", ValueError),
        ("wss://x.example:port/", ValueError),
        ("wss://x.example:99999/", ValueError),
        ("wss://x.example/a b", ValueError),
        ("wss://x.example/\r\nX: y", ValueError),
        ("wss://user:s3cret@x.example", ValueError),
        ("wss://x.example/#frag", ValueError),
        ("ws://x.example", ValueError),
        ("ws://127.0.0.1.evil.example", ValueError),
        ("ws://localhost@evil.example", ValueError),
        ("ws://0.0.0.0", ValueError),
        ("ws://[::ffff:10.0.0.1]", ValueError),
        ("wss://[::1", ValueError),
    ],
)
async def test_a_wrong_endpoint_is_named_before_anything_is_opened(
    url: Any, error: type[Exception]
) -> None:
    """Number 7 of the negative tests: refused before any DNS query."""
    tokens = Tokens()

    with pytest.raises(error, match="endpoint_url") as caught:
        await Bridge(tokens).maintain_websocket("c", url, Notes())

    assert "s3cret" not in str(caught.value)
    assert [] == tokens.gets


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://localhost:1/", "ws://[::1]:1/x?y=1"])
def test_plain_ws_to_this_machine_is_fine(url: str) -> None:
    from dromos._driver.endpoint import check_url

    assert url == check_url(url, allow_insecure=False)


async def test_plain_ws_to_another_machine_takes_a_word_and_gives_one_warning() -> None:
    bridge = Bridge(Tokens(get_errors=[RuntimeError("stop")] * 2), allow_insecure_transport=True)

    with pytest.warns(UserWarning, match="in clear"), pytest.raises(Exception, match="stop"):
        await bridge.maintain_websocket("c", "ws://far.example/?token=s3cret", Notes())
    with pytest.raises(Exception, match="stop"):
        await bridge.maintain_websocket("c", "ws://far.example", Notes())


@pytest.mark.parametrize(
    "handler", [None, object(), Notes, type("Half", (), {"on_connect": print})()]
)
async def test_a_handler_without_the_three_methods_is_refused(handler: Any) -> None:
    with pytest.raises(TypeError, match="handler"):
        await Bridge(Tokens()).maintain_websocket("c", URL, handler)


async def test_a_handler_whose_optional_method_is_no_method_is_refused() -> None:
    handler: Any = Notes()
    handler.on_handover = 3

    with pytest.raises(TypeError, match="on_handover"):
        await Bridge(Tokens()).maintain_websocket("c", URL, handler)


@pytest.mark.parametrize(
    "wrong",
    [{"expires_at": "soon"}, {"expires_at": float("nan")}, {"lifetime": True}],
)
def test_a_wrong_token_is_named(wrong: dict[str, Any]) -> None:
    [name] = wrong

    with pytest.raises((TypeError, ValueError), match=name):
        Token({"access_token": "t"}, **wrong)


def test_a_stdlib_logger_is_taken_as_it_is() -> None:
    Bridge(Tokens(), logger=logging.getLogger("x"))
    Bridge(Tokens(), logger=logging.LoggerAdapter(logging.getLogger("x"), {}))


def test_a_strategys_settings_can_not_be_changed_behind_its_back() -> None:
    config = {"header_name": "X-Api-Key"}
    strategy = AuthStrategy("header", config)
    config["header_name"] = "Host"

    assert "X-Api-Key" == strategy.config["header_name"]
    with pytest.raises(TypeError):
        strategy.config["header_name"] = "Host"  # type: ignore[index]


@pytest.mark.parametrize("observer", [None, 3, asyncio.sleep, Awaited()])
def test_what_can_not_observe_is_refused(observer: Any) -> None:
    with pytest.raises(TypeError, match=r"^observer must be "):
        Bridge(Tokens()).observe(observer)
