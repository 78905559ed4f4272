"""One sentence for each event, for people who watch."""

from dromos import events

__all__ = ["describe", "escape"]


def describe(event: events.BridgeEvent) -> str | None:
    """Return what happened in a sentence, or None for what nobody needs to read."""
    match event:
        case events.SessionStarted():
            return f"session started: {event.endpoint}"
        case events.SessionEnded(error=None):
            return "session cancelled" if event.cancelled else "session closed"
        case events.SessionEnded():
            return f"session ended: {event.error}"
        case events.TokenObtained():
            return f"token {event.generation}, {_good_for(event.expires_in)}"
        case events.RefreshStarted():
            return "asking the gateway for a new token"
        case events.RenewalFailed():
            return f"token not renewed: {event.error}; {_again(event.retry_in)}; the link stays"
        case events.RenewalStopped():
            return f"one link only at this far side: {event.error}; link {event.link} stays"
        case events.AttemptStarted():
            beside = " beside the open one" if event.handover else ""
            return f"dialling link {event.link}{beside}"
        case events.AttemptFailed():
            return f"attempt failed: {event.error}"
        case events.RetryScheduled():
            return f"next attempt {_again(event.delay)}"
        case events.Flapped():
            return f"{event.links} short-lived links in a row: waiting the longest delay"
        case events.LinkOpened():
            return f"link {event.link} open after {event.took * 1000:.0f} ms"
        case events.LatencyMeasured():
            return f"link {event.link} answered a ping after {event.seconds * 1000:.1f} ms"
        case events.LinkLost(released=True):
            return f"link {event.link} released after {event.lived:.1f} s"
        case events.LinkLost():
            return f"link {event.link} lost after {event.lived:.1f} s: {event.error}"
        case events.Connected(gap=None):
            return f"connected, on link {event.link}"
        case events.Connected():
            return f"connected again, on link {event.link}; the gap was {event.gap:.1f} s"
        case events.Disconnected(error=None):
            return "disconnected"
        case events.Disconnected():
            return f"disconnected: {event.error}"
        case events.HandedOver():
            return f"link {event.new} took over from link {event.old}, nothing interrupted"
        case events.DepartureAnnounced():
            return f"link {event.link} is about to go, opening the next one: {event.error}"
        case events.EndDeferred():
            return f"this will end the session when the open link ends: {event.error}"
        case events.HandlerFailed():
            return f"{event.method} raised {event.error!r}; the link stays"
        case events.ReadingPaused():
            return f"{event.method} has kept us from reading for {event.seconds:.0f} s"
        case events.LoopBlocked():
            return f"{event.method} has blocked the event loop for {event.seconds:.1f} s"
        case events.DuplicatesDropped():
            return f"{event.count} messages came on both links, and were delivered once"
        case events.DeliveryUnknown():
            then = "sent again on the next link" if event.resent else "not sent again"
            return f"{event.count} messages may not have arrived; {then}"
        case events.MessagesUnsent():
            return f"{event.count} messages were not sent: {event.reason}"
        case events.MessagesDropped():
            return f"{event.count} received messages dropped"
        case events.SuspendDetected():
            return f"clocks drifted apart by {event.drift:.1f} s; checking the link"
        case _:
            return None


def _good_for(expires_in: float | None) -> str:
    return "which never expires" if expires_in is None else f"good for {expires_in:.1f} s"


def _again(delay: float | None) -> str:
    return "no further try" if delay is None else f"in {delay:.1f} s"


def escape(text: str) -> str:
    """Return text that can't steer a terminal: control characters shown, not obeyed.

    A tab stays.  Bidirectional controls, which reorder what follows, are shown as well.
    """
    return "".join(
        character if character == "\t" or character.isprintable() else _shown(character)
        for character in text
    )


def _shown(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
