"""Whose attempt comes when, among sessions that take turns."""

from dataclasses import dataclass, replace
from typing import Self

from dromos._core.commands import InLine, StandInLine, TakeTurn

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
        waiting: How many wait for theirs.
    """

    every: float
    free: float = float("-inf")
    waiting: int = 0

    def next(self, now: float) -> float:
        """When an attempt that is due now may begin."""
        return max(now, self.free)

    def after(self, command: InLine) -> Self:
        """What becomes of them with what a session does.

        Turns that nobody waits for any more are over with the last one who waited: a group
        that was stopped in a storm, and started again, does not stand in line behind itself.
        """
        match command:
            case TakeTurn(at):
                return replace(self, free=at + self.every)
            case StandInLine(at):
                return replace(self, free=at + self.every, waiting=self.waiting + 1)
            case _:
                left = self.waiting - 1
                free = self.free if left else min(self.free, command.at + self.every)
                return replace(self, free=free, waiting=left)
