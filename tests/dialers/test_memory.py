"""The dialer without a network."""

import asyncio
from collections.abc import Callable

import looptime
import pytest
from tests.dialers.contract import ReadsContract
from tests.dialers.recorder import Recorder

from dromos.dialers._frames import shortened
from dromos.errors import ConnectionClosed, HandshakeError
from dromos.interfaces import Limits
from dromos.model import Handshake
from dromos.testing.memory import HANG, HIGH_WATER, LOW_WATER, FarEnd, MemoryDialer

HANDSHAKE = Handshake(url="ws://memory/")


class MemoryWorld:
    def __init__(self, latency: float) -> None:
        self.dialer = MemoryDialer(None, latency=latency, open_timeout=5)
        self.handshake = HANDSHAKE

    def at_once(self, action: Callable[[FarEnd], None]) -> None:
        async def act(far: FarEnd) -> None:
            action(far)
            await far.wait_closed()

        self.dialer.then(act)

    def hang(self) -> None:
        self.dialer.then(HANG)

    async def far(self) -> FarEnd:
        return self.dialer.links[-1].far


@pytest.mark.looptime
class TestMemoryLink(ReadsContract):
    @pytest.fixture(params=[0.0, 0.05])
    def world(self, request: pytest.FixtureRequest) -> MemoryWorld:
        return MemoryWorld(request.param)


async def dial(dialer: MemoryDialer) -> tuple[FarEnd, Recorder]:
    recorder = Recorder()
    link = await dialer.dial(HANDSHAKE, recorder, Limits())
    return link.far, recorder


@pytest.mark.looptime
async def test_the_default_far_side_is_an_echo() -> None:
    dialer = MemoryDialer()
    far, recorder = await dial(dialer)

    dialer.links[0].send("hello")

    assert "hello" == await recorder.first("message")
    far.close()
    await recorder.closed()


@pytest.mark.looptime
async def test_latency_is_virtual_and_counts_each_way(looptime: looptime.LoopTimeProxy) -> None:
    dialer = MemoryDialer(latency=2, dial_latency=3)
    _, recorder = await dial(dialer)

    dialer.links[0].send("hello")
    await recorder.first("message")

    assert 7 == looptime
    dialer.links[0].abort()
    await recorder.closed()


@pytest.mark.looptime
async def test_a_far_side_that_returns_closes_with_1000_and_one_that_raises_with_1011() -> None:
    async def leave(_: FarEnd) -> None:
        return

    async def hang_up(far: FarEnd) -> None:
        far.close(4009)
        await far.receive()

    dialer = MemoryDialer(leave).then(hang_up)

    _, recorder = await dial(dialer)
    assert (4009, "", True) == await recorder.closed()
    _, recorder = await dial(dialer)
    assert (1000, "", True) == await recorder.closed()


@pytest.mark.looptime
async def test_dials_do_what_was_scripted_and_then_serve_again() -> None:
    dialer = MemoryDialer().then(HandshakeError("no", status=503), HANG)

    with pytest.raises(HandshakeError) as refused:
        await dial(dialer)
    with pytest.raises(HandshakeError, match="took over 15 s"):
        await dial(dialer)
    _, recorder = await dial(dialer)

    assert 503 == refused.value.status
    assert 3 == len(dialer.dials)
    assert 1 == len(dialer.links)
    dialer.links[0].abort()
    await recorder.closed()


@pytest.mark.looptime
async def test_a_far_side_that_drains_is_held_up_by_a_reader_that_pauses() -> None:
    size, window, sent = 10_000, 100_000, 0

    async def pour(far: FarEnd) -> None:
        nonlocal sent
        while True:
            far.send(bytes(size))
            sent += size
            await far.drain()

    dialer = MemoryDialer(pour, latency=0.05, window=window)
    link = await dialer.dial(HANDSHAKE, Recorder(), Limits())
    taken = 0

    def take(_: object) -> None:
        nonlocal taken
        taken += size
        if taken % 200_000 == 0:
            link.pause_reading()

    link.deliver_to(take)
    for total in (200_000, 400_000, 600_000):
        await asyncio.sleep(60)
        assert total == taken
        assert LOW_WATER < sent - taken - window < HIGH_WATER + size
        assert link.far.blocked
        link.resume_reading()

    link.abort()
    await link.far.wait_closed()


@pytest.mark.looptime
async def test_drain_returns_at_the_low_water_mark_and_not_before() -> None:
    dialer = MemoryDialer(None, window=0)
    far, recorder = await dial(dialer)
    link = dialer.links[0]
    count = HIGH_WATER // 1000 + 1

    def take(_: object) -> None:
        left.append(far.blocked)

    left: list[bool] = []
    link.deliver_to(take)
    link.pause_reading()
    for _ in range(count):
        far.send(bytes(1000))
    drained = asyncio.create_task(far.drain())
    await asyncio.sleep(60)
    early = drained.done()
    link.resume_reading()
    await drained

    assert not early
    assert not far.blocked
    assert (count - LOW_WATER // 1006 - 1) == left.index(False)
    link.abort()
    await recorder.closed()


@pytest.mark.looptime
async def test_send_alone_never_waits_and_nothing_is_lost() -> None:
    dialer = MemoryDialer(None)
    far, recorder = await dial(dialer)
    link = dialer.links[0]

    link.pause_reading()
    for _ in range(100):
        far.send(bytes(10_000))
    assert far.blocked
    link.resume_reading()
    await far.drain()
    await recorder.until(lambda: len(recorder.messages) == 100)

    link.abort()
    await recorder.closed()


@pytest.mark.looptime
@pytest.mark.parametrize("ender", ["us", "the far side"])
async def test_whoever_drains_hears_of_the_end(ender: str) -> None:
    dialer = MemoryDialer(None, latency=0.05, window=0)
    far, recorder = await dial(dialer)
    link = dialer.links[0]

    link.pause_reading()
    far.send(bytes(HIGH_WATER + 1))
    drained = asyncio.create_task(far.drain())
    await asyncio.sleep(1)
    if ender == "us":
        link.abort()
    else:
        far.drop()
    with pytest.raises(ConnectionClosed) as caught:
        await drained
    with pytest.raises(ConnectionClosed):
        await far.drain()

    assert far.closed is caught.value
    link.abort()
    await recorder.closed()


@pytest.mark.looptime
async def test_a_silent_far_side_answers_nothing_and_is_idle(
    looptime: looptime.LoopTimeProxy,
) -> None:
    dialer = MemoryDialer(None)
    far, recorder = await dial(dialer)
    link = dialer.links[0]

    far.go_silent()
    link.ping(b"anybody?")
    link.send("x" * 1000)
    await asyncio.sleep(60)

    assert 60 == link.idle_for()
    assert link.unacknowledged
    assert [] == recorder.calls
    link.abort()
    await recorder.closed()
    assert isinstance(far.closed, ConnectionClosed)


def test_a_reason_is_cut_at_a_characters_end() -> None:
    assert "é" * 61 == shortened("é" * 100)
    assert 122 == len(shortened("é" * 100).encode())
