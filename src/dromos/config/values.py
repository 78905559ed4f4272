"""How each kind of value is written in a file or a variable, and read into what options take."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

__all__ = [
    "COUNT",
    "DURATION",
    "FLAG",
    "HEADERS",
    "JITTER",
    "PORT",
    "SECRET_TEXT",
    "SIZE",
    "TEXT",
    "TEXTS",
    "Kind",
    "choice",
    "looked_up",
    "optional",
]

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SIZES: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE: Final = re.compile(r"(\d+) ?(KiB|MiB|GiB)?", re.ASCII)
_YES: Final = frozenset({"true", "yes", "on", "1"})
_NO: Final = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        form: What may be written, for people.
        unit: What a bare number counts; empty if it is none.
        read: Makes a value of what was written, which in a variable is text.  Raises a
            `ValueError` that goes on from the option's name, and repeats no text.
    """

    form: str
    unit: str
    read: Callable[[object], Any]


def optional(kind: Kind) -> Kind:
    """Return the kind that also takes `none`."""

    def read(written: object) -> Any:
        return None if _is_none(written) else kind.read(written)

    return Kind(f"{kind.form}, or none", kind.unit, read)


def choice(*allowed: str) -> Kind:
    """Return the kind that is one of these words."""
    form = " or ".join(f'"{word}"' for word in allowed)

    def read(written: object) -> str:
        if not isinstance(written, str) or written not in allowed:
            raise ValueError(f"must be {form}")
        return written

    return Kind(form, "", read)


def _is_none(written: object) -> bool:
    return isinstance(written, str) and written.strip().lower() == "none"


def _duration(written: object) -> float:
    if isinstance(written, int | float) and not isinstance(written, bool):
        return float(written)
    if isinstance(written, str):
        text = written.strip()
        try:
            return float(text)
        except ValueError:
            pass
        pieces = _DURATION.findall(text)
        if pieces and "".join(number + unit for number, unit in pieces) == text:
            return float(sum(float(number) * _UNITS[unit] for number, unit in pieces))
    raise ValueError('must be seconds, or a text like "30s", "5m" or "1h30m"')


def _jitter(written: object) -> float | str:
    if written == "full":
        return "full"
    try:
        return _duration(written)
    except ValueError:
        raise ValueError('must be "full", or seconds') from None


def _size(written: object) -> int:
    if isinstance(written, int) and not isinstance(written, bool):
        return written
    match = _SIZE.fullmatch(written.strip()) if isinstance(written, str) else None
    if match is None:
        raise ValueError('must be bytes, or a text like "64KiB" or "4MiB"')
    return int(match[1]) * (_SIZES[match[2]] if match[2] else 1)


def _count(written: object) -> int:
    if isinstance(written, int) and not isinstance(written, bool):
        return written
    if isinstance(written, str) and re.fullmatch(r"-?\d{1,18}", written.strip(), re.ASCII):
        return int(written)
    raise ValueError("must be a whole number")


def _port(written: object) -> int:
    if isinstance(written, str) and "://" in written:
        # https://kubernetes.io/docs/tutorials/services/connect-applications-service/
        raise ValueError(
            "must be a port, not a URL: Kubernetes sets such a variable for a Service of that "
            "name; enableServiceLinks: false in the pod keeps it from doing so"
        )
    return _count(written)


def _flag(written: object) -> bool:
    word = str(written).strip().lower()
    if isinstance(written, bool | str) and word in _YES | _NO:
        return word in _YES
    raise ValueError("must be true or false")


def _text(written: object) -> str:
    if not isinstance(written, str) or not written.strip():
        raise ValueError("must be a text, and not empty")
    return written


def _texts(written: object) -> tuple[str, ...]:
    if isinstance(written, str):
        return tuple(part.strip() for part in written.split(",") if part.strip())
    if isinstance(written, Sequence):
        parts = cast("Sequence[object]", written)
        if all(isinstance(part, str) for part in parts):
            return tuple(cast("Sequence[str]", parts))
    raise ValueError("must be a list of texts")


def _headers(written: object) -> Mapping[str, object]:
    if isinstance(written, Mapping):
        fields = cast("Mapping[str, object]", written)
        if all(isinstance(value, str) or _is_reference(value) for value in fields.values()):
            return dict(fields)
    raise ValueError('must be a table of texts, or of { env = "NAME" } or { file = "PATH" }')


def _secret_text(written: object) -> object:
    if _is_reference(written):
        return written
    try:
        return _text(written)
    except ValueError:
        raise ValueError('must be a text, { env = "NAME" } or { file = "PATH" }') from None


def _is_reference(written: object) -> bool:
    if not isinstance(written, Mapping):
        return False
    fields = list(cast("Mapping[str, object]", written).items())
    return len(fields) == 1 and fields[0][0] in ("env", "file") and isinstance(fields[0][1], str)


def looked_up(value: object, environ: Mapping[str, str]) -> str:
    """Return the text that a value is, or that it refers to.

    Raises:
        ValueError: If it refers to nothing; the message goes on from the option's name.
    """
    if isinstance(value, str):
        return value
    ((how, name),) = cast("Mapping[str, str]", value).items()
    if how == "env":
        if not environ.get(name):
            raise ValueError(f"refers to the variable {name}, which is not set")
        return environ[name]
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ValueError("refers to a file that can't be read") from None


DURATION: Final = Kind('seconds, or "30s", "5m", "1h30m"', "s", _duration)
JITTER: Final = Kind('"full" or seconds', "s", _jitter)
SIZE: Final = Kind('bytes, or "64KiB", "4MiB"', "bytes", _size)
COUNT: Final = Kind("whole number", "", _count)
PORT: Final = Kind("port", "", _port)
FLAG: Final = Kind("true or false", "", _flag)
TEXT: Final = Kind("text", "", _text)
TEXTS: Final = Kind("list of texts", "", _texts)
SECRET_TEXT: Final = Kind('text, or { env = "NAME" } or { file = "PATH" }', "", _secret_text)
HEADERS: Final = Kind('texts, or { env = "NAME" }, by name', "", _headers)
