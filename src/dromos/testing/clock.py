"""Virtual time for a whole bridge: its wall clock follows the event loop's."""

import asyncio
import random
from typing import Final

from dromos._driver import Unwatched
from dromos.bridge import Bridge

__all__ = ["EPOCH", "LoopClock", "on_loop_time"]

EPOCH: Final = 1_800_000_000.0
"""The Unix time at which a virtual loop's clock reads zero."""


class LoopClock:
    """A wall clock that goes with the running loop's, and can be set."""

    def __init__(self) -> None:
        self._set_by = 0.0

    def __call__(self) -> float:
        """Unix time."""
        return EPOCH + asyncio.get_running_loop().time() + self._set_by

    def step(self, seconds: float) -> None:
        """Set the clock forward or back: what a suspend looks like, or an operator."""
        self._set_by += seconds


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def on_loop_time(
    bridge: Bridge, *, clock: LoopClock | None = None, seed: int | None = None
) -> Bridge:
    """Make a bridge take the time of day from its event loop, and return it.

    With a loop whose clock is virtual, a day of reconnecting and renewing takes
    no time at all.  Without this the bridge would see its two clocks drift
    apart, and take that for a suspend.

    Args:
        bridge: A bridge that has run no session yet.
        clock: The clock to use, if you want to set it.  None (default) makes one.
        seed: Makes its jitter repeatable.  None (default) leaves it to chance.
    """
    bridge._wall = clock or LoopClock()  # pyright: ignore[reportPrivateUsage]
    bridge._tick = _loop_time  # pyright: ignore[reportPrivateUsage]
    # A loop whose time is virtual is never late.
    bridge._watchdog = Unwatched()  # pyright: ignore[reportPrivateUsage]
    if seed is not None:
        bridge._random = random.Random(seed)  # pyright: ignore[reportPrivateUsage]
    return bridge
