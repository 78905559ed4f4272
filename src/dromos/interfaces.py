"""What a replaceable part must be able to do.

A user implements `Handler` and `TokenProvider`, and now and then `Logger`,
`Metrics` or `Dialer`.  All are structural: no base class is needed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from dromos.errors import ConnectionClosed
from dromos.events import BridgeEvent
from dromos.model import Handshake, Message, Token

__all__ = [
    "AuthFunction",
    "Dialer",
    "Endpoint",
    "Handler",
    "Limits",
    "Link",
    "LinkListener",
    "Logger",
    "Metrics",
    "Observer",
    "Send",
    "Sendable",
    "TokenProvider",
    "TokenSource",
    "WireBytes",
]

Sendable: TypeAlias = str | bytes | bytearray | memoryview
"""What `send` takes: `str` makes a text frame, anything bytes-like a binary one."""

Endpoint: TypeAlias = str | Callable[[Token], str] | Callable[[Token], Awaitable[str]]
"""Where to connect: a URL, or a callable that makes one of the token for each attempt."""

AuthFunction: TypeAlias = Callable[[Handshake, Token, float], Handshake]
"""A strategy: the handshake with the token presented in it, at this Unix time."""

Observer: TypeAlias = Callable[[BridgeEvent], None]
"""What `on_event` takes."""


class Send(Protocol):
    """What a handler gets to send with."""

    @property
    def link(self) -> int:
        """The number of the link that this was made for."""
        ...

    @property
    def handover(self) -> bool:
        """Whether that link took over from one that was still open."""
        ...

    def __call__(self, message: Sendable, /) -> Awaitable[None]:
        """Write a message at once; await the result to be slowed down to the far side's pace.

        Raises:
            NotConnected: If no link is open.
            MessageTooBig: If the message is over `send_size_limit`.
            SendBufferFull: If it would take the write buffer over `send_buffer_limit`.
            TypeError: If it is neither a str nor bytes-like.
            UnicodeEncodeError: If it is a str with a lone surrogate, which UTF-8 has no bytes
                for (RFC 6455, 5.6).
            RuntimeError: From another thread than the event loop's.
        """
        ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the session with a close frame."""
        ...


@runtime_checkable
class Handler(Protocol):
    """What the agent does with a connection.  Each method may be `def` or `async def`.

    Two more are looked for and may be left out: `on_handover(send)`, called in
    place of `on_connect` when a link takes over from an open one, and
    `on_token_refresh(token, send)`, which renews the token on the live link.
    """

    def on_connect(self, send: Send, /) -> Awaitable[None] | None:
        """A new link is open.  Runs again for each link, and replaces what it started."""

    def on_message(self, message: Message, /) -> Awaitable[None] | None:
        """A message arrived: `str` for a text frame, `bytes` for a binary one."""

    def on_disconnect(self, error: Exception | None, /) -> Awaitable[None] | None:
        """The last open link is gone; `error` is None when we closed it."""


@runtime_checkable
class TokenSource(Protocol):
    """Where tokens come from, in its simplest form: each call has one issued.

    Caching, timing, single flight and retries are the bridge's.  Five attributes
    are looked for and may be left out, on a `TokenProvider` as well:

    * `per_connection`: False if every connection gets the same token, which is then
      asked for once.  Default True.
    * `always_read`: True if asking is so cheap that each dial does, as for a file
      that somebody else replaces.  Default False: a token is used until it is due.
    * `longest_wait`: seconds that a session waits for an answer.  Default 180.
    * `async credentials_mark(connection_id) -> bytes | None`: tells the credentials that
      tokens are asked with from others, without telling them.  A failure that leaves
      no hope is not tried again as long as this stays the same.  Default None:
      it is not tried again for 30 s.
    * `claims_challenged(connection_id, claims)`: called with what a far side wants the
      next token to be issued with, as JSON (a claims challenge).  Default: not told.
    """

    async def get_token(self, connection_id: str, /) -> Token:
        """Return a token: a new one, unless the source knows that it need not."""
        ...


@runtime_checkable
class TokenProvider(Protocol):
    """A source that knows which token is current, and has another one issued when asked.

    Where it may have none yet, `async current_token(connection_id) -> Token | None` is
    read instead of `get_token`, which then may issue the first one.
    """

    async def get_token(self, connection_id: str, /) -> Token:
        """Return the current token, which may be about to expire."""
        ...

    async def refresh_connection(self, connection_id: str, /) -> Token:
        """Have a new token issued, and return it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a link accepts.

    Attributes:
        message_size: Bytes of one message over all its fragments; default 1 MiB.
        fragments: Frames of one message; default 4096.
    """

    message_size: int = 2**20
    fragments: int = 4096


class LinkListener(Protocol):
    """What a dialer tells about a link.  All calls are synchronous, on the loop's thread."""

    def on_message(self, message: Message, /) -> None:
        """A whole message arrived, and `Link.deliver_to` was not called."""

    def on_result(self, result: object, /) -> None:
        """What took a message returned something else than None."""

    def on_deliver_failed(self, error: BaseException, /) -> None:
        """What took a message raised, a `CancelledError` perhaps; the link goes on."""

    def on_pong(self, payload: bytes, /) -> None:
        """A PONG arrived."""

    def on_pause_writing(self) -> None:
        """The write buffer went over its high-water mark."""

    def on_resume_writing(self) -> None:
        """The write buffer went below its low-water mark."""

    def on_going_away(self, error: ConnectionClosed, /) -> None:
        """The far side announced, with a CLOSE of 1001 or 1012, that it goes away.

        The engine has not answered yet: it answers once `Link.close` is called,
        or the link ends.  `Link.send` raises NotConnected meanwhile, `Link.ping`
        writes nothing, and nothing more is delivered.  RFC 6455, 5.5.1 asks for the
        answer "as soon as practical", so whoever is told bounds the delay.

        Called at most once, and not before `Dialer.dial` has returned.  It need not
        be called: an engine may answer at once, and then `on_closed` is all that is told.
        """

    def on_closed(self, error: ConnectionClosed, /) -> None:
        """The link ended.  Called exactly once, and nothing is called after it."""


class WireBytes(NamedTuple):
    """What a link's TCP connection has carried since it began, its handshakes included.

    Attributes:
        received: Bytes that arrived.
        sent: Bytes that the far side's kernel has taken.
    """

    received: int
    sent: int


class Link(Protocol):
    """One open WebSocket.

    Three more are looked for and may be left out.

    `wire_bytes() -> WireBytes | None`, which another thread may ask as well, and None is for a
    platform that does not know.  It is asked for the last time in `LinkListener.on_closed`.

    `deliver_reads_to(take, /)` is `deliver_to` for a link that knows where a read from its
    socket ends.  At that end, and before the link does or tells anything else that came in the
    read, it calls `take` with an iterator of the whole messages that have come.  So what many
    small ones have in common is done once for all of them.  `deliver_to` may be called before
    `take` returns: then it empties the iterator, and once `take` has returned or raised, what
    was left goes where `deliver_to` says.  What `take` raises goes to
    `LinkListener.on_deliver_failed`.  Call `take` from a callback of the loop rather than from
    a task: while a task runs, it calls `deliver_to` and leaves everything.

    `write(opcode, message, /)` is `send` for a str, with opcode 1, and for bytes, with opcode 2
    (RFC 6455, 11.8); it raises `RuntimeError` from another thread than the event loop's.  It is
    looked up for each message, so a link may replace it by something that refuses.
    """

    @property
    def received(self) -> int:
        """How many whole messages arrived."""
        ...

    @property
    def buffered(self) -> int:
        """How many bytes wait to be written."""
        ...

    @property
    def unacknowledged(self) -> int | None:
        """How many written bytes the far side's kernel has not taken; None where unknown."""
        ...

    def deliver_to(self, take: Callable[[Message], Any], /) -> None:
        """Call this with each whole message from now on, in place of the listener.

        Messages go straight to whoever takes them, so that nothing stands in
        between; what `take` raises goes to `LinkListener.on_deliver_failed`.
        """

    def idle_for(self) -> float:
        """Seconds since any data arrived, in the middle of a message included."""
        ...

    def send(self, message: Sendable, /) -> None:
        """Write a message.

        Raises:
            NotConnected: After `close`, `abort`, the far side's CLOSE or the end.
        """
        ...

    def ping(self, payload: bytes, /) -> None:
        """Write a PING of up to 125 bytes."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Write a CLOSE; the link ends when the far side answers it.  Idempotent.

        Data frames are delivered until then.  Nothing limits the wait: `abort` does.
        After `LinkListener.on_going_away` this answers, with the code that the far side
        sent, and the link ends once that is written (RFC 6455, 5.5.1).
        """

    def abort(self) -> None:
        """End the link at once, whatever waits to be written.  Idempotent.

        After `LinkListener.on_going_away`, `on_closed` tells the far side's code all the same.
        """

    def pause_reading(self) -> None:
        """Stop reading from the socket.  Idempotent."""

    def resume_reading(self) -> None:
        """Go on reading.  Idempotent."""


class Dialer(Protocol):
    """Opens links on one engine."""

    async def dial(self, handshake: Handshake, listener: LinkListener, limits: Limits) -> Link:
        """Open a link, within the dialer's own time limit.

        Raises:
            HandshakeError: If the link did not open.
            PermanentError: If trying again can't help, whatever the verdict tables say.
        """
        ...


class Logger(Protocol):
    """A structured logger: an event name and fields.

    Two more are looked for and may be left out: `warning`, called like `error` with what
    the bridge deals with itself, and `debug`, called like `info`.
    """

    def info(self, msg: str, /, **fields: Any) -> None:
        """Log that the bridge did its work."""

    def error(self, msg: str, /, *, error: BaseException | None, **fields: Any) -> None:
        """Log what somebody should look at."""


class Metrics(Protocol):
    """The four figures of the specification.  A hand-over touches none of them."""

    def inc_connections(self) -> None:
        """A gap ended: a link is open where none was."""

    def inc_disconnects(self) -> None:
        """A gap began: the last open link was lost."""

    def inc_token_refreshes(self) -> None:
        """A token refresh cycle began."""

    def set_connection_status(self, status: float, /) -> None:
        """Open sessions divided by running sessions: 1 and 0 with one session."""
