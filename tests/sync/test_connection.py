"""A connection in threads: receiving, sending, closing, and being interrupted."""

import threading
import traceback
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import pytest

from dromos import ConnectionClosed, NotConnected, PermanentError, ReceivePaused
from dromos.events import LinkOpened, SessionEnded
from dromos.sync import Bridge, Connection, connect
from dromos.sync._loop import loop_thread
from dromos.sync.connection import AHEAD
from tests.sync.world import (
    LOOP,
    Aside,
    World,
    how_many_calls,
    interrupt_main_thread,
    on_loop_until,
    until_waiting,
    world,
)


@pytest.fixture
def live() -> Generator[World]:
    with world() as made:
        yield made


@pytest.fixture
def bridge(live: World) -> Generator[Bridge]:
    with Bridge(live.tokens, close_timeout=2) as made:
        yield made


# ---------------------------------------------------------------- receiving


def test_one_line_connects_iterates_and_closes() -> None:
    with world(echo=True) as live:
        with connect(live.tokens, "c-1", live.far.url) as connection:
            connection.send("hello")
            for message in connection:
                assert "hello" == message
                break
        assert 1000 == live.far.links[0].close_code
        assert "closed" == connection.state
        with pytest.raises(RuntimeError, match="closed"):
            live.connect(connection._owned)


def test_messages_come_in_order_and_few_of_them_ahead(live: World, bridge: Bridge) -> None:
    sent = [str(number) for number in range(1000)]
    with live.connect(bridge) as connection:
        live.publish(*sent)
        received = []
        for message in connection:
            received.append(message)
            assert len(connection._ready) < AHEAD
            if len(received) == len(sent):
                break
    assert sent == received


def test_a_slow_consumer_holds_the_far_side_back(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        big = "x" * 2**18
        live.publish(*[big] * 64)
        assert big == connection.recv(10)
        with pytest.raises(ReceivePaused):
            ask_until_it_fails(connection)

        assert connection.snapshot().receive_queue < 64
        assert [big] * 63 == [connection.recv(10) for _ in range(63)]


def ask_until_it_fails(connection: Connection) -> None:
    while True:
        with suppress(TimeoutError):
            connection.request("?", correlate=len, timeout=0.1)


def test_recv_gives_up_in_time_and_loses_nothing(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        with pytest.raises(TimeoutError):
            connection.recv(0)
        live.publish("late")
        assert "late" == connection.recv(10)


def test_iterating_and_receiving_take_from_one_queue(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        live.publish("1", "2", "3")
        messages = iter(connection)
        assert ["1", "2", "3"] == [next(messages), connection.recv(10), next(messages)]


def test_closing_ends_an_iteration_that_waits(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        iteration = Aside(lambda: list(connection))
        live.publish("1")
        until_waiting()
        connection.close()

        assert ["1"] == iteration.outcome()


def test_closing_ends_a_recv_that_waits(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        receiving = Aside(connection.recv)
        until_waiting()
        connection.close()

        with pytest.raises(NotConnected):
            receiving.outcome()
        with pytest.raises(NotConnected):
            connection.recv()
        assert [] == list(connection)


def test_what_was_brought_already_outlives_the_close(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        live.publish("1", "2", "3")
        on_loop_until(lambda: connection._inner.snapshot().receive_queue == 3)
        assert "1" == connection.recv(10)
        connection.close()
        assert ["2", "3"] == list(connection)


def test_a_second_consumer_is_an_error(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        first = Aside(lambda: list(connection))
        until_waiting()

        with pytest.raises(RuntimeError, match="waiting for a message already"):
            connection.recv(1)
        with pytest.raises(RuntimeError, match="iterated already"):
            iter(connection)
        connection.close()
        assert [] == first.outcome()


def test_an_iteration_that_was_left_does_not_bar_the_next(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        live.publish("1", "2")
        for message in connection:
            assert "1" == message
            break
        assert "2" == next(iter(connection))


def test_without_receiving_there_is_nothing_to_iterate(live: World, bridge: Bridge) -> None:
    with (
        live.connect(bridge, receive=False) as connection,
        pytest.raises(RuntimeError, match="receive=False"),
    ):
        iter(connection)


# ---------------------------------------------------------------- sending


def test_a_request_gets_its_answer() -> None:
    with (
        world(echo=True) as live,
        Bridge(live.tokens) as bridge,
        live.connect(bridge) as connection,
    ):
        answer = connection.request(b"7:now", correlate=lambda message: message[:1])
        assert b"7:now" == answer


def test_sending_from_many_threads_sends_everything(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:

        def send(name: int) -> None:
            for number in range(50):
                connection.send(f"{name}:{number}")

        threads = [Aside(lambda name=name: send(name)) for name in range(4)]
        for thread in threads:
            thread.outcome()
        connection.drain(10)

        far = live.far.links[0]
        assert 200 == far.received_count
        for name in range(4):
            mine = [text for text in far.received if str(text).startswith(f"{name}:")]
            assert [f"{name}:{number}" for number in range(50)] == mine


def test_without_a_link_sending_gives_up_in_time(live: World, bridge: Bridge) -> None:
    live.far.hang(next=None)
    with live.connect(bridge) as connection, pytest.raises(NotConnected):
        connection.send("x", timeout=0)


# ---------------------------------------------------------------- the link


def test_it_waits_for_a_link_and_tells_of_it(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        assert 1 == connection.wait_open(10)
        assert ("open", 1, None) == (connection.state, connection.link, connection.latency)
        assert 1 == connection.snapshot().counters.links
        connection.renew()
        assert 2 == connection.link
        assert None is connection.error
    assert "closed" in repr(connection)


def test_events_are_a_blocking_iterator_that_ends_with_the_session(
    live: World, bridge: Bridge
) -> None:
    live.far.refuse(status=503)
    with live.connect(bridge) as connection:
        events = connection.events()
        watching = Aside(lambda: list(events))
        connection.wait_open(20)
        connection.close()

        kinds = [type(event) for event in watching.outcome()]
        assert LinkOpened in kinds
        assert SessionEnded is kinds[-1]
        assert 0 == events.dropped


def test_a_permanent_failure_is_raised_with_cause_and_traceback(
    live: World, bridge: Bridge
) -> None:
    live.far.accept_then_close(1008, "policy")
    with live.connect(bridge) as connection:
        with pytest.raises(PermanentError) as caught:
            list(connection)
        with pytest.raises(PermanentError):
            connection.recv()
        with pytest.raises(PermanentError):
            connection.wait_open()

    cause = caught.value.__cause__
    assert isinstance(cause, ConnectionClosed)
    assert 1008 == cause.code
    shown = "".join(traceback.format_exception(caught.value))
    assert "test_connection.py" in shown
    assert "dromos/connection.py" in shown


def test_a_failure_that_nobody_saw_is_raised_by_leaving(live: World, bridge: Bridge) -> None:
    live.far.accept_then_close(1008, "policy")
    connection = live.connect(bridge).__enter__()
    on_loop_until(lambda: connection._inner.error is not None)
    with pytest.raises(PermanentError):
        connection.__exit__(None, None, None)


def test_an_error_in_the_block_goes_before_a_failure(live: World, bridge: Bridge) -> None:
    live.far.accept_then_close(1008, "policy")
    connection = live.connect(bridge).__enter__()
    on_loop_until(lambda: connection._inner.error is not None)
    assert not connection.__exit__(ZeroDivisionError, ZeroDivisionError(), None)


# ---------------------------------------------------------------- closing


def test_any_number_of_threads_may_close_at_once(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        connection.wait_open(10)
        threads = [Aside(lambda: connection.close(3000, "enough")) for _ in range(8)]
        for thread in threads:
            thread.outcome()
        connection.close()
    assert 3000 == live.far.links[0].close_code


def test_closing_the_bridge_closes_its_connections(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        iteration = Aside(lambda: list(connection))
        until_waiting()
        bridge.close()
        bridge.close()

        assert [] == iteration.outcome()
        with pytest.raises(NotConnected):
            connection.send("x")
    with pytest.raises(RuntimeError, match="closed"):
        live.connect(bridge)


def test_a_wrong_close_code_closes_nothing(live: World, bridge: Bridge) -> None:
    with live.connect(bridge) as connection:
        connection.wait_open(10)
        with pytest.raises(ValueError, match="1006"):
            connection.close(1006)
        assert "open" == connection.state


def test_it_has_to_be_entered_and_only_once(live: World, bridge: Bridge) -> None:
    connection = live.connect(bridge)
    connection.close()
    with pytest.raises(RuntimeError, match="enter the connection first"):
        connection.recv()
    with connection, pytest.raises(RuntimeError, match="entered once"):
        connection.__enter__()


# ---------------------------------------------------------------- callbacks


class Notes:
    """Callbacks that note what they are called with, and where."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.threads: set[str] = set()

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)

    def on_connect(self, send: Any) -> None:
        self.note("connect", send.link, send.handover)
        send(f"subscribe {send.link}")

    def on_disconnect(self, error: Exception | None) -> None:
        self.note("disconnect", error)


def test_plain_callbacks_run_in_order_on_a_thread_of_their_own(live: World, bridge: Bridge) -> None:
    notes = Notes()
    callbacks = {"on_connect": notes.on_connect, "on_disconnect": notes.on_disconnect}
    with live.connect(bridge, **callbacks) as connection:
        connection.wait_open(10)
        connection.renew()
    assert [("connect", 1, False), ("connect", 2, True), ("disconnect", None)] == notes.calls
    assert {"dromos-callbacks"} == notes.threads
    assert ["subscribe 1"] == live.far.links[0].received
    assert ["subscribe 2"] == live.far.links[1].received


def test_a_plain_callback_sends_no_faster_than_the_far_side_reads(
    live: World, bridge: Bridge
) -> None:
    block = b"x" * 2**16

    def on_connect(send: Any) -> None:
        live.until(lambda: live.far.open_links)
        live.far.go_silent()
        for _ in range(400):
            send(block)

    with live.connect(bridge, on_connect=on_connect) as connection:
        on_loop_until(lambda: connection._inner.snapshot().write_buffer > 2**16)
        on_loop_until(lambda: how_many_calls() == 2)  # the callback waits in `send`
        live.far.wake()
        connection.wait_open(20)
        live.until(lambda: live.far.links[0].received_count == 400)


def test_a_plain_callback_that_blocks_keeps_nobody_else(live: World, bridge: Bridge) -> None:
    entered, release = threading.Event(), threading.Event()

    def block(send: Any) -> None:
        entered.set()
        release.wait(20)

    with live.connect(bridge, on_connect=block) as blocked:
        assert entered.wait(10)
        with live.connect(bridge) as connection:
            connection.wait_open(10)
            connection.send("meanwhile")
        assert "greeting" == blocked.state
        release.set()
        assert 1 == blocked.wait_open(10)


def test_async_callbacks_run_on_the_loop_thread_where_nothing_may_block(
    live: World, bridge: Bridge
) -> None:
    seen: list[Any] = []

    async def on_connect(send: Any) -> None:
        seen.append(threading.current_thread().name)
        await send("hello")
        methods = [connection.recv, connection.close, connection.snapshot, bridge.close]
        for method in methods:
            with pytest.raises(RuntimeError, match="its own loop thread"):
                method()
        seen.append(connection.link)

    connection = live.connect(bridge, on_connect=on_connect)
    with connection:
        connection.wait_open(10)
    assert [LOOP, 1] == seen
    assert ["hello"] == live.far.links[0].received


def test_a_callback_may_send_on_its_connection_and_close_it(live: World, bridge: Bridge) -> None:
    called = threading.Event()

    def on_connect(send: Any) -> None:
        connection.send("from the callback")
        connection.close(3001)
        bridge.close()
        called.set()

    connection = live.connect(bridge, on_connect=on_connect)
    with connection:
        assert [] == list(connection)
        assert called.wait(10)
    assert ["from the callback"] == live.far.links[0].received
    assert 3001 == live.far.links[0].close_code


def test_a_callback_may_not_wait_for_what_waits_for_it(live: World, bridge: Bridge) -> None:
    errors: list[str] = []

    def on_connect(send: Any) -> None:
        for wait in (connection.recv, connection.wait_open, connection.renew):
            with pytest.raises(RuntimeError, match="waits for its return") as caught:
                wait()
            errors.append(str(caught.value))

    connection = live.connect(bridge, on_connect=on_connect)
    with connection:
        connection.wait_open(10)
    assert 3 == len(errors)


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), SystemExit(3)])
def test_a_callback_that_raises_fails_the_attempt_only(
    live: World, bridge: Bridge, error: BaseException
) -> None:
    failures = [error]

    def on_connect(send: Any) -> None:
        if failures:
            raise failures.pop()

    with live.connect(bridge, on_connect=on_connect) as connection:
        assert 2 == connection.wait_open(20)


def test_a_token_is_renewed_in_band_by_a_plain_callback(live: World, bridge: Bridge) -> None:
    tokens: list[str] = []

    def on_token_refresh(token: Any, send: Any) -> None:
        tokens.append(token.access_token)
        send("the new token")

    with live.connect(bridge, on_token_refresh=on_token_refresh) as connection:
        connection.wait_open(10)
        connection.renew()
        assert 1 == connection.link
    assert [live.gateway.access_token("c-1")] == tokens


def test_a_plain_endpoint_is_made_on_a_thread(live: World, bridge: Bridge) -> None:
    threads: list[str] = []

    def endpoint(token: Any) -> str:
        threads.append(threading.current_thread().name)
        return live.far.url

    with bridge.connect("c-1", endpoint) as connection:
        connection.wait_open(10)
    assert ["dromos-endpoint"] == threads


def test_the_threads_of_a_connection_end_with_it(live: World, bridge: Bridge) -> None:
    with bridge.connect("c-1", lambda token: live.far.url, on_connect=lambda send: None) as c:
        c.wait_open(10)
        names = ("dromos-callbacks", "dromos-endpoint")
        mine = [thread for thread in threading.enumerate() if thread.name in names]
        assert 2 <= len(mine)
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive()


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("how", ["recv", "for", "events", "wait_open", "send"])
def test_ctrl_c_gets_through_and_cancels_what_waits(live: World, bridge: Bridge, how: str) -> None:
    if how in ("wait_open", "send"):
        live.far.hang(next=None)
    with live.connect(bridge) as connection:
        if how not in ("wait_open", "send"):
            connection.wait_open(10)
        ways: dict[str, Any] = {
            "recv": connection.recv,
            "for": lambda: list(connection),
            "events": lambda: list(connection.events()),
            "wait_open": connection.wait_open,
            "send": lambda: connection.send("x", timeout=60),
        }

        def press() -> None:
            on_loop_until(lambda: how_many_calls() == 2)  # this question is one of them
            interrupt_main_thread()

        pressing = Aside(press)
        with pytest.raises(KeyboardInterrupt):
            ways[how]()
        pressing.outcome()

        assert 1 == loop_thread().call(how_many_calls)
        if how in ("recv", "for"):
            live.publish("not lost")
            assert "not lost" == connection.recv(10)
