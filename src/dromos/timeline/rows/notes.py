"""What somebody should look at: marks of whoever recorded, and troubles that are no lost link."""

from collections.abc import Iterable, Sequence

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Dot, Room, gathered, text_width
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Label, Line, Path, Shape
from dromos.timeline.track import Mark, Track

__all__ = ["draw_marks", "draw_notes"]

LINE, LEVELS = 15.0, 3
APART = 7.0


def draw_marks(marks: Sequence[Mark], axis: Axis, top: float, depth: float) -> Row:
    """Return the row of marks, each with a line down through what lies below it.

    Args:
        marks: The marks.
        axis: The axis of time.
        top: Where the row begins.
        depth: How far below the row the lines lead.
    """
    dots = [Dot(axis.x(mark.at), mark.text, mark.text) for mark in marks]
    return _flags("", dots, axis, top, depth, "mark")


def draw_notes(track: Track, axis: Axis, top: float) -> Row:
    """Return the row of a session's own troubles."""
    dots = [
        Dot(axis.x(note.at), note.label, f"{note.label}: {note.text}".rstrip(": "))
        for note in track.notes
    ]
    return _flags("troubles", dots, axis, top, 0.0, "trouble")


def _flags(name: str, dots: Iterable[Dot], axis: Axis, top: float, depth: float, sign: str) -> Row:
    together = gathered(dots, apart=APART)
    if not together:
        return Row()
    placed = _placed(together, axis)
    used = max(level for _, _, level in placed) + 1
    height = used * LINE
    shapes: list[Shape] = []
    for dot, text, level in placed:
        y = top + level * LINE + LINE / 2
        told = dot.told if dot.count == 1 else f"{dot.told}, and {dot.count - 1} more"
        if depth:
            shapes.append(Line(x1=dot.x, y1=y, x2=dot.x, y2=top + height + depth, style="stem"))
        shapes.append(Path(data=f"M{dot.x - 4:.1f} {y - 4:.1f}h8l-4 7z", style="note", told=told))
        if text:
            shapes.append(Label(x=dot.x + 7, y=y + 3.5, text=text, style="markword"))
    return Row(name=name, height=height, shapes=tuple(shapes), signs=frozenset({sign}))


def _placed(dots: Sequence[Dot], axis: Axis) -> list[tuple[Dot, str, int]]:
    """Return dots with their texts and lines; those without room for a text on the line below."""
    rooms = [Room(axis.left - 5, axis.right + 8) for _ in range(LEVELS)]
    placed: list[tuple[Dot, str, int]] = []
    for dot in dots:
        text = dot.label if dot.count == 1 else f"{dot.label} ×{dot.count}".strip()
        wide = dot.x + 20 + text_width(text, 11)
        # A line leads down from each, and must not cross what is written below.
        deepest = max((n for n, room in enumerate(rooms) if room.covers(dot.x)), default=-1) + 1
        free = (n for n in range(deepest, LEVELS) if rooms[n].take(dot.x - 5, wide))
        level = next(free, None)
        placed.append((dot, "", LEVELS) if level is None else (dot, text, level))
    if all(level in (0, LEVELS) for _, _, level in placed):
        return [(dot, text, min(level, 1)) for dot, text, level in placed]
    return placed
