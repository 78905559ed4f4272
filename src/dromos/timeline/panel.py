"""One session's panel: its name, its rows one below the other, and the axis below them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dromos.timeline.axis import Axis
from dromos.timeline.packing import fitted
from dromos.timeline.rows import Row
from dromos.timeline.rows.attempts import draw_attempts
from dromos.timeline.rows.gaps import draw_bands, draw_gaps
from dromos.timeline.rows.links import draw_links
from dromos.timeline.rows.messages import draw_messages
from dromos.timeline.rows.notes import draw_notes, marked
from dromos.timeline.rows.tokens import draw_tokens
from dromos.timeline.shapes import Label, Line, Shape
from dromos.timeline.track import Mark, Track
from dromos.timeline.words import counted, duration

__all__ = ["Panel", "draw_panel", "summary"]

BEFORE: Final = 12.0
"""Between a row's name and the axis' beginning, where scales are written."""

APART: Final = 10.0
HEADING: Final = 38.0
FOOT: Final = 22.0

ROWS: Final[tuple[Callable[[Track, Axis, float], Row], ...]] = (
    draw_gaps,
    draw_links,
    draw_tokens,
    draw_attempts,
    draw_notes,
    draw_messages,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel that was drawn: how high it is, its shapes, and what of the legend it needs."""

    height: float
    shapes: tuple[Shape, ...]
    signs: frozenset[str]


def draw_panel(
    track: Track, marks: Sequence[Mark], axis: Axis, top: float, *, left: float, name: str
) -> Panel:
    """Return one session's panel.

    Args:
        track: The session.
        marks: What is to be marked in it.
        axis: The axis of time.
        top: Where it begins.
        left: Where the names of its rows begin.
        name: The session's name, to stand above it; empty: none does.
    """
    head = _heading(track, name, left, axis.right, top) if name else []
    body = top + (HEADING if name else 0.0)
    flags = marked(marks, axis)
    first = body + flags.height + 3
    rows, foot = _stacked(track, axis, first)
    flagged = flags.drawn(body, depth=foot - first + 3)
    below = [*draw_bands(track, axis, first, foot - first), *_axis(axis, first, foot)]
    named = [shape for row, y in rows for shape in _named(row, left, y)]
    return Panel(
        height=foot + FOOT - top,
        shapes=(*head, *below, *flagged.shapes, *named),
        signs=flagged.signs.union(*(row.signs for row, _ in rows)),
    )


def summary(track: Track) -> str:
    """Return what a session's panel shows in a sentence."""
    length = track.end - track.start
    parts = [f"{duration(length)}: {counted(len(track.links), 'link')}"]
    if track.handovers:
        parts.append(counted(len(track.handovers), "hand-over"))
    gaps = counted(len(track.gaps), "gap") if track.gaps else "no gap"
    parts.append(f"{gaps} ({duration(track.without_link())})" if track.gaps else gaps)
    if track.refreshes:
        parts.append(counted(len(track.refreshes), "refresh", "refreshes"))
    if track.failures:
        parts.append(f"{counted(len(track.failures), 'attempt')} failed")
    parts += _troubles(track)
    ending = f"; ended: {track.verdict}" if track.verdict else ""
    return f"{', '.join(parts)}{ending}"


def _troubles(track: Track) -> list[str]:
    """Return what went wrong with links and messages at their end, in words."""
    unanswered = sum(link.fate == "unanswered" for link in track.links)
    told = [f"{counted(unanswered, 'link')} closed without an answer"] if unanswered else []
    for count, what in (
        (track.unknown, "of unknown delivery"),
        (track.unsent, "unsent"),
        (track.dropped, "dropped"),
    ):
        if count:
            told.append(f"{counted(count, 'message')} {what}")
    return told


def _stacked(track: Track, axis: Axis, top: float) -> tuple[list[tuple[Row, float]], float]:
    """Return the rows that have something to show with their places, and where they end."""
    rows: list[tuple[Row, float]] = []
    y = top
    for draw in ROWS:
        row = draw(track, axis, y)
        if row.height:
            rows.append((row, y))
            y += row.height + APART
    return rows, y


def _named(row: Row, left: float, y: float) -> list[Shape]:
    name = Label(x=left, y=y + min(row.height, 36.0) / 2 + 4, text=row.name, style="soft")
    return [name, *row.shapes]


def _heading(track: Track, name: str, left: float, right: float, top: float) -> list[Shape]:
    where = f"{track.endpoint}  ·  " if track.endpoint else ""
    below = fitted(f"{where}{summary(track)}", 11, right - left)
    return [
        Label(x=left, y=top + 13, text=fitted(name, 13, right - left), style="name"),
        Label(x=left, y=top + 29, text=below, style="soft"),
    ]


def _axis(axis: Axis, top: float, foot: float) -> list[Shape]:
    shapes: list[Shape] = [Line(x1=axis.left, y1=foot, x2=axis.right, y2=foot, style="grid")]
    for tick in axis.ticks():
        shapes.append(Line(x1=tick.x, y1=top, x2=tick.x, y2=foot + 4, style="grid"))
        shapes.append(Label(x=tick.x, y=foot + 16, text=tick.text, style="soft", anchor="middle"))
    return shapes
