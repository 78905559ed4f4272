"""Turns what was recorded, in the order of the lines, into what is known of each session."""

from collections.abc import Callable, Iterable
from typing import Final

from dromos.timeline.entry import LATEST, MARK, Entry
from dromos.timeline.track import (
    Failure,
    Fate,
    Gap,
    LinkSpan,
    Mark,
    Note,
    TokenSpan,
    Track,
    Wait,
)
from dromos.timeline.words import counted

__all__ = ["Story", "fold"]

STEP: Final = 1.0
"""Seconds that a line may lie behind the one before it; more is a clock that was set back."""


WITHOUT_A_CLOSE: Final = 1006


class Story:
    """Everything that was told, session by session.

    Attributes:
        tracks: The sessions, in the order in which they were first heard of.
        marks: What whoever recorded noted in the margin.
        runs: How many runs of the program were told: a recording is added to, and one that
            was started again counts its sessions from the beginning.
    """

    def __init__(self) -> None:
        self.runs = 1
        self.tracks: list[Track] = []
        self.marks: list[Mark] = []


def fold(told: Iterable[tuple[str, Entry]], note: Callable[[str, str], None]) -> Story:
    """Return the story that lines tell.

    Args:
        told: What they say, each with its place.
        note: Is called with a place and a problem.
    """
    story = Story()
    pens: dict[tuple[str, int], _Pen] = {}
    numbers: set[int] = set()
    for place, entry in told:
        if entry.name == MARK:
            story.marks.append(Mark(at=entry.at, text=entry.text("text")))
            continue
        key, begins = (entry.connection, entry.session), entry.name == "session_started"
        if begins and entry.session in numbers:
            # A bridge gives no number twice, so that this is another process.
            story.runs += 1
            numbers.clear()
        numbers.add(entry.session)
        pen = pens.get(key)
        if pen is None or begins:
            pen = pens[key] = _Pen(entry, story.runs)
            story.tracks.append(pen.track)
        back = pen.write(entry)
        if back > STEP:
            note(place, f"the clock went back by {back:.1f} s; drawn as if it had not")
    return story


class _Pen:
    """Writes one session's events into its track."""

    def __init__(self, first: Entry, run: int) -> None:
        self.track = Track(
            connection=first.connection,
            session=first.session,
            run=run,
            start=first.at,
            end=first.at,
        )
        self._set_back = 0.0
        self._dialled: dict[int, tuple[float, bool]] = {}
        self._links: dict[int, LinkSpan] = {}
        self._gap: Gap | None = None
        self._accounted: set[int] = set()  # links of which the outbox has told

    def write(self, entry: Entry) -> float:
        """Take in an event; return by how many seconds its time lay behind the one before."""
        at = entry.at + self._set_back
        # The clock was set right again; or it was so often out that no calendar has the sum.
        if entry.at >= self.track.end or at >= LATEST:
            self._set_back, at = 0.0, entry.at
        back = self.track.end - at
        if back > 0:
            at = self.track.end
        if back > STEP:
            self._set_back += back
        self.track.end = at
        take = _TAKES.get(entry.name)
        if take is not None:
            take(self, entry, at)
        return back

    # --- The session -------------------------------------------------------------------

    def started(self, entry: Entry, at: float) -> None:
        self.track.endpoint = entry.text("endpoint")

    def ended(self, entry: Entry, at: float) -> None:
        self.track.is_over = True
        self.track.verdict = entry.text("error")
        if self._gap is not None:
            self._gap.until = at
            self._gap = None
        # No link outlives its session, and not every recording tells the end of each.
        for span in self._links.values():
            span.ended, span.fate = at, "released"

    def sampled(self, entry: Entry, at: float) -> None:
        received, sent = entry.number("received"), entry.number("sent")
        samples = self.track.samples
        samples.at.append(at)
        samples.received.append(max(0.0, received or 0.0))
        samples.sent.append(max(0.0, sent or 0.0))

    # --- Links -------------------------------------------------------------------------

    def dialling(self, entry: Entry, at: float) -> None:
        link = entry.whole("link")
        if link is not None:
            self._dialled[link] = at, entry.is_true("handover")

    def opened(self, entry: Entry, at: float) -> None:
        link = entry.whole("link")
        if link is None:
            return
        took = entry.number("took")
        dialled, handover = self._dialled.pop(link, (None, entry.is_true("handover")))
        if dialled is None and took is not None and took >= 0:
            dialled = max(self.track.start, at - took)
        span = LinkSpan(number=link, handover=handover, dialled=dialled, opened=at)
        self._links[link] = span
        self.track.links.append(span)

    def lost(self, entry: Entry, at: float) -> None:
        link = entry.whole("link")
        if link is None:
            return
        span = self._links.pop(link, None) or self._unseen(link, entry, at)
        span.ended = at
        span.fate = _fate(span, entry)
        span.why = "" if span.fate == "released" else cause(entry)
        self._account(span, entry, at)

    def _account(self, span: LinkSpan, entry: Entry, at: float) -> None:
        """Note what an end that was not clean has left in the dark, unless the outbox has."""
        if span.fate == "released" or span.number in self._accounted:
            return
        unconfirmed, error = entry.whole("unconfirmed") or 0, entry.text("error")
        if unconfirmed:
            self.track.unknown += unconfirmed
            text = f"{counted(unconfirmed, 'message')} on link {span.number}: {error}"
            self.track.notes.append(Note(at=at, label="delivery unknown", text=text))
        elif span.fate == "unanswered":
            text = f"link {span.number}: {error}"
            self.track.notes.append(Note(at=at, label="close unanswered", text=text))

    def _unseen(self, link: int, entry: Entry, at: float) -> LinkSpan:
        """Return a link that opened before the recording began."""
        lived = max(0.0, entry.number("lived") or 0.0)
        opened = max(self.track.start, at - lived)
        span = LinkSpan(number=link, handover=False, dialled=None, opened=opened, served=opened)
        self.track.links.append(span)
        return span

    def connected(self, entry: Entry, at: float) -> None:
        self._serve(entry.whole("link"), at)
        if self._gap is not None:
            self._gap.until = at
            self._gap = None

    def disconnected(self, entry: Entry, at: float) -> None:
        # Without an error we closed it, and nothing is missing.
        if self._gap is None and entry.text("error"):
            self._gap = Gap(since=at)
            self.track.gaps.append(self._gap)

    def handed_over(self, entry: Entry, at: float) -> None:
        old, new = entry.whole("old"), entry.whole("new")
        if old is None or new is None:
            return
        self.track.handovers.append((at, old, new))
        if old in self._links:
            self._links[old].relieved = at
        self._serve(new, at)

    def _serve(self, link: int | None, at: float) -> None:
        span = None if link is None else self._links.get(link)
        if span is not None and span.served is None:
            span.served = at

    # --- Attempts ----------------------------------------------------------------------

    def failed(self, entry: Entry, at: float) -> None:
        link = entry.whole("link")
        if link is not None:
            self._dialled.pop(link, None)
        self.track.failures.append(Failure(at=at, label=cause(entry), text=entry.text("error")))

    def waits(self, entry: Entry, at: float) -> None:
        delay = entry.number("delay")
        if delay is not None and delay > 0:
            self.track.waits.append(Wait(since=at, until=at + delay))

    # --- Tokens ------------------------------------------------------------------------

    def token(self, entry: Entry, at: float) -> None:
        tokens, generation = self.track.tokens, entry.whole("generation") or 0
        left = entry.number("expires_in")
        expires = None if left is None else at + max(0.0, left)
        if tokens and tokens[-1].generation == generation:
            # The same one: prolonged, or taken out of the cache for another dial.
            tokens[-1].expires = expires
            return
        if tokens:
            tokens[-1].replaced = at
        tokens.append(TokenSpan(generation=generation, obtained=at, expires=expires))

    def refreshing(self, entry: Entry, at: float) -> None:
        self.track.refreshes.append(at)

    # --- Messages ----------------------------------------------------------------------

    def unknown(self, entry: Entry, at: float) -> None:
        link, count, resent = entry.whole("link"), entry.whole("count"), entry.is_true("resent")
        if link is not None:
            self._accounted.add(link)
        self.track.unknown += 0 if resent else count or 0
        where = "" if link is None else f" on link {link}"
        text = f"{counted(count or 0, 'message')}{where}{', sent again' if resent else ''}"
        self.track.notes.append(Note(at=at, label="delivery unknown", text=text))

    def unsent(self, entry: Entry, at: float) -> None:
        self.track.unsent += entry.whole("count") or 0
        self.noted(entry, at)

    def dropped(self, entry: Entry, at: float) -> None:
        self.track.dropped += entry.whole("count") or 0
        self.noted(entry, at)

    # --- What somebody should look at --------------------------------------------------

    def noted(self, entry: Entry, at: float) -> None:
        label = _NOTES[entry.name]
        count = entry.whole("count")
        told = "" if count is None else counted(count, "message")
        why = entry.text("error") or entry.text("reason") or entry.text("method")
        text = ", ".join(filter(None, (told, why)))
        self.track.notes.append(Note(at=at, label=label, text=text))


_NOTES: Final = {
    "renewal_failed": "token not renewed",
    "renewal_stopped": "one link only",
    "end_deferred": "end deferred",
    "departure_announced": "going away",
    "flapped": "flapping",
    "handler_failed": "handler failed",
    "reading_paused": "slow handler",
    "loop_blocked": "blocked loop",
    "messages_unsent": "messages unsent",
    "messages_dropped": "messages dropped",
    "suspend_detected": "suspended",
}

_TAKES: Final[dict[str, Callable[[_Pen, Entry, float], None]]] = {
    **dict.fromkeys(_NOTES, _Pen.noted),
    "delivery_unknown": _Pen.unknown,
    "messages_unsent": _Pen.unsent,
    "messages_dropped": _Pen.dropped,
    "session_started": _Pen.started,
    "session_ended": _Pen.ended,
    "sampled": _Pen.sampled,
    "attempt_started": _Pen.dialling,
    "attempt_failed": _Pen.failed,
    "retry_scheduled": _Pen.waits,
    "link_opened": _Pen.opened,
    "link_lost": _Pen.lost,
    "connected": _Pen.connected,
    "disconnected": _Pen.disconnected,
    "handed_over": _Pen.handed_over,
    "token_obtained": _Pen.token,
    "refresh_started": _Pen.refreshing,
}


def _fate(span: LinkSpan, entry: Entry) -> Fate:
    """Return what became of a link that has ended.

    1006 is an end without a CLOSE, so one of ours was not answered (RFC 6455, 7.1.5); a CLOSE
    of the far side's own has crossed ours, and what we sent may not have been read.  Of a
    link that another has relieved, or that never served, little more was expected.
    """
    if not entry.is_true("released"):
        return "lost"
    is_last = span.served is not None and span.relieved is None
    is_dark = bool(entry.whole("unconfirmed"))
    if entry.whole("code") == WITHOUT_A_CLOSE:
        return "unanswered" if is_last or is_dark else "released"
    has_crossed = entry.is_true("by_peer")
    return "unanswered" if is_last and is_dark and has_crossed else "released"


def cause(entry: Entry) -> str:
    """Return what went wrong in a word or two: a status, a close code, or a kind of error."""
    number = entry.whole("status") or entry.whole("code")
    if number is not None:
        return f"{number}"
    kind = entry.text("error_type")
    known = {"HandshakeError": "refused", "TokenError": "no token", "TimeoutError": "timeout"}
    return known.get(kind, kind[:24] or "failed")
