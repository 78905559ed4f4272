"""Samples made into a table: the best, the median, and how many times the first client's best."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Row", "Sample", "rows", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One client doing one job once; microseconds for each message or round trip.

    Attributes:
        cpu: Processor time of the client's process alone.
        wall: Time that passed.
        percentiles: Of single round trips, by name; empty for other work.
    """

    job: str
    client: str
    round: int
    cpu: float
    wall: float
    percentiles: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What several samples of one client doing one job come to.

    Attributes:
        best: The least processor time.  On a machine that others use as well it is the
            steadiest figure: nothing makes work take less than it takes.
        median: Of the processor times.
        wall: The least time that passed.
        ratio: This best, divided by that of the client that all are compared with.
        percentiles: Of round trips, each the least of all rounds.
    """

    job: str
    client: str
    best: float
    median: float
    wall: float
    ratio: float
    percentiles: dict[str, float]


def rows(samples: Iterable[Sample], base: str) -> list[Row]:
    """Return a row for each client and job, in the order in which they first occur.

    Args:
        samples: From one run: figures of two runs can't be compared.
        base: The client that the ratios are to; they are NaN in a job that it did not do.
    """
    by_job: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        by_job.setdefault(sample.job, {}).setdefault(sample.client, []).append(sample)
    return [
        _row(job, client, taken, _best(clients.get(base, [])))
        for job, clients in by_job.items()
        for client, taken in clients.items()
    ]


def _best(taken: Sequence[Sample]) -> float:
    return min((sample.cpu for sample in taken), default=float("nan"))


def _row(job: str, client: str, taken: Sequence[Sample], base: float) -> Row:
    best = _best(taken)
    names = taken[0].percentiles
    return Row(
        job=job,
        client=client,
        best=best,
        median=statistics.median(sample.cpu for sample in taken),
        wall=min(sample.wall for sample in taken),
        ratio=best / base,
        percentiles={name: min(sample.percentiles[name] for sample in taken) for name in names},
    )


def text(table: Sequence[Row], instructions: dict[tuple[str, str], float] | None = None) -> str:
    """Return the table as text, a block for each job.

    Args:
        table: What `rows` has made.
        instructions: How many instructions a message takes, by job and client, where
            that was counted.
    """
    counted = instructions or {}
    lines: list[str] = []
    job = None
    for row in table:
        if row.job != job:
            job = row.job
            lines += ["", f"{job}  (microseconds each)", _HEAD]
        cells = [f"{row.client:<26}", f"{row.best:>9.2f}", f"{row.median:>9.2f}"]
        cells += [f"{row.wall:>9.2f}", f"{row.ratio:>7.2f}"]
        count = counted.get((row.job, row.client))
        cells.append(" " * 14 if count is None else f"{count:>14,.0f}")
        cells += [f"{name} {value:.1f}" for name, value in row.percentiles.items()]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines[1:])


_HEAD = "  ".join(
    (
        f"{'client':<26}",
        f"{'best':>9}",
        f"{'median':>9}",
        f"{'wall':>9}",
        f"{'ratio':>7}",
        f"{'instructions':>14}",
    )
).rstrip()
