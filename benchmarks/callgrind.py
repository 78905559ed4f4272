"""How many instructions a message takes: a count that repeats where times do not.

Each client is run twice under callgrind, with few messages and with more; the
difference is what the messages took, and start-up cancels out.  The kernel's work is
not counted, and neither is what caches and branch prediction make of it.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.jobs import Job
from benchmarks.rounds import do, order_for
from benchmarks.server import Server

__all__ = ["count", "missing"]

FEW, MORE = 1_000, 4_000
"""Messages, and a tenth as warm-up before each."""


def missing() -> str | None:
    """Why nothing can be counted here; None if it can."""
    return None if shutil.which("valgrind") else "valgrind is not installed"


def count(
    where: Server, jobs: Sequence[Job], clients: Sequence[str], tell: Callable[[str], None]
) -> dict[tuple[str, str], float]:
    """Return instructions for each message, by job and client."""
    counted: dict[tuple[str, str], float] = {}
    for job in jobs:
        for client in clients:
            tell(f"callgrind: {job.name}, {client}")
            few, more = (_instructions(where, job, client, messages) for messages in (FEW, MORE))
            # The warm-up grows as the count does.
            counted[job.name, client] = (more - few) / ((MORE - FEW) * 1.1)
    return counted


def _instructions(where: Server, job: Job, client: str, messages: int) -> int:
    order = order_for(job, client, where, scale=messages / job.count, loop="asyncio")
    with tempfile.TemporaryDirectory(prefix="dromos-callgrind-") as folder:
        out = Path(folder) / "out"
        valgrind = ["valgrind", "--tool=callgrind", "-q", f"--callgrind-out-file={out}"]
        env = ["env", "PYTHONHASHSEED=0", "PYTHONMALLOC=pymalloc", f"PATH={os.environ['PATH']}"]
        do([*env, *valgrind, sys.executable, "-m", "benchmarks.worker"], order)
        found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError("callgrind has written no total")
    return int(found[1])
