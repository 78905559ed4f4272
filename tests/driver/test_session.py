"""A session's life, in virtual time."""

import asyncio
import logging
from typing import Any

import pytest

from dromos import (
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    NotConnected,
    PermanentError,
    RetryPolicy,
    TokenError,
)
from dromos.events import (
    Connected,
    Disconnected,
    HandedOver,
    HandlerFailed,
    LinkLost,
    RetryScheduled,
    SessionEnded,
)
from dromos.testing.memory import HANG, FarEnd
from tests.driver.harness import Notes, PlainNotes, Stage, Tokens, until

pytestmark = pytest.mark.looptime


async def test_a_session_connects_echoes_and_is_cancelled() -> None:
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)

    await stage.handler.sends[0]("hello")
    await stage.handler.sends[0](b"\x00\xff")
    await until(lambda: len(stage.handler.messages) == 2)
    await stage.cancel()

    assert ["hello", b"\x00\xff"] == stage.handler.messages
    assert ["connect", "message", "message", "disconnect"] == stage.handler.names
    assert ("disconnect", None) == stage.handler.calls[-1]
    assert stage.far.closed is not None
    assert (1000, True) == (stage.far.closed.code, stage.far.closed.by_peer)


async def test_plain_methods_work_like_async_ones() -> None:
    stage = Stage(handler=PlainNotes())
    stage.start()
    await until(lambda: stage.handler.sends)

    for number in range(200):
        stage.handler.sends[0](str(number))
    await until(lambda: len(stage.handler.messages) == 200)
    await stage.cancel()

    assert [str(number) for number in range(200)] == stage.handler.messages


async def test_a_plain_function_that_returns_an_awaitable_is_awaited() -> None:
    class Mixed(Notes):
        def on_message(self, message: Any) -> Any:
            return super().on_message(message)

    stage = Stage(handler=Mixed())
    stage.start()
    await until(lambda: stage.handler.sends)

    for number in range(5):
        stage.handler.sends[0](str(number))
    await until(lambda: len(stage.handler.messages) == 5)
    await stage.cancel()

    assert ["0", "1", "2", "3", "4"] == stage.handler.messages


async def test_a_dropped_link_is_replaced_and_its_queue_is_delivered_first() -> None:
    class Slow(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(1)
            await super().on_message(message)

    async def far_side(link: FarEnd) -> None:
        for number in range(3):
            link.send(str(number))
        if len(stage.dialer.links) == 1:
            await asyncio.sleep(0.5)
            link.drop()
        await link.wait_closed()

    stage = Stage(handler=Slow(), far_side=far_side)
    stage.start()
    await until(lambda: len(stage.handler.messages) == 6)
    await stage.cancel()

    names = stage.handler.names
    assert ["connect", *["message"] * 3, "disconnect"] == names[:5]
    assert ["connect", *["message"] * 3, "disconnect"] == names[5:]
    assert ["0", "1", "2", "0", "1", "2"] == stage.handler.messages
    error = stage.handler.calls[4][1]
    assert isinstance(error, ConnectionClosed)
    assert 1006 == error.code
    assert (2, 2) == (stage.metrics.connections, stage.metrics.disconnects)


async def test_messages_wait_until_on_connect_has_returned() -> None:
    class Slow(Notes):
        async def on_connect(self, send: Any) -> None:
            await asyncio.sleep(2)
            await super().on_connect(send)

    async def far_side(link: FarEnd) -> None:
        link.send("early")
        await link.wait_closed()

    stage = Stage(handler=Slow(), far_side=far_side)
    stage.start()
    await until(lambda: stage.handler.messages)
    await stage.cancel()

    assert ["connect", "message", "disconnect"] == stage.handler.names


async def test_a_token_is_renewed_before_it_expires_without_a_gap() -> None:
    async def far_side(link: FarEnd) -> None:
        number = 0
        while link.closed is None:
            link.send(f"{link.handshake.headers[0][1]} {number}")
            number += 1
            await asyncio.sleep(0.1)

    stage = Stage(tokens=Tokens(lifetime=100), far_side=far_side, refresh_buffer=30, latency=0.02)
    stage.start()
    await until(lambda: len(stage.of(HandedOver)) == 2)
    await asyncio.sleep(1)
    await stage.cancel()

    assert 1 == stage.metrics.connections
    assert 2 == stage.metrics.token_refreshes
    assert [1.0] == [status for status in stage.metrics.statuses if status]
    assert ["connect", "connect", "connect", "disconnect"] == [
        name for name in stage.handler.names if name != "message"
    ]
    first = [m for m in stage.handler.messages if "t1" in m]
    assert [f"Bearer t1 {n}" for n in range(len(first))] == first
    tokens = [m.split()[1] for m in stage.handler.messages]
    assert sorted(tokens) == tokens, "the old link's messages come before the new one's"


async def test_a_token_that_never_expires_is_never_renewed() -> None:
    """B12: no expiry is not the year 1970."""
    stage = Stage(tokens=Tokens(lifetime=None))
    stage.start()

    await asyncio.sleep(86_400)
    await stage.cancel()

    assert [] == stage.tokens.refreshes
    assert 1 == stage.metrics.connections


async def test_the_first_token_failure_is_permanent_after_three_tries() -> None:
    stage = Stage(tokens=Tokens(get_errors=[TokenError("busy", status=503) for _ in range(9)]))

    with pytest.raises(PermanentError) as caught:
        await stage.start()

    assert isinstance(caught.value.__cause__, TokenError)
    assert 3 == len(stage.tokens.gets)
    assert [] == stage.handler.calls
    assert 0 == stage.metrics.connections


async def test_interaction_required_ends_the_session_as_itself() -> None:
    """B16: a 409 of the gateway is an error of its own."""
    error = InteractionRequired("consent is needed", connection_id="c-1")
    stage = Stage(tokens=Tokens(get_errors=[error]))

    with pytest.raises(InteractionRequired):
        await stage.start()

    assert 1 == len(stage.tokens.gets)


async def test_a_permanent_close_code_ends_the_session() -> None:
    async def far_side(link: FarEnd) -> None:
        link.close(1008, "go away")
        await link.wait_closed()

    stage = Stage(far_side=far_side)

    with pytest.raises(PermanentError) as caught:
        await stage.start()

    assert isinstance(caught.value.__cause__, ConnectionClosed)
    assert 1008 == caught.value.__cause__.code
    assert ["connect", "disconnect"] == stage.handler.names
    assert caught.value is stage.handler.calls[-1][1]
    assert (1, 1) == (stage.metrics.connections, stage.metrics.disconnects)


async def test_a_refused_token_is_replaced_once_and_then_the_session_ends() -> None:
    """B15: 401 at the handshake."""
    stage = Stage()
    stage.dialer.then(*[HandshakeError("who?", status=401) for _ in range(5)])

    with pytest.raises(PermanentError):
        await stage.start()

    assert 2 == len(stage.dialer.dials)
    assert 1 == len(stage.tokens.refreshes)


async def test_a_refused_token_is_replaced_and_the_session_goes_on() -> None:
    stage = Stage()
    stage.dialer.then(HandshakeError("who?", status=401))
    stage.start()
    await until(lambda: stage.handler.sends)
    await stage.cancel()

    headers = [dict(handshake.headers)["Authorization"] for handshake in stage.dialer.dials]
    assert ["Bearer t1", "Bearer t2"] == headers


async def test_on_connect_that_raises_counts_as_a_failed_attempt() -> None:
    class Broken(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            if len(self.sends) < 3:
                raise RuntimeError("not yet")

    stage = Stage(handler=Broken())
    stage.start()
    await until(lambda: len(stage.handler.sends) == 3)
    await asyncio.sleep(1)

    assert ["connect", "disconnect", "connect", "disconnect", "connect"] == stage.handler.names
    assert ["on_connect", "on_connect"] == [e.method for e in stage.of(HandlerFailed)]
    assert stage.dialer.links[0].far.closed is not None
    await stage.cancel()


async def test_on_connect_that_takes_too_long_is_cancelled() -> None:
    class Stuck(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            if len(self.sends) == 1:
                await asyncio.Event().wait()

    stage = Stage(handler=Stuck(), connect_timeout=4)
    stage.start()
    await until(lambda: len(stage.handler.sends) == 2)
    await stage.cancel()

    assert 4.0 <= stage.event_times[stage.events.index(stage.of(Disconnected)[0])] < 4.5


@pytest.mark.parametrize("kind", [Notes, PlainNotes])
async def test_a_handler_that_raises_is_reported_and_the_link_stays(kind: type[Notes]) -> None:
    """B58: an exception in a callback ends nothing."""

    class Broken(kind):  # type: ignore[misc,valid-type]
        def on_message(self, message: Any) -> Any:
            raise ZeroDivisionError

    stage = Stage(handler=Broken())
    stage.start()
    await until(lambda: stage.handler.sends)
    for _ in range(4):
        stage.handler.sends[0]("x")
    await until(lambda: len(stage.of(HandlerFailed)) == 4)
    await stage.cancel()

    assert 1 == len(stage.dialer.links)


async def test_a_handler_that_raises_ends_the_session_if_asked_to() -> None:
    class Broken(Notes):
        async def on_message(self, message: Any) -> None:
            raise ZeroDivisionError

        async def on_connect(self, send: Any) -> None:
            await send("x")

    stage = Stage(handler=Broken(), handler_errors="raise")

    with pytest.raises(PermanentError) as caught:
        await stage.start()

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("method", ["on_connect", "on_message", "on_disconnect"])
async def test_a_permanent_error_of_any_method_ends_the_session(method: str) -> None:
    enough = PermanentError("enough")

    class Done(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            send("x")
            if method == "on_connect":
                raise enough

        async def on_message(self, message: Any) -> None:
            if method == "on_message":
                raise enough
            stage.far.drop()

        async def on_disconnect(self, error: Any) -> None:
            await super().on_disconnect(error)
            if method == "on_disconnect":
                raise enough

    stage = Stage(handler=Done())

    with pytest.raises(PermanentError) as caught:
        await stage.start()

    assert enough is caught.value
    assert 1 == stage.handler.names.count("disconnect")


async def test_a_cancellation_from_within_a_handler_is_an_error_like_any_other() -> None:
    """A handler that awaits a cancelled task of its own must not end the session silently."""

    class Careless(Notes):
        async def on_message(self, message: Any) -> None:
            await super().on_message(message)
            mine = asyncio.get_running_loop().create_task(asyncio.sleep(10))
            mine.cancel()
            await mine

    stage = Stage(handler=Careless())
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.handler.sends[0]("1")
    stage.handler.sends[0]("2")
    await until(lambda: len(stage.handler.messages) == 2)
    await stage.cancel()

    assert ["on_message"] * 2 == [event.method for event in stage.of(HandlerFailed)]


async def test_a_cancellation_from_within_a_provider_is_a_failure_of_its_attempt() -> None:
    stage = Stage(tokens=Tokens(get_errors=[asyncio.CancelledError()]))
    stage.start()
    done, _ = await asyncio.wait([stage.task], timeout=30)  # type: ignore[list-item]

    if done:
        with pytest.raises(PermanentError):
            await stage.task  # type: ignore[misc]
    else:
        await stage.cancel()


async def test_send_close_ends_the_session_with_its_code() -> None:
    """B36: there is a way to end it with a code and a reason."""
    stage = Stage()
    task = stage.start()
    await until(lambda: stage.handler.sends)

    stage.handler.sends[0].close(4000, "done")
    await task

    assert stage.far.closed is not None
    assert (4000, "done") == (stage.far.closed.code, stage.far.closed.reason)
    assert ("disconnect", None) == stage.handler.calls[-1]
    assert 1 == stage.metrics.disconnects


async def test_a_bridge_whose_close_is_cancelled_ends_its_sessions_at_once() -> None:
    class Stuck(Notes):
        async def on_message(self, message: str | bytes) -> None:
            await asyncio.sleep(3600)

    stage = Stage(handler=Stuck(), far_side=None)
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.far.send("one")
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await stage.bridge.close(timeout=60)
    await asyncio.sleep(5)

    assert () == stage.bridge.snapshots()
    assert ["connect", "disconnect"] == stage.handler.names


async def test_bridge_close_drains_every_session() -> None:
    stage = Stage()
    tasks = [stage.start() for _ in range(5)]
    await until(lambda: len(stage.handler.sends) == 5)

    await stage.bridge.close()

    assert all(task.done() and task.exception() is None for task in tasks)
    assert 5 == stage.handler.names.count("disconnect")
    with pytest.raises(RuntimeError, match="closed"):
        await stage.start()


async def test_a_send_without_a_link_says_so() -> None:
    """B52: after a disconnect `send` never pretends."""
    stage = Stage(retry_policy=RetryPolicy(min_backoff=5, max_backoff=5))
    stage.start()
    await until(lambda: stage.handler.sends)
    send = stage.handler.sends[0]
    stage.far.drop()
    await until(lambda: stage.of(Disconnected))

    for _ in range(40):
        with pytest.raises(NotConnected):
            send("x")

    await until(lambda: len(stage.dialer.links) == 2)
    await asyncio.sleep(0.1)
    await send("now it works")
    await until(lambda: stage.handler.messages)
    await stage.cancel()


async def test_a_send_after_the_far_sides_close_says_so() -> None:
    sent: list[str] = []

    async def far_side(link: FarEnd) -> None:
        link.close(1001)
        await link.wait_closed()

    class Late(Notes):
        async def on_disconnect(self, error: Any) -> None:
            try:
                await self.sends[0]("late")
                sent.append("late")
            except NotConnected:
                pass

    stage = Stage(far_side=far_side, handler=Late())
    stage.start()
    await until(lambda: stage.of(Disconnected))
    await stage.cancel()

    assert [] == sent


async def test_many_sends_inside_on_connect_do_not_deadlock() -> None:
    """B50: two sends inside on_connect."""

    class Eager(Notes):
        async def on_connect(self, send: Any) -> None:
            for number in range(100):
                await send(str(number))
            await super().on_connect(send)

    stage = Stage(handler=Eager())
    stage.start()
    await until(lambda: len(stage.handler.messages) == 100)
    await stage.cancel()

    assert [str(number) for number in range(100)] == stage.far.received


async def test_each_link_gets_a_send_of_its_own_and_every_send_goes_to_the_current_link() -> None:
    """B59: an agent that kept the first `send` never notices."""
    stage = Stage(tokens=Tokens(lifetime=100), refresh_buffer=30)
    stage.start()
    await until(lambda: len(stage.of(HandedOver)) == 1)
    await asyncio.sleep(1)

    await stage.handler.sends[0]("from the first")
    await until(lambda: stage.handler.messages)
    await stage.cancel()

    assert [(1, False), (2, True)] == [(s.link, s.handover) for s in stage.handler.sends]
    assert ["from the first"] == stage.dialer.links[1].far.received


async def test_while_a_link_takes_over_its_send_writes_to_it_and_the_others_to_the_old() -> None:
    class Subscribing(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            await send(f"subscribe {send.link}")
            await asyncio.sleep(1)
            await self.sends[0](f"work {send.link}")

    stage = Stage(tokens=Tokens(lifetime=100), refresh_buffer=30, handler=Subscribing())
    stage.start()
    await until(lambda: len(stage.of(HandedOver)) == 1)
    await stage.cancel()

    assert ["subscribe 1", "work 1", "work 2"] == stage.dialer.links[0].far.received
    assert ["subscribe 2"] == stage.dialer.links[1].far.received


async def test_an_endpoint_callable_is_called_on_every_attempt_with_the_token() -> None:
    seen: list[str] = []

    async def endpoint(token: Any) -> str:
        seen.append(token.access_token)
        return f"wss://far.example/{len(seen)}"

    stage = Stage(endpoint=endpoint)
    stage.dialer.then(HandshakeError("busy", status=503))
    stage.start()
    await until(lambda: stage.handler.sends)
    await stage.cancel()

    assert ["t1", "t1"] == seen
    urls = ["wss://far.example/1", "wss://far.example/2"]
    assert urls == [handshake.url for handshake in stage.dialer.dials]


async def test_an_endpoint_callable_that_makes_a_bad_url_ends_the_session() -> None:
    stage = Stage(endpoint=lambda token: "https://far.example/")

    with pytest.raises(PermanentError, match="ws://"):
        await stage.start()

    assert [] == stage.dialer.dials


async def test_a_hanging_dial_is_given_up_after_connect_timeout() -> None:
    stage = Stage(connect_timeout=5)
    stage.dialer.then(HANG)
    stage.start()
    await until(lambda: stage.of(RetryScheduled))

    assert 5.0 == pytest.approx(asyncio.get_running_loop().time(), abs=0.1)
    await stage.cancel()


async def test_connections_and_disconnects_balance() -> None:
    """B30: connections − disconnects is 1 while open and 0 after, cancellation included."""
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)
    counts = stage.metrics
    assert (1, 0, 1.0) == (counts.connections, counts.disconnects, counts.status)

    await stage.cancel()

    assert (1, 1, 0.0) == (counts.connections, counts.disconnects, counts.status)
    assert [True] == [event.cancelled for event in stage.of(SessionEnded)]


async def test_the_status_is_the_share_of_sessions_that_are_open() -> None:
    stage = Stage()
    stage.start()
    await until(lambda: len(stage.handler.sends) == 1)
    stage.dialer.then(*[HandshakeError("busy", status=503)] * 50)
    second = stage.start()
    await asyncio.sleep(1)

    assert 0.5 == stage.metrics.status

    second.cancel()
    await asyncio.wait([second])
    assert 1.0 == stage.metrics.status
    await stage.bridge.close()


async def test_the_real_cause_of_a_disconnect_is_told() -> None:
    """B34: code, reason and who closed it."""

    async def far_side(link: FarEnd) -> None:
        link.close(1001, "deploy")
        await link.wait_closed()

    stage = Stage(far_side=far_side)
    stage.start()
    await until(lambda: stage.of(LinkLost))
    await stage.cancel()

    error = stage.of(Disconnected)[0].error
    assert isinstance(error, ConnectionClosed)
    assert (1001, "deploy", True) == (error.code, error.reason, error.by_peer)


async def test_a_gap_is_measured() -> None:
    stage = Stage(retry_policy=RetryPolicy(min_backoff=3, max_backoff=3, jitter=0))
    stage.start()
    await until(lambda: stage.handler.sends)
    await asyncio.sleep(60)
    stage.far.drop()
    await until(lambda: len(stage.of(Connected)) == 2)
    await stage.cancel()

    gaps = [event.gap for event in stage.of(Connected)]
    assert None is gaps[0]
    assert 3.0 == pytest.approx(gaps[1], abs=0.1)


@pytest.mark.parametrize("method", ["on_connect", "on_message"])
async def test_without_a_logger_what_a_handler_raises_is_logged_and_nothing_else(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Mistaken(Notes):
        """Has a mistake in one of its methods."""

    async def fail(self: Notes, value: Any) -> None:
        raise LookupError("a mistake")

    setattr(Mistaken, method, fail)
    it = Stage(handler=Mistaken())
    with caplog.at_level(logging.DEBUG, "dromos"):
        it.start()
        await until(lambda: it.dialer.links)
        await asyncio.sleep(0.1)
        it.far.send("hello")
        await until(lambda: caplog.records)
        await it.cancel()

    first, *others = [record for record in caplog.records if record.name == "dromos"]
    assert first.getMessage().startswith("bridge.handler_failed")
    assert first.exc_info is not None
    assert all(record.getMessage().startswith("bridge.handler_failed") for record in others)


async def test_a_handler_that_ends_its_session_on_purpose_is_no_mistake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Done(Notes):
        async def on_message(self, message: str | bytes) -> None:
            raise PermanentError("I have all I need")

    it = Stage(handler=Done())
    session = it.start()
    await until(lambda: it.handler.sends)
    it.far.send("the last one")
    with pytest.raises(PermanentError, match="all I need"):
        await session

    assert [] == [record for record in caplog.records if record.name == "dromos"]
