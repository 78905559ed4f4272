"""How many instructions a message takes: a count that repeats where times do not.

callgrind counts from the end of the warm-up.  The kernel's work is not in it, and
neither is what caches and branch prediction make of the rest.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.clients import variables_of
from benchmarks.jobs import Job
from benchmarks.lap import COUNTED
from benchmarks.rounds import do, order_for
from benchmarks.server import Server

__all__ = ["count", "missing"]

MESSAGES = 20_000
"""So many that two calls of callgrind_control, which are counted as well, weigh little."""


def missing() -> str | None:
    """Why nothing can be counted here; None if it can."""
    lacking = [name for name in ("valgrind", "callgrind_control") if shutil.which(name) is None]
    return f"{lacking[0]} is not installed" if lacking else None


def count(
    where: Server, jobs: Sequence[Job], clients: Sequence[str], tell: Callable[[str], None]
) -> dict[tuple[str, str], float]:
    """Return instructions for each message, by job and client."""
    counted: dict[tuple[str, str], float] = {}
    for job in jobs:
        for client in clients:
            tell(f"callgrind: {job.name}, {client}")
            counted[job.name, client] = _instructions(where, job, client) / MESSAGES
    return counted


def _instructions(where: Server, job: Job, client: str) -> int:
    order = order_for(job, client, where, scale=MESSAGES / job.count, loop="asyncio")
    with tempfile.TemporaryDirectory(prefix="dromos-callgrind-") as folder:
        out = Path(folder) / "out"
        valgrind = ["valgrind", "--tool=callgrind", "-q", f"--callgrind-out-file={out}"]
        valgrind += ["--instr-atstart=no"]
        env = ["env", "PYTHONHASHSEED=0", f"{COUNTED}=1"]
        command = [*env, *valgrind, sys.executable, "-m", "benchmarks.worker"]
        do(command, order, variables_of(client))
        dumps = [path.read_text() for path in Path(folder).glob("out.*")]
    totals = [int(n) for dump in dumps for n in re.findall(r"^totals: (\d+)", dump, re.MULTILINE)]
    if not any(totals):
        raise RuntimeError("callgrind has written no total")
    return max(totals)
