"""Attempts that failed, and the waits before the next ones."""

from collections.abc import Iterator

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Bar, Dot, Room, dense, gathered, text_width
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Label, Line, Path, Shape
from dromos.timeline.track import Track
from dromos.timeline.words import duration

__all__ = ["draw_attempts"]

HEIGHT = 16.0
APART = 9.0


def draw_attempts(track: Track, axis: Axis, top: float) -> Row:
    """Return the row of attempts."""
    if not track.failures and not track.waits:
        return Row()
    y = top + HEIGHT / 2
    shapes: list[Shape] = [*_waits(track, axis, y), *_failures(track, axis, y)]
    signs = {"failed"} if track.failures else set[str]()
    signs |= {"wait"} if track.waits else set()
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
        told = dot.told if dot.count == 1 else f"{dot.count} attempts failed"
        x = dot.x
        yield Path(
            data=f"M{x - 3.5:.1f} {y - 3.5:.1f}l7 7m0 -7l-7 7", style="cross", told=told
        )
        room.take(x - 5, x + 5)
    for dot in dots:
        text = dot.label if dot.count == 1 else f"{dot.count}×"
        if room.take(dot.x + 6, dot.x + 10 + text_width(text, 11)):
            yield Label(x=dot.x + 8, y=y + 4, text=text, style="lostword")
