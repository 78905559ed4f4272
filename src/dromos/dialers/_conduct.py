"""What every engine's link does alike once its frames are read: answer, assemble, end."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from dromos.dialers import _kernel
from dromos.dialers._frames import (
    GOING_AWAY,
    Assembly,
    Violation,
    check_close_code,
    met,
    parse_close,
    shortened,
)
from dromos.errors import ConnectionClosed, NotConnected
from dromos.interfaces import Limits, LinkListener, WireBytes
from dromos.model import Message

__all__ = ["BINARY", "CLOSE", "PING", "PONG", "SLOTS", "TEXT", "Conduct", "refuse"]

# RFC 6455, 11.8: opcodes.
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

SLOTS: Final = (
    "_assembly",
    "_clean",
    "_deaf",
    "_end",
    "_last_ping",
    "_limits",
    "_linger",
    "_loop",
    "_opened",
    "_over",
    "_paused",
    "_sent_close",
    "_socket",
    "_unanswered",
    "_wire",
    "_write",
    "_writing_paused",
)
"""What a link has room for beside a listener's fields.

`Conduct` itself has none, so that it mixes with any class.
"""


def refuse(*_: object) -> NoReturn:
    """Take the place of what writes, once nothing may be written."""
    raise NotConnected


class Conduct(ABC):
    """A link but for its engine: `send`, `abort`, `idle_for`, `_send_close`, `_disconnect`.

    What it reports as the end, in `on_closed`:

    | what happened | code | by_peer |
    |---|---|---|
    | the far side's CLOSE came first | its code; 1005 if it held none | True |
    | our `close` was answered: with the code we sent, or with none | the code we sent | False |
    | a CLOSE with another code crossed ours | its code | True |
    | our `close` was not answered before the TCP connection ended | 1006 | False |
    | the TCP connection ended without any CLOSE | 1006 | True |
    | `abort` | 1006 | False |
    | the far side broke the protocol or a limit | 1002, 1007 or 1009 | False |

    A CLOSE of 1001 or 1012 that comes first is told with `on_going_away`, and answered
    by `close`.  However the link ends then, `abort` included, that CLOSE is why.
    """

    __slots__ = tuple[str, ...]()  # not (), from which mypy would forbid every attribute

    received: int
    _assembly: Assembly | None
    _clean: Callable[[str], str]
    _deaf: bool
    _deliver: Callable[[Message], Any]
    _end: tuple[int, str, bool] | None
    _in_messages: bool
    _last_ping: bytes | None
    _limits: Limits
    _linger: asyncio.TimerHandle | None
    _listener: LinkListener
    _loop: asyncio.AbstractEventLoop
    _opened: bool
    _over: ConnectionClosed | None
    _paused: bool
    _sent_close: tuple[int, str] | None
    _socket: _kernel.SocketLike
    _unanswered: bool
    _wire: asyncio.Transport
    _write: Callable[..., Any]
    _writing_paused: bool

    def _begin(self, listener: LinkListener, limits: Limits, clean: Callable[[str], str]) -> None:
        self._listener = listener
        self._deliver = listener.on_message
        self._clean = clean
        self.received = 0
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        # True while a frame may be a whole message: nothing is half assembled,
        # and we still listen.  The only state that the hot path looks at.
        self._in_messages = True
        self._assembly = None
        self._deaf = False
        self._end = None
        self._sent_close = None
        self._unanswered = False
        self._opened = False
        self._over = None
        self._linger = None
        self._paused = False
        self._writing_paused = False
        self._last_ping = None

    # What the engine calls

    def pause_writing(self) -> None:
        """Pass on that the write buffer is over its high-water mark."""
        self._writing_paused = True
        self._tell(self._listener.on_pause_writing)

    def resume_writing(self) -> None:
        """Pass on that the write buffer is below its low-water mark."""
        self._writing_paused = False
        if self._last_ping is not None:
            payload, self._last_ping = self._last_ping, None
            self._control(PONG, payload)
        self._tell(self._listener.on_resume_writing)

    # What the driver calls

    @property
    def buffered(self) -> int:
        """How many bytes wait to be written."""
        return int(self._wire.get_write_buffer_size())

    @property
    def unacknowledged(self) -> int | None:
        """How many written bytes the far side's kernel has not taken; None but on Linux."""
        return None if self._over is not None else _kernel.unacknowledged(self._socket)

    def wire_bytes(self) -> WireBytes | None:
        """Return what the TCP connection has carried; None but on Linux, and after the end."""
        return _kernel.wire_bytes(self._socket)

    def deliver_to(self, take: Callable[[Message], Any], /) -> None:
        """Call this with each whole message from now on, in place of the listener."""
        self._deliver = take

    def ping(self, payload: bytes, /) -> None:
        """Write a PING of up to 125 bytes; nothing where `send` would raise `NotConnected`.

        Raises:
            ValueError: If the payload is longer (RFC 6455, 5.5).
        """
        if len(payload) > 125:
            raise ValueError(f"payload must be at most 125 bytes, not {len(payload)}")
        self._control(PING, payload)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Write a CLOSE; the link ends when the far side answers it.  Idempotent.

        Data frames are delivered until then.  Nothing limits the wait: `abort` does.
        After `on_going_away` it answers with the far side's code, and waits for nothing.

        Args:
            code: Any code that may be sent (RFC 6455, 7.4). Default 1000.
            reason: Cut to 123 bytes of UTF-8.

        Raises:
            ValueError: If `code` must not be sent.
        """
        check_close_code(code)
        if self._unanswered:
            self._answer_close()
        elif self._sent_close is None and self._end is None and self._over is None:
            reason = shortened(reason)
            self._write_no_more()
            self._send_close(code, reason)
            self._sent_close = code, reason

    def pause_reading(self) -> None:
        """Stop reading from the socket.  Idempotent.

        Now only writing shows whether the far side lives, so the kernel gives up on
        it after 40 s without any acknowledgement (TCP_USER_TIMEOUT, on Linux).
        """
        if not self._paused and self._over is None:
            self._paused = True
            _kernel.set_user_timeout(self._socket, _kernel.USER_TIMEOUT)
            self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading.  Idempotent."""
        if self._paused and self._over is None:
            self._paused = False
            _kernel.set_user_timeout(self._socket, 0)
            self._wire.resume_reading()

    # What the dialer calls

    def opened(self) -> None:
        """Start reporting the end: `dial` returns this link now."""
        self._opened = True
        if self._over is not None:
            self._loop.call_soon(self._tell, self._listener.on_closed, self._over)

    # What the link calls

    @abstractmethod
    def _send_close(self, code: int, reason: str) -> None:
        """Write a CLOSE, unless one was written."""

    @abstractmethod
    def _disconnect(self) -> None:
        """End the TCP connection, as soon as everything is written."""

    def _take(self, kind: int, payload: bytes, *, final: bool) -> None:
        if kind == PING:
            self._answer(payload)
        elif kind == PONG:
            self._tell(self._listener.on_pong, payload)
        elif kind == CLOSE:
            self._on_close(*parse_close(payload))
        else:
            self._assemble(kind, payload, final=final)

    def _assemble(self, kind: int, payload: bytes, *, final: bool) -> None:
        # RFC 6455, 5.4: fragments of two messages don't mix.
        if kind in (TEXT, BINARY):
            if self._assembly is not None:
                raise Violation(1002, "a message begins inside another")
            self._assembly = Assembly(self._limits, text=kind == TEXT)
            self._in_messages = False
        elif self._assembly is None:
            raise Violation(1002, "a continuation of nothing")
        message = self._assembly.add(payload, final=final)
        if message is None:
            return
        self._assembly = None
        self._in_messages = True
        self._deliver_whole(message)

    def _write_no_more(self) -> None:
        self._write = refuse

    def _answer(self, payload: bytes) -> None:
        # RFC 6455, 5.5.3: of several pings the last may be answered alone.  A peer that
        # pings and does not read must not fill our memory with answers.
        if self._writing_paused:
            self._last_ping = payload
        else:
            self._control(PONG, payload)

    def _control(self, kind: int, payload: bytes) -> None:
        if self._write is not refuse:
            self._write(kind, payload)

    def _on_close(self, code: int, reason: str) -> None:
        # A far side may repeat in it what we sent.
        reason = self._clean(reason)
        if self._sent_close is not None:
            self._end = met(self._sent_close, code, reason)
            self._stop_listening()
            self._disconnect()
            return
        self._end = code, reason, True
        # An engine whose parser gave up writes nothing any more.
        may_wait = self._opened and self._write is not refuse and not self._wire.is_closing()
        if code in GOING_AWAY and may_wait:
            self._go_away(code, reason)
        else:
            self._answer_close()

    def _go_away(self, code: int, reason: str) -> None:
        """Leave the CLOSE unanswered (RFC 6455, 5.5.1: as soon as practical), and tell."""
        self._stop_listening()
        self._write_no_more()
        self._unanswered = True
        error = ConnectionClosed(code=code, reason=reason, by_peer=True)
        self._tell(self._listener.on_going_away, error)

    def _answer_close(self) -> None:
        """Echo the far side's CLOSE (RFC 6455, 5.5.1), and end the link."""
        assert self._end is not None
        code, _, _ = self._end
        self._stop_listening()
        # picows has no empty CLOSE.
        self._send_close(1000 if code == 1005 else code, "")
        self._disconnect()

    def _fail(self, code: int, reason: str) -> None:
        """Fail the link (RFC 6455, 7.1.7): nothing is delivered from here on."""
        self._end = code, reason, False
        self._stop_listening()
        self._send_close(code, reason)
        self._disconnect()

    def _stop_listening(self) -> None:
        self._deaf = True
        self._in_messages = False
        self._assembly = None
        self._unanswered = False

    def _deliver_whole(self, message: Message) -> None:
        self.received += 1
        self._hand_over(message)

    def _hand_over(self, message: Message) -> None:
        try:
            result = self._deliver(message)
        except (Exception, asyncio.CancelledError) as error:
            self._tell(self._listener.on_deliver_failed, error)
        else:
            if result is not None:
                self._tell(self._listener.on_result, result)

    def _report_end(self) -> None:
        """Report the end, once; after `dial` has returned if that is still to come."""
        if self._linger is not None:
            self._linger.cancel()
        code, reason, by_peer = self._end or self._unexplained_end()
        self._stop_listening()
        self._write_no_more()
        self._over = ConnectionClosed(code=code, reason=reason, by_peer=by_peer)
        if self._opened:
            self._tell(self._listener.on_closed, self._over)

    def _unexplained_end(self) -> tuple[int, str, bool]:
        if self._sent_close is not None:
            return 1006, "no answer to our CLOSE", False
        return 1006, _kernel.ending(self._socket), True

    def _tell(self, method: Callable[..., None], *args: object) -> None:
        """Call the listener; what it raises must not reach the engine."""
        try:
            method(*args)
        except Exception as error:
            with suppress(Exception):
                self._loop.call_exception_handler(
                    {"message": "a link listener raised", "exception": error}
                )
