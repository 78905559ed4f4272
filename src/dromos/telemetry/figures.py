"""Renders bridge events as the specification's four metrics."""

from collections.abc import Callable

from dromos import events
from dromos.events import BridgeEvent
from dromos.interfaces import Metrics

__all__ = ["count_events"]


def count_events(metrics: Metrics) -> Callable[[BridgeEvent], None]:
    """Return an observer that keeps the four metrics of one bridge.

    Connections and disconnects count gaps, so a hand-over touches neither.  The
    status is the share of running sessions that are open: with one session 1
    and 0, with none 0.
    """
    running: set[int] = set()
    connected: set[int] = set()

    def count(event: BridgeEvent) -> None:
        step: Callable[[], None] | None = None
        match event:
            case events.SessionStarted(session=session):
                running.add(session)
            case events.Connected(session=session):
                connected.add(session)
                step = metrics.inc_connections
            case events.Disconnected(session=session):
                connected.discard(session)
                step = metrics.inc_disconnects
            case events.RefreshStarted():
                metrics.inc_token_refreshes()
                return
            case events.SessionEnded(session=session):
                running.discard(session)
                connected.discard(session)
            case _:
                return
        try:
            if step is not None:
                step()
        finally:
            metrics.set_connection_status(len(connected) / len(running) if running else 0.0)

    return count
