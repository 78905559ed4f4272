"""What a session is run with: numbers the user chose, and the parts around it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from dromos._core.schedule import Lease, Need
from dromos._driver.watchdog import Unwatched, Watchdog
from dromos.errors import HandshakeError
from dromos.events import BridgeEvent
from dromos.interfaces import AuthFunction, Dialer, Limits
from dromos.model import Handshake, Message, Outbox, Token, Verdict

__all__ = ["Grant", "Options", "Parts", "Tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A session's numbers: seconds and bytes.

    Attributes:
        ping_interval: Without inbound data before a ping; None never pings.
        ping_timeout: For the answer.
        write_timeout: Without progress of a blocked write.
        close_timeout: For the answer to our CLOSE, and for `on_disconnect` when cancelled.
        connect_timeout: For an endpoint callable and the dial together.
        patient: Whether the first token may take for ever.
        limits: On what is received.
        send_size_limit: On one message sent; None for no limit of its own.
        send_buffer_limit: On what waits to be written.
        handler_errors: `"log"` goes on after a callback raised, `"raise"` ends the session.
        allow_insecure_transport: Whether `ws://` may go to other machines.
        dedupe: What tells a message that comes on both links of a hand-over; None
            delivers both.
        outbox: What is kept of what could not be sent; None keeps nothing.
    """

    ping_interval: float | None = 20.0
    ping_timeout: float = 20.0
    write_timeout: float = 10.0
    close_timeout: float = 5.0
    connect_timeout: float = 30.0
    patient: bool = False
    limits: Limits = field(default_factory=Limits)
    send_size_limit: int | None = None
    send_buffer_limit: int = 4 * 2**20
    handler_errors: Literal["log", "raise"] = "log"
    allow_insecure_transport: bool = False
    dedupe: Callable[[Message], Hashable] | None = None
    outbox: Outbox | None = None


class Grant(Protocol):
    """A token with its lease, as the cache gives it."""

    @property
    def token(self) -> Token: ...

    @property
    def lease(self) -> Lease: ...


class Tokens(Protocol):
    """What the driver needs of the token cache."""

    def obtain(
        self,
        connection_id: str,
        /,
        *,
        need: Need,
        generation: int | None = None,
        on_refresh: Callable[[], None] | None = None,
        is_patient: bool = False,
    ) -> Awaitable[Grant]: ...

    def current(self, connection_id: str, /) -> Grant | None: ...

    def challenge(self, connection_id: str, claims: str, /) -> None: ...

    def join(self, connection_id: str, /) -> None: ...

    def leave(self, connection_id: str, /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a session works with.

    Attributes:
        tokens: The cache in front of the user's provider.
        dialer: The engine.
        authenticate: Presents a token in a handshake.
        asks_again: Whether a refused handshake may be tried again at once, because the
            refusal said what to present besides.
        claims_in: What a refusal wants the next token to be issued with, or None.
        gate: Bounds the dials that are under way at once.
        emit: Takes each event; never raises.
        forget: Takes the number of a session that has ended.
        override: The user's own verdict on a failure, or None; never raises.
        check_url: Refuses an endpoint with a `PermanentError`.
        wall: Unix time.
        tick: A fine clock, for what is measured: uvloop's tells milliseconds, once a turn.
        roll: Chance, uniform in [0, 1).
        watchdog: Tells of callbacks that block the event loop.
        written: Is done: what awaiting a message waits for while there is room for more.
    """

    tokens: Tokens
    dialer: Dialer
    authenticate: AuthFunction
    asks_again: Callable[[Handshake, Token, HandshakeError], bool]
    claims_in: Callable[[HandshakeError], str | None]
    gate: asyncio.Semaphore
    emit: Callable[[BridgeEvent], None]
    forget: Callable[[int], None]
    override: Callable[[Exception], Verdict | None]
    check_url: Callable[[str], str]
    wall: Callable[[], float]
    tick: Callable[[], float]
    roll: Callable[[], float]
    watchdog: Watchdog | Unwatched
    written: asyncio.Future[None]
