"""Measures how late the event loop is: what is ready has to wait for so long."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

__all__ = ["measure_loop_lag"]


async def measure_loop_lag(observe: Callable[[float], None], *, every: float = 1.0) -> NoReturn:
    """Tell somebody, again and again, by how many seconds a sleep of ours took too long.

    It runs until it is cancelled; whoever makes the task of it owns it.

    Args:
        observe: Called with seconds, such as `PrometheusMetrics.observe_loop_lag`.
        every: Seconds between two measurements.  Default 1.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every
        await asyncio.sleep(every)
        observe(max(0.0, loop.time() - due))
