"""Peers that fall silent, handlers that are slow, machines that sleep."""

import asyncio
from typing import Any

import pytest

from dromos import ConnectionClosed, SendBufferFull
from dromos.events import Disconnected, LinkLost, ReadingPaused, SuspendDetected
from dromos.testing.memory import FarEnd
from tests.driver.harness import Notes, PlainNotes, Stage, until

pytestmark = pytest.mark.looptime


async def silent(link: FarEnd) -> None:
    """Open, and answer nothing any more."""
    link.go_silent()
    await link.wait_closed()


@pytest.mark.parametrize(("interval", "timeout"), [(20.0, 20.0), (1.0, 1.0), (5.0, 30.0)])
@pytest.mark.parametrize("blocked", [False, True])
async def test_a_peer_that_answers_nothing_is_aborted_in_time(
    interval: float, timeout: float, blocked: bool
) -> None:
    """B40, B42, B53: within interval + timeout + 1 s, with a sender blocked on it or not."""
    errors: list[Exception] = []

    class Blocked(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            if blocked:
                asyncio.get_running_loop().create_task(self.flood(send))

        async def flood(self, send: Any) -> None:
            try:
                while True:
                    await send(b"x" * 100_000)
            except ConnectionClosed as error:
                errors.append(error)

    stage = Stage(
        far_side=silent,
        handler=Blocked(),
        ping_interval=interval,
        ping_timeout=timeout,
        write_timeout=1000,
    )
    stage.start()
    await until(lambda: stage.of(LinkLost))
    await stage.cancel()

    lost = stage.of(LinkLost)[0]
    assert lost.lived <= interval + timeout + 1
    assert isinstance(lost.error, ConnectionClosed)
    assert (1006, False) == (lost.error.code, lost.error.by_peer)
    assert "ping" in lost.error.reason
    assert blocked == bool(errors)


async def test_a_peer_that_falls_silent_later_is_noticed_as_fast() -> None:
    async def far_side(link: FarEnd) -> None:
        for _ in range(33):
            link.send("tick")
            await asyncio.sleep(1)
        link.go_silent()
        await link.wait_closed()

    stage = Stage(far_side=far_side)
    stage.start()
    await until(lambda: stage.of(LinkLost))
    await stage.cancel()

    assert 72.0 == pytest.approx(stage.of(LinkLost)[0].lived, abs=1.1)


async def test_data_is_life_and_pongs_are_not_needed() -> None:
    async def far_side(link: FarEnd) -> None:
        link.answer_pings = False
        for _ in range(100):
            link.send("tick")
            await asyncio.sleep(15)

    stage = Stage(far_side=far_side)
    stage.start()
    await asyncio.sleep(1400)

    assert [] == stage.of(LinkLost)
    await stage.cancel()


async def test_pings_may_be_switched_off() -> None:
    """B44: no ping at all, and no crash."""
    stage = Stage(far_side=silent, ping_interval=None)
    stage.start()
    await asyncio.sleep(3600)

    assert [] == stage.of(LinkLost)
    assert [] == stage.far.pings
    await stage.cancel()


async def test_a_slow_handler_keeps_its_link() -> None:
    """B41: three times the ping budget, while the far side sends as fast as it may."""

    class Slow(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(120)
            await super().on_message(message)

    async def far_side(link: FarEnd) -> None:
        for number in range(500):
            link.send(str(number))
        await link.wait_closed()

    stage = Stage(far_side=far_side, handler=Slow())
    stage.start()
    await asyncio.sleep(1000)
    await stage.cancel()

    assert 1 == len(stage.dialer.links)
    assert "0" == stage.handler.messages[0]
    paused = stage.of(ReadingPaused)
    assert "Slow.on_message" == paused[0].method
    assert 5.0 == pytest.approx(paused[0].seconds, abs=0.1)


async def test_reading_pauses_at_64_messages_or_1_mib() -> None:
    class Stuck(Notes):
        async def on_message(self, message: Any) -> None:
            await super().on_message(message)
            await gate.wait()

    async def far_side(link: FarEnd) -> None:
        for number in range(1000):
            link.send(str(number))
        await link.wait_closed()

    gate = asyncio.Event()
    stage = Stage(far_side=far_side, handler=Stuck())
    stage.start()
    await until(lambda: stage.handler.messages)
    await asyncio.sleep(1)

    assert stage.link.received <= 66
    assert not stage.link.is_reading

    gate.set()
    await until(lambda: len(stage.handler.messages) == 1000)
    assert [str(number) for number in range(1000)] == stage.handler.messages
    await stage.cancel()


async def test_one_message_is_always_admitted_whatever_its_size() -> None:
    async def far_side(link: FarEnd) -> None:
        for _ in range(3):
            link.send(b"x" * 3_000_000)
        await link.wait_closed()

    stage = Stage(far_side=far_side, message_size_limit=4_000_000)
    stage.start()
    await until(lambda: len(stage.handler.messages) == 3)
    await stage.cancel()


async def test_a_message_over_the_limit_ends_the_link_and_three_in_a_row_the_session() -> None:
    """B35: no endless loop against the same message; the cause is told."""

    async def far_side(link: FarEnd) -> None:
        link.send(b"x" * 2048)
        await link.wait_closed()

    stage = Stage(far_side=far_side, message_size_limit=1024)
    task = stage.start()
    await asyncio.wait([task], timeout=3600)

    assert task.done()
    assert 3 == len(stage.dialer.links)
    error = stage.of(Disconnected)[0].error
    assert isinstance(error, ConnectionClosed)
    assert (1009, False) == (error.code, error.by_peer)
    task.exception()


async def test_no_write_progress_aborts_the_link_and_the_waiting_send_says_so() -> None:
    """B42, B53."""
    errors: list[Exception] = []

    class Writer(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            try:
                while len(self.sends) == 1:
                    await send(b"x" * 60_000)
            except ConnectionClosed as error:
                errors.append(error)

    async def far_side(link: FarEnd) -> None:
        if len(stage.dialer.links) == 1:
            link.stop_reading()
            for _ in range(100):
                link.send("still here")
                await asyncio.sleep(1)
        await link.wait_closed()

    stage = Stage(far_side=far_side, handler=Writer(), write_timeout=10)
    stage.start()
    await until(lambda: errors)
    await stage.cancel()

    lost = stage.of(LinkLost)[0]
    assert 10.0 == pytest.approx(lost.lived, abs=3)
    assert "write" in str(lost.error)
    assert [lost.error] == errors


async def test_a_send_buffer_that_is_full_says_so_and_sends_nothing() -> None:
    async def far_side(link: FarEnd) -> None:
        link.stop_reading()
        await link.wait_closed()

    stage = Stage(far_side=far_side, send_buffer_limit=500_000, handler=PlainNotes())
    stage.start()
    await until(lambda: stage.handler.sends)
    send = stage.handler.sends[0]

    def flood() -> None:
        for _ in range(100):
            send(b"x" * 50_000)

    with pytest.raises(SendBufferFull) as caught:
        flood()

    assert caught.value.buffered <= 500_000 < caught.value.buffered + caught.value.size
    await stage.cancel()


async def test_a_suspend_is_noticed_and_a_dead_link_is_replaced() -> None:
    """B25: wall and monotonic clock drift apart."""
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)
    await asyncio.sleep(60)
    loop = asyncio.get_running_loop()
    stage.clock.step(8 * 3600)
    stage.far.go_silent()
    began = loop.time()
    await until(lambda: stage.of(LinkLost))
    took = loop.time() - began
    await stage.cancel()

    assert 8 * 3600 == pytest.approx(stage.of(SuspendDetected)[0].drift, abs=1)
    assert took <= 30 + 3 + 1
