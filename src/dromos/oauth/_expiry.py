"""What servers mean when they say until when."""

import datetime
import email.utils
import math
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["LONGEST_RETRY_AFTER", "duration", "http_date", "moment", "retry_after", "to_local"]

LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds.  A server that asks for more gets this: an agent must notice within
the hour that the outage is over."""

_MILLISECONDS_FROM: Final = 1e11  # As seconds that is the year 5138; as milliseconds, 1973.
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def moment(value: object) -> float | None:
    """Return an expiry as Unix time, or None if it says nothing.

    Args:
        value: Seconds or milliseconds since 1970 as a number or a numeric
            string, or a date in RFC 3339 with any offset and fraction.  Zero,
            negative values and Go's zero time (the year 1) mean "no expiry".
    """
    number = _number(value)
    if number is None and isinstance(value, str):
        number = _date(value)
    if number is None or number <= 0:
        return None
    return number / 1000 if number > _MILLISECONDS_FROM else number


def duration(value: object) -> float | None:
    """Return a lifetime in seconds, or None if it says nothing."""
    number = _number(value)
    return number if number is not None and number > 0 else None


def http_date(value: str | None) -> float | None:
    """Return an HTTP date as Unix time, or None if it is none."""
    if not value:
        return None
    try:
        # RFC 9110, 5.6.7: always GMT; a date without a zone is read as that.
        date = email.utils.parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def retry_after(headers: Mapping[str, str], *, at: float) -> float | None:
    """Return how many seconds the server asked us to wait, or None.

    Args:
        headers: The answer's, with names in lower case.
        at: Unix time of its arrival, used where it has no `Date`.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        # Text is compared before it is converted: a thousand digits are no number of ours.
        wait = float(value) if len(value) < 10 else math.inf
    else:
        date = http_date(value)
        if date is None:
            return None
        sent = http_date(headers.get("date"))
        wait = date - (at if sent is None else sent)
    return min(wait, LONGEST_RETRY_AFTER) if wait > 0 else None


def to_local(expiry: float, headers: Mapping[str, str], *, at: float) -> float:
    """Return a server's expiry on the local wall clock.

    Its distance from the answer's own `Date` counts, so that a clock that is
    wrong on either side cancels out.

    Args:
        expiry: Unix time on the server's clock.
        headers: The answer's, with names in lower case.
        at: Unix time of its arrival on ours.
    """
    sent = http_date(headers.get("date"))
    return expiry if sent is None else at + (expiry - sent)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an int of 400 digits is valid JSON
        return None
    return number if math.isfinite(number) else None


def _date(value: str) -> float | None:
    if not 16 <= len(value) <= 64:  # from `2026-11-23T03:55` on; shorter ones are no moments
        return None
    try:
        date = datetime.datetime.fromisoformat(value.strip().upper())
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        return (date - _EPOCH).total_seconds()
    except (ValueError, OverflowError):
        return None
