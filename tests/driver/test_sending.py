"""What a handler sends: the quick way keeps every rule that the checked one has."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable
from typing import Any

import pytest

from dromos import Send
from dromos.errors import ConnectionClosed, MessageTooBig, NotConnected
from dromos.events import LinkLost
from dromos.model import Message
from dromos.testing.memory import FarEnd
from tests.driver.harness import Notes, PlainNotes, Stage, until, with_and_without

pytestmark = pytest.mark.looptime

BIG = "x" * 60_000


has_write = with_and_without("write")


async def reads_when_told(link: FarEnd) -> None:
    link.stop_reading()
    await link.wait_closed()


async def opened(**options: Any) -> tuple[Stage, Send]:
    """A session with a link, and what its handler sends with."""
    it = Stage(handler=PlainNotes(), **options)
    it.start()
    await until(lambda: it.handler.sends)
    await asyncio.sleep(1)
    return it, it.handler.sends[0]


async def blocked(it: Stage, send: Send) -> Awaitable[None]:
    """Fill the write buffer, and return what the message gave that has done so."""
    written = send(BIG)
    while not it.link._buffer.blocked:
        written = send(BIG)
    return written


async def test_what_is_sent_arrives_in_order_and_is_counted() -> None:
    it, send = await opened()
    sent: list[Message] = ["a", b"b", "", b"", "grüße ✓", bytearray(b"c").decode(), BIG]
    for message in sent:
        await send(message)
    await send(bytearray(b"an array"))
    await send(memoryview(b"a view"))
    await asyncio.sleep(1)
    (session,) = it.bridge._sessions.values()
    _, counted = session.traffic()
    await it.cancel()

    assert [*sent, b"an array", b"a view"] == it.far.received
    assert len(sent) + 2 == counted


async def test_awaiting_what_finds_room_returns_without_a_turn_of_the_loop() -> None:
    it, send = await opened()
    turns: list[None] = []
    asyncio.get_running_loop().call_soon(turns.append, None)
    for _ in range(100):
        await send("at once")
    assert [] == turns
    await it.cancel()


async def test_the_message_that_fills_the_buffer_waits_and_so_do_those_behind_it() -> None:
    it, send = await opened(far_side=reads_when_told)
    filling = await blocked(it, send)
    waiting = [asyncio.ensure_future(_wait(each)) for each in (filling, send("behind"))]
    await asyncio.sleep(5)
    assert not any(task.done() for task in waiting)

    it.far.start_reading()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    await asyncio.wait_for(_wait(send("and again")), 0.001)
    await asyncio.sleep(1)
    await it.cancel()
    assert ["behind", "and again"] == it.far.received[-2:]


async def _wait(written: Awaitable[None]) -> None:
    await written


async def test_one_who_gives_up_waiting_takes_nobody_with_him() -> None:
    it, send = await opened(far_side=reads_when_told)
    filling = await blocked(it, send)
    first, second = (asyncio.ensure_future(_wait(each)) for each in (filling, send("b")))
    await asyncio.sleep(1)
    first.cancel()
    await asyncio.sleep(1)
    assert not second.done()
    it.far.start_reading()
    await asyncio.wait_for(second, 1)
    await it.cancel()


async def test_those_who_gave_up_waiting_are_forgotten_while_the_link_stays_blocked() -> None:
    """A far side that reads slowly keeps it so for hours."""
    it, send = await opened(far_side=reads_when_told, ping_interval=None, write_timeout=400)
    written = await blocked(it, send)
    ((record,),) = (session.records for session in it.bridge._sessions.values())
    for _ in range(300):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(written, 1)
    assert len(record.writing._waiters or ()) <= 100  # those since it looked for progress
    it.far.start_reading()
    await written
    await it.cancel()


async def test_who_waits_hears_of_the_end_of_the_link() -> None:
    it, send = await opened(far_side=reads_when_told)
    task = asyncio.ensure_future(_wait(await blocked(it, send)))
    await asyncio.sleep(1)
    it.far.drop()
    with pytest.raises(ConnectionClosed):
        await task
    await it.cancel()


async def test_progress_is_counted_from_when_the_buffer_filled_for_the_last_time() -> None:
    """A timer that is left from before must not cut the time short."""
    it, send = await opened(far_side=reads_when_told, write_timeout=8)
    await blocked(it, send)
    it.far.start_reading()
    await asyncio.sleep(1.5)
    it.far.stop_reading()
    began = asyncio.get_running_loop().time()
    await blocked(it, send)
    await until(lambda: it.of(LinkLost))
    took = asyncio.get_running_loop().time() - began
    await it.cancel()

    assert "no write progress for 8 s" in str(it.of(LinkLost)[0].error)
    assert 8 <= took <= 8 + 8 / 4 + 0.5


async def test_a_link_that_closes_refuses_and_the_next_one_takes() -> None:
    it, send = await opened()
    it.link.close()
    with pytest.raises(NotConnected):
        send("too late")
    await until(lambda: it.of(LinkLost))
    with pytest.raises(NotConnected):
        send("between two links")
    await until(lambda: len(it.handler.sends) == 2)
    await send("from the first one's send")
    await asyncio.sleep(1)
    await it.cancel()

    assert ["from the first one's send"] == it.far.received


async def test_a_link_that_is_lost_is_not_kept_by_what_sent_on_it() -> None:
    """In an outage nothing takes its place, and an engine's buffers may be big."""
    it, send = await opened(far_side=None)
    await send("a")
    links, lost = it.dialer.links, weakref.ref(it.link)
    it.dialer.go_down()
    await asyncio.sleep(5)
    links.clear()
    gc.collect()
    assert lost() is None
    with pytest.raises(NotConnected):
        send("b")
    await it.cancel()


async def test_a_text_is_measured_in_bytes() -> None:
    it, send = await opened(send_size_limit=1000)
    await send("x" * 1000)
    await send("ü" * 500)
    for message in ("x" * 1001, "ü" * 501, "😀" * 251, b"x" * 1001):
        with pytest.raises(MessageTooBig) as caught:
            send(message)
        assert 1000 < caught.value.size
    await asyncio.sleep(1)
    await it.cancel()
    assert ["x" * 1000, "ü" * 500] == it.far.received


async def test_a_session_that_is_drained_takes_nothing_more() -> None:
    """And a handler that is still greeting a link may say what it has to say."""
    it, send = await opened()
    (session,) = it.bridge._sessions.values()
    session.outlet.shut()
    with pytest.raises(NotConnected, match="drained"):
        send("too late")
    session.outlet.reopen()
    await send("in time")
    await asyncio.sleep(1)
    await it.cancel()
    assert ["in time"] == it.far.received


async def test_each_link_has_a_send_that_writes_to_it_until_the_switch() -> None:
    class Renewing(Notes):
        async def on_connect(self, send: Send) -> None:
            await super().on_connect(send)
            await send(f"hello {send.link}")
            if send.handover:
                await self.sends[0]("from the first")
            await send(f"bye {send.link}")

    it = Stage(handler=Renewing(), max_link_age=60)
    it.start()
    await until(lambda: len(it.dialer.links) == 2 and it.dialer.links[0].far.closed is not None)
    await it.handler.sends[1]("after it")
    await it.handler.sends[0]("by the first")
    await asyncio.sleep(1)
    await it.cancel()

    first, second = (link.far.received for link in it.dialer.links)
    assert ["hello 1", "bye 1", "from the first"] == first
    assert ["hello 2", "bye 2", "after it", "by the first"] == second


async def test_another_thread_is_refused_whatever_it_sends() -> None:
    it, send = await opened()
    raised: list[str] = []

    def elsewhere() -> None:
        for message in ("text", b"bytes", bytearray(b"an array")):
            try:
                send(message)
            except RuntimeError as error:
                raised.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    await asyncio.sleep(1)
    await it.cancel()

    assert 3 == len(raised)
    assert all("dromos.sync" in message for message in raised)
    assert [] == it.far.received
