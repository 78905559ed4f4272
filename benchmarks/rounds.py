"""Plays the rounds: in each, every client does every job once, in a process of its own.

They take turns within a job, so that what slows the machine down for a while slows all of
them down alike.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.clients import variables_of
from benchmarks.jobs import Job
from benchmarks.server import Server
from benchmarks.table import Sample

__all__ = ["LIMIT", "do", "play"]

LIMIT = 300
"""Seconds for one process; on a machine that is four times slower than a quiet one."""


def do(
    command: Sequence[str], order: dict[str, Any], variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Have a process do what is ordered, and return the last line that it prints, read as JSON.

    Args:
        command: What to run, but for its last argument.
        order: That argument.
        variables: For its environment.  None (default): those of a client in Python.

    Raises:
        RuntimeError: If it failed; the message holds what it said.
    """
    done = subprocess.run(
        [*command, json.dumps(order)],
        env=os.environ | (variables_of("dromos") if variables is None else variables),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed on {order}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def order_for(job: Job, client: str, where: Server, *, scale: float, loop: str) -> dict[str, Any]:
    """Return what a worker is told."""
    return {
        "client": client,
        "work": job.work,
        "size": job.size,
        "count": max(2, int(job.count * scale)),
        "loop": loop,
        "url": where.url(job.path, tls=job.tls),
        "trust": where.trust,
    }


def play(
    where: Server,
    jobs: Sequence[Job],
    clients: Sequence[str],
    *,
    rounds: int,
    scale: float,
    loop: str,
    tell: Callable[[str], None],
) -> Iterator[Sample]:
    """Yield one sample after the other.

    Args:
        where: The server.
        jobs: What to do.
        clients: Who does it.
        rounds: How often.
        scale: Times a job's count is how much is done in one sample.
        loop: `asyncio` or `uvloop`.
        tell: Hears what comes next.
    """
    for number in range(1, rounds + 1):
        for job in jobs:
            tell(f"round {number} of {rounds}: {job.name}")
            for client in clients:
                order = order_for(job, client, where, scale=scale, loop=loop)
                command = [sys.executable, "-m", "benchmarks.worker"]
                took = do(command, order, variables_of(client))
                cpu, wall = took.pop("cpu"), took.pop("wall")
                yield Sample(
                    job=job.name, client=client, round=number, cpu=cpu, wall=wall, percentiles=took
                )
