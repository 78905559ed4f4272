"""A handler that is slower than the far side: what waits for it stays small, for ever.

The far side offers 10,000 messages a second, and waits as a real one does when its writes
block.  So it is the handler's pace that counts, and ten virtual minutes are a moment.
"""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dromos import ConnectionClosed
from dromos._driver.links import HOLD_MESSAGES
from dromos.events import LinkLost
from dromos.testing.memory import HIGH_WATER, FarEnd
from tests.driver.backlog import Peaks, Slow
from tests.driver.harness import Stage, until

# Very many little steps: most of the time would go into the usual idle turns before each.
pytestmark = pytest.mark.looptime(noop_cycles=1)

MINUTE = 60.0
BATCH, PAUSE = 100, 0.01  # 10,000 messages a second
WINDOW = (
    64 * 1024
)  # bytes that a far side's write finds room for in our kernel: the dialer's default
SIZE = 100
FRAME = SIZE + 6  # a header is six bytes in memory


class Flood:
    """A far side that sends numbers as fast as it may, and a handler that is slower."""

    def __init__(self, takes: float, **options: Any) -> None:
        self.handler = Slow(takes, self._look)
        self.stage = Stage(far_side=self._pour, handler=self.handler, **options)
        self.peaks = Peaks()
        self.sent = 0
        self.blocked = 0
        self.traced: dict[int, int] = {}

    async def run(self, duration: float) -> None:
        """Run for so long, and look all the time."""
        self.stage.start()
        await asyncio.sleep(duration)

    async def _pour(self, link: FarEnd) -> None:
        while True:
            for number in range(self.sent, self.sent + BATCH):
                link.send(f"{number:0{SIZE}d}")
            self.sent += BATCH
            self._look()
            if link.blocked:
                self.blocked += 1
                self._trace()
            await link.drain()
            await asyncio.sleep(PAUSE)

    def _look(self) -> None:
        unread = self.stage.far._buffer.untaken
        self.peaks.note(self._minute(), self.stage.bridge, behind=unread)

    def _trace(self) -> None:
        # The buffers are as full as they get: only such moments can be compared.
        minute = self._minute()
        if tracemalloc.is_tracing() and minute not in self.traced:
            gc.collect()
            self.traced[minute] = tracemalloc.get_traced_memory()[0]

    def _minute(self) -> int:
        return int(asyncio.get_running_loop().time() // MINUTE)

    def kept_its_link(self) -> bool:
        """Whether nothing was ever lost before the session was cancelled."""
        losses = [lost for lost in self.stage.of(LinkLost) if not lost.released]
        return len(self.stage.dialer.links) == 1 and not losses


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


async def test_memory_and_queues_stay_flat_for_ten_minutes_of_a_handler_that_takes_50_ms() -> None:
    flood = Flood(takes=0.05)
    with traced():
        await flood.run(10 * MINUTE)
    early, late = flood.peaks.between(0, 4), flood.peaks.between(5, 9)
    await flood.stage.cancel()

    assert 10 * MINUTE / 0.05 == pytest.approx(flood.handler.heard, abs=2)
    assert flood.handler.first_wrong is None
    # Reading stops with the message that is one too many, in the middle of what has come.
    assert (HOLD_MESSAGES, HOLD_MESSAGES * SIZE) == (early.messages, early.size)
    assert (HOLD_MESSAGES, HOLD_MESSAGES * SIZE) == (late.messages, late.size)
    # The far side may still write while it is at its mark, and writes by the batch.
    assert WINDOW + HIGH_WATER < early.behind <= WINDOW + HIGH_WATER + BATCH * FRAME
    assert late.behind <= early.behind
    assert flood.blocked > 10
    assert max(flood.traced[minute] for minute in range(3, 10)) - flood.traced[2] < 200_000
    assert flood.kept_its_link()


@pytest.mark.parametrize("takes", [0.05, 10.0])
async def test_a_handler_slower_than_the_ping_timeout_keeps_its_link(takes: float) -> None:
    flood = Flood(takes=takes, ping_interval=1, ping_timeout=1)
    await flood.run(10 * MINUTE)
    most = flood.peaks.between(0, 9)
    pongs = sum(len(payload) + FRAME - SIZE for payload in flood.stage.far.pings)
    await flood.stage.cancel()

    assert 10 * MINUTE / takes == pytest.approx(flood.handler.heard, abs=2)
    assert flood.handler.first_wrong is None
    assert (HOLD_MESSAGES, HOLD_MESSAGES * SIZE) == (most.messages, most.size)
    # A PONG is written at once, whatever waits.
    assert most.behind <= WINDOW + HIGH_WATER + BATCH * FRAME + pongs
    assert flood.kept_its_link()


async def test_a_peer_that_died_while_reading_was_paused_is_noticed_once_it_goes_on() -> None:
    """Not only when the handler is through with all that was held."""

    async def far_side(link: FarEnd) -> None:
        for number in range(HOLD_MESSAGES + 10):
            link.send(str(number))
        await asyncio.sleep(0)
        link.go_silent()
        await link.wait_closed()

    handler = Slow(10, lambda: None)
    stage = Stage(far_side=far_side, handler=handler, ping_interval=1, ping_timeout=1)
    stage.start()
    await until(lambda: stage.of(LinkLost))
    heard = handler.heard
    await stage.cancel()

    lost = stage.of(LinkLost)[0]
    assert isinstance(lost.error, ConnectionClosed)
    assert "ping" in lost.error.reason
    # Reading goes on when half of what was held is taken, the first of it at once.
    resumed = 10.0 * (HOLD_MESSAGES / 2 - 1)
    assert resumed < lost.lived <= resumed + 1 + 1 + 1
    assert heard <= HOLD_MESSAGES / 2
