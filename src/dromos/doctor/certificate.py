"""A certificate as Python's TLS gives it, read into what people ask of it."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

__all__ = ["DAYS_TO_ACT", "Certificate", "read"]

DAYS_TO_ACT: Final = 14
"""Fewer days than this are too few to be left to chance."""

DAY: Final = 86400.0
SHOWN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Who a far side says it is, who vouches for it, and for how long.

    Attributes:
        names: The hosts and addresses it is for.
        issuer: Who signed it.
        since: Unix time from which it holds.
        until: Unix time until which it holds.
    """

    names: Sequence[str]
    issuer: str
    since: float
    until: float

    def days_left(self, now: float) -> int:
        """Return the whole days that are left; negative once it has expired."""
        return int((self.until - now) // DAY)

    def described(self, now: float) -> str:
        """Return it in a phrase."""
        names = ", ".join(self.names[:SHOWN]) or "no name"
        more = f" and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
        return f"for {names}{more}, from {self.issuer}, {self._time(now)}"

    def _time(self, now: float) -> str:
        days = self.days_left(now)
        if now < self.since:
            return f"which holds only in {int((self.since - now) // DAY) + 1} days"
        if days < 0:
            return f"which expired {-days} day{'' if days == -1 else 's'} ago"
        return f"{days} day{'' if days == 1 else 's'} left"


def read(told: Mapping[str, Any]) -> Certificate:
    """Return what `SSLSocket.getpeercert` says."""
    names = cast("Sequence[tuple[str, str]]", told.get("subjectAltName", ()))
    return Certificate(
        names=[name for kind, name in names if kind in ("DNS", "IP Address")],
        issuer=_issuer(told.get("issuer", ())),
        since=_time(told.get("notBefore"), 0.0),
        until=_time(told.get("notAfter"), 0.0),
    )


def _issuer(parts: Sequence[Sequence[tuple[str, str]]]) -> str:
    known = {name: value for part in parts for name, value in part}
    for name in ("organizationName", "commonName", "organizationalUnitName"):
        if known.get(name):
            return known[name]
    return "nobody that it names"


def _time(value: object, missing: float) -> float:
    return float(ssl.cert_time_to_seconds(value)) if isinstance(value, str) else missing
