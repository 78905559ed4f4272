"""One measured stretch of work: processor time of this process, and time on the clock."""

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

COUNTED = "BENCHMARK_COUNTED"
"""The environment variable that says that callgrind waits to be told when to count."""

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
        _tell_callgrind("--instr=on")
        yield self.count
        _tell_callgrind("--dump")
        _tell_callgrind("--instr=off")

    @contextmanager
    def lap(self) -> Iterator[None]:
        """Measure what is done within."""
        self.trips.clear()
        cpu, wall = computed(), time.perf_counter()
        yield
        self.wall = time.perf_counter() - wall
        self.cpu = computed() - cpu


def _tell_callgrind(what: str) -> None:
    """Have callgrind count, or write what it has counted, if this process runs under it."""
    if COUNTED in os.environ:
        command = ["callgrind_control", what, str(os.getpid())]
        subprocess.run(command, check=True, capture_output=True)


def computed() -> float:
    """Seconds that this process has computed so far, in user mode and in the kernel."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
