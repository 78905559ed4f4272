"""What somebody should look at: marks of whoever recorded, and troubles that are no lost link."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Dot, Room, gathered, text_width
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Label, Line, Path, Shape
from dromos.timeline.track import Mark, Track

__all__ = ["Flags", "draw_notes", "marked"]

LINE, LEVELS = 15.0, 3
APART = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Flags in their places along the axis, before it is known where their row begins.

    Attributes:
        name: What stands before their row.
        sign: What they are in the legend.
        placed: Each with its text, and its line from above.
    """

    name: str
    sign: str
    placed: Sequence[tuple[Dot, str, int]]

    @property
    def height(self) -> float:
        """How high their row is."""
        return max((level + 1 for _, _, level in self.placed), default=0) * LINE

    def drawn(self, top: float, *, depth: float = 0.0) -> Row:
        """Return their row.

        Args:
            top: Where the row begins.
            depth: How far below the row a line leads down from each.  Default 0: none does.
        """
        if not self.placed:
            return Row()
        foot = top + self.height + depth if depth else None
        shapes = [shape for each in self.placed for shape in _flag(*each, top=top, foot=foot)]
        return Row(
            name=self.name,
            height=self.height,
            shapes=tuple(shapes),
            signs=frozenset({self.sign}),
        )


def marked(marks: Sequence[Mark], axis: Axis) -> Flags:
    """Return the flags of marks, which lead down through what lies below them."""
    dots = [Dot(axis.x(mark.at), mark.text, mark.text) for mark in marks]
    return Flags(name="", sign="mark", placed=_placed(gathered(dots, apart=APART), axis))


def draw_notes(track: Track, axis: Axis, top: float) -> Row:
    """Return the row of a session's own troubles."""
    dots = [
        Dot(axis.x(note.at), note.label, f"{note.label}: {note.text}".rstrip(": "))
        for note in track.notes
    ]
    placed = _placed(gathered(dots, apart=APART), axis)
    return Flags(name="troubles", sign="trouble", placed=placed).drawn(top)


def _flag(dot: Dot, text: str, level: int, *, top: float, foot: float | None) -> Iterator[Shape]:
    y = top + level * LINE + LINE / 2
    told = dot.told if dot.count == 1 else f"{dot.told}, and {dot.count - 1} more"
    if foot is not None:
        yield Line(x1=dot.x, y1=y, x2=dot.x, y2=foot, style="stem")
    yield Path(data=f"M{dot.x - 4:.1f} {y - 4:.1f}h8l-4 7z", style="note", told=told)
    if text:
        yield Label(x=dot.x + 7, y=y + 3.5, text=text, style="markword")


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
