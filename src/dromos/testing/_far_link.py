"""One WebSocket as the far side sees it: a record of what came, and levers for what comes next."""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, Protocol

from dromos.model import Message
from dromos.testing._frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frames,
    Violation,
    encode,
)
from dromos.testing._loopback import (
    Headers,
    HttpConnection,
    Request,
    awaited_on_its_loop,
    on_its_loop,
    reset,
)

__all__ = ["FarLink"]


class Owner(Protocol):
    """What a link needs of its far side."""

    clock: Callable[[], float]
    answer_pings: bool
    answer_closes: bool
    close_timeout: float
    loop: asyncio.AbstractEventLoop | None
    thread: int | None

    def watch_expiry(self, link: "FarLink", /) -> None: ...

    def wait_for(
        self, predicate: Callable[[], object], timeout: float = ..., /
    ) -> Coroutine[Any, Any, None]: ...

    async def on_received(self, link: "FarLink", message: Message, /) -> None: ...

    def tell(self) -> None: ...


class FarLink:
    """One WebSocket as the far side sees it, live or ended.

    Attributes:
        number: Counts the links of this far side, from 1.
        request: The handshake.
        token: The bearer token that it was opened with, or None.
        expires_at: When the far side will close it, as Unix time; None never.
        subprotocol: What was agreed on, or None.
        received: The first 10,000 messages, in order; `received_count` counts all.
        received_count: How many messages came.
        pings: The payloads of the PINGs that came.
        pongs: The payloads of the PONGs that came.
        sent: How many messages were written.
        close_code: The code in the client's CLOSE; 1005 if it held none; None if no
            CLOSE came.
        close_reason: The reason in it.
        closed_with: The code of our own CLOSE; None if we wrote none.
        ended_first: Who wrote the first CLOSE, or dropped the connection.
        opened_at: Unix time.
        closed_at: Unix time; None while it is open.
        silent: Whether it neither reads nor answers.
        violation: How the client broke the protocol, or None.
        answer_pings: Whether PINGs are answered.
        answer_closes: Whether a CLOSE is answered.
    """

    KEEP: Final = 10_000

    def __init__(
        self, far: Owner, number: int, request: Request, http: HttpConnection, token: str | None
    ) -> None:
        self.number = number
        self.request = request
        self.token = token
        self.expires_at: float | None = None
        self.subprotocol: str | None = None
        self.received: list[Message] = []
        self.received_count = 0
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.sent = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self.closed_with: int | None = None
        self.ended_first: Literal["client", "far side"] | None = None
        self.opened_at = far.clock()
        self.closed_at: float | None = None
        self.silent = False
        self.violation: str | None = None
        self.answer_pings = far.answer_pings
        self.answer_closes = far.answer_closes
        self._far = far
        self._http = http
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._awake = asyncio.Event()
        self._awake.set()

    # `on_its_loop` finds these two on whatever it wraps.
    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that the far side runs on."""
        return self._far.loop

    @property
    def thread(self) -> int | None:
        """The identity of the thread that it runs on."""
        return self._far.thread

    @property
    def headers(self) -> Headers:
        """The headers of the handshake."""
        return self.request.headers

    @property
    def path(self) -> str:
        """The path of the handshake, without its query."""
        return self.request.path

    @property
    def is_open(self) -> bool:
        """Whether it is open, and no CLOSE has been seen or written."""
        return self.closed_at is None and self.ended_first is None

    @property
    def buffered(self) -> int:
        """How many bytes wait to be written, because the client's kernel takes no more."""
        return self._http.writer.transport.get_write_buffer_size()

    @awaited_on_its_loop
    async def drain(self) -> None:
        """Wait until there is room to write again, as asyncio's `StreamWriter.drain` does.

        Raises:
            ConnectionError: If the TCP connection ended, be it before.
        """
        await self._http.writer.drain()
        if self._http.writer.is_closing():  # asyncio tells nobody who waited
            raise ConnectionResetError("the connection was closed")

    @on_its_loop
    def send(self, message: Message) -> None:
        """Write a message; nothing waits for it to arrive: `drain` does."""
        if self.closed_at is None and self.closed_with is None:
            data = message.encode() if isinstance(message, str) else message
            self._write(TEXT if isinstance(message, str) else BINARY, data)
            self.sent += 1

    @on_its_loop
    def send_raw(self, data: bytes) -> None:
        """Write bytes that need not be a frame."""
        if self.closed_at is None:
            self._http.writer.write(data)

    @on_its_loop
    def ping(self, payload: bytes = b"") -> None:
        """Write a PING."""
        self._write(PING, payload)

    @on_its_loop
    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Write a CLOSE and wait for the answer, `close_timeout` at most.

        Args:
            code: None writes a CLOSE without a code.
            reason: What to say with it.
        """
        self._start_close(code, reason, first="far side")
        if self._closing is None and self.closed_at is None:
            self._closing = asyncio.get_running_loop().call_later(
                self._far.close_timeout, self._abort
            )

    @on_its_loop
    def close_at(self, when: float | None, code: int | None = 1000, reason: str = "") -> None:
        """Close it at this Unix time, in place of the one that was set before; None never."""
        if self._timer is not None:
            self._timer.cancel()
        self.expires_at = when
        if when is not None:
            self._timer = asyncio.get_running_loop().call_later(
                max(0.0, when - self._far.clock()), self._close_unless_silent, code, reason
            )

    @on_its_loop
    def drop(self, *, rst: bool = True) -> None:
        """End the TCP connection without a CLOSE: with RST, or with FIN."""
        if self.closed_at is None:
            self.ended_first = self.ended_first or "far side"
            if rst:
                reset(self._http.writer.transport)
            else:
                self._http.writer.close()
            self._awake.set()

    @on_its_loop
    def go_silent(self) -> None:
        """Stop reading and answering; the TCP connection stays open."""
        if self.closed_at is None and not self.silent:
            self.silent = True
            self._awake.clear()
            with contextlib.suppress(RuntimeError):  # the stream itself has paused it
                self._http.writer.transport.pause_reading()  # type: ignore[attr-defined]

    @on_its_loop
    def wake(self) -> None:
        """Go on after `go_silent`."""
        if self.silent:
            self.silent = False
            with contextlib.suppress(RuntimeError):
                self._http.writer.transport.resume_reading()  # type: ignore[attr-defined]
            self._awake.set()

    @on_its_loop
    def authenticate(self, token: str) -> None:
        """Take a new token for this link, as after re-authentication in band."""
        self.token = token
        self._far.watch_expiry(self)

    @awaited_on_its_loop
    async def wait_closed(self, timeout: float = 10.0) -> None:
        """Wait until the TCP connection is gone.

        Raises:
            TimeoutError: If it is still there after `timeout` seconds.
        """
        await self._far.wait_for(lambda: self.closed_at is not None, timeout)

    def __repr__(self) -> str:
        state = "open" if self.closed_at is None else f"closed, code {self.close_code}"
        return f"<FarLink {self.number} {state}, {self.received_count} in, {self.sent} out>"

    # --- The protocol ----------------------------------------------------------------------

    def _abort(self) -> None:
        self._http.writer.transport.abort()
        self._awake.set()

    def _close_unless_silent(self, code: int | None, reason: str) -> None:
        # A frozen machine doesn't say goodbye either.
        if not self.silent:
            self.close(code, reason)

    def _write(self, opcode: int, payload: bytes) -> None:
        if self.closed_at is None and not self._http.writer.is_closing():
            self._http.writer.write(encode(opcode, payload))

    def _start_close(
        self, code: int | None, reason: str, *, first: Literal["client", "far side"]
    ) -> None:
        if self.closed_at is None and self.closed_with is None:
            self.ended_first = self.ended_first or first
            self.closed_with = 1005 if code is None else code
            body = b"" if code is None else struct.pack("!H", code) + reason.encode()
            self._write(CLOSE, body)

    def _deliver(self, opcode: int, payload: bytes) -> Message:
        if opcode == BINARY:
            message: Message = payload
        else:
            try:
                message = payload.decode()
            except UnicodeDecodeError:
                raise Violation(1007, "text that is not UTF-8") from None
        self.received_count += 1
        if len(self.received) < self.KEEP:
            self.received.append(message)
        return message

    async def _read_messages(self, trailing: bytes) -> None:
        """Follow the protocol until the connection ends or a CLOSE comes."""
        frames = Frames(trailing)
        parts: list[bytes] = []
        kind = 0
        while True:
            while (frame := frames.next()) is None:
                data = await self._http.reader.read(2**18)
                await self._awake.wait()
                if not data:
                    return
                frames.feed(data)
            await self._awake.wait()
            opcode, final, payload = frame
            if opcode == PING:
                self.pings.append(payload)
                if self.answer_pings and self.closed_with is None:
                    self._write(PONG, payload)
            elif opcode == PONG:
                self.pongs.append(payload)
            elif opcode == CLOSE:
                self._on_close(payload)
                if self.answer_closes:
                    self._start_close(
                        None if self.close_code == 1005 else self.close_code, "", first="client"
                    )
                    return
                self.ended_first = self.ended_first or "client"
                await self._http.wait_closed_by_client()
                return
            else:
                if (opcode == CONTINUATION) != bool(kind):
                    raise Violation(1002, "fragments out of order")
                kind = kind or opcode
                parts.append(payload)
                if final:
                    message = self._deliver(kind, b"".join(parts))
                    parts, kind = [], 0
                    await self._far.on_received(self, message)
            self._far.tell()

    def _on_close(self, payload: bytes) -> None:
        if len(payload) == 1:
            raise Violation(1002, "a CLOSE of one byte")
        self.close_code = struct.unpack("!H", payload[:2])[0] if payload else 1005
        code = self.close_code or 0
        defined = code in (1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000))
        if payload and not defined:
            raise Violation(1002, f"close code {code}")
        try:
            self.close_reason = payload[2:].decode()
        except UnicodeDecodeError:
            raise Violation(1007, "a close reason that is not UTF-8") from None

    async def run(self, trailing: bytes) -> None:
        """Follow the link to its end; the far side calls this once."""
        try:
            await self._read_messages(trailing)
        except Violation as error:
            self.violation = str(error)
            self._start_close(error.code, str(error), first="far side")
        finally:
            self.ended_first = self.ended_first or "client"
            self.closed_at = self._far.clock()
            for timer in (self._timer, self._closing):
                if timer is not None:
                    timer.cancel()
