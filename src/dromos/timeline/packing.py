"""What fits where: lanes for what overlaps, one shape for what is too small, room for labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Bar", "Dot", "Room", "dense", "fitted", "gathered", "lanes", "text_width"]

FINEST: Final = 2.0
"""Narrower bars than this are drawn as one with their neighbours."""

APART: Final = 0.75
WIDE: Final = frozenset("MWmw@%—")
NARROW: Final = frozenset("iljI.,:;'!|()[]ft1 ")


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar: from where to where, how it looks, and what it stands for.

    Attributes:
        left: Where it begins.
        right: Where it ends.
        style: How it looks.
        told: What it stands for, if it is one.
        count: How many it stands for.
        bare: How much of it none of them covers.
    """

    left: float
    right: float
    style: str
    told: str
    count: int = 1
    bare: float = 0.0

    @property
    def share(self) -> float:
        """How much of it is covered by what it stands for, from 0 to 1."""
        return 1.0 - self.bare / (self.right - self.left) if self.bare > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A moment in the picture, and what it stands for."""

    x: float
    label: str
    told: str
    count: int = 1


def lanes(spans: Sequence[tuple[float, float]], *, most: int) -> list[int]:
    """Return a lane for each span, so that none covers another where there are enough lanes.

    Neighbours take turns, so that one that takes over from another is seen beside it.

    Args:
        spans: From where to where, in the order of their beginnings.
        most: How many lanes there are.
    """
    ends = [float("-inf")] * most
    chosen: list[int] = []
    last = -1
    for start, end in spans:
        order = [(last + 1 + step) % min(2, most) for step in range(min(2, most))]
        order += range(2, most)
        lane = next((lane for lane in order if ends[lane] <= start), None)
        if lane is None:
            lane = min(range(most), key=ends.__getitem__)
        ends[lane] = max(ends[lane], end)
        chosen.append(lane)
        last = lane
    return chosen


def dense(bars: Iterable[Bar]) -> list[Bar]:
    """Return bars of one lane, with neighbours that are too narrow to be told apart as one."""
    kept: list[Bar] = []
    for bar in sorted(bars, key=lambda bar: bar.left):
        last = kept[-1] if kept else None
        is_fine = bar.right - bar.left < FINEST
        if (
            last is not None
            and last.style == bar.style
            and bar.left - last.right < APART
            and (is_fine or last.right - last.left < FINEST)
        ):
            kept[-1] = Bar(
                last.left,
                max(last.right, bar.right),
                bar.style,
                last.told,
                last.count + bar.count,
                last.bare + max(0.0, bar.left - last.right),
            )
        elif last is not None and is_fine and bar.right <= last.right:
            continue  # hidden behind it
        else:
            kept.append(bar)
    return kept


def gathered(dots: Iterable[Dot], *, apart: float) -> list[Dot]:
    """Return dots in order, those nearer to each other than so much as one.

    It keeps a label only where all of them have the same.
    """
    kept: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: dot.x):
        if kept and dot.x - kept[-1].x < apart:
            first = kept[-1]
            label = first.label if first.label == dot.label else ""
            kept[-1] = Dot(first.x, label, first.told, first.count + dot.count)
        else:
            kept.append(dot)
    return kept


class Room:
    """The room for labels in one row: who asks first gets it.

    Args:
        left: Where it begins.
        right: Where it ends.
    """

    def __init__(self, left: float, right: float) -> None:
        self._left, self._right = left, right
        self._taken: list[tuple[float, float]] = []

    def covers(self, x: float) -> bool:
        """Whether somebody has taken a place."""
        return any(left < x < right for left, right in reversed(self._taken[-64:]))

    def take(self, left: float, right: float) -> bool:
        """Take a stretch, if nobody has any of it."""
        if left < self._left or right > self._right:
            return False
        # The newest are the nearest, since rows are filled from left to right.
        if any(left < end and right > start for start, end in reversed(self._taken[-64:])):
            return False
        self._taken.append((left, right))
        return True


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is, a little on the wide side, in a common sans-serif."""
    units = sum(map(_units, text))
    return units * size


def _units(character: str) -> float:
    if character in WIDE or ord(character) > 0x2E7F:
        return 0.9
    return 0.32 if character in NARROW else 0.58


def fitted(text: str, size: float, width: float) -> str:
    """Return as much of a text as fits."""
    if text_width(text, size) <= width:
        return text
    short = text[: int(width / size * 4)]  # nothing is narrower than a quarter of its height
    while short and text_width(short, size) > width - size:
        short = short[:-1]
    return f"{short}…"
