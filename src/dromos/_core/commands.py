"""What a session orders the driver to do: imperatives, which name their link."""

from dataclasses import dataclass
from typing import TypeAlias

from dromos._core.schedule import Need
from dromos.events import BridgeEvent


@dataclass(frozen=True, slots=True)
class Authorize:
    """Ask the cache; a `generation` names the token that is due or was refused."""

    ticket: int
    need: Need
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class TakeTurn:
    """Leave the turn at this time, which is now, to this session: the next is somebody else's."""

    at: float


@dataclass(frozen=True, slots=True)
class StandInLine:
    """Leave the turn at this time to this session, which waits for it."""

    at: float


@dataclass(frozen=True, slots=True)
class LeaveLine:
    """Note that it waits for its turn no more, be it that it was its turn."""

    at: float


@dataclass(frozen=True, slots=True)
class Dial:
    """Open this link with the token last obtained."""

    link: int
    handover: bool = False


@dataclass(frozen=True, slots=True)
class Adopt:
    """From now on every `send` of the session writes to this link."""

    link: int


@dataclass(frozen=True, slots=True)
class Greet:
    """Run `on_connect` for this link, or `on_handover` if it takes over from an open one."""

    link: int
    handover: bool
    within: float


@dataclass(frozen=True, slots=True)
class Prove:
    """Ping this link and see whether it answers in time."""

    link: int
    within: float


@dataclass(frozen=True, slots=True)
class Reauthenticate:
    """Have the handler renew the token on this link."""

    link: int


@dataclass(frozen=True, slots=True)
class Release:
    """Close this link politely, deliver what it still has, and see to it that it ends."""

    link: int
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the far side's CLOSE on this link; `LinkLost` follows."""

    link: int


@dataclass(frozen=True, slots=True)
class Abort:
    """End this link at once; `LinkLost` follows."""

    link: int


@dataclass(frozen=True, slots=True)
class Drop:
    """End this dial or link at once; nothing follows."""

    link: int


@dataclass(frozen=True, slots=True)
class Part:
    """Run `on_disconnect`, after all that the links before still had to deliver."""

    error: Exception | None


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the observers."""

    event: BridgeEvent


@dataclass(frozen=True, slots=True)
class Finish:
    """The session is over; nothing follows."""

    error: Exception | None


LinkCommand: TypeAlias = Adopt | Greet | Prove | Reauthenticate | Release | Answer | Abort | Drop

InLine: TypeAlias = TakeTurn | StandInLine | LeaveLine
Command: TypeAlias = LinkCommand | Authorize | InLine | Dial | Part | Announce | Finish
