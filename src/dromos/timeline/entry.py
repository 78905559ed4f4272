"""One recorded line, read into what it says, or into why it can't be used."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from dromos.telemetry.facts import NAMES, SAMPLED

__all__ = ["Entry", "Unusable", "parse"]

PREFIX: Final = "bridge."
MARK: Final = "mark"
"""A line of somebody's own: a text that belongs to a moment, whatever the session."""

KNOWN: Final = frozenset({*NAMES.values(), SAMPLED})

LATEST: Final = 2.5e11
"""Unix time in the year 9892: with the air at its end, an axis up to later ones could pass the
year 9999, the last in Python's calendar."""

LONGEST_TEXT: Final = 300
LARGEST: Final = 1e15


@dataclass(frozen=True, slots=True)
class Unusable:
    """A line that can't be used, and why."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one line says: an event, a sample, or a mark.

    A member of the wrong type counts as absent, so that whoever asks gets a value that
    can be reckoned with, or None.

    Attributes:
        name: The event's name without `bridge.`; `mark` for a mark.
        at: Unix time.
        connection: The connection's id; empty for a mark.
        session: The session's number in its bridge.
    """

    name: str
    at: float
    connection: str = ""
    session: int = 0
    members: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def number(self, name: str) -> float | None:
        """Return a member that is a finite number of a reasonable size."""
        return _finite(self.members.get(name))

    def whole(self, name: str) -> int | None:
        """Return a member that is a whole number from 0 on."""
        value = self.number(name)
        return int(value) if value is not None and value >= 0 and value == int(value) else None

    def text(self, name: str) -> str:
        """Return a member that is a text, cut to what can be shown; empty if it is none."""
        value = self.members.get(name)
        return value[:LONGEST_TEXT] if isinstance(value, str) else ""

    def is_true(self, name: str) -> bool:
        """Whether a member is true."""
        return self.members.get(name) is True


def parse(line: bytes) -> Entry | Unusable | None:
    """Return what a line says; None for a line of JSON that is about something else.

    Args:
        line: Without its end, or with it.
    """
    try:
        told: object = json.loads(line)
    except (ValueError, RecursionError):  # a broken encoding is a ValueError as well
        return Unusable("it is not JSON, or was cut off")
    if not isinstance(told, dict):
        return Unusable("it is not a JSON object")
    members = cast("dict[str, Any]", told)
    name = members.get("event")
    if name != MARK and not (isinstance(name, str) and name.startswith(PREFIX)):
        return None  # another program's line, or another record of the same log
    if name != MARK and name not in KNOWN:
        return Unusable("this version does not know its event")
    at = _finite(members.get("at"))
    if at is None or not 0 <= at < LATEST:
        return Unusable('its "at" is no Unix time')
    if name == MARK:
        return Entry(name=MARK, at=at, members=members)
    return _event(name.removeprefix(PREFIX), at, members)


def _event(name: str, at: float, members: dict[str, Any]) -> Entry | Unusable:
    connection, session = members.get("connection_id"), members.get("session")
    if not isinstance(connection, str):
        return Unusable('its "connection_id" is no text')
    if isinstance(session, bool) or not isinstance(session, int) or abs(session) > LARGEST:
        return Unusable('its "session" is no number')
    return Entry(
        name=name,
        at=at,
        connection=connection[:LONGEST_TEXT],
        session=session,
        members=members,
    )


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is converted: JSON has whole numbers that no float holds.
    return float(value) if -LARGEST <= value <= LARGEST and math.isfinite(value) else None
