"""Virtual time for a whole bridge: its wall clock follows the event loop's."""

import asyncio
import random
from typing import Final

from dromos.bridge import Bridge

__all__ = ["EPOCH", "on_loop_time"]

EPOCH: Final = 1_800_000_000.0
"""The Unix time at which a virtual loop's clock reads zero."""


def on_loop_time(bridge: Bridge, *, seed: int | None = None) -> Bridge:
    """Make a bridge take the time of day from its event loop, and return it.

    With a loop whose clock is virtual, a day of reconnecting and renewing takes
    no time at all.  Without this the bridge would see its two clocks drift
    apart, and take that for a suspend.

    Args:
        bridge: A bridge that has run no session yet.
        seed: Makes its jitter repeatable.  None (default) leaves it to chance.
    """
    bridge._wall = wall  # pyright: ignore[reportPrivateUsage]
    if seed is not None:
        bridge._random = random.Random(seed)  # pyright: ignore[reportPrivateUsage]
    return bridge


def wall() -> float:
    """Unix time on the loop's clock."""
    return EPOCH + asyncio.get_running_loop().time()
