"""The gaps of a session: bands through its whole panel, with how long each was."""

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Bar, Room, dense, text_width
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Box, Label, Shape
from dromos.timeline.track import Track
from dromos.timeline.words import duration

__all__ = ["draw_bands", "draw_gaps"]

HEIGHT = 14.0
FAINTEST = 0.25
"""A band of many gaps is as strong as the share of time that they take, but never unseen."""


def draw_bands(track: Track, axis: Axis, top: float, height: float) -> list[Shape]:
    """Return the bands, to lie below everything else."""
    return [
        Box(
            x=bar.left,
            y=top,
            width=max(1.0, bar.right - bar.left),
            height=height,
            style="gap",
            opacity=max(FAINTEST, bar.share),
            told=bar.told if bar.count == 1 else f"{bar.count:,} gaps",
        )
        for bar in _bars(track, axis)
    ]


def draw_gaps(track: Track, axis: Axis, top: float) -> Row:
    """Return the row that says how long the gaps were."""
    if not track.gaps:
        return Row()
    room = Room(axis.left - 24, axis.right + 14)
    shapes: list[Shape] = []
    for bar in _bars(track, axis):
        text = bar.told.removeprefix("no link for ") if bar.count == 1 else f"{bar.count:,} gaps"
        middle, half = (bar.left + bar.right) / 2, text_width(text, 11) / 2 + 5
        if room.take(middle - half, middle + half):
            shapes.append(Label(x=middle, y=top + 11, text=text, style="gapword", anchor="middle"))
    return Row(name="no link", height=HEIGHT, shapes=tuple(shapes), signs=frozenset({"gap"}))


def _bars(track: Track, axis: Axis) -> list[Bar]:
    ends = [(gap.since, track.end if gap.until is None else gap.until) for gap in track.gaps]
    return dense(
        Bar(axis.x(since), axis.x(until), "gap", f"no link for {duration(until - since)}")
        for since, until in ends
    )
