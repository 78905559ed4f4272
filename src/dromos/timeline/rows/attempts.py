"""Attempts that failed, and the waits before the next ones."""

from collections.abc import Iterator

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Bar, Dot, Room, dense, gathered, text_width
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Label, Line, Path, Shape
from dromos.timeline.track import Track
from dromos.timeline.words import duration

__all__ = ["draw_attempts"]

HEIGHT = 28.0
LINE = 21.0
"""Where crosses and waits are; what failed is written above."""

APART = 9.0


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
    room = Room(axis.left, axis.right)
    dots = gathered(
        (
            Dot(axis.x(failure.at), failure.label, failure.text or failure.label)
            for failure in track.failures
        ),
        apart=APART,
    )
    for dot in dots:
        x, told = dot.x, dot.told if dot.count == 1 else f"{dot.count} attempts failed"
        cross = f"M{x - 3.5:.1f} {y - 3.5:.1f}l7 7m0 -7l-7 7"
        yield Path(data=cross, style="cross", told=told)
        text = dot.label if dot.count == 1 else f"{dot.label} ×{dot.count}"
        if room.take(x - 4, x + 6 + text_width(text, 11)):
            yield Label(x=x - 4, y=y - 8, text=text, style="lostword")
