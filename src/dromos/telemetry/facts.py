"""What an event says, by its stable name and as plain values: all that a renderer may show."""

import math
from dataclasses import fields
from typing import Any, Final

from dromos import events
from dromos.errors import BridgeError
from dromos.events import BridgeEvent

__all__ = ["MEMBERS", "NAMES", "SAMPLED", "error_facts", "facts", "plain", "text_of"]

NAMES: Final[dict[type[BridgeEvent], str]] = {
    events.SessionStarted: "bridge.session_started",
    events.SessionEnded: "bridge.session_ended",
    events.TokenObtained: "bridge.token_obtained",
    events.RefreshStarted: "bridge.refresh_started",
    events.RenewalFailed: "bridge.renewal_failed",
    events.RenewalStopped: "bridge.renewal_stopped",
    events.AttemptStarted: "bridge.attempt_started",
    events.AttemptFailed: "bridge.attempt_failed",
    events.RetryScheduled: "bridge.retry_scheduled",
    events.Flapped: "bridge.flapped",
    events.LinkOpened: "bridge.link_opened",
    events.LinkLost: "bridge.link_lost",
    events.LatencyMeasured: "bridge.latency_measured",
    events.Connected: "bridge.connected",
    events.Disconnected: "bridge.disconnected",
    events.HandedOver: "bridge.handed_over",
    events.DepartureAnnounced: "bridge.departure_announced",
    events.EndDeferred: "bridge.end_deferred",
    events.HandlerFailed: "bridge.handler_failed",
    events.ReadingPaused: "bridge.reading_paused",
    events.MessagesDropped: "bridge.messages_dropped",
    events.LoopBlocked: "bridge.loop_blocked",
    events.DuplicatesDropped: "bridge.duplicates_dropped",
    events.DeliveryUnknown: "bridge.delivery_unknown",
    events.MessagesUnsent: "bridge.messages_unsent",
    events.SuspendDetected: "bridge.suspend_detected",
}
"""The stable name of each event."""

SAMPLED: Final = "bridge.sampled"
"""The name of a line that is no event: what a session looked like when somebody asked."""

_KNOWN: Final = ("code", "by_peer", "status", "retry_after")
"""What an error of ours may know besides its text."""

MEMBERS: Final = frozenset(
    {"error_type", *_KNOWN, *(field.name for kind in NAMES for field in fields(kind))}
)
"""Every name under which an event may tell something."""


def facts(event: BridgeEvent) -> dict[str, Any]:
    """Return an event's members as plain values: first whose they are, then its own.

    The time is left to whoever has a place for it.  What does not show itself in a
    `repr`, such as messages, does not show here either.
    """
    own = {
        field.name: getattr(event, field.name)
        for field in fields(event)
        if field.repr and field.name not in ("connection_id", "session", "at", "error")
    }
    told: dict[str, Any] = {"connection_id": event.connection_id, "session": event.session}
    told |= {name: plain(value) for name, value in own.items()}
    return told | error_facts(getattr(event, "error", None))


def error_facts(error: BaseException | None) -> dict[str, Any]:
    """Return an error's text, its class, and what else it may know, where it does.

    Only an error of ours is asked for more than its text: nobody knows what else
    somebody else's would tell.
    """
    if error is None:
        return {}
    told: dict[str, Any] = {"error": text_of(error), "error_type": type(error).__name__}
    if isinstance(error, BridgeError):
        known = ((name, getattr(error, name, None)) for name in _KNOWN)
        told |= {name: plain(value) for name, value in known if value is not None}
    return told


def text_of(error: BaseException) -> str:
    """Return an error's text, or the name of its class where it has none, or none that works."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # a `__str__` of the user's
        return type(error).__name__


def plain(value: object) -> str | int | float | bool | None:
    """Return a value that JSON has: a number that is not finite becomes None (RFC 8259, 6)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
