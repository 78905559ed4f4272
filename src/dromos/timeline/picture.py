"""The whole picture: a title, a panel for each session on one axis of time, and a legend."""

from collections.abc import Sequence
from typing import Final

from dromos.timeline.axis import Axis
from dromos.timeline.legend import draw_legend
from dromos.timeline.packing import fitted, text_width
from dromos.timeline.panel import draw_panel, summary
from dromos.timeline.shapes import Box, Label, Picture, Shape
from dromos.timeline.track import Mark, Track, span
from dromos.timeline.words import counted, date

__all__ = ["LEAST_WIDTH", "MOST_PANELS", "draw"]

LEAST_WIDTH: Final = 480
MOST_PANELS: Final = 20
MARGIN: Final = 20.0
NAMES: Final = 106.0
"""For the names of rows, and what is written before an axis."""

BETWEEN: Final = 26.0


def draw(
    tracks: Sequence[Track], marks: Sequence[Mark] = (), *, title: str = "", width: float = 960.0
) -> Picture:
    """Return the picture of some sessions; there must be one at least.

    Args:
        tracks: The sessions.
        marks: What is to be marked in all of them.
        title: What stands above it.  Default: the connection, or how many sessions there are.
        width: How wide it is, in pixels.  Default 960; 480 at least.
    """
    start, end = span(tracks, marks)
    left, right = MARGIN, max(width, LEAST_WIDTH) - MARGIN
    axis = Axis.over(start, end, left=left + NAMES, width=right - left - NAMES)
    title = title or _title(tracks)
    shapes: list[Shape] = [
        Label(x=left, y=MARGIN + 14, text=fitted(title, 17, right - left), style="title")
    ]
    y = MARGIN + 18
    for text in _below(tracks, start, right - left):
        y += 16
        shapes.append(Label(x=left, y=y, text=fitted(text, 11, right - left), style="soft"))
    y += 14
    signs: frozenset[str] = frozenset()
    for track, name in zip(tracks, _names(tracks), strict=True):
        panel = draw_panel(track, marks, axis, y, left=left, name=name)
        shapes += panel.shapes
        signs |= panel.signs
        y += panel.height + (BETWEEN if len(tracks) > 1 else 12.0)
    legend, height = draw_legend(signs, left=left, right=right, top=y - 4)
    y += height + MARGIN - 8
    paper = Box(x=0, y=0, width=right + MARGIN, height=y, style="paper", radius=8.0)
    told = "; ".join(f"{track.connection}: {summary(track)}" for track in tracks)
    return Picture(
        width=right + MARGIN,
        height=y,
        title=title,
        description=told,
        shapes=(paper, *shapes, *legend),
    )


def _title(tracks: Sequence[Track]) -> str:
    return tracks[0].connection if len(tracks) == 1 else counted(len(tracks), "session")


def _names(tracks: Sequence[Track]) -> list[str]:
    """Return what stands above each panel: nothing above the only one, as the title says it."""
    if len(tracks) == 1:
        return [""]
    has_runs = len({track.run for track in tracks}) > 1
    return [
        f"{track.connection or 'a session'}  "
        f"({f'run {track.run}, ' if has_runs else ''}session {track.session})"
        for track in tracks
    ]


def _below(tracks: Sequence[Track], start: float, room: float) -> list[str]:
    """Return what stands below the title, in two lines if it takes too much room for one."""
    if len(tracks) > 1:
        return [f"from {date(start)}"]
    [track] = tracks
    where = f"{track.endpoint}  ·  " if track.endpoint else ""
    lines = [f"{where}from {date(start)}", summary(track)]
    together = "  ·  ".join(lines)
    return [together] if text_width(together, 11) <= room else lines
