"""A hand-over as two lanes on one axis of time, in plain characters: values in, lines out."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Final, NamedTuple

from dromos.demo.overlap import HandOver

__all__ = ["ASCII", "LINES", "WIDTH", "Axis", "Glyphs", "axis_of", "draw", "glyphs_for"]

WIDTH: Final = 78
NARROWEST: Final = 40
MANY: Final = "+"
"""Stands for ten messages or more."""

SHORTEST: Final = 1e-5
"""Seconds that an overlap is drawn as at least, since clocks have a resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """The characters to draw with.

    Attributes:
        dialling: A link that is being opened.
        open: A link that is open, and does not serve yet or any more.
        serving: A link that serves.
        left: Where the overlap begins.
        right: Where it ends.
    """

    dialling: str
    open: str
    serving: str
    left: str
    right: str


LINES: Final = Glyphs(dialling="┄", open="─", serving="━", left="├", right="┤")
ASCII: Final = Glyphs(dialling=".", open="-", serving="=", left="|", right="|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The stretch of time that is drawn, in seconds, and the columns that it is drawn in."""

    start: float
    end: float
    columns: int

    @property
    def step(self) -> float:
        """Seconds that a column stands for."""
        return (self.end - self.start) / self.columns

    def column(self, at: float) -> int:
        """Return the column of a time, the first or last for what lies outside."""
        return min(self.columns - 1, max(0, int((at - self.start) / self.step)))

    def holds(self, at: float) -> bool:
        """Whether a time lies on the axis."""
        return self.start <= at <= self.end


def glyphs_for(encoding: str | None) -> Glyphs:
    """Return the characters that can be written in an encoding; None takes all."""
    try:
        "".join(astuple(LINES)).encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return LINES


def draw(handover: HandOver, *, width: int = WIDTH, glyphs: Glyphs = LINES) -> list[str]:
    """Return a hand-over as lines of text.

    Args:
        handover: The hand-over.
        width: Columns that a line may take; 40 at least.
        glyphs: The characters to draw with.
    """
    width = max(NARROWEST, width)
    labels = (f"link {handover.old}", f"link {handover.new}", "  messages", "both open")
    margin = max(map(len, labels)) + 2
    axis = axis_of(handover, width - margin)
    marks = _marks(handover, axis)
    on_old, on_new = _counts(handover.on_old, axis), _counts(handover.on_new, axis)
    rows = [
        ("", _mark_row(marks, axis)),
        (labels[0], _old_lane(handover, axis, glyphs)),
        (labels[2], on_old),
        (labels[1], _new_lane(handover, axis, glyphs)),
        (labels[2], on_new),
        (labels[3], _overlap_row(handover, axis, glyphs)),
    ]
    return [
        *textwrap.wrap(_headline(handover), width),
        "",
        *(f"{label:<{margin}}{row}".rstrip() for label, row in rows),
        "",
        *textwrap.wrap(_legend(axis, glyphs, crowded=MANY in on_old + on_new), width),
        *_moments(marks, width),
        *textwrap.wrap(_sum(handover), width),
    ]


def axis_of(handover: HandOver, columns: int) -> Axis:
    """Return an axis on which the overlap takes a fifth at least, and a half at most.

    What led to the overlap is on it as well, unless that took much longer.
    """
    overlap = max(SHORTEST, handover.overlap)
    times = [at for at, _ in _story(handover)]
    before = handover.opened - min(times) + overlap / 4
    after = max(times) - handover.ended + overlap / 4
    return Axis(
        start=handover.opened - _between(overlap / 2, before, 2 * overlap),
        end=handover.opened + overlap + _between(overlap / 2, after, 2 * overlap),
        columns=columns,
    )


def _between(least: float, value: float, most: float) -> float:
    return max(least, min(value, most))


def _story(handover: HandOver) -> list[tuple[float, str]]:
    """Return what happened, in order."""
    old, new = handover.old, handover.new
    token = f"token {handover.new_token}"
    told = (
        (handover.token_at, f"{token} obtained; link {old} has token {handover.old_token}"),
        (handover.dialled, f"dial of link {new}, with {token}"),
        (handover.opened, f"link {new} open, beside link {old}"),
        (handover.ready, f"agent ready on link {new}"),
        (handover.proven, f"link {new} proven: it answered a ping"),
        (handover.switched, f"switch: link {new} serves, link {old} is let go"),
        (handover.ended, f"link {old} closed by us"),
    )
    known = [(at, text) for at, text in told if at is not None]
    return sorted(known, key=lambda moment: moment[0])


# --- The rows of the drawing ---------------------------------------------------------------


def _old_lane(handover: HandOver, axis: Axis, glyphs: Glyphs) -> str:
    opened, switched = axis.column(handover.old_opened), axis.column(handover.switched)
    return (
        " " * opened
        + glyphs.serving * (switched + 1 - opened)
        + glyphs.open * (axis.column(handover.ended) - switched)
    )


def _new_lane(handover: HandOver, axis: Axis, glyphs: Glyphs) -> str:
    dialled, opened = axis.column(handover.dialled), axis.column(handover.opened)
    switched = axis.column(handover.switched)
    return (
        " " * dialled
        + glyphs.dialling * (opened - dialled)
        + glyphs.open * (switched - opened)
        + glyphs.serving * (axis.column(handover.until) + 1 - switched)
    )


def _counts(written: Iterable[float], axis: Axis) -> str:
    counts = Counter(axis.column(at) for at in written if axis.holds(at))
    return "".join(
        " " if not count else str(count) if count < 10 else MANY
        for count in (counts[column] for column in range(axis.columns))
    )


def _overlap_row(handover: HandOver, axis: Axis, glyphs: Glyphs) -> str:
    first, last = axis.column(handover.opened), axis.column(handover.ended)
    inner, text = last - first - 1, f" {_duration(handover.overlap)} "
    if inner < 0:
        return " " * first + glyphs.left
    text = text if len(text) <= inner else ""
    return " " * first + glyphs.left + text.center(inner, glyphs.open) + glyphs.right


# --- The words around it -------------------------------------------------------------------


class _Mark(NamedTuple):
    """A moment, and where and how it is marked."""

    column: int
    sign: str
    at: float
    text: str


def _marks(handover: HandOver, axis: Axis) -> list[_Mark]:
    """Return the moments with their marks: those of one column share a number.

    A moment before the axis is marked `<`, one after it `>`.
    """
    story = [(axis.column(at), at, text) for at, text in _story(handover)]
    marks = {column: "<" for column, at, _ in story if at < axis.start}
    marks |= {column: ">" for column, at, _ in story if at > axis.end}
    numbers = map(str, range(1, len(story) + 1))
    for column, _, _ in story:
        if column not in marks:
            marks[column] = next(numbers)
    return [_Mark(column, marks[column], at, text) for column, at, text in story]


def _mark_row(marks: Iterable[_Mark], axis: Axis) -> str:
    signs = {mark.column: mark.sign for mark in marks}
    return "".join(signs.get(column, " ") for column in range(axis.columns))


def _moments(marks: Sequence[_Mark], width: int) -> list[str]:
    return [
        line
        for mark in marks
        for line in textwrap.wrap(
            f"  {mark.sign} {(mark.at - marks[0].at) * 1000:+9.2f} ms  {mark.text}",
            width,
            subsequent_indent=" " * 18,
        )
    ]


def _headline(handover: HandOver) -> str:
    return (
        f"hand-over at {handover.switched:.1f} s: link {handover.new} took over from "
        f"link {handover.old}, both open for {_duration(handover.overlap)}"
    )


def _legend(axis: Axis, glyphs: Glyphs, *, crowded: bool) -> str:
    return (
        f"{glyphs.dialling} dialling, {glyphs.open} open, {glyphs.serving} open and serving; "
        f"one column is {_duration(axis.step)}, digits are messages written in it"
        + (f" ({MANY} ten or more)" if crowded else "")
    )


def _sum(handover: HandOver) -> str:
    return (
        f"while both were open: {handover.during(handover.on_old)} messages on "
        f"link {handover.old}, {handover.during(handover.on_new)} on link {handover.new}; "
        f"{handover.lost} lost"
    )


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.1f} ms" if seconds >= 0.01 else f"{seconds * 1000:.2f} ms"
