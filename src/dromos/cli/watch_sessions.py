"""What a health port says of its sessions, as values that can be shown whatever it said."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

__all__ = ["Round", "Watched", "in_order", "read", "with_rates"]

WORST_FIRST: Final = ("closed", "waiting", "authorizing", "dialing", "greeting", "closing", "open")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One session.  Times are Unix times of the process; None is what it did not say.

    Attributes:
        received: Messages received since it began.
        sent: Messages sent since it began.
        received_rate: Messages received a second; None before the second round.
        sent_rate: Messages sent a second; None before the second round.
    """

    connection: str
    session: int
    endpoint: str = ""
    state: str = ""
    since: float | None = None
    link: int | None = None
    link_since: float | None = None
    next_link: int | None = None
    latency: float | None = None
    attempts: int = 0
    last_error: str = ""
    last_error_at: float | None = None
    next_attempt_at: float | None = None
    token_expires_at: float | None = None
    received: float = 0.0
    sent: float = 0.0
    received_rate: float | None = None
    sent_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """All sessions of a process at one moment.

    Attributes:
        version: Of the library in that process.
        now: Unix time there.
        ready: Whether it says that it is ready.
        draining: Whether it is being closed.
        total: How many sessions it has.
        sessions: Them.
    """

    version: str
    now: float
    ready: bool
    draining: bool
    total: int
    sessions: tuple[Watched, ...]

    def by_state(self) -> dict[str, int]:
        """Return how many sessions are in each state, the worst first."""
        counts: dict[str, int] = {}
        for session in in_order(self.sessions):
            counts[session.state] = counts.get(session.state, 0) + 1
        return counts


def read(answer: object) -> Round:
    """Return what an answer to `/sessions` says.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(answer, dict):
        raise ValueError("its answer is no JSON object")
    told = cast("Mapping[str, Any]", answer)
    now, sessions = _number(told.get("now")), told.get("sessions")
    if now is None or not isinstance(sessions, list):
        raise ValueError('its answer has no "now" and "sessions"')
    listed = cast("list[object]", sessions)
    known = [cast("Mapping[str, Any]", each) for each in listed if isinstance(each, dict)]
    return Round(
        version=_text(told.get("version")),
        now=now,
        ready=told.get("ready") is True,
        draining=told.get("draining") is True,
        total=_whole(told.get("total")) or len(known),
        sessions=tuple(map(_session, known)),
    )


def with_rates(this: Round, before: Round | None) -> Round:
    """Return a round with rates, from how the totals have grown since the one before.

    A total that fell belongs to another process, which began anew.
    """
    if before is None or this.now <= before.now:
        return this
    passed = this.now - before.now
    past = {(each.connection, each.session): each for each in before.sessions}
    rated = (
        _rated(each, past.get((each.connection, each.session)), passed) for each in this.sessions
    )
    return replace(this, sessions=tuple(rated))


def _rated(now: Watched, past: Watched | None, passed: float) -> Watched:
    if past is None or now.received < past.received or now.sent < past.sent:
        return now
    return replace(
        now,
        received_rate=(now.received - past.received) / passed,
        sent_rate=(now.sent - past.sent) / passed,
    )


def in_order(sessions: Sequence[Watched]) -> list[Watched]:
    """Return sessions with those first that somebody should look at, the oldest trouble first."""
    place = {state: number for number, state in enumerate(WORST_FIRST)}
    return sorted(
        sessions, key=lambda each: (place.get(each.state, 0), each.since or 0.0, each.session)
    )


def _session(told: Mapping[str, Any]) -> Watched:
    counters = told.get("counters")
    counted: Mapping[str, Any] = (
        cast("Mapping[str, Any]", counters) if isinstance(counters, dict) else {}
    )
    return Watched(
        connection=_text(told.get("connection_id")),
        session=_whole(told.get("session")) or 0,
        endpoint=_text(told.get("endpoint")),
        state=_text(told.get("state")),
        since=_number(told.get("since")),
        link=_whole(told.get("link")),
        link_since=_number(told.get("link_since")),
        next_link=_whole(told.get("next_link")),
        latency=_number(told.get("latency")),
        attempts=_whole(told.get("attempts")) or 0,
        last_error=_text(told.get("last_error")),
        last_error_at=_number(told.get("last_error_at")),
        next_attempt_at=_number(told.get("next_attempt_at")),
        token_expires_at=_number(told.get("token_expires_at")),
        received=_number(counted.get("received")) or 0.0,
        sent=_number(counted.get("sent")) or 0.0,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -1e15 < value < 1e15 and math.isfinite(value) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
