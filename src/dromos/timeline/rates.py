"""Messages a second, from how many there had been at some moments."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

__all__ = ["Rate", "nice", "rates"]

FEWEST: Final = 2
ROUND: Final = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many messages a second, between two moments."""

    since: float
    until: float
    value: float


def rates(at: Sequence[float], totals: Sequence[float], *, most: int) -> list[Rate]:
    """Return rates between samples; where there are many, over several at once.

    A total that falls counts as no messages: somebody began to count anew.

    Args:
        at: The samples' times, in order.
        totals: How many messages there had been.
        most: How many rates are wanted at most.
    """
    if len(at) < FEWEST or at[-1] <= at[0]:
        return []
    grown = [0.0]
    for before, after in pairwise(totals):
        grown.append(grown[-1] + max(0.0, after - before))
    if len(at) - 1 <= most:
        edges = [
            at[0],
            *(after for before, after in pairwise(at) if after > before),
        ]
    else:
        edges = [at[0] + (at[-1] - at[0]) * step / most for step in range(most + 1)]
    known = [_at(moment, at, grown) for moment in edges]
    return [
        Rate(since, until, (high - low) / (until - since))
        for (since, until), (low, high) in zip(pairwise(edges), pairwise(known), strict=True)
        if until > since
    ]


def _at(moment: float, at: Sequence[float], grown: Sequence[float]) -> float:
    """Return the total at a moment, as if messages came evenly between two samples."""
    after = bisect_right(at, moment)
    if after == len(at):
        return grown[-1]
    if after == 0:
        return grown[0]
    share = (moment - at[after - 1]) / (at[after] - at[after - 1])
    return grown[after - 1] + share * (grown[after] - grown[after - 1])


def nice(value: float) -> float:
    """Return the next round number from a value on, for the top of a scale."""
    if value <= 0:
        return 1.0
    digits = 10.0 ** (len(f"{value:.0f}") - 1) if value >= 1 else 0.1
    while digits > value:
        digits /= 10
    return next(step * digits for step in ROUND if step * digits >= value)
