"""What happened in the world, as a session hears it: past participles."""

from dataclasses import dataclass
from typing import TypeAlias

from dromos._core.schedule import Lease
from dromos.errors import PermanentError
from dromos.model import Verdict


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time that `wake_at` named has come."""


@dataclass(frozen=True, slots=True)
class SuspendNoticed:
    """The clocks have drifted apart: the machine slept, or its clock was set."""


@dataclass(frozen=True, slots=True)
class TokenObtained:
    """The token that was asked for."""

    ticket: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class TokenFailed:
    """There is no such token."""

    ticket: int
    error: Exception
    override: Verdict | None = None


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A dial succeeded."""

    link: int


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A dial did not."""

    link: int
    error: Exception
    override: Verdict | None = None


@dataclass(frozen=True, slots=True)
class LinkGreeted:
    """`on_connect` or `on_handover` has returned."""

    link: int


@dataclass(frozen=True, slots=True)
class GreetingFailed:
    """It raised, or took too long."""

    link: int
    error: Exception
    override: Verdict | None = None


@dataclass(frozen=True, slots=True)
class LinkProven:
    """The ping was answered."""

    link: int


@dataclass(frozen=True, slots=True)
class ProofFailed:
    """It was not, in time."""

    link: int
    error: Exception


@dataclass(frozen=True, slots=True)
class TokenAccepted:
    """The handler has renewed the token on the live link."""

    link: int


@dataclass(frozen=True, slots=True)
class TokenDeclined:
    """The handler could not."""

    link: int


@dataclass(frozen=True, slots=True)
class LinkLost:
    """An open link ended."""

    link: int
    error: Exception
    override: Verdict | None = None


@dataclass(frozen=True, slots=True)
class DepartureAnnounced:
    """The far side closes an open link because it goes away, and waits for our answer."""

    link: int
    error: Exception
    override: Verdict | None = None


@dataclass(frozen=True, slots=True)
class RenewalRequested:
    """Somebody wants a new token and a new link now."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants the session to end."""


@dataclass(frozen=True, slots=True)
class HandlerEnded:
    """The handler wants the session to end in an error."""

    error: PermanentError


Event: TypeAlias = (
    TimerFired
    | SuspendNoticed
    | TokenObtained
    | TokenFailed
    | LinkOpened
    | DialFailed
    | LinkGreeted
    | GreetingFailed
    | LinkProven
    | ProofFailed
    | TokenAccepted
    | TokenDeclined
    | LinkLost
    | DepartureAnnounced
    | RenewalRequested
    | StopRequested
    | HandlerEnded
)
