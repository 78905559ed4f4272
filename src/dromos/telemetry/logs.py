"""Renders bridge events as calls of a structured logger."""

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, cast

from dromos import events
from dromos.events import BridgeEvent
from dromos.interfaces import Logger

__all__ = ["adapt", "log_events"]

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
"""The stable name of each event in logs."""

_ERRORS: Final = (
    events.AttemptFailed,
    events.RenewalFailed,
    events.EndDeferred,
    events.HandlerFailed,
)

_WARNINGS: Final = (
    events.ReadingPaused,
    events.LoopBlocked,
    events.DeliveryUnknown,
    events.MessagesUnsent,
)
"""The same, with no exception to show."""
"""Events that somebody should look at; the others are the bridge doing its work."""


def log_events(logger: Logger) -> Callable[[BridgeEvent], None]:
    """Return an observer that logs every event.

    Args:
        logger: Anything with the two methods of `dromos.interfaces.Logger`.
    """
    warned: set[tuple[str, int]] = set()

    def log(event: BridgeEvent) -> None:
        name = NAMES[type(event)]
        facts = _facts(event)
        error = facts.pop("error", None)
        if isinstance(event, events.ReadingPaused):
            # Once a session: a slow handler would fill the log with it.
            if (event.connection_id, event.session) in warned:
                return
            warned.add((event.connection_id, event.session))
        if isinstance(event, events.SessionEnded):
            warned.discard((event.connection_id, event.session))
        ended_badly = isinstance(event, events.SessionEnded) and error is not None
        if ended_badly or isinstance(event, (*_ERRORS, *_WARNINGS)):
            logger.error(name, error=error, **facts)
        elif error is None:
            logger.info(name, **facts)
        else:
            logger.info(name, cause=str(error), **facts)

    return log


def adapt(logger: object) -> Logger:
    """Return a `Logger` that writes to this one.

    Args:
        logger: A stdlib logger or adapter, a structlog logger, or anything with
            `info(msg, **fields)` and `error(msg, *, error, **fields)`.

    Raises:
        TypeError: If it has no such methods.
    """
    if isinstance(logger, logging.Logger | logging.LoggerAdapter):
        return _StdlibLogger(cast("logging.Logger", logger))
    for name in ("info", "error"):
        if not callable(getattr(logger, name, None)):
            raise TypeError(
                f"logger must have the methods info and error; {type(logger).__name__} lacks {name}"
            )
    return cast("Logger", logger)


class _StdlibLogger:
    """The fields go into `extra`, under `dromos_…`, and into the message for people."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def info(self, msg: str, /, **facts: Any) -> None:
        self._write(logging.INFO, msg, None, facts)

    def error(self, msg: str, /, *, error: BaseException | None, **facts: Any) -> None:
        self._write(logging.ERROR, msg, error, facts)

    def _write(
        self, level: int, msg: str, error: BaseException | None, facts: dict[str, Any]
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        text = " ".join([msg, *(f"{name}={_shown(value)}" for name, value in facts.items())])
        if error is not None:
            text = f"{text} error={str(error) or type(error).__name__}"
        extra = {f"dromos_{name}": value for name, value in facts.items()}
        extra["dromos_event"] = msg
        # A traceback of the user's own code helps; one of ours would only be noise.
        with_trace = error if msg == "bridge.handler_failed" else None
        self._logger.log(level, "%s", text, extra=extra, exc_info=with_trace)


def _shown(value: object) -> str:
    """Milliseconds are enough for people; the extra fields have all digits."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _facts(event: BridgeEvent) -> dict[str, Any]:
    # What does not show itself in a `repr` has no place in a log either.
    shown = (field for field in fields(event) if field.name != "at" and field.repr)
    return {field.name: getattr(event, field.name) for field in shown}
