"""Renders bridge events as calls of a structured logger."""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

from dromos import events
from dromos.errors import PermanentError
from dromos.events import BridgeEvent
from dromos.interfaces import Logger
from dromos.telemetry.facts import NAMES, facts, text_of

__all__ = ["LEVELS", "NAMES", "adapt", "level_of", "log_events", "log_failures"]

LEVELS: Final[dict[type[BridgeEvent], int]] = {
    events.LatencyMeasured: logging.DEBUG,
    events.AttemptFailed: logging.WARNING,
    events.Flapped: logging.WARNING,
    events.RenewalStopped: logging.WARNING,
    events.ReadingPaused: logging.WARNING,
    events.LoopBlocked: logging.WARNING,
    events.MessagesDropped: logging.WARNING,
    events.MessagesUnsent: logging.WARNING,
    events.DeliveryUnknown: logging.WARNING,
    events.SuspendDetected: logging.WARNING,
    events.EndDeferred: logging.ERROR,
    events.HandlerFailed: logging.ERROR,
}
"""How loud each event is where it is not INFO; `level_of` knows of three that depend.

ERROR wakes somebody up, because the bridge can't help itself: a session ends or is about
to, or the agent's own code raised.  WARNING tells of what the bridge deals with, and of
messages that may be lost.  A failed attempt is one: another one follows, or else the end of
the session, which is the error.  A ping's answer comes every 20 s and is for debugging.
"""


_METHODS: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
}
"""What a structured logger calls each level; `logging.getLevelName` tells what the user does."""

_Stdlib: TypeAlias = logging.Logger | logging.LoggerAdapter[Any]


def level_of(event: BridgeEvent) -> int:
    """Return the level of stdlib `logging` at which an event is logged."""
    match event:
        case events.SessionEnded(error=Exception()):
            return logging.ERROR
        case events.RenewalFailed(retry_in=None):
            return logging.ERROR
        case events.RenewalFailed() | events.Disconnected(error=Exception()):
            return logging.WARNING
        case _:
            return LEVELS.get(type(event), logging.INFO)


def log_events(logger: Logger) -> Callable[[BridgeEvent], None]:
    """Return an observer that logs every event.

    Args:
        logger: Anything with the two methods of `dromos.interfaces.Logger`.
    """
    warned: set[int] = set()

    def log(event: BridgeEvent) -> None:
        if isinstance(event, events.ReadingPaused):
            # Once a session: a slow handler would fill the log with it.
            if event.session in warned:
                return
            warned.add(event.session)
        if isinstance(event, events.SessionEnded):
            warned.discard(event.session)
        _say(logger, level_of(event), event)

    return log


def log_failures() -> Callable[[BridgeEvent], None]:
    """Return an observer for who gave no logger: it logs what the user's own code raises.

    A mistake in a handler changes nothing that could be seen otherwise: the link stays, or is
    opened again and again.
    """
    log = log_events(_StdlibLogger(logging.getLogger("dromos")))

    def observe(event: BridgeEvent) -> None:
        # With a PermanentError a handler ends its session on purpose, and somebody hears of it.
        if isinstance(event, events.HandlerFailed) and not isinstance(event.error, PermanentError):
            log(event)

    return observe


def adapt(logger: object) -> Logger:
    """Return a `Logger` that writes to this one.

    Args:
        logger: A stdlib logger or adapter, a structlog logger, or anything with
            `info(msg, **fields)` and `error(msg, *, error, **fields)`.  A `warning` like
            `error`, and a `debug` like `info`, are used where it has them.

    Raises:
        TypeError: If it has no such methods.
    """
    if isinstance(logger, logging.Logger | logging.LoggerAdapter):
        return _StdlibLogger(cast("Any", logger))  # mypy and pyright disagree on what it is
    if callable(getattr(logger, "try_unbind", None)):  # what only structlog's loggers have
        return _StructlogLogger(logger)
    for name in ("info", "error"):
        if not callable(getattr(logger, name, None)):
            raise TypeError(
                f"logger must have the methods info and error; {type(logger).__name__} lacks {name}"
            )
    return cast("Logger", logger)


def _say(logger: Logger, level: int, event: BridgeEvent) -> None:
    name, told = NAMES[type(event)], facts(event)
    if level >= logging.WARNING:
        warn = None if level >= logging.ERROR else getattr(logger, "warning", None)
        told.pop("error", None)
        (warn or logger.error)(name, error=getattr(event, "error", None), **told)
    else:
        debug = getattr(logger, "debug", None) if level == logging.DEBUG else None
        (debug or logger.info)(name, **told)


class _Leveled(ABC):
    """The four methods of a logger, in front of one."""

    def debug(self, msg: str, /, **told: Any) -> None:
        self._write(logging.DEBUG, msg, None, told)

    def info(self, msg: str, /, **told: Any) -> None:
        self._write(logging.INFO, msg, None, told)

    def warning(self, msg: str, /, *, error: BaseException | None, **told: Any) -> None:
        self._write(logging.WARNING, msg, error, told)

    def error(self, msg: str, /, *, error: BaseException | None, **told: Any) -> None:
        self._write(logging.ERROR, msg, error, told)

    @abstractmethod
    def _write(
        self, level: int, msg: str, error: BaseException | None, told: dict[str, Any], /
    ) -> None:
        """Write a line at a level."""


class _StdlibLogger(_Leveled):
    """The fields go into `extra`, under `dromos_…`, and into the message for people."""

    def __init__(self, logger: _Stdlib) -> None:
        self._logger = logger

    def _write(
        self, level: int, msg: str, error: BaseException | None, told: dict[str, Any], /
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        told |= {} if error is None else {"error": text_of(error)}
        extra = {f"dromos_{name}": value for name, value in told.items()}
        extra["dromos_event"] = msg
        logger, text, more = _behind_adapters(self._logger, _sentence(msg, told))
        more |= {"extra": more["extra"] | extra, "exc_info": _trace(msg, error)}
        logger.log(level, "%s", text, **more)


class _StructlogLogger(_Leveled):
    """The fields are the event's members, an error's text among them."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def _write(
        self, level: int, msg: str, error: BaseException | None, told: dict[str, Any], /
    ) -> None:
        # Bound anew each time: structlog may be configured after the bridge was made.
        logger = self._logger.bind()
        # `AsyncBoundLogger` makes coroutines, which nobody here could await.
        logger = getattr(logger, "sync_bl", logger)
        told |= {} if error is None else {"error": text_of(error)}
        if (trace := _trace(msg, error)) is not None:
            told["exc_info"] = trace
        getattr(logger, _METHODS[level])(msg, **told)


def _behind_adapters(
    logger: _Stdlib, text: object
) -> tuple[logging.Logger, object, dict[str, Any]]:
    """Return the logger that adapters stand before, and what they make of a call.

    They are asked one by one, because up to Python 3.12 an adapter's `extra` replaces
    the caller's (https://github.com/python/cpython/issues/76913).
    """
    extra: dict[str, Any] = {}
    more: dict[str, Any] = {}
    while isinstance(logger, logging.LoggerAdapter):
        text, made = logger.process(text, more)
        more = dict(made)
        extra = dict(more.pop("extra", None) or {}) | extra
        logger = logger.logger
    return logger, text, more | {"extra": extra}


def _trace(msg: str, error: BaseException | None) -> BaseException | None:
    """A traceback of the user's own code helps; one of ours would only be noise."""
    return error if msg == NAMES[events.HandlerFailed] else None


def _sentence(msg: str, told: dict[str, Any]) -> str:
    """Return an event's facts for people: on one line, but for where a callback was blocked."""
    # Whose CLOSE it was is in the error's text as well.
    short = {name: value for name, value in told.items() if name not in ("stack", "by_peer")}
    error = short.pop("error", None)
    words = [msg, *(f"{name}={_shown(value)}" for name, value in short.items())]
    if error is not None:
        words.append(f"error={error if error.isprintable() else json.dumps(error)}")
    line = " ".join(words)
    return f"{line}\n{told['stack']}" if "stack" in told else line


def _shown(value: object) -> str:
    """Milliseconds are enough for people, and a text must not look like two facts or two lines."""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "=') else json.dumps(text)
