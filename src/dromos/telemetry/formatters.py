"""Formats log records: as JSON for machines, and on one line for people at a terminal."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from dromos.telemetry.facts import MEMBERS, plain, text_of

__all__ = ["JsonFormatter", "TerminalFormatter", "json_logger"]

_PREFIX: Final = "dromos_"

_USUAL: Final = frozenset(
    vars(logging.makeLogRecord({})) | {"message": None, "asctime": None, "taskName": None}
)
"""What every record has; the rest is what somebody has put into `extra`."""

_TAKEN: Final = MEMBERS | {"time", "level", "logger", "event", "message", "traceback"}
"""Members that labels must not hide."""

_COLOURS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31;1m",
}
_PLAIN: Final = "\x1b[0m"


class JsonFormatter(logging.Formatter):
    """Makes one JSON object a line of any log record.

    Each has `time` (UTC, RFC 3339), `level` and `logger`.  An event of a bridge has the members
    that `dromos.telemetry.json_lines` writes, `event` and `at` among them, so that whatever
    reads such lines also reads this log.  Another record has `message`, and what was in its
    `extra`.  A traceback is in `traceback`.

    Args:
        labels: Members that every line gets, such as the agent's name.  None (default): none.

    Raises:
        ValueError: If a label has the name of another member.
    """

    def __init__(self, *, labels: Mapping[str, str] | None = None) -> None:
        super().__init__()
        for name in labels or {}:
            if name in _TAKEN:
                raise ValueError(f"labels must not hold {name!r}, which every line may have itself")
        self._labels = dict(labels or {})

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line, without the line break."""
        own: dict[str, Any] = {
            "time": _rfc_3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        # The line's own come first, and nobody's `extra` replaces them.
        line = own | self._labels | _told(record) | own
        trace = _traceback(self, record)
        if trace:
            line["traceback"] = trace
        return json.dumps({name: _jsonable(value) for name, value in line.items()})


class TerminalFormatter(logging.Formatter):
    """Makes a line for people: the time of day, the level, and the message.

    What could steer a terminal is shown instead of obeyed.

    Args:
        colour: Whether levels have colours.  Default False.
    """

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line, and a traceback below it."""
        at = datetime.fromtimestamp(record.created).astimezone()
        clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        level = f"{record.levelname.lower():<8}"
        if self._colour and (colour := _COLOURS.get(record.levelno)):
            level = f"{colour}{level}{_PLAIN}"
        lines = [f"{clock} {level} {_harmless(record.getMessage())}"]
        if trace := _traceback(self, record):
            lines.append(_harmless(trace))
        return "\n".join(lines)


def json_logger(labels: Mapping[str, str] | None = None) -> logging.Logger:
    """Return a logger that writes JSON to standard output, whatever else logs to where.

    It is nobody's child, so that what the program configures neither silences nor doubles it.

    Args:
        labels: Members that every line gets.  None (default): none.

    Raises:
        ValueError: If a label has the name of another member.
    """
    logger = logging.Logger("dromos", logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(labels=labels))
    logger.addHandler(handler)
    return logger


def _told(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says besides when and how loud: an event's facts, or a text and its extras."""
    extra = {name: value for name, value in vars(record).items() if name not in _USUAL}
    event = extra.pop(f"{_PREFIX}event", None)
    if event is None:
        return {"message": record.getMessage(), **extra}
    others = {name: extra.pop(name) for name in list(extra) if not name.startswith(_PREFIX)}
    facts = {name.removeprefix(_PREFIX): value for name, value in extra.items()}
    own = {"event": event, "at": record.created}
    return own | others | facts | own


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback and the stack of a record, which stdlib keeps apart."""
    parts: list[str] = []
    if record.exc_info:
        parts.append(record.exc_text or formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _rfc_3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _jsonable(value: object) -> Any:
    """Return a value as JSON has it, or as text: other people's extras may be anything."""
    if isinstance(value, BaseException):
        return text_of(value)
    if isinstance(value, float):
        return plain(value)
    try:
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except Exception:  # it nests itself, is not finite, or its own `__str__` fails
        return f"<{type(value).__name__}>"


def _harmless(text: str) -> str:
    return "".join(
        char if char in "\t\n" or char.isprintable() else ascii(char)[1:-1] for char in text
    )
