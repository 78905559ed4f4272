"""A handler that is slower than the far side, on real sockets: the far side's writes block."""

import asyncio
import gc
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dromos import Bridge, Handshake
from dromos._driver.links import HOLD_MESSAGES
from dromos.dialers import PicowsDialer, WebsocketsDialer
from dromos.events import BridgeEvent, Disconnected, LinkLost
from dromos.interfaces import Dialer, Limits, Link
from dromos.testing import FarSide
from dromos.testing.far_side import FarLink
from tests.driver.backlog import Peaks, Slow
from tests.driver.harness import Tokens

HIGH_WATER = 64 * 1024  # bytes in the far side's write buffer: asyncio's default
READ = 64 * 1024
"""Bytes that one read may bring.  All its messages are held, although the first of them may
be the one at which reading pauses: what was read can't be left in the kernel."""

SMALL_FRAME = b"\x81\x0a0123456789"  # RFC 6455, 5.2: text, ten bytes
BATCH = 100
LASTS = 5.0


class Flood:
    """A far side that sends numbers as fast as it may, and a handler that is slower.

    Args:
        takes: Seconds that the handler takes for a message.
        size: Bytes of a message.
        pause: Seconds between two batches.
    """

    def __init__(self, *, takes: float, size: int, pause: float) -> None:
        self.handler = Slow(takes, self._look)
        self.peaks = Peaks()
        self.losses: list[BridgeEvent] = []
        self.sent = 0
        self.blocked = 0.0
        self.traced: list[int] = []
        self.resident: list[int] = []
        self._size = size
        self._pause = pause
        self._bridge: Bridge | None = None

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[FarLink]:
        """Keep one session, and flood it until the end of the block."""
        async with FarSide() as far:
            self._bridge = Bridge(Tokens(), on_event=self._note, **options)
            session = asyncio.ensure_future(
                self._bridge.maintain_websocket("c-1", far.url, self.handler)
            )
            link = await far.wait_for_link(1)
            pouring = asyncio.ensure_future(self._pour(link))
            try:
                yield link
            finally:
                for task in (pouring, session):
                    task.cancel()
                await asyncio.wait([pouring, session])

    @property
    def most_held(self) -> int:
        """How many messages may be held: one less than make us pause, and what a read brings."""
        frame = self._size + (2 if self._size < 126 else 4)  # RFC 6455, 5.2
        return HOLD_MESSAGES - 1 + READ // frame

    def measure(self) -> None:
        """Note how much memory is in use."""
        gc.collect()
        self.traced.append(tracemalloc.get_traced_memory()[0])
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.resident.append(pages * os.sysconf("SC_PAGE_SIZE"))

    async def _pour(self, link: FarLink) -> None:
        now = asyncio.get_running_loop().time
        while True:
            for number in range(self.sent, self.sent + BATCH):
                link.send(f"{number:0{self._size}d}")
            self.sent += BATCH
            began = now()
            try:
                await link.drain()
            finally:
                self.blocked += now() - began
            await asyncio.sleep(self._pause)

    def _look(self) -> None:
        assert self._bridge is not None
        self.peaks.note(0, self._bridge, behind=0)

    def _note(self, event: BridgeEvent) -> None:
        if isinstance(event, Disconnected | LinkLost):
            self.losses.append(event)


class Silence:
    """A listener that is told, and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


async def _one_read(link: Link, far: FarLink) -> int:
    """Fill the kernel's buffers while nothing is read; return how many messages one read brings."""
    link.pause_reading()
    while not far.buffered:
        far.send_raw(SMALL_FRAME * 5000)
        await asyncio.sleep(0)
    before, came = link.received, asyncio.Event()

    def take(_: object) -> None:
        link.pause_reading()
        came.set()

    link.deliver_to(take)
    link.resume_reading()
    await came.wait()
    return link.received - before


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@pytest.mark.slow  # five real seconds: the kernel's buffers have to fill, and can't be virtual
async def test_the_far_sides_writes_block_and_nothing_grows_with_a_handler_that_takes_50_ms() -> (
    None
):
    size = 1000
    flood = Flood(takes=0.05, size=size, pause=0.01)
    with traced():
        async with flood.running(ping_interval=1, ping_timeout=1) as link:
            for _ in range(int(LASTS)):
                await asyncio.sleep(1)
                flood.measure()
            was_open, waiting, losses = link.is_open, link.buffered, list(flood.losses)

    assert flood.blocked > LASTS / 2
    assert flood.sent < LASTS * BATCH / 0.01 / 2
    assert HIGH_WATER / 4 < waiting <= HIGH_WATER + BATCH * (size + 4)
    assert LASTS / 0.05 / 2 < flood.handler.heard <= LASTS / 0.05
    assert flood.handler.first_wrong is None
    assert HOLD_MESSAGES // 2 < flood.peaks.of[0].messages <= flood.most_held
    assert max(flood.traced[1:]) - flood.traced[0] < 200_000
    assert max(flood.resident[1:]) - flood.resident[0] < 4_000_000
    assert (True, []) == (was_open, losses)


@pytest.mark.parametrize(
    "dialer", [PicowsDialer(), WebsocketsDialer()], ids=["picows", "websockets"]
)
async def test_what_one_read_brings_does_not_grow_with_what_waits_in_the_kernel(
    dialer: Dialer,
) -> None:
    """Whoever pauses after each read finds the kernel full each time."""
    async with FarSide() as far:
        link = await dialer.dial(Handshake(url=far.url), Silence(), Limits())
        brought = [await _one_read(link, far.link) for _ in range(14)]
        link.abort()

    assert max(brought) <= READ // len(SMALL_FRAME)
