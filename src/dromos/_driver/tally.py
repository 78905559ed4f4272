"""Adds up a session's events."""

from dataclasses import replace

from dromos import events
from dromos.snapshot import Counters

__all__ = ["Tally"]


class Tally:
    """What a session has counted so far.

    Attributes:
        counters: How often what happened.
        failed_in_a_row: Failures that the backoff counts; what a link clears only once it
            has proven stable.
        last_error: What went wrong last.
        last_error_at: When, in Unix time.
    """

    __slots__ = (
        "_has_outbox",
        "counters",
        "failed_in_a_row",
        "last_error",
        "last_error_at",
    )

    def __init__(self, *, has_outbox: bool) -> None:
        self.counters = Counters()
        self.failed_in_a_row = 0
        self.last_error: Exception | None = None
        self.last_error_at: float | None = None
        self._has_outbox = has_outbox

    def hear(self, event: events.BridgeEvent) -> None:
        """Count an event, which knows already when it happened."""
        if (name := _ONES.get(type(event))) is not None:
            self._add(**{name: 1})
        self._hear_of_messages(event)
        self._hear_of_failures(event)

    def _hear_of_messages(self, event: events.BridgeEvent) -> None:
        match event:
            case events.LinkLost():
                # With an outbox, `DeliveryUnknown` tells.
                unknown = 0 if self._has_outbox else event.unconfirmed
                self._add(received=event.messages, sent=event.sent, unknown=unknown)
            case events.MessagesDropped(count=count):
                self._add(dropped=count)
            case events.DuplicatesDropped(count=count):
                self._add(duplicates=count)
            case events.MessagesUnsent(count=count):
                self._add(unsent=count)
            case events.DeliveryUnknown(count=count, resent=False):
                self._add(unknown=count)
            case _:
                pass

    def _hear_of_failures(self, event: events.BridgeEvent) -> None:
        match event:
            case events.Connected():
                self.failed_in_a_row = 0
            case events.AttemptFailed(error=error):
                self.failed_in_a_row += 1
                self._note(error, event.at)
            case events.RetryScheduled(failures=failures):
                self.failed_in_a_row = failures
            case (
                events.HandlerFailed(error=error)
                | events.RenewalFailed(error=error)
                | events.LinkLost(error=error, released=False)
            ):
                self._note(error, event.at)
            case _:
                pass

    def _add(self, **counts: int) -> None:
        before = self.counters
        sums = {name: getattr(before, name) + count for name, count in counts.items()}
        self.counters = replace(before, **sums)

    def _note(self, error: Exception, at: float) -> None:
        self.last_error, self.last_error_at = error, at


_ONES: dict[type[events.BridgeEvent], str] = {
    events.AttemptStarted: "attempts",
    events.AttemptFailed: "failures",
    events.LinkOpened: "links",
    events.HandedOver: "handovers",
    events.Disconnected: "gaps",
    events.RefreshStarted: "refreshes",
    events.HandlerFailed: "handler_failures",
}
"""Events of which each counts one."""
