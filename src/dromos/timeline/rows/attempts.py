"""Attempts that failed, and the waits before the next ones."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Bar, Dot, dense, gathered, text_width
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Label, Line, Path, Shape
from dromos.timeline.track import Track
from dromos.timeline.words import duration

__all__ = ["draw_attempts"]

HEIGHT = 28.0
LINE = 21.0
"""Where crosses and waits are; what failed is written above."""

APART = 9.0


ROOM = 40.0
"""What the shortest label takes, and a little air."""


@dataclass(slots=True, kw_only=True)
class _Group:
    """Failures with one label: where its first cross is, and how many there are of each cause."""

    x: float
    causes: Counter[str]

    def texts(self) -> tuple[str, str]:
        """Return what to say: each cause with its number, or if that is too long the number."""
        each = (
            cause if count == 1 else f"{cause} ×{count}"
            for cause, count in self.causes.most_common()
        )
        return ", ".join(each), f"×{self.causes.total()}"


def draw_attempts(track: Track, axis: Axis, top: float) -> Row:
    """Return the row of attempts."""
    if not track.failures and not track.waits:
        return Row()
    y = top + LINE
    shapes: list[Shape] = [*_waits(track, axis, y), *_failures(track, axis, y)]
    signs = [*["failed"] * bool(track.failures), *["wait"] * bool(track.waits)]
    return Row(name="attempts", height=HEIGHT, shapes=tuple(shapes), signs=frozenset(signs))


def _waits(track: Track, axis: Axis, y: float) -> Iterator[Shape]:
    bars = (
        Bar(
            axis.x(wait.since),
            axis.x(wait.until),
            "wait",
            f"waits {duration(wait.until - wait.since)} for the next attempt",
        )
        for wait in track.waits
    )
    for bar in dense(bars):
        told = bar.told if bar.count == 1 else f"{bar.count} waits"
        yield Line(x1=bar.left, y1=y, x2=bar.right, y2=y, style="wait", told=told)


def _failures(track: Track, axis: Axis, y: float) -> Iterator[Shape]:
    dots = gathered(
        (
            Dot(axis.x(failure.at), failure.label, failure.text or failure.label)
            for failure in track.failures
        ),
        apart=APART,
    )
    for dot in dots:
        told = dot.told if dot.count == 1 else f"{dot.count} attempts failed"
        cross = f"M{dot.x - 3.5:.1f} {y - 3.5:.1f}l7 7m0 -7l-7 7"
        yield Path(data=cross, style="cross", told=told)
    yield from _labels(_groups(track, axis), axis, y - 8)


def _labels(groups: Sequence[_Group], axis: Axis, y: float) -> Iterator[Shape]:
    """Yield what failed above the first cross of each group, as long as there is room."""
    taken = axis.left - 5
    ends = (*(group.x - 4 for group in groups[1:]), axis.right)
    for group, end in zip(groups, ends, strict=False):  # without groups one end is left over
        for text in group.texts():
            width = text_width(text, 11) + 6
            left = min(group.x - 4, axis.right - width)
            if left >= taken and left + width <= end:
                yield Label(x=left, y=y, text=text, style="lostword")
                taken = left + width
                break


def _groups(track: Track, axis: Axis) -> list[_Group]:
    """Return the failures by the gap that they are in, and those in none by themselves."""
    spans = _without_link(track)
    starts = [since for since, _ in spans]
    groups: list[_Group] = []
    last: int | None = None
    for failure in track.failures:
        number = bisect_right(starts, failure.at) - 1
        gap = number if number >= 0 and failure.at <= spans[number][1] else None
        x = axis.x(failure.at)
        # Nearer ones share a label, or some of them would have none.
        if groups and ((gap is not None and gap == last) or x - groups[-1].x < ROOM):
            groups[-1].causes[failure.label] += 1
        else:
            groups.append(_Group(x=x, causes=Counter({failure.label: 1})))
        last = gap
    return groups


def _without_link(track: Track) -> list[tuple[float, float]]:
    """Return the gaps, and the time before the first link, which is none by name."""
    gaps = [(gap.since, track.end if gap.until is None else gap.until) for gap in track.gaps]
    first = min((link.opened for link in track.links), default=track.end)
    return [(track.start, first), *gaps]
