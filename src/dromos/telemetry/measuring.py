"""Turns bridge events into measurements, whichever system they go to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from dromos import events
from dromos.errors import (
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    PermanentError,
    TokenError,
)
from dromos.events import BridgeEvent

__all__ = ["OTHER", "Capped", "Measurement", "Measurer"]

OTHER: Final = "other"
"""What stands for every value of a label beyond its cap."""

ENDINGS: Final = ("closed", "cancelled", "permanent", "interaction")
"""How sessions end."""

GAP_CAUSES: Final = ("lost", "going_away", "closed", "handler")
"""Why they are without a link."""

_GOING_AWAY: Final = (1001, 1012)

_NO_CLOSE: Final = 1006


class Measurement(NamedTuple):
    """One more to count, or one more value of a histogram.

    Without a value it is nothing yet: a series that is to be there before.
    """

    name: str
    labels: tuple[str, ...]
    value: float | None


class Capped:
    """Lets the first so many values of a label through, and calls all others `"other"`.

    Endpoints and close codes are made by users and far sides; each value is a time series
    for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return the value, or `"other"`."""
        if value not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(value)
        return value


@dataclass(slots=True)
class _Successor:
    """A link that is to take over, and when it opened."""

    link: int
    opened: float | None = None


@dataclass(slots=True)
class _Notes:
    """What has begun in a session and not ended yet."""

    endpoint: str
    connected: bool = False
    refreshing: float | None = None
    dialling: set[int] = field(default_factory=set[int])
    successor: _Successor | None = None
    overlaps: dict[int, float] = field(default_factory=dict[int, float])
    lost: tuple[int, float] = (0, 0.0)
    gap_cause: str = ""


class Measurer:
    """Follows the sessions of one bridge, event by event.

    Attributes:
        running: How many sessions run.
        connected: How many of them have an open link.
    """

    def __init__(self, *, endpoint: Callable[[str], str], code: Callable[[str], str]) -> None:
        """Begin without a session.

        Args:
            endpoint: What an endpoint is called in a label.
            code: What a close code is called in a label.
        """
        self.connected = 0
        self._endpoint = endpoint
        self._code = code
        self._sessions: dict[int, _Notes] = {}

    @property
    def running(self) -> int:
        """How many sessions run."""
        return len(self._sessions)

    def measure(self, event: BridgeEvent) -> Iterator[Measurement]:
        """Return what an event adds."""
        if isinstance(event, events.SessionStarted):
            begun = self._sessions[event.session] = _Notes(self._endpoint(event.endpoint))
            yield from self._nothing_yet(begun)
            return
        notes = self._sessions.get(event.session)
        if notes is not None:
            yield from self._attempts(notes, event)
            yield from self._refreshes(notes, event)
            yield from self._handovers(notes, event)
            yield from self._gaps(notes, event)
            yield from self._others(notes, event)
        elif isinstance(event, events.RefreshStarted):
            # The cycle that a session set off may outlive it.
            yield Measurement("bridge_token_refreshes_total", ("cancelled",), 1)

    def _nothing_yet(self, notes: _Notes) -> Iterator[Measurement]:
        """A series that is first seen at 1 has not grown, as far as Prometheus can tell."""
        yield Measurement("bridge_connections_total", (notes.endpoint,), None)
        for ending in ENDINGS:
            yield Measurement("bridge_sessions_ended_total", (notes.endpoint, ending), None)
        # Codes are too many for all of them: this is what most links are lost with.
        lost = notes.endpoint, "transient", self._code(str(_NO_CLOSE))
        yield Measurement("bridge_disconnects_total", lost, None)
        for cause in GAP_CAUSES:
            yield Measurement("bridge_gap_seconds", (notes.endpoint, cause), None)

    def _attempts(self, notes: _Notes, event: BridgeEvent) -> Iterator[Measurement]:
        ended: tuple[int, str] | None = None
        match event:
            case events.AttemptStarted(link=link):
                notes.dialling.add(link)
            case events.LinkOpened(link=link, took=took):
                ended = link, "opened"
                yield Measurement("bridge_connect_duration_seconds", (notes.endpoint,), took)
            case events.AttemptFailed(link=None, error=error):
                yield self._attempt(notes, _outcome(error, otherwise="no_token"))
            case events.AttemptFailed(link=int(link), error=error):
                ended = link, _outcome(error)
            case events.RenewalFailed(error=error) | events.RenewalStopped(error=error):
                if notes.successor is not None:
                    ended = notes.successor.link, _outcome(error)
            case events.SessionEnded(error=error):
                outcome = "cancelled" if error is None else "failed"
                for _ in notes.dialling:
                    yield self._attempt(notes, outcome)
            case _:
                pass
        if ended is not None and ended[0] in notes.dialling:
            notes.dialling.discard(ended[0])
            yield self._attempt(notes, ended[1])

    def _attempt(self, notes: _Notes, outcome: str) -> Measurement:
        return Measurement("bridge_connect_attempts_total", (notes.endpoint, outcome), 1)

    def _refreshes(self, notes: _Notes, event: BridgeEvent) -> Iterator[Measurement]:
        began, outcome = notes.refreshing, "failed"
        match event:
            case events.RefreshStarted(at=at):
                notes.refreshing = at
            case events.TokenObtained(renewed=renewed):
                outcome = "renewed" if renewed else "failed"
                notes.refreshing = None
            case events.AttemptFailed() | events.RenewalFailed():
                notes.refreshing = None
            case events.SessionEnded():
                outcome = "cancelled" if event.error is None else "failed"
                notes.refreshing = None
            case _:
                return
        if began is None:
            return
        yield Measurement("bridge_token_refreshes_total", (outcome,), 1)
        if outcome != "cancelled":
            took = _between(began, event.at)
            yield Measurement("bridge_token_refresh_duration_seconds", (outcome,), took)

    def _handovers(self, notes: _Notes, event: BridgeEvent) -> Iterator[Measurement]:
        outcome = ""
        match event:
            case events.AttemptStarted(link=link, handover=True):
                notes.successor = _Successor(link)
            case events.LinkOpened(link=link, at=at):
                # One dialled for a hand-over may have come to end a gap instead.
                if notes.successor is not None and notes.successor.link == link:
                    notes.successor.opened = at
            case events.HandedOver(old=old):
                outcome = "completed"
                yield from self._overlap(notes, old)
            case events.LinkLost(link=link, at=at):
                notes.lost = link, at
                if (began := notes.overlaps.pop(link, None)) is not None:
                    overlap = _between(began, at)
                    yield Measurement("bridge_handover_overlap_seconds", (), overlap)
            case (
                events.RenewalFailed()
                | events.RenewalStopped()
                | events.Disconnected(error=Exception())
            ):
                outcome = "failed"
            case events.SessionEnded():
                outcome = "cancelled"
            case _:
                pass
        if outcome and notes.successor is not None:
            notes.successor = None
            yield Measurement("bridge_handovers_total", (outcome,), 1)

    def _overlap(self, notes: _Notes, old: int) -> Iterator[Measurement]:
        """Both links are open, until the old one ends; or it did, and that was the hand-over."""
        opened = None if notes.successor is None else notes.successor.opened
        if opened is None:
            return
        lost, at = notes.lost
        if lost == old:
            yield Measurement("bridge_handover_overlap_seconds", (), _between(opened, at))
        else:
            notes.overlaps[old] = opened

    def _gaps(self, notes: _Notes, event: BridgeEvent) -> Iterator[Measurement]:
        match event:
            case events.Connected(gap=gap):
                self._set_connected(notes, True)
                yield Measurement("bridge_connections_total", (notes.endpoint,), 1)
                if gap is not None:
                    yield Measurement("bridge_gap_seconds", (notes.endpoint, notes.gap_cause), gap)
            case events.Disconnected(error=error):
                self._set_connected(notes, False)
                notes.gap_cause = _gap_cause(error)
                labels = notes.endpoint, _hope(error), self._code(_close_code(error))
                yield Measurement("bridge_disconnects_total", labels, 1)
            case events.SessionEnded(session=session):
                self._set_connected(notes, False)
                del self._sessions[session]
                ended = _ending(event)
                yield Measurement("bridge_sessions_ended_total", (notes.endpoint, ended), 1)
            case _:
                pass

    def _set_connected(self, notes: _Notes, connected: bool) -> None:
        self.connected += connected - notes.connected
        notes.connected = connected

    def _others(self, notes: _Notes, event: BridgeEvent) -> Iterator[Measurement]:
        lost = "bridge_messages_lost_total"
        match event:
            case events.LatencyMeasured(seconds=seconds):
                yield Measurement("bridge_ping_rtt_seconds", (notes.endpoint,), seconds)
            case events.LinkLost():
                yield Measurement("bridge_messages_total", ("received",), event.messages)
                yield Measurement("bridge_messages_total", ("sent",), event.sent)
                yield from _wire(event)
            case events.MessagesDropped(count=count):
                yield Measurement(lost, ("dropped",), count)
            case events.MessagesUnsent(count=count):
                yield Measurement(lost, ("unsent",), count)
            case events.DeliveryUnknown(count=count, resent=False):
                yield Measurement(lost, ("unknown",), count)
            case events.HandlerFailed(method=method):
                yield Measurement("bridge_handler_failures_total", (method,), 1)
            case _:
                pass


def _wire(event: events.LinkLost) -> Iterator[Measurement]:
    for direction, count in (("received", event.bytes_received), ("sent", event.bytes_sent)):
        if count is not None:
            yield Measurement("bridge_message_bytes_total", (direction,), count)


def _between(began: float, ended: float) -> float:
    """Seconds by the wall clock, which somebody may have set back meanwhile."""
    return max(0.0, ended - began)


def _outcome(error: Exception, *, otherwise: str = "failed") -> str:
    match error:
        case HandshakeError(status=int()):
            return "refused"
        case HandshakeError():
            return "unreachable"
        case TokenError():
            return "no_token"
        case _:
            return otherwise


def _hope(error: Exception | None) -> str:
    if error is None:
        return "shutdown"
    return "permanent" if isinstance(error, PermanentError) else "transient"


def _gap_cause(error: Exception | None) -> str:
    if not isinstance(error, ConnectionClosed):
        return "handler"  # `on_connect` failed, so that we let the link go
    if error.code in _GOING_AWAY:
        return "going_away"
    return "lost" if error.code == _NO_CLOSE else "closed"


def _close_code(error: Exception | None) -> str:
    """The CLOSE's code, be it what a permanent error was raised from; empty without one."""
    cause: Any = error
    while cause is not None and not isinstance(cause, ConnectionClosed):
        cause = cause.__cause__
    return "" if cause is None else str(cause.code)


def _ending(event: events.SessionEnded) -> str:
    if event.error is None:
        return "cancelled" if event.cancelled else "closed"
    return "interaction" if isinstance(event.error, InteractionRequired) else "permanent"
