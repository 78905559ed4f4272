"""What is known of one session: its links, tokens, gaps and troubles, each with its times."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "Failure",
    "Fate",
    "Gap",
    "LinkSpan",
    "Mark",
    "Note",
    "Samples",
    "TokenSpan",
    "Track",
    "Wait",
    "span",
]

Fate = Literal["open", "released", "unanswered", "lost"]
"""`"unanswered"`: we let it go, and it ended before the far side had answered our CLOSE."""


@dataclass(slots=True, kw_only=True)
class LinkSpan:
    """One link, from the dial to its end.

    Attributes:
        number: The link's.
        handover: Whether it was opened beside an open one.
        dialled: When its dial began; None if that was not recorded.
        opened: When it opened.
        served: When it took over or was connected; None if it never served.
        relieved: When another took over from it.
        ended: None if it was open to the last line.
        fate: What became of it.
        why: What it was lost for, or ended with unanswered, in a word or two.
    """

    number: int
    handover: bool
    dialled: float | None
    opened: float
    served: float | None = None
    relieved: float | None = None
    ended: float | None = None
    fate: Fate = "open"
    why: str = ""


@dataclass(slots=True, kw_only=True)
class TokenSpan:
    """One token, from when it was obtained until it expires.

    Attributes:
        generation: Its number.
        obtained: When.
        expires: None if it never does.
        replaced: When the next one was obtained; None if it is the last.
    """

    generation: int
    obtained: float
    expires: float | None
    replaced: float | None = None


@dataclass(slots=True, kw_only=True)
class Gap:
    """A time with no open link, after there was one; `until` None: to the last line."""

    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """From a failure to the next attempt, as it was planned."""

    since: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that failed: when it was given up, and why, in a word and in a sentence."""

    at: float
    label: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that somebody should look at, in a word and in a sentence."""

    at: float
    label: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A text that whoever recorded gave to a moment."""

    at: float
    text: str


@dataclass(slots=True)
class Samples:
    """How many messages there had been, at some moments in order."""

    at: "array[float]" = field(default_factory=lambda: array("d"))
    received: "array[float]" = field(default_factory=lambda: array("d"))
    sent: "array[float]" = field(default_factory=lambda: array("d"))


@dataclass(slots=True, kw_only=True)
class Track:
    """One session.

    Attributes:
        connection: Its connection's id.
        session: Its number in its bridge.
        run: Which run of the program it belongs to, from 1 in the order of the lines.
        start: When it began, or was first heard of.
        end: When it ended, or was last heard of.
        endpoint: Where it connects to.
        is_over: Whether its end was recorded.
        verdict: What it ended with; empty if it was closed, or goes on.
        handovers: When a link took over from an open one: the time, and both numbers.
        refreshes: When a token was asked for anew.
        unknown: Messages that were sent, and may have arrived or not.
        unsent: Messages that the outbox gave up.
        dropped: Messages that came, and that the handler never saw.
    """

    connection: str
    session: int
    start: float
    end: float
    run: int = 1
    endpoint: str = ""
    is_over: bool = False
    verdict: str = ""
    links: list[LinkSpan] = field(default_factory=list["LinkSpan"])
    tokens: list[TokenSpan] = field(default_factory=list["TokenSpan"])
    gaps: list[Gap] = field(default_factory=list["Gap"])
    waits: list[Wait] = field(default_factory=list["Wait"])
    failures: list[Failure] = field(default_factory=list["Failure"])
    notes: list[Note] = field(default_factory=list["Note"])
    handovers: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])
    refreshes: list[float] = field(default_factory=list[float])
    samples: Samples = field(default_factory=Samples)
    unknown: int = 0
    unsent: int = 0
    dropped: int = 0

    def without_link(self) -> float:
        """Seconds of all gaps together."""
        return sum((self.end if gap.until is None else gap.until) - gap.since for gap in self.gaps)


def span(tracks: Sequence[Track], marks: Sequence[Mark]) -> tuple[float, float]:
    """Return the first and the last moment of all that is known."""
    times = [time for track in tracks for time in (track.start, track.end)]
    times += [mark.at for mark in marks] if not times else []
    return min(times), max(times)
