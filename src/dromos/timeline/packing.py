"""What fits where: lanes for what overlaps, one shape for what is too small, room for labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Bar", "Dot", "Room", "dense", "gathered", "lanes", "text_width"]

FINEST: Final = 2.0
"""Narrower bars than this are drawn as one with their neighbours."""

APART: Final = 0.75
WIDE: Final = frozenset("MWmw@%—")
NARROW: Final = frozenset("iljI.,:;'!|()[]ft1 ")


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar: from where to where, how it looks, and what it stands for."""

    left: float
    right: float
    style: str
    told: str
    count: int = 1


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
    last = most - 1
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
            )
        elif last is not None and is_fine and bar.right <= last.right:
            continue  # hidden behind it
        else:
            kept.append(bar)
    return kept


def gathered(dots: Iterable[Dot], *, apart: float) -> list[Dot]:
    """Return dots in order, those nearer to each other than so much as one."""
    kept: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: dot.x):
        if kept and dot.x - kept[-1].x < apart:
            first = kept[-1]
            kept[-1] = Dot(first.x, first.label, first.told, first.count + dot.count)
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
    units = sum(0.9 if c in WIDE or ord(c) > 0x2E7F else 0.32 if c in NARROW else 0.58 for c in text)
    return units * size
