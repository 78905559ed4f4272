"""What a server said, made safe to show."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from dromos.redaction import REDACTED

__all__ = ["clean", "error_code", "origin_of"]

_LONGEST: Final = 200
# Ordinary words and short numbers.  Anything else in a server's message may be
# a token, part of one, or a URL that holds one.
_PLAIN: Final = re.compile(
    r"[\"'(]?([A-Za-z]+([_'-][a-z]+){0,3}|[0-9]{1,5})[\"')]?[.,:;!?]*", re.ASCII
)
# Words with a number behind them, such as AADSTS50076; a token has its digits anywhere.
_CODE: Final = re.compile(r"(?=.{1,48}\Z)[A-Za-z]+[0-9]{0,6}([_.-][A-Za-z]*[0-9]{0,6})*", re.ASCII)


def clean(text: object, *, secrets: Iterable[str] = ()) -> str:
    """Return a server's message as one printable line of at most 200 characters.

    Args:
        text: What the server sent; anything but a `str` gives nothing.
        secrets: Values that we sent and that must not come back to light.
    """
    if not isinstance(text, str):
        return ""
    text = text[:4096]
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    words: list[str] = []
    for word in text.split():
        shown = word if len(word) <= 24 and _PLAIN.fullmatch(word) else REDACTED
        if shown != REDACTED or words[-1:] != [REDACTED]:
            words.append(shown)
    return " ".join(words)[:_LONGEST]


def error_code(value: object, *, secrets: Iterable[str] = ()) -> str | None:
    """Return an error code such as `invalid_grant`, or None if it is no code."""
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        return None
    return None if any(secret in value for secret in secrets) else value


def origin_of(location: str) -> str:
    """Name where a redirect leads, without its path, query or user info."""
    try:
        parts = urlsplit(location)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an unreadable place"
    if not host:
        return "another path of the same origin"
    host = f"[{host}]" if ":" in host else host
    printable = "".join(char for char in host if char.isprintable())[:_LONGEST]
    return f"{parts.scheme or 'same scheme'}://{printable}{f':{port}' if port else ''}"
