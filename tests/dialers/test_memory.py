"""The dialer without a network."""

import asyncio
from collections.abc import Callable

import looptime
import pytest
from tests.dialers.contract import LinkContract
from tests.dialers.recorder import Recorder

from dromos.dialers._frames import shortened
from dromos.errors import ConnectionClosed, HandshakeError
from dromos.interfaces import Limits
from dromos.model import Handshake
from dromos.testing.memory import HANG, FarEnd, MemoryDialer

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
class TestMemoryLink(LinkContract):
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
