"""One client and one job, in a process of its own.

    python -m benchmarks.worker '{"client": …, "work": …, "size": …, "count": …, …}'

prints one line of JSON: microseconds for each message, or round trip.
"""

import asyncio
import inspect
import json
import math
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from benchmarks.clients import Where, module_of
from benchmarks.lap import Laps

__all__ = ["main", "percentile", "run_on"]


def run_on(loop: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it on an event loop of that kind: `asyncio` or `uvloop`."""
    if loop == "uvloop":
        import uvloop

        return uvloop.run(coroutine)
    return asyncio.run(coroutine)


def percentile(values: list[float], share: float) -> float:
    """Return the value that so large a share of the others does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def main(order: dict[str, Any]) -> dict[str, float]:
    """Do what was ordered, and return what it took."""
    laps = Laps(order["count"])
    where = Where(order["url"], order["trust"])
    work: Callable[..., Awaitable[None] | None] = getattr(module_of(order["client"]), order["work"])
    arguments = (where, laps) if order["work"] == "receive" else (where, laps, order["size"])
    if inspect.iscoroutinefunction(work):
        run_on(order["loop"], work(*arguments))
    else:
        work(*arguments)
    each = 1e6 / laps.count
    result = {"cpu": laps.cpu * each, "wall": laps.wall * each}
    if laps.trips:
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        result |= {name: percentile(laps.trips, share) * 1e6 for name, share in shares.items()}
    return result


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
