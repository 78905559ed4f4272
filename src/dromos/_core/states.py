"""Where a session can be: a sum type, each state holding what is true in it."""

import enum
from dataclasses import dataclass
from typing import TypeAlias

from dromos._core.failure import Over
from dromos._core.policy import Past
from dromos._core.schedule import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """No link, until it is time for the next attempt.

    What the far side asked for (`not_before`) is kept even if the rest is cut short, and
    so is a turn among other sessions (`has_turn`: `until` is that turn).
    """

    until: float
    past: Past
    refused: int | None = None
    not_before: float = 0.0
    has_turn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizing:
    """No link; a token was asked for, by a ticket that its answer carries."""

    ticket: int
    past: Past
    refused: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialing:
    """No link; one is being dialled."""

    link: int
    lease: Lease
    past: Past
    lost: Over | None = None
    """The end that the old link's loss would have been, had this one not been on its way."""
    refused: int | None = None
    """The token that the old link was closed over; it is not to be dialled with again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """A link is open, and `on_connect` (or, in a hand-over, `on_handover`) is running on it."""

    link: int
    lease: Lease
    opened: float
    open_since: float
    past: Past


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Nothing is going on; the token is due `lead` seconds before it expires."""

    lead: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """A renewal failed; the next try comes later.

    Attributes:
        until: When.
        refused: The token that is to be replaced first, or None.
        has_token: Whether only the dial is to be tried again, with the newest token.
    """

    until: float
    refused: int | None = None
    has_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A newer token was asked for."""

    ticket: int
    refused: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InBand:
    """The handler renews the token on the live link, and has so long for it."""

    lease: Lease
    until: float


class Phase(enum.Enum):
    """How far the next link is."""

    DIAL = "dial"
    GREET = "greet"
    PROVE = "prove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeding:
    """The next link is on its way, while this one serves."""

    link: int
    lease: Lease
    phase: Phase = Phase.DIAL
    opened: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """The session ends when this link does: what failed will not heal."""

    over: Over


Step: TypeAlias = Settled | Postponed | Asking | InBand | Succeeding | Doomed


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A link is open and greeted.

    Attributes:
        link: Its number.
        lease: The token that the far side knows this link by.
        newest: The newest token we have, used or not.
        opened: When the link opened.
        open_since: Since when there has always been an open link.
        step: What is going on about its renewal.
        past: What is remembered of failures.
        tries: Renewals that failed in a row.
        denied: Successors in a row that the far side did not want.
        single: Whether the far side allows one link only, as far as we can tell.
        leaving: Until when its CLOSE may stay unanswered, if the far side goes away;
            infinity once it was answered.
    """

    link: int
    lease: Lease
    newest: Lease
    opened: float
    open_since: float
    step: Step
    past: Past
    tries: int = 0
    denied: int = 0
    single: bool = False
    leaving: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Over.  `error` is None if the session was asked to stop."""

    error: Exception | None = None


State: TypeAlias = Waiting | Authorizing | Dialing | Greeting | Open | Stopped
