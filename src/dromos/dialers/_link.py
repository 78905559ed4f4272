"""One open WebSocket on picows: its `WSListener`, and the bridge's `Link`."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from dromos.dialers import _kernel
from dromos.dialers._engine import EngineLog, retrieve
from dromos.dialers._frames import Assembly, Violation, check_close_code, parse_close, shortened
from dromos.errors import ConnectionClosed, NotConnected
from dromos.interfaces import Limits, LinkListener, Sendable
from dromos.model import Message

__all__ = ["PicowsLink"]

LINGER: Final = 1.0
"""Seconds that the far side has to take what is still to be written, our CLOSE included."""

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_PING: Final = WSMsgType.PING
_PONG: Final = WSMsgType.PONG
_CLOSE: Final = WSMsgType.CLOSE


def _refuse(*_: object) -> None:
    """Take the place of `WSTransport.send`, which then does nothing and does not say so."""
    raise NotConnected


class PicowsLink(WSListener):
    """A link on picows.  `PicowsDialer.dial` makes it.

    picows calls its `on_ws_*` methods; `interfaces.Link` describes the others.
    What it reports as the end, in `on_closed`:

    | what happened | code | by_peer |
    |---|---|---|
    | the far side's CLOSE came first | its code; 1005 if it held none | True |
    | our `close` was answered | the code we sent | False |
    | our `close` was not answered before the TCP connection ended | 1006 | False |
    | the TCP connection ended without any CLOSE | 1006 | True |
    | `abort` | 1006 | False |
    | the far side broke the protocol or a limit | 1002, 1007 or 1009 | False |
    """

    __slots__ = (
        "_assembly",
        "_deaf",
        "_deliver",
        "_end",
        "_frames",
        "_in_messages",
        "_last_ping",
        "_limits",
        "_linger",
        "_listener",
        "_log",
        "_loop",
        "_opened",
        "_over",
        "_paused",
        "_sampled",
        "_sent_close",
        "_socket",
        "_transport",
        "_wire",
        "_write",
        "_writing_paused",
        "received",
    )

    received: int

    def __init__(self, listener: LinkListener, limits: Limits, log: EngineLog) -> None:
        self._deliver: Callable[[Message], Any] = listener.on_message
        self.received = 0
        self._listener = listener
        self._limits = limits
        self._log = log
        self._loop = asyncio.get_running_loop()
        # True while a frame may be a whole message: nothing is half assembled,
        # and we still listen.  The only state that the hot path looks at.
        self._in_messages = True
        self._assembly: Assembly | None = None
        self._frames = 0
        self._deaf = False
        self._end: tuple[int, str, bool] | None = None
        self._sent_close: tuple[int, str] | None = None
        self._opened = False
        self._over: ConnectionClosed | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._paused = False
        self._writing_paused = False
        self._last_ping: bytes | None = None
        self._sampled = (0, self._loop.time())
        log.gave_up = self.engine_failed

    # What picows calls

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the transport."""
        self._transport = transport
        self._write: Callable[..., Any] = transport.send
        self._wire = transport.underlying_transport
        self._socket: _kernel.SocketLike = self._wire.get_extra_info("socket")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Deliver a whole message; leave everything else to `_on_rare_frame`.

        This runs for every message: no clock, no allocation but the message.
        """
        if frame.fin and self._in_messages and not (frame.rsv1 or frame.rsv2 or frame.rsv3):
            kind = frame.msg_type
            if kind is _TEXT:
                try:
                    message: Message = frame.get_payload_as_utf8_text()
                except UnicodeDecodeError:
                    self._fail(1007, "text is not UTF-8")
                    return
            elif kind is _BINARY:
                message = frame.get_payload_as_bytes()
            else:
                self._on_rare_frame(frame)
                return
            self.received += 1
            try:
                self._deliver(message)
            except Exception as error:
                self._tell(self._listener.on_deliver_failed, error)
        else:
            self._on_rare_frame(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Report the end, once; after `dial` has returned if that is still to come."""
        if self._linger is not None:
            self._linger.cancel()
        code, reason, by_peer = self._end or self._unexplained_end()
        self._stop_listening()
        self._write = _refuse
        self._log.gave_up = None
        self._loop.call_soon(retrieve, transport)
        self._over = ConnectionClosed(code=code, reason=reason, by_peer=by_peer)
        if self._opened:
            self._tell(self._listener.on_closed, self._over)

    def pause_writing(self) -> None:
        """Pass on that the write buffer is over its high-water mark."""
        self._writing_paused = True
        self._tell(self._listener.on_pause_writing)

    def resume_writing(self) -> None:
        """Pass on that the write buffer is below its low-water mark."""
        self._writing_paused = False
        if self._last_ping is not None:
            payload, self._last_ping = self._last_ping, None
            self._control(_PONG, payload)
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

    def deliver_to(self, take: Callable[[Message], Any], /) -> None:
        """Call this with each whole message from now on, in place of the listener."""
        self._deliver = take

    def idle_for(self) -> float:
        """Seconds since any data arrived, in the middle of a message included.

        Exact on Linux, where the kernel tells.  Elsewhere it counts from the last
        call that found new frames, so it may be too short by the time between
        two calls, and knows nothing of half a frame.
        """
        idle = _kernel.idle_seconds(self._socket)
        if idle is not None:
            return idle
        now, seen = self._loop.time(), self.received + self._frames
        if seen != self._sampled[0]:
            self._sampled = (seen, now)
        return now - self._sampled[1]

    def send(self, message: Sendable, /) -> None:
        """Write a message.

        Raises:
            NotConnected: After `close`, `abort`, the far side's CLOSE or the end.
            TypeError: If the message is neither a str nor bytes-like.
        """
        if type(message) is str or isinstance(message, str):
            self._write(_TEXT, message)
        elif message is None:  # pyright: ignore[reportUnnecessaryComparison]  # picows sends it empty
            raise TypeError("message must be str or bytes-like, not None")
        else:
            self._write(_BINARY, message)

    def ping(self, payload: bytes, /) -> None:
        """Write a PING of up to 125 bytes; nothing where `send` would raise `NotConnected`.

        Raises:
            ValueError: If the payload is longer (RFC 6455, 5.5).
        """
        if len(payload) > 125:
            raise ValueError(f"payload must be at most 125 bytes, not {len(payload)}")
        self._control(_PING, payload)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Write a CLOSE; the link ends when the far side answers it.  Idempotent.

        Data frames are delivered until then.  Nothing limits the wait: `abort` does.

        Args:
            code: Any code that may be sent (RFC 6455, 7.4). Default 1000.
            reason: Cut to 123 bytes of UTF-8.

        Raises:
            ValueError: If `code` must not be sent.
        """
        check_close_code(code)
        if self._sent_close is None and self._end is None and self._over is None:
            reason = shortened(reason)
            self._write = _refuse
            self._send_close(code, reason)
            self._sent_close = code, reason

    def abort(self) -> None:
        """End the link at once, whatever waits to be written.  Idempotent."""
        if self._over is None:
            self._end = self._end or (1006, "aborted", False)
            self._stop_listening()
            self._write = _refuse
            self._transport.disconnect(graceful=False)

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

    # What only this file calls

    def engine_failed(self) -> None:
        """Read nothing more: picows' parser gave up, and may take garbage for frames.

        It looks one frame ahead, so the frame before the bad one may be still to come.
        """
        if self._over is None and self._linger is None:
            self.pause_reading()
            self._paused = False  # so that nothing resumes
            self._write = _refuse
            # picows sends its CLOSE only after this line of its log.
            self._loop.call_soon(self._disconnect)

    def _on_rare_frame(self, frame: WSFrame) -> None:
        """Take a control frame, a fragment, or a frame that breaks a rule."""
        self._frames += 1
        if self._deaf:
            return
        try:
            self._take(frame)
        except Violation as violation:
            self._fail(violation.code, violation.reason)

    def _take(self, frame: WSFrame) -> None:
        kind, payload = frame.msg_type, frame.get_payload_as_bytes()
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            # RFC 6455, 5.2: no extension was agreed on that gives them a meaning.
            raise Violation(1002, "reserved bits are set")
        if kind is _PING:
            self._answer(payload)
        elif kind is _PONG:
            self._tell(self._listener.on_pong, payload)
        elif kind is _CLOSE:
            self._on_close(*parse_close(payload))
        else:
            self._assemble(kind, payload, final=bool(frame.fin))

    def _assemble(self, kind: WSMsgType, payload: bytes, *, final: bool) -> None:
        # RFC 6455, 5.4: fragments of two messages don't mix.
        if kind is _TEXT or kind is _BINARY:
            if self._assembly is not None:
                raise Violation(1002, "a message begins inside another")
            self._assembly = Assembly(self._limits, text=kind is _TEXT)
            self._in_messages = False
        elif self._assembly is None:
            raise Violation(1002, "a continuation of nothing")
        message = self._assembly.add(payload, final=final)
        if message is None:
            return
        self._assembly = None
        self._in_messages = True
        self.received += 1
        try:
            self._deliver(message)
        except Exception as error:
            self._tell(self._listener.on_deliver_failed, error)

    def _answer(self, payload: bytes) -> None:
        # RFC 6455, 5.5.3: of several pings the last may be answered alone.  A peer that
        # pings and does not read must not fill our memory with answers.
        if self._writing_paused:
            self._last_ping = payload
        else:
            self._control(_PONG, payload)

    def _control(self, kind: WSMsgType, payload: bytes) -> None:
        if self._write is not _refuse:
            self._write(kind, payload)

    def _on_close(self, code: int, reason: str) -> None:
        if self._sent_close is not None:
            self._end = (*self._sent_close, False)
        else:
            self._end = code, reason, True
            # RFC 6455, 5.5.1: an answer echoes the code.  picows can't send an empty
            # CLOSE, and 1000 says the same.
            self._send_close(1000 if code == 1005 else code, "")
        self._stop_listening()
        self._disconnect()

    def _fail(self, code: int, reason: str) -> None:
        """Fail the link (RFC 6455, 7.1.7): nothing is delivered from here on."""
        self._end = code, reason, False
        self._stop_listening()
        self._send_close(code, reason)
        self._disconnect()

    def _send_close(self, code: int, reason: str) -> None:
        # picows sends one CLOSE at most, and nothing after it.
        self._transport.send_close(code, shortened(reason).encode())  # type: ignore[arg-type]

    def _stop_listening(self) -> None:
        self._deaf = True
        self._in_messages = False
        self._assembly = None

    def _disconnect(self) -> None:
        """End the TCP connection, as soon as everything is written.

        RFC 6455, 7.1.1 would rather have the server close first, and allows this: waiting
        would leave the driver with a link that looks open and takes messages for nothing.
        """
        if self._linger is None and self._over is None:
            self._write = _refuse
            self._transport.disconnect()  # with TLS it says goodbye
            written = self._wire.get_write_buffer_size() == 0
            self._linger = self._loop.call_later(
                0 if written else LINGER, self._transport.disconnect, False
            )

    def _unexplained_end(self) -> tuple[int, str, bool]:
        if self._sent_close is not None:
            return 1006, "no answer to our CLOSE", False
        handshake: Any = self._transport.close_handshake  # its stub omits the None
        if handshake is not None and handshake.sent is not None:
            # picows' parser found an error.
            return int(handshake.sent.code), str(handshake.sent.reason), False
        return 1006, _kernel.ending(self._socket), True

    def _tell(self, method: Callable[..., None], *args: object) -> None:
        """Call the listener; picows would swallow what it raises."""
        try:
            method(*args)
        except Exception as error:
            with suppress(Exception):
                self._loop.call_exception_handler(
                    {"message": "a link listener raised", "exception": error}
                )
