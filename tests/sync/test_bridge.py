"""A bridge in threads: `maintain_websocket`, `run`, and where tokens come from."""

import gc
import inspect
import signal
import sys
import threading
import weakref
from collections.abc import Generator
from typing import Any

import pytest

import dromos
from dromos import ConnectionClosed, PermanentError, RetryPolicy, Token
from dromos.oauth import OAuthClient
from dromos.sync import Bridge, BridgeOptions, connect, run
from dromos.sync._loop import loop_thread
from tests.sync.world import LOOP, Aside, World, interrupt_main_thread, world

QUICK = RetryPolicy(min_backoff=0.2, max_backoff=0.2)


@pytest.fixture
def live() -> Generator[World]:
    with world() as made:
        yield made


@pytest.fixture
def bridge(live: World) -> Generator[Bridge]:
    with Bridge(live.tokens, close_timeout=2, retry_policy=QUICK) as made:
        yield made


class Agent:
    """A handler that notes what it is called with, and where; it ends the session at "end"."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.threads: set[str] = set()
        self.connected = threading.Event()

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)

    def on_connect(self, send: Any) -> None:
        self.note("connect", send.link)
        self.send = send
        send("hello")
        self.connected.set()

    def on_message(self, message: Any) -> None:
        self.note("message", message)
        if message == "end":
            self.send.close(3000, "enough")

    def on_disconnect(self, error: Exception | None) -> None:
        self.note("disconnect", error)


# ---------------------------------------------------------------- the handler


def test_the_handler_runs_in_the_calling_thread_and_in_order(live: World, bridge: Bridge) -> None:
    agent = Agent()
    far = Aside(lambda: live.publish("1", "2", "3", "end"))

    bridge.maintain_websocket("c-1", live.far.url, agent)
    far.outcome()

    messages = [("message", text) for text in ("1", "2", "3", "end")]
    assert [("connect", 1), *messages, ("disconnect", None)] == agent.calls
    assert {threading.current_thread().name} == agent.threads
    assert ["hello"] == live.far.links[0].received
    assert 3000 == live.far.links[0].close_code
    assert "<send of link 1>" == repr(agent.send)


def test_a_handler_that_blocks_keeps_nobody_else(live: World, bridge: Bridge) -> None:
    entered, release = threading.Event(), threading.Event()

    class Blocking(Agent):
        def on_connect(self, send: Any) -> None:
            super().on_connect(send)
            entered.set()
            release.wait(20)

    agent = Blocking()
    maintaining = Aside(lambda: bridge.maintain_websocket("c-1", live.far.url, agent))
    assert entered.wait(10)
    with live.connect(bridge) as connection:
        assert 1 == connection.wait_open(10)
    release.set()
    live.publish("end")
    maintaining.outcome()

    assert ("disconnect", None) == agent.calls[-1]


def test_a_hand_over_greets_the_next_link_in_the_same_thread(live: World) -> None:
    class Renewed(Agent):
        def on_handover(self, send: Any) -> None:
            self.note("handover", send.link, send.handover)
            send.close()

    agent = Renewed()
    run(live.tokens, "c-1", live.far.url, agent, max_link_age=1)

    assert [("connect", 1), ("handover", 2, True), ("disconnect", None)] == agent.calls
    assert {threading.current_thread().name} == agent.threads


def test_an_async_method_runs_on_the_loop_thread(live: World, bridge: Bridge) -> None:
    class Half(Agent):
        async def on_connect(self, send: Any) -> None:
            self.note("connect", send.link)
            await send("hello")
            send.close()

    agent = Half()
    bridge.maintain_websocket("c-1", live.far.url, agent)

    assert {threading.current_thread().name, LOOP} == agent.threads
    assert ["hello"] == live.far.links[0].received


def test_a_method_that_raises_is_logged_or_ends_the_session(live: World, bridge: Bridge) -> None:
    class Broken(Agent):
        def on_connect(self, send: Any) -> None:
            super().on_connect(send)
            live.publish("boom")

        def on_message(self, message: Any) -> None:
            raise ZeroDivisionError(message)

    with pytest.raises(PermanentError, match="Broken") as caught:
        bridge.maintain_websocket("c-1", live.far.url, Broken(), handler_errors="raise")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_permanent_failure_comes_with_its_cause(live: World, bridge: Bridge) -> None:
    live.far.accept_then_close(1008, "policy")
    agent = Agent()

    with pytest.raises(PermanentError) as caught:
        bridge.maintain_websocket("c-1", live.far.url, agent)

    assert isinstance(caught.value.__cause__, ConnectionClosed)


@pytest.mark.parametrize("handler", [Agent, object(), None])
def test_what_is_no_handler_is_refused(live: World, bridge: Bridge, handler: Any) -> None:
    with pytest.raises(TypeError, match="handler must"):
        bridge.maintain_websocket("c-1", live.far.url, handler)


# ---------------------------------------------------------------- the end


def test_another_thread_may_close_the_bridge(live: World, bridge: Bridge) -> None:
    agent = Agent()
    maintaining = Aside(lambda: bridge.maintain_websocket("c-1", live.far.url, agent))
    assert agent.connected.wait(10)
    closing = [Aside(bridge.close) for _ in range(4)]
    for each in [*closing, maintaining]:
        each.outcome()

    assert ("disconnect", None) == agent.calls[-1]
    with pytest.raises(RuntimeError, match="the bridge is closed"):
        bridge.maintain_websocket("c-1", live.far.url, agent)


def test_the_handler_may_close_its_own_bridge(live: World, bridge: Bridge) -> None:
    class Closing(Agent):
        def on_connect(self, send: Any) -> None:
            super().on_connect(send)
            bridge.close()
            self.note("closing")

    agent = Closing()
    bridge.maintain_websocket("c-1", live.far.url, agent)

    assert [("connect", 1), ("closing",), ("disconnect", None)] == agent.calls


def test_a_signal_handler_may_close_the_bridge_that_its_thread_waits_for(
    live: World, bridge: Bridge
) -> None:
    agent = Agent()
    before = signal.signal(signal.SIGUSR1, lambda *_: bridge.close())
    try:
        signalling = Aside(
            lambda: (
                agent.connected.wait(10),
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1),
            )
        )
        bridge.maintain_websocket("c-1", live.far.url, agent)
        signalling.outcome()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert [("connect", 1), ("disconnect", None)] == agent.calls


@pytest.mark.parametrize("where", ["waiting", "in the handler"])
def test_ctrl_c_says_goodbye_and_gets_through(live: World, where: str) -> None:
    class Interrupted(Agent):
        def on_connect(self, send: Any) -> None:
            super().on_connect(send)
            if where == "in the handler":
                interrupt_main_thread()
                threading.Event().wait(20)

    agent = Interrupted()
    pressing = None
    if where == "waiting":
        pressing = Aside(lambda: (live.until(_heard(live)), interrupt_main_thread()))

    with pytest.raises(KeyboardInterrupt):
        run(live.tokens, "c-1", live.far.url, agent)

    if pressing is not None:
        pressing.outcome()
    assert [("connect", 1), ("disconnect", None)] == agent.calls
    assert {threading.current_thread().name} == agent.threads
    assert 1000 == live.far.links[0].close_code


def _heard(live: World) -> Any:
    return lambda: live.far.links and live.far.links[0].received


def test_a_handler_that_exits_says_goodbye_first(live: World) -> None:
    class Leaving(Agent):
        def on_connect(self, send: Any) -> None:
            super().on_connect(send)
            sys.exit(3)

    agent = Leaving()
    with pytest.raises(SystemExit):
        run(live.tokens, "c-1", live.far.url, agent)

    assert [("connect", 1), ("disconnect", None)] == agent.calls
    assert 1000 == live.far.links[0].close_code


# ---------------------------------------------------------------- options


def test_the_options_are_those_of_the_bridge() -> None:
    options = inspect.signature(dromos.Bridge.__init__).parameters.keys()
    assert options - {"self", "tokens"} == BridgeOptions.__optional_keys__


def test_options_are_checked_at_once(live: World) -> None:
    with pytest.raises(TypeError, match="tokens must be an object"):
        Bridge(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="OAuthClient"):
        Bridge(OAuthClient)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="close_tokens"):
        Bridge(live.tokens, close_tokens=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ping_timeout"):
        Bridge(live.tokens, ping_timeout=0)
    with Bridge(live.tokens) as bridge:
        with pytest.raises(ValueError, match="connection_id"):
            bridge.connect("", live.far.url)
        with pytest.raises(TypeError, match="on_connect must be callable"):
            live.connect(bridge, on_connect=1)
        with pytest.raises(ValueError, match="timeout"):
            bridge.close(-1)
    assert "0 running" in repr(bridge)


def test_all_bridges_share_one_loop_thread(live: World) -> None:
    with (
        Bridge(live.tokens) as one,
        Bridge(live.tokens) as other,
        live.connect(one) as first,
        live.connect(other) as second,
    ):
        first.wait_open(10)
        second.wait_open(10)
        assert 1 == sum(thread.name == LOOP for thread in threading.enumerate())


def test_a_callback_that_exits_on_the_loop_thread_ends_nothing(live: World) -> None:
    def leave() -> None:
        raise SystemExit

    with Bridge(live.tokens) as bridge, live.connect(bridge) as connection:
        connection.wait_open(10)
        loop_thread().loop.call_soon_threadsafe(leave)
        connection.renew()
        assert 2 == connection.link


# ---------------------------------------------------------------- tokens


class Plain:
    """A provider with plain methods, which notes where and how many at once they are called."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.threads: set[str] = set()
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self.closed = 0
        self.release = threading.Event()
        self.release.set()
        self.entered = threading.Event()

    def get_token(self, connection_id: str, /) -> Token:
        self.at_once += 1
        self.asked += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        self.release.wait(20)
        self.at_once -= 1
        return Token({"access_token": self.gateway.access_token(connection_id)})

    def refresh_connection(self, connection_id: str, /) -> Token:
        return Token({"access_token": self.gateway.rotate_now(connection_id)})

    def close(self) -> None:
        self.closed += 1


def test_a_provider_with_plain_methods_never_blocks_the_loop(live: World, bridge: Bridge) -> None:
    tokens = Plain(live.gateway)
    tokens.release.clear()
    with Bridge(tokens) as slow, live.connect(slow) as waiting:
        assert tokens.entered.wait(10)
        with live.connect(bridge) as connection:
            assert 1 == connection.wait_open(10)
        tokens.release.set()
        assert 1 == waiting.wait_open(10)
    assert {"dromos-tokens"} == tokens.threads


def test_the_bridges_of_a_plain_provider_ask_it_one_at_a_time(live: World) -> None:
    for name in ("c-2", "c-3"):
        live.gateway.add(name)
    tokens = Plain(live.gateway)
    tokens.release.clear()
    with (
        Bridge(tokens) as one,
        Bridge(tokens) as other,
        one.connect("c-1", live.far.url) as first,
        one.connect("c-2", live.far.url) as second,
        other.connect("c-3", live.far.url) as third,
    ):
        assert tokens.entered.wait(10)
        tokens.release.set()
        for connection in (first, second, third):
            connection.wait_open(10)
    assert (3, 1) == (tokens.asked, tokens.most_at_once)


def test_a_token_is_refreshed_by_a_plain_method(live: World) -> None:
    with Bridge(Plain(live.gateway)) as bridge, live.connect(bridge) as connection:
        connection.wait_open(10)
        before = live.gateway.access_token("c-1")
        connection.renew()
        assert live.far.links[1].token == live.gateway.access_token("c-1") != before


def test_what_a_plain_provider_raises_ends_the_session(live: World) -> None:
    class Failing(Plain):
        def get_token(self, connection_id: str, /) -> Token:
            raise PermanentError("never")

    with (
        Bridge(Failing(live.gateway)) as bridge,
        live.connect(bridge) as connection,
        pytest.raises(PermanentError, match="never"),
    ):
        connection.wait_open(10)


def test_a_provider_is_kept_as_long_as_it_is_used_and_no_longer(live: World) -> None:
    tokens = Plain(live.gateway)
    reference = weakref.ref(tokens)
    connection = live.connect(Bridge(tokens))
    del tokens
    with connection:
        gc.collect()
        connection.wait_open(10)
        connection.renew()
    del connection
    gc.collect()
    assert None is reference()


def test_a_provider_without_weak_references_is_used_all_the_same(live: World) -> None:
    class Slotted:
        __slots__ = ("plain",)

        def __init__(self, plain: Plain) -> None:
            self.plain = plain

        def get_token(self, connection_id: str, /) -> Token:
            return self.plain.get_token(connection_id)

        async def refresh_connection(self, connection_id: str, /) -> Token:
            return self.plain.refresh_connection(connection_id)

    with connect(Slotted(Plain(live.gateway)), "c-1", live.far.url) as connection:  # type: ignore[arg-type]
        connection.wait_open(10)
        connection.renew()
        assert 2 == connection.link


def test_a_provider_is_closed_with_the_bridge_only_if_that_was_asked_for(live: World) -> None:
    tokens = Plain(live.gateway)
    Bridge(tokens).close()
    assert 0 == tokens.closed
    with Bridge(tokens, close_tokens=True) as bridge:
        bridge.close()
    assert 1 == tokens.closed
    with connect(tokens, "c-1", live.far.url, close_tokens=True) as connection:
        connection.wait_open(10)
    assert 2 == tokens.closed


def test_an_async_provider_is_closed_on_the_loop_thread(live: World) -> None:
    class Client(OAuthClient):
        closed_in = ""

        async def aclose(self) -> None:
            Client.closed_in = threading.current_thread().name
            await super().aclose()

    run(Client(live.gateway.url), "c-1", live.far.url, _Brief(), close_tokens=True)

    assert LOOP == Client.closed_in


class _Brief(Agent):
    def on_connect(self, send: Any) -> None:
        send.close()
