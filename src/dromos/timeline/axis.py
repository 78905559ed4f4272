"""The axis of time: where a moment is drawn, and which moments are written below."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dromos.timeline.words import date

__all__ = ["Axis", "Tick"]

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0

STEPS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND),
    *(MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE),
    *(HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR),
    *(DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 90 * DAY, 365 * DAY),
)
SHORTEST: Final = 0.01
ELAPSED_UP_TO: Final = 15 * MINUTE
"""A longer stretch has the time of day below it, a shorter one the time since it began."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment that is written below the axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A stretch of time, and the stretch of the picture that it is drawn on.

    Attributes:
        start: Unix time.
        end: Unix time.
        left: Where the start is drawn.
        width: How far from it the end is.
    """

    start: float
    end: float
    left: float
    width: float

    @classmethod
    def over(cls, start: float, end: float, *, left: float, width: float) -> "Axis":
        """Return an axis over a stretch of time, with a little air at its end."""
        length = max(SHORTEST, end - start)
        return cls(start=start, end=start + length * 1.01, left=left, width=width)

    @property
    def right(self) -> float:
        """Where the end is drawn."""
        return self.left + self.width

    @property
    def is_elapsed(self) -> bool:
        """Whether times are told from the start on, rather than by the clock."""
        return self.end - self.start <= ELAPSED_UP_TO

    def x(self, at: float) -> float:
        """Return where a moment is drawn; one outside of the axis at its nearer end."""
        share = (at - self.start) / (self.end - self.start)
        return self.left + self.width * min(1.0, max(0.0, share))

    def told(self, at: float) -> str:
        """Return a moment as words: since the start, or by the clock."""
        if self.is_elapsed:
            return f"{at - self.start:.2f} s"
        return date(at)

    def ticks(self, *, apart: float = 76.0) -> list[Tick]:
        """Return round moments that are at least so far apart in the picture."""
        length = self.end - self.start
        most = max(1.0, self.width / apart)
        step = next((s for s in STEPS if length / s <= most), None)
        if step is None:
            step = math.ceil(length / most / STEPS[-1]) * STEPS[-1]
        origin = self.start if self.is_elapsed else 0.0
        first = math.ceil((self.start - origin) / step - 1e-9)
        last = math.floor((self.end - origin) / step)
        return [
            Tick(self.x(origin + number * step), self._text(number * step, step))
            for number in range(first, last + 1)
        ]

    def _text(self, value: float, step: float) -> str:
        if self.is_elapsed:
            if step < SECOND:
                return f"{value:.3f}".rstrip("0").rstrip(".") + " s"
            if self.end - self.start <= 2 * MINUTE:
                return f"{value:.0f} s"
            return f"{value // MINUTE:.0f}:{value % MINUTE:02.0f}"
        moment = datetime.fromtimestamp(value, UTC)
        if step >= DAY or (moment.hour == 0 and moment.minute == 0):
            return f"{moment.day} {moment:%b}"
        return f"{moment:%H:%M}"
