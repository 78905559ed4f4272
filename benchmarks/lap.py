"""One measured stretch of work: processor time of this process, and time on the clock."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

WARM_UP = 0.1
"""Share of the work that is done before, unmeasured: caches, buffers, specialised bytecode."""


@dataclass(slots=True)
class Laps:
    """The warm-up, and then what counts.

    Attributes:
        count: How many messages, or round trips, to measure.
        cpu: Seconds that this process computed, in the last lap.
        wall: Seconds that passed meanwhile.
        trips: Seconds of each round trip in it, where they were taken.
    """

    count: int
    cpu: float = 0.0
    wall: float = 0.0
    trips: list[float] = field(default_factory=list[float])

    def __iter__(self) -> Iterator[int]:
        yield max(1, int(self.count * WARM_UP))
        yield self.count

    @contextmanager
    def lap(self) -> Iterator[None]:
        """Measure what is done within."""
        self.trips.clear()
        cpu, wall = computed(), time.perf_counter()
        yield
        self.wall = time.perf_counter() - wall
        self.cpu = computed() - cpu


def computed() -> float:
    """Seconds that this process has computed so far, in user mode and in the kernel."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
