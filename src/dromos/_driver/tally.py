"""Adds up a session's events."""

from dataclasses import dataclass, fields

from dromos import events
from dromos.snapshot import Counters

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """What a session has counted so far; `Counters` says what each figure means."""

    attempts: int = 0
    failures: int = 0
    links: int = 0
    handovers: int = 0
    gaps: int = 0
    refreshes: int = 0
    received: int = 0
    sent: int = 0
    dropped: int = 0
    duplicates: int = 0
    unsent: int = 0
    unknown: int = 0
    handler_failures: int = 0
    failed_in_a_row: int = 0
    keeps: bool = False
    last_error: Exception | None = None

    def hear(self, event: events.BridgeEvent) -> None:
        """Count an event."""
        match event:
            case events.AttemptStarted():
                self.attempts += 1
            case events.LinkOpened():
                self.links += 1
            case events.Connected():
                self.failed_in_a_row = 0
            case events.Disconnected():
                self.gaps += 1
            case events.HandedOver():
                self.handovers += 1
            case events.RefreshStarted():
                self.refreshes += 1
            case events.LinkLost():
                self.received += event.messages
                self.sent += event.sent
                # With an outbox, `DeliveryUnknown` tells.
                self.unknown += 0 if self.keeps else event.unconfirmed
            case _:
                self._hear_of_messages(event)
        self._hear_of_failures(event)

    def freeze(self) -> Counters:
        """Return the figures as they are now."""
        return Counters(**{field.name: getattr(self, field.name) for field in fields(Counters)})

    def _hear_of_messages(self, event: events.BridgeEvent) -> None:
        match event:
            case events.MessagesDropped(count=count):
                self.dropped += count
            case events.DuplicatesDropped(count=count):
                self.duplicates += count
            case events.MessagesUnsent(count=count):
                self.unsent += count
            case events.DeliveryUnknown(count=count, resent=False):
                self.unknown += count
            case _:
                pass

    def _hear_of_failures(self, event: events.BridgeEvent) -> None:
        match event:
            case events.AttemptFailed(error=error):
                self.failures += 1
                self.failed_in_a_row += 1
            case events.HandlerFailed(error=error):
                self.handler_failures += 1
            case events.RenewalFailed(error=error) | events.LinkLost(error=error, released=False):
                pass
            case _:
                return
        self.last_error = error
