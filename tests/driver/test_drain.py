"""A bridge that is drained: what was taken to be sent arrives, and nothing more is taken."""

import asyncio
from typing import Any

import pytest

from dromos import Connection, HandshakeError, NotConnected, Outbox, Send
from dromos.events import DeliveryUnknown, HandlerFailed, LinkLost, MessagesDropped, MessagesUnsent
from dromos.model import Token
from dromos.testing.memory import FarEnd
from tests.driver.harness import URL, Notes, Stage, until

pytestmark = pytest.mark.looptime

MESSAGE = "x" * 1024


async def quiet(link: FarEnd) -> None:
    await link.wait_closed()


async def slow(link: FarEnd) -> None:
    """Read nothing for twelve seconds, in which a mere close would have given up."""
    link.stop_reading()
    await asyncio.sleep(6)
    link.start_reading()
    await asyncio.sleep(0.01)
    link.stop_reading()
    await asyncio.sleep(6)
    link.start_reading()
    await link.wait_closed()


class Flood(Notes):
    """A handler that sends until it is told that nothing is taken any more."""

    def __init__(self, *, most: int = 10_000) -> None:
        super().__init__()
        self.accepted = 0
        self.refused: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self._most = most

    async def on_connect(self, send: Send) -> None:
        await super().on_connect(send)
        if self.task is None:
            self.task = asyncio.create_task(self._flood(send))

    async def _flood(self, send: Send) -> None:
        try:
            for _ in range(self._most):
                written = send(MESSAGE)
                self.accepted += 1
                await written
                await asyncio.sleep(0.001)
        except NotConnected as error:
            self.refused = error


def received(it: Stage) -> int:
    return sum(message == MESSAGE for link in it.dialer.links for message in link.far.received)


async def backlog(it: Stage) -> asyncio.Task[None]:
    """A session that has written more than the far side takes, which reads nothing."""
    session = it.start()
    await until(lambda: it.handler.sends)
    it.far.stop_reading()
    for _ in range(150):
        it.handler.sends[0](MESSAGE)
    return session


async def drained(it: Stage, **options: Any) -> float:
    """Drain the bridge, and return how long that took."""
    began = asyncio.get_running_loop().time()
    await it.bridge.drain(**options)
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("outbox", [None, Outbox(max_messages=10_000, max_bytes=2**24)])
async def test_what_was_sent_under_load_arrives_although_the_far_side_is_slow(
    outbox: Outbox | None,
) -> None:
    flood = Flood()
    it = Stage(far_side=slow, handler=flood, outbox=outbox)
    session = it.start()
    await until(lambda: flood.accepted > 60)
    took = await drained(it)
    await session

    assert isinstance(flood.refused, NotConnected)
    assert "being drained" in str(flood.refused)
    assert flood.accepted == received(it)
    assert 5 < took < 25
    assert [0] == [lost.unconfirmed for lost in it.of(LinkLost)]


async def test_closing_alone_would_have_lost_it() -> None:
    flood = Flood()
    it = Stage(far_side=slow, handler=flood)
    session = it.start()
    await until(lambda: flood.accepted > 60)
    await it.bridge.close()
    await session

    assert flood.accepted > received(it)


async def test_what_an_outbox_keeps_is_sent_on_the_next_link() -> None:
    it = Stage(far_side=quiet, outbox=Outbox())
    it.dialer.then(HandshakeError("not yet", status=503), HandshakeError("nor now", status=503))
    async with it.bridge.connect("c-1", URL) as connection:
        for number in range(20):
            await connection.send(str(number))
        await drained(it)

    assert [str(number) for number in range(20)] == it.far.received
    assert [] == it.of(MessagesUnsent)


async def test_a_link_that_opens_meanwhile_is_greeted() -> None:
    it = Stage(far_side=quiet, outbox=Outbox(), dial_latency=2)

    async def greet(send: Send) -> None:
        await connection.send("hello")
        await send("who I am")

    async with it.bridge.connect("c-1", URL, on_connect=greet) as connection:
        await connection.send("news")
        await drained(it)

    assert ["hello", "who I am", "news"] == it.far.received


@pytest.mark.parametrize("outbox", [None, Outbox()])
async def test_a_token_is_renewed_on_the_live_link_meanwhile(outbox: Outbox | None) -> None:
    class Renewing(Notes):
        sent_late: Exception | None = None

        async def on_token_refresh(self, token: Token, send: Send) -> None:
            await send("a new token")
            asyncio.get_running_loop().call_soon(self.send_late, send)

        def send_late(self, send: Send) -> None:
            try:
                send("what is no part of it")
            except NotConnected as error:
                self.sent_late = error

    handler = Renewing()
    it = Stage(handler=handler, far_side=quiet, outbox=outbox, ping_interval=None)
    it.start()
    await until(lambda: it.handler.sends)
    it.far.stop_reading()
    it.handler.sends[0](MESSAGE)
    draining = asyncio.create_task(drained(it))
    await asyncio.sleep(1)
    (session,) = it.bridge._sessions.values()
    session.request_renewal()
    await asyncio.sleep(3)
    it.far.start_reading()
    await draining

    assert [MESSAGE, "a new token"] == it.far.received
    assert "being drained" in str(handler.sent_late)
    assert [] == it.of(HandlerFailed)
    assert 1 == len(it.dialer.links)


async def test_an_answer_that_goes_astray_is_asked_for_again() -> None:
    it = Stage(far_side=quiet)
    it.start()
    await until(lambda: it.handler.sends)
    it.far.answer_pings = False
    it.handler.sends[0](MESSAGE)
    asyncio.get_running_loop().call_later(1.5, setattr, it.far, "answer_pings", True)

    assert await drained(it) < 3


async def test_what_a_lost_link_took_with_it_is_reported_and_not_waited_for() -> None:
    it = Stage(far_side=quiet)
    async with it.bridge.connect("c-1", URL) as connection:
        await connection.wait_open()
        it.far.stop_reading()
        await connection.send("into the void")
        asyncio.get_running_loop().call_later(3, it.far.drop)
        took = await drained(it)

    assert 3 == pytest.approx(took, abs=0.5)
    assert [1] == [lost.unconfirmed for lost in it.of(LinkLost)]


async def test_a_far_side_that_never_reads_costs_the_time_there_is_and_no_more() -> None:
    it = Stage(far_side=quiet, outbox=Outbox(), ping_interval=None)
    async with it.bridge.connect("c-1", URL) as connection:
        await connection.wait_open()
        it.far.stop_reading()
        await connection.send("last words")
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError, match="confirmed within 10 s"):
            await it.bridge.drain(timeout=10)
        took = asyncio.get_running_loop().time() - began

    assert 7.5 <= took <= 10
    assert [1] == [event.count for event in it.of(DeliveryUnknown)]


async def test_a_handler_that_is_stuck_does_not_make_it_late() -> None:
    class Stuck(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.get_running_loop().create_future()

    it = Stage(handler=Stuck(), close_timeout=60)
    session = it.start()
    await until(lambda: it.handler.sends)
    await it.handler.sends[0]("to be echoed")
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError, match="the callbacks or the link of 'c-1' had not ended"):
        await it.bridge.drain(timeout=20)
    took = asyncio.get_running_loop().time() - began
    await session

    assert took <= 20
    assert "disconnect" == it.handler.names[-1]


async def test_a_handler_that_is_slow_has_the_time_that_is_left() -> None:
    class Slow(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(4)
            await super().on_message(message)

    it = Stage(handler=Slow(), far_side=quiet)
    it.start()
    await until(lambda: it.handler.sends)
    for message in ("one", "two", "three", "four"):
        it.far.send(message)
    await asyncio.sleep(1)
    took = await drained(it)

    assert 15 == pytest.approx(took, abs=0.5)
    assert ["one", "two", "three", "four"] == it.handler.messages
    assert [] == it.of(MessagesDropped)


async def test_without_anything_to_wait_for_it_ends_at_once() -> None:
    it = Stage(far_side=quiet)
    session = it.start()
    await until(lambda: it.handler.sends)
    took = await drained(it)
    await session

    assert 0 == pytest.approx(took, abs=0.1)
    assert 1000 == it.far.closed.code  # type: ignore[union-attr]


async def test_while_it_dials_and_keeps_nothing_it_ends_at_once() -> None:
    it = Stage(dial_latency=10)
    session = it.start()
    await asyncio.sleep(1)
    took = await drained(it)
    await session

    assert 0 == pytest.approx(took, abs=0.1)


# --- What a program does whose messages are not taken any more ------------------------------------


async def blocked(it: Stage, connection: Connection) -> None:
    """Have more written than the far side takes."""
    await connection.wait_open()
    it.far.stop_reading()
    for _ in range(150):
        connection._sender(MESSAGE)
    asyncio.get_running_loop().call_later(8, it.far.start_reading)


async def test_leaving_the_block_of_a_connection_does_not_cut_it_short() -> None:
    it = Stage(far_side=quiet)

    async def produce() -> None:
        async with it.bridge.connect("c-1", URL) as connection:
            await blocked(it, connection)
            ready.set()
            while True:
                await asyncio.sleep(0.01)
                await connection.send("more")

    ready = asyncio.Event()
    producer = asyncio.create_task(produce())
    await ready.wait()
    await drained(it)

    with pytest.raises(NotConnected, match="being drained"):
        await producer
    assert 150 == received(it)


@pytest.mark.parametrize("whole_bridge", [False, True])
async def test_leaving_the_block_of_a_group_or_bridge_does_not_cut_it_short(
    whole_bridge: bool,
) -> None:
    flood = Flood()
    it = Stage(far_side=slow)

    async def program() -> None:
        async with it.bridge.supervise() as group:
            group.start("c-1", URL, flood)
            await until(lambda: flood.refused is not None)
            if whole_bridge:
                await it.bridge.close()

    running = asyncio.create_task(program())
    await until(lambda: flood.accepted > 60)
    took = await drained(it)
    await running

    assert flood.accepted == received(it)
    assert 5 < took < 25


async def test_a_task_group_that_cancels_the_session_does_not_cut_it_short() -> None:
    it = Stage(far_side=quiet)

    async def produce() -> None:
        while True:
            await asyncio.sleep(0.01)
            it.handler.sends[0]("more")

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(it.bridge.maintain_websocket("c-1", URL, it.handler))
            await until(lambda: it.handler.sends)
            it.far.stop_reading()
            for _ in range(150):
                it.handler.sends[0](MESSAGE)
            asyncio.get_running_loop().call_later(8, it.far.start_reading)
            group.create_task(produce())
            ready.set()

    ready = asyncio.Event()
    working = asyncio.create_task(work())
    await ready.wait()
    await drained(it)

    with pytest.raises(ExceptionGroup) as caught:
        await working
    assert isinstance(caught.value.exceptions[0], NotConnected)
    assert 150 == received(it)


async def test_a_handler_that_closes_does_not_cut_it_short_and_its_code_is_sent() -> None:
    it = Stage(far_side=quiet)
    session = await backlog(it)
    asyncio.get_running_loop().call_later(8, it.far.start_reading)
    asyncio.get_running_loop().call_later(1, it.handler.sends[0].close, 4001, "bye")
    await drained(it)
    await session

    assert 150 == received(it)
    assert 4001 == it.far.closed.code  # type: ignore[union-attr]


async def test_a_connection_whose_drain_is_cancelled_takes_messages_again() -> None:
    it = Stage(far_side=quiet)
    async with it.bridge.connect("c-1", URL) as connection:
        await connection.wait_open()
        it.far.stop_reading()
        await connection.send("first")
        draining = asyncio.create_task(connection.drain())
        await asyncio.sleep(1)
        draining.cancel()
        await asyncio.wait([draining])
        it.far.start_reading()
        await connection.send("second")
        await connection.drain()

    assert ["first", "second"] == it.far.received


@pytest.mark.parametrize("who", ["the block", "close", "the bridge"])
async def test_a_close_that_waits_for_a_drain_goes_on_when_that_is_cancelled(who: str) -> None:
    it = Stage(far_side=quiet)
    now = asyncio.get_running_loop().time
    async with it.bridge.connect("c-1", URL) as connection:
        await connection.wait_open()
        it.far.stop_reading()
        await connection.send("first")
        draining = asyncio.create_task(connection.drain(timeout=600))
        await asyncio.sleep(1)
        closing = {"close": connection.close, "the bridge": it.bridge.close}.get(who)
        task = None if closing is None else asyncio.create_task(closing())
        await asyncio.sleep(0 if task is None else 1)
        draining.cancel()
        cancelled_at = now()

    assert now() - cancelled_at < 12
    assert "closed" == connection.state
    if task is not None:
        await task


async def test_a_session_that_is_cancelled_as_a_drain_begins_still_delivers() -> None:
    it = Stage(far_side=quiet)
    await backlog(it)
    asyncio.get_running_loop().call_later(8, it.far.start_reading)
    draining = asyncio.create_task(drained(it))
    await asyncio.sleep(0)  # it has begun, and looks again with what the cancellation changes
    it.task.cancel()

    assert 8 <= await draining
    assert 150 == received(it)


async def test_a_session_cancelled_twice_in_a_drain_ends_at_once_and_says_goodbye() -> None:
    it = Stage(far_side=quiet)
    await backlog(it)
    draining = asyncio.create_task(drained(it))
    for _ in range(2):
        await asyncio.sleep(1)
        it.task.cancel()

    assert await draining < 2 + 5 + 1  # seconds: close_timeout, and a moment to clean up
    assert ["connect", "disconnect"] == it.handler.names


async def test_another_drain_with_more_time_does_not_keep_a_bridge_from_its_own() -> None:
    it = Stage(far_side=quiet, outbox=Outbox(), ping_interval=None)
    async with it.bridge.connect("c-1", URL) as connection:
        await connection.wait_open()
        it.far.stop_reading()
        await connection.send("first")
        patient = asyncio.create_task(connection.drain(timeout=600))
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await it.bridge.drain(timeout=10)
        took = asyncio.get_running_loop().time() - began
        await asyncio.wait([patient])

    assert took <= 10


async def test_a_drain_of_one_session_does_not_keep_a_bridge_from_ending_the_others() -> None:
    cut: list[float] = []
    now = asyncio.get_running_loop().time

    class Stuck(Notes):
        async def on_disconnect(self, error: Exception | None) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                cut.append(now())

    it = Stage(far_side=quiet, ping_interval=None)
    other = Stuck()
    async with it.bridge.connect("c-1", URL) as connection:
        await connection.wait_open()
        it.far.stop_reading()
        await connection.send("first")
        kept = asyncio.create_task(it.bridge.maintain_websocket("c-2", URL, other))
        await until(lambda: other.sends)
        asyncio.get_running_loop().call_later(60, it.dialer.links[0].far.start_reading)
        draining = asyncio.create_task(connection.drain(timeout=600))
        await asyncio.sleep(1)
        began = now()
        await it.bridge.close(timeout=1)
        await kept
        await draining

    assert ["first"] == it.dialer.links[0].far.received
    assert 1 == len(cut)
    assert cut[0] - began <= 1 + 5


async def test_a_bridge_that_is_drained_takes_no_new_session() -> None:
    it = Stage()
    await it.bridge.drain()

    with pytest.raises(RuntimeError, match="the bridge is closed"):
        await it.bridge.maintain_websocket("c-1", URL, Notes())
    assert it.bridge.vitals().draining


async def test_a_wrong_time_is_named() -> None:
    with pytest.raises(ValueError, match="timeout must be more than 0 s"):
        await Stage().bridge.drain(timeout=0)
