"""One open WebSocket on picows: its `WSListener`, and the bridge's `Link`."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

from picows import WSFrame, WSMsgType, WSTransport

from dromos.dialers import _kernel
from dromos.dialers._batch import Batch
from dromos.dialers._choice import Listener
from dromos.dialers._conduct import SLOTS, Conduct, refuse
from dromos.dialers._engine import EngineLog, retrieve
from dromos.dialers._frames import Violation, shortened
from dromos.dialers._reads import LEAST, Reads
from dromos.interfaces import Limits, LinkListener, Sendable
from dromos.model import Message

__all__ = ["PicowsLink"]

LINGER: Final = 1.0
"""Seconds that the far side has to take what is still to be written, our CLOSE included."""

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY


class PicowsLink(Conduct, Listener):
    """A link on picows.  `PicowsDialer.dial` makes it.

    picows calls its `on_ws_*` methods, of which `_listener.py` has the one for frames;
    `interfaces.Link` describes the others.
    `Conduct` says what it reports as the end.
    """

    __slots__ = (*SLOTS, "_batch", "_frames", "_log", "_reads", "_sampled", "_transport", "write")

    write: Callable[..., Any]

    def __init__(
        self,
        listener: LinkListener,
        limits: Limits,
        log: EngineLog,
        clean: Callable[[str], str],
    ) -> None:
        self._begin(listener, limits, clean)
        self._log = log
        self._frames = 0
        self._batch: Batch | None = None
        self._reads: Reads | None = None
        self._sampled = (0, self._loop.time())
        log.gave_up = self.engine_failed

    # What picows calls

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the transport."""
        self._transport = transport
        self._write = self.write = transport.send
        self._wire = transport.underlying_transport
        self._socket = self._wire.get_extra_info("socket")
        # picows keeps both for as long as the link; nobody asks, and one holds the credentials.
        del transport.request.headers, transport.response.headers

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Report the end, once; after `dial` has returned if that is still to come."""
        self._flush()  # what an exception like `SystemExit` has left in the middle of a read
        self._report_end()
        self._reads = None  # which knows us: we need not wait for the garbage collector
        self._log.gave_up = None
        self._loop.call_soon(retrieve, transport)

    # What the driver calls

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
            try:
                self._write(_BINARY, message)
            except BufferError:  # a view with gaps, of which picows takes no bytes
                self._write(_BINARY, bytes(message))

    def deliver_to(self, take: Callable[[Message], Any], /) -> None:
        """Call this with each whole message from now on, in place of the listener."""
        super().deliver_to(take)
        if self._batch is not None:
            self._batch.cut()

    def deliver_reads_to(self, take: Callable[[Iterator[Message]], None], /) -> None:
        """Call this with all that a read brings together: see `interfaces.Link`."""
        if self._batch is None:
            self._batch = Batch(take)
            self._intercept().after = self._flush
        self._batch.take, self._deliver = take, self._batch.add

    def pause_reading(self) -> None:
        """Stop reading from the socket, and begin with small portions again.  Idempotent."""
        if self._over is None:
            self._intercept().portion = LEAST
        super().pause_reading()

    def resume_reading(self) -> None:
        """Go on reading, with what was decrypted or received before the pause.  Idempotent."""
        was_paused = self._paused
        super().resume_reading()
        if was_paused and self._transport.is_secure and not self._paused:
            self._loop.call_soon(self._read_the_rest)

    def abort(self) -> None:
        """End the link at once, whatever waits to be written.  Idempotent."""
        if self._over is None:
            self._end = self._end or (1006, "aborted", False)
            self._stop_listening()
            self._write_no_more()
            self._transport.disconnect(graceful=False)

    # What only this file calls

    def engine_failed(self) -> None:
        """Read nothing more: picows' parser gave up, and may take garbage for frames.

        It looks one frame ahead, so the frame before the bad one may be still to come.
        """
        self._flush()
        if self._unanswered:
            # One CLOSE is all that is ever written: the answer, and not picows' complaint.
            self._answer_close()
        elif self._over is None and self._linger is None:
            super().pause_reading()
            self._paused = False  # so that nothing resumes
            self._write_no_more()
            # picows sends its CLOSE only after this line of its log.
            self._loop.call_soon(self._disconnect)

    def _write_no_more(self) -> None:
        self._write = self.write = refuse

    def _flush(self) -> None:
        if self._batch is not None:
            try:
                self._batch.flush(self._hand_over)
            except (Exception, asyncio.CancelledError) as error:
                self._tell(self._listener.on_deliver_failed, error)

    def _fail(self, code: int, reason: str) -> None:
        self._flush()
        if not self._deaf:  # whoever took what came before may have ended the link
            super()._fail(code, reason)

    def _intercept(self) -> Reads:
        """Stand between the transport and picows' protocol, from the next read on."""
        if self._reads is None:
            self._reads = Reads(self._wire.get_protocol(), lambda: self.received)
            self._wire.set_protocol(self._reads)
        return self._reads

    def _read_the_rest(self) -> None:
        """Take what TLS has kept since a pause.

        aiofastnet 1.2 stops in the middle of its buffer when it is paused, and looks at the
        rest only when the socket brings more: the end of a burst would wait for the next ping.
        """
        take = getattr(self._wire, "_do_read", None)
        if take is not None and not self._wire.is_closing():
            try:
                take()
            except Exception:
                self.abort()  # as TLS does where it fails by itself

    def _on_rare_frame(self, frame: WSFrame) -> None:
        """Take a control frame, a fragment, or a frame that breaks a rule."""
        self._frames += 1
        self._flush()
        if self._deaf:
            return
        try:
            self._examine(frame)
        except Violation as violation:
            self._fail(violation.code, violation.reason)

    def _examine(self, frame: WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            # RFC 6455, 5.2: no extension was agreed on that gives them a meaning.
            raise Violation(1002, "reserved bits are set")
        kind: Any = frame.msg_type  # an IntEnum, whatever its stub says
        self._take(kind, frame.get_payload_as_bytes(), final=bool(frame.fin))

    def _send_close(self, code: int, reason: str) -> None:
        # picows sends one CLOSE at most, and nothing after it.
        self._transport.send_close(code, shortened(reason).encode())  # type: ignore[arg-type]

    def _disconnect(self) -> None:
        """End the TCP connection, as soon as everything is written.

        RFC 6455, 7.1.1 would rather have the server close first, and allows this: waiting
        would leave the driver with a link that looks open and takes messages for nothing.
        """
        if self._linger is None and self._over is None:
            self._write_no_more()
            self._transport.disconnect()  # with TLS it says goodbye
            written = self._wire.get_write_buffer_size() == 0
            self._linger = self._loop.call_later(
                0 if written else LINGER, self._transport.disconnect, False
            )

    def _unexplained_end(self) -> tuple[int, str, bool]:
        handshake: Any = self._transport.close_handshake  # its stub omits the None
        if self._sent_close is None and handshake is not None and handshake.sent is not None:
            # picows' parser found an error.
            return int(handshake.sent.code), str(handshake.sent.reason), False
        return super()._unexplained_end()
