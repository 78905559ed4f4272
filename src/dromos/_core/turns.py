"""Whose attempt comes when, among sessions that take turns."""

from dataclasses import dataclass, replace
from typing import Self

__all__ = ["Turns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Attempts of many sessions, evenly spaced.

    A far side that restarts drops all its links at once.  Backoff with jitter spreads
    what comes back over a second or so, however many sessions there are; turns spread it
    over as many seconds as their number takes.

    Attributes:
        every: Seconds between two turns.
        free: When the next one is, in monotonic seconds; in the past, it is at once.
    """

    every: float
    free: float = float("-inf")

    def next(self, now: float) -> float:
        """When an attempt that is due now may begin."""
        return max(now, self.free)

    def taken(self, at: float) -> Self:
        """Leave the turn at this time to somebody."""
        return replace(self, free=at + self.every)
