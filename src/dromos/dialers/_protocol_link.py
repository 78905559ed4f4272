"""One open WebSocket on `websockets`' frames: an `asyncio.Protocol`, and the bridge's `Link`."""

import asyncio
import ssl
from collections.abc import Callable, Generator, Sequence
from typing import Final, cast

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import Extension
from websockets.frames import Frame, Opcode

from dromos.dialers import _kernel
from dromos.dialers._conduct import BINARY, CLOSE, TEXT, Conduct
from dromos.dialers._frames import Violation, shortened
from dromos.interfaces import Limits, LinkListener, Sendable, WireBytes

__all__ = ["LINGER", "ProtocolLink"]

LINGER: Final = 1.0
"""Seconds that the far side has to take what is still to be written, our CLOSE included."""

_LONGEST_CONTROL: Final = 125  # RFC 6455, 5.5


class ProtocolLink(Conduct, asyncio.Protocol):
    """A link on `websockets`.  `WebsocketsDialer.dial` makes it.

    asyncio calls its `connection_*` methods, `data_received` and `eof_received`;
    `interfaces.Link` describes the others.  `Conduct` says what it reports as the end.

    Frames are taken one by one as they are read, and not all that one read
    holds: a small piece of compressed data may make a thousand times as much.
    """

    def __init__(
        self,
        listener: LinkListener,
        limits: Limits,
        sock: _kernel.SocketLike,
        extensions: Sequence[Extension],
        clean: Callable[[str], str],
    ) -> None:
        self._begin(listener, limits, clean)
        self._socket = sock
        self._extensions = extensions
        self._close_written = False
        self._heard = self._loop.time()
        self._carried: WireBytes | None = None
        self._unread = bytearray()
        self._parser = self._parse()
        next(self._parser)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports are no subclass of asyncio's.
        self._wire = cast("asyncio.Transport", transport)
        self._write = self._write_frame

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        self._heard = self._loop.time()
        if not self._deaf:
            self._unread += data
            next(self._parser)

    def eof_received(self) -> None:
        """End our side too, in bounded time: asyncio would wait for what is to be written."""
        self._disconnect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take what was read while reading was paused, and report the end."""
        self._paused = False
        if self._unread and not self._deaf:
            next(self._parser)
        self._report_end()

    # What the driver calls

    def idle_for(self) -> float:
        """Seconds since any data arrived, in the middle of a message included."""
        idle = _kernel.idle_seconds(self._socket)
        return self._loop.time() - self._heard if idle is None else idle

    def wire_bytes(self) -> WireBytes | None:
        """Return what the TCP connection has carried; None but on Linux.

        asyncio's TLS tells of the end when the socket is closed, so then it is what was known
        last: before we closed, or, where the far side just went, when somebody asked.
        """
        self._carried = super().wire_bytes() or self._carried
        return self._carried

    def send(self, message: Sendable, /) -> None:
        """Write a message.

        Raises:
            NotConnected: After `close`, `abort`, the far side's CLOSE or the end.
            TypeError: If the message is neither a str nor bytes-like.
        """
        if isinstance(message, str):
            self._write(TEXT, message.encode())
        elif isinstance(message, (bytes, bytearray)):
            self._write(BINARY, message)
        else:
            # A view of any shape; a frame counts its items, and not its bytes.
            self._write(BINARY, bytes(memoryview(message)))

    def abort(self) -> None:
        """End the link at once, whatever waits to be written.  Idempotent."""
        if self._over is None:
            self._end = self._end or (1006, "aborted", False)
            self._stop_listening()
            self._write_no_more()
            self.wire_bytes()
            self._wire.abort()

    def resume_reading(self) -> None:
        """Go on reading, first of what was read already.  Idempotent."""
        super().resume_reading()
        if self._unread:
            self._loop.call_soon(self._go_on)

    # What only this file calls

    def _parse(self) -> Generator[None, None, None]:
        """Take frames from `_unread`; yield when more data is needed."""
        while True:
            try:
                frame = yield from self._read_frame()
                self._on_frame(frame)
            except Violation as violation:
                self._fail(violation.code, violation.reason)
            except PayloadTooBig:
                self._fail(1009, f"message over {self._limits.message_size} bytes")
            except ProtocolError as error:
                self._fail(1002, str(error))
            while self._deaf:
                self._unread.clear()
                yield

    def _read_frame(self) -> Generator[None, None, Frame]:
        while self._paused:
            yield
        return (
            yield from Frame.parse(
                self._read_exactly,
                mask=False,
                max_size=self._room(),
                extensions=self._extensions,
            )
        )

    def _read_exactly(self, size: int) -> Generator[None, None, bytes]:
        while len(self._unread) < size:
            yield
        data = bytes(memoryview(self._unread)[:size])
        del self._unread[:size]
        return data

    def _room(self) -> int:
        """Return how long the next frame may be, on the wire and when decompressed.

        `_on_frame` and `Assembly` know the limit to the byte; this stops the parser
        from collecting much more.
        """
        room = self._limits.message_size
        if self._extensions:
            # What can't be compressed grows by up to an eighth (zlib's compressBound).
            room += room // 8 + 128
        if self._assembly is not None:
            room -= self._assembly.size
        # A control frame between two fragments is no part of the message.  And never 0,
        # which zlib takes for no limit at all.
        return max(room, _LONGEST_CONTROL)

    def _on_frame(self, frame: Frame) -> None:
        kind, payload = frame.opcode, bytes(frame.data)
        if not (self._in_messages and frame.fin and kind in (TEXT, BINARY)):
            self._take(kind, payload, final=frame.fin)
            return
        if len(payload) > self._limits.message_size:
            raise Violation(1009, f"message over {self._limits.message_size} bytes")
        if kind == BINARY:
            self._deliver_whole(payload)
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            raise Violation(1007, "text is not UTF-8") from None
        self._deliver_whole(text)

    def _go_on(self) -> None:
        if self._over is None:
            next(self._parser)

    def _write_frame(self, kind: int, payload: bytes | bytearray) -> None:
        frame = Frame(Opcode(kind), payload)
        self._wire.write(frame.serialize(mask=True, extensions=self._extensions))

    def _send_close(self, code: int, reason: str) -> None:
        if not self._close_written and not self._wire.is_closing():
            self._close_written = True
            self._write_frame(CLOSE, code.to_bytes(2, "big") + shortened(reason).encode())

    def _is_encrypted(self) -> bool:
        try:
            found: ssl.SSLObject | None = self._wire.get_extra_info("ssl_object")
        except AttributeError:  # asyncio's transport, once the far side has closed TLS
            return True
        return found is not None

    def _disconnect(self) -> None:
        """End the TCP connection, as soon as everything is written.

        As with picows, we do not wait for the server to do so.  TLS does not tell
        how much its own transport still has to write, so there the far side has
        `LINGER` to say goodbye.
        """
        if self._linger is None and self._over is None:
            self._write_no_more()
            # Asked first: a TLS transport that is closed knows of nothing any more.
            encrypted = self._is_encrypted()
            self.wire_bytes()
            self._wire.close()
            written = not encrypted and self._wire.get_write_buffer_size() == 0
            self._linger = self._loop.call_later(0 if written else LINGER, self._wire.abort)
