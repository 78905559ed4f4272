"""A dialer with no network at all, for tests in virtual time.

    async def far_side(link: FarEnd) -> None:
        async for message in link:
            link.send(message)
            await link.drain()

    bridge = Bridge(tokens, dialer=MemoryDialer(far_side, latency=0.05))

`send` never waits, as a server's `write` does not; without `drain` an agent that
is slow to read leaves everything in memory.

Links are pairs of objects in one loop.  All delays come from the loop's clock,
so a test on a virtual clock takes no time.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from threading import get_ident
from typing import Any, Final, TypeAlias

from dromos.dialers._batch import Batch
from dromos.dialers._frames import GOING_AWAY, check_close_code, met, shortened
from dromos.errors import ConnectionClosed, HandshakeError, NotConnected
from dromos.interfaces import Limits, LinkListener, Sendable, WireBytes
from dromos.model import Handshake, Message, Seconds, seconds

__all__ = ["HANG", "FarEnd", "FarSide", "MemoryDialer", "MemoryLink", "echo"]

HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = 16 * 1024
"""Bytes in the write buffer at which writing pauses and resumes: asyncio's defaults."""

LINGER: Final = 1.0
"""Seconds that the far side has to take what is still to be written, our CLOSE included."""

_HEADER: Final = 6  # bytes of a masked frame before its payload, near enough


class _Hang:
    def __repr__(self) -> str:
        return "HANG"


HANG: Final = _Hang()
"""A dial outcome: nothing happens until the dial times out or is cancelled."""

FarSide: TypeAlias = Callable[["FarEnd"], Awaitable[None]]
"""What the far side does with a link.  Returning closes it with 1000, raising with 1011."""

Outcome: TypeAlias = FarSide | Exception | _Hang

_Item: TypeAlias = tuple[str, Any, int]  # what, its value, its size in bytes


async def echo(link: "FarEnd") -> None:
    """Send every message back: the default far side."""
    async for message in link:
        link.send(message)


async def _wait(link: "FarEnd") -> None:
    await link.wait_closed()


class MemoryDialer:
    """A `Dialer` whose far side is a function of yours.

    Args:
        far_side: Runs once for each link. Default `echo`. None: the test
            scripts `links[-1].far` itself.
        latency: Seconds from one end to the other. Default 0.
        dial_latency: Seconds that a dial takes. Default 0.
        open_timeout: Seconds after which a dial that hangs fails. Default 15.
        window: Bytes that an end that does not read still takes. Default 64 KiB.

    Attributes:
        dials: The handshake of every dial, in order.
        links: Every link that opened, in order.
    """

    def __init__(
        self,
        far_side: FarSide | None = echo,
        *,
        latency: Seconds = 0.0,
        dial_latency: Seconds = 0.0,
        open_timeout: Seconds = 15.0,
        window: int = 64 * 1024,
    ) -> None:
        self.dials: list[Handshake] = []
        self.links: list[MemoryLink] = []
        self._far_side = far_side or _wait
        self._latency = seconds("latency", latency)
        self._dial_latency = seconds("dial_latency", dial_latency)
        self._open_timeout = seconds("open_timeout", open_timeout, above=0.0)
        self._window = window
        self._outcomes: deque[Outcome] = deque()
        self._down: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def then(self, *outcomes: Outcome) -> "MemoryDialer":
        """Script the next dials, one outcome each; after them `far_side` serves again.

        Args:
            outcomes: An exception to raise, `HANG`, or a far side for that link.
        """
        self._outcomes.extend(outcomes)
        return self

    def go_down(self, error: Exception | None = None) -> None:
        """Drop every link, and have every dial fail until `come_back`.

        Args:
            error: What dials fail with.  None (default) is a refused connection.
        """
        self._down = error or HandshakeError("connection refused")
        for link in self.links:
            if link.far.closed is None:
                link.far.drop()

    def come_back(self) -> None:
        """Let dials succeed again."""
        self._down = None

    async def dial(
        self, handshake: Handshake, listener: LinkListener, limits: Limits
    ) -> "MemoryLink":
        """Open a link, or do what was scripted.

        Raises:
            HandshakeError: If that was scripted, or the dial timed out.
        """
        self.dials.append(handshake)
        outcome: Outcome = self._outcomes.popleft() if self._outcomes else self._far_side
        try:
            async with asyncio.timeout(self._open_timeout):
                await asyncio.sleep(self._dial_latency)
                if isinstance(outcome, _Hang):
                    await asyncio.get_running_loop().create_future()
        except TimeoutError:
            raise HandshakeError(f"dialling took over {self._open_timeout:g} s") from None
        if isinstance(outcome, _Hang):
            raise AssertionError("a future that nothing sets was done")
        if self._down is not None:
            raise self._down
        if isinstance(outcome, Exception):
            raise outcome
        link = MemoryLink(listener, limits, latency=self._latency, window=self._window)
        link.far.handshake = handshake
        self.links.append(link)
        task = asyncio.create_task(_serve(outcome, link.far), name="dromos-far-side")
        link.far.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return link


async def _serve(far_side: FarSide, far: "FarEnd") -> None:
    try:
        await far_side(far)
    except ConnectionClosed:
        pass
    except Exception:
        far.close(1011)
        raise
    else:
        far.close()


class _Pipe:
    """One direction of a link: what goes in comes out in order, after the latency."""

    def __init__(self, latency: float, take: Callable[[_Item], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._latency = latency
        self._take = take
        self._items: deque[tuple[float, _Item]] = deque()

    def put(self, item: _Item) -> None:
        self._items.append((self._loop.time() + self._latency, item))
        if self._latency:
            self._loop.call_later(self._latency, self._pump)
        else:
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        # Timers that are due together come in no certain order; the queue has one.
        now = self._loop.time() + 1e-9
        while self._items and self._items[0][0] <= now:
            self._take(self._items.popleft()[1])


class _Buffer:
    """What one end has written and the other has not read; `blocked` from high to low water."""

    def __init__(self, window: int) -> None:
        self.untaken = 0
        self.taken = 0
        self.blocked = False
        self._window = window

    @property
    def waiting(self) -> int:
        """How many bytes the other end's kernel has no room for."""
        return max(0, self.untaken - self._window)

    @property
    def on_the_way(self) -> int:
        """How many bytes are in the other end's kernel, or on their way to it."""
        return min(self.untaken, self._window)

    def put(self, size: int) -> bool:
        """Add to it, and return whether that has blocked it."""
        self.untaken += size
        return self._set(self.blocked or self.waiting > HIGH_WATER)

    def take(self, size: int) -> bool:
        """Take from it, and return whether that has unblocked it."""
        self.untaken -= size
        self.taken += size
        return self._set(self.blocked and self.waiting > LOW_WATER)

    def _set(self, blocked: bool) -> bool:
        changed, self.blocked = blocked is not self.blocked, blocked
        return changed


class FarEnd:
    """The far side's end of a link, for a script to play with.

    Attributes:
        handshake: What the link was dialled with.
        pings: Payloads of the PINGs that came.
        received: Messages that came, taken with `receive` or not.
        answer_pings: Whether PINGs are answered. Default True.
        answer_close: Whether a CLOSE is answered. Default True.
        closed: How the link ended on this side; None while it is open.
        task: What runs the far side's function.
    """

    handshake: Handshake
    task: asyncio.Task[None] | None

    def __init__(self, link: "MemoryLink", *, latency: float, window: int) -> None:
        self.pings: list[bytes] = []
        self.received: list[Message] = []
        self.answer_pings = True
        self.answer_close = True
        self.closed: ConnectionClosed | None = None
        self.task = None
        self._link = link
        self._out = _Pipe(latency, link._arrive)  # pyright: ignore[reportPrivateUsage]
        self._buffer = _Buffer(window)
        self._unread: deque[Message] = deque()
        self._stalled: deque[_Item] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._reading = True
        self._silent = False
        self._sent_close: tuple[int, str] | None = None

    # What a script calls

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            ConnectionClosed: If the link ended and everything was received.
        """
        while not self._unread:
            if self.closed is not None:
                raise self.closed
            await self._change()
        return self._unread.popleft()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yield messages until the link ends."""
        try:
            while True:
                yield await self.receive()
        except ConnectionClosed:
            return

    async def wait_closed(self) -> ConnectionClosed:
        """Return how the link ended, once it did."""
        while self.closed is None:
            await self._change()
        return self.closed

    @property
    def sent_bytes(self) -> int:
        """How many bytes the other end has taken, with a header for each frame."""
        return self._buffer.taken

    @property
    def blocked(self) -> bool:
        """Whether `drain` would wait: too much of what was sent is still unread."""
        return self._buffer.blocked

    async def drain(self) -> None:
        """Wait until the other end has taken enough to write again.

        `window` bytes that it has not read are in its kernel.  What is beyond them
        blocks from `HIGH_WATER` bytes on, and down to `LOW_WATER`.

        Raises:
            ConnectionClosed: If the link ended, be it before.
        """
        while self.closed is None and self.blocked:
            await self._change()
        if self.closed is not None:
            raise self.closed

    def send(self, message: Message, *, fragments: int = 1) -> None:
        """Send a message, in as many fragments.  Never waits: `drain` does."""
        if self._sent_close is None:
            size = len(message.encode()) if isinstance(message, str) else len(message)
            self._put("message", (message, fragments), size)

    def ping(self, payload: bytes = b"") -> None:
        """Send a PING."""
        self._put("ping", payload, len(payload))

    def pong(self, payload: bytes = b"") -> None:
        """Send a PONG that nobody asked for."""
        self._put("pong", payload, len(payload))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a CLOSE, once; 1005 sends an empty one."""
        if self._sent_close is None and self.closed is None:
            # 1005 is never on the wire (RFC 6455, 7.4.1), so 1000 answers an empty one.
            self._sent_close = (1000 if code == 1005 else code), reason
            self._put("close", (code, reason), 2)

    def drop(self, reason: str = "connection reset or timed out") -> None:
        """End the connection without a CLOSE."""
        self._put("end", reason, 0)
        self._end(ConnectionClosed(code=1006, reason=reason, by_peer=False))

    def go_silent(self) -> None:
        """Vanish: nothing arrives any more, in either direction, and nobody is told."""
        self._silent = True

    def stop_reading(self) -> None:
        """Take nothing more, so that the other end's buffers fill."""
        self._reading = False

    def start_reading(self) -> None:
        """Take what has come, and go on."""
        self._reading = True
        while self._stalled and self._reading:
            self._take(self._stalled.popleft())

    # What the link calls

    def arrive(self, item: _Item) -> None:
        """Take an item off the pipe, unless reading has stopped or this end has vanished."""
        if item[0] == "end":
            # The script is told even if it plays dead, so that its function ends.
            self._end(ConnectionClosed(code=1006, reason=item[1]))
        if self._silent:
            return
        if self._reading and not self._stalled:
            self._take(item)
        else:
            self._stalled.append(item)

    def taken(self, size: int) -> None:
        """Note that the other end has read so many bytes."""
        if self._buffer.take(size):
            self._wake()

    def _take(self, item: _Item) -> None:
        what, value, size = item
        if self.closed is not None:
            return
        self._link._taken(size)  # pyright: ignore[reportPrivateUsage]
        if what == "message":
            self.received.append(value)
            self._unread.append(value)
            self._wake()
        elif what == "ping":
            self.pings.append(value)
            if self.answer_pings:
                self.pong(value)
        elif what == "close":
            self._on_close(*value)

    def _on_close(self, code: int, reason: str) -> None:
        if self._sent_close is not None:
            code, reason, by_peer = met(self._sent_close, code, reason)
            error = ConnectionClosed(code=code, reason=reason, by_peer=by_peer)
        elif self.answer_close:
            self.close(code)
            error = ConnectionClosed(code=code, reason=reason)
        else:
            return
        self._put("end", "end of stream without a CLOSE", 0)
        self._end(error)

    def _put(self, what: str, value: object, size: int) -> None:
        if not self._silent and self.closed is None:
            size += _HEADER
            self._buffer.put(size)
            self._out.put((what, value, size))

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _end(self, error: ConnectionClosed) -> None:
        if self.closed is None:
            self.closed = error
            self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


class MemoryLink:
    """A `Link` in memory; `far` is its other end.

    Attributes:
        far: The far side's end.
        received: How many whole messages arrived.
        is_reading: False while reading is paused.
    """

    def __init__(
        self, listener: LinkListener, limits: Limits, *, latency: float, window: int
    ) -> None:
        self.received = 0
        self.is_reading = True
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._listener = listener
        self._batch: Batch | None = None
        self.deliver_to(listener.on_message)
        self._limits = limits
        self._buffer = _Buffer(window)
        self._inbox: deque[_Item] = deque()
        self._last_data = self._loop.time()
        self._sent_close: tuple[int, str] | None = None
        self._end: tuple[int, str, bool] | None = None
        self._deaf = False
        self._mute = False
        self._unanswered = False
        self._over = False
        self._linger: asyncio.TimerHandle | None = None
        self.far = FarEnd(self, latency=latency, window=window)
        self._out = _Pipe(latency, self.far.arrive)

    # What the driver calls

    @property
    def buffered(self) -> int:
        """How many bytes wait to be written: what is beyond the far side's window."""
        return self._buffer.waiting

    @property
    def unacknowledged(self) -> int | None:
        """How many written bytes the far side has not taken."""
        return self._buffer.on_the_way

    def wire_bytes(self) -> WireBytes:
        """Return what each end has taken of what the other one wrote: whole frames."""
        return WireBytes(received=self.far.sent_bytes, sent=self._buffer.taken)

    def deliver_to(self, take: Callable[[Message], Any], /) -> None:
        """Call this with each whole message from now on, in place of the listener."""
        self._deliver: Callable[[Message], Any] = take
        if self._batch is not None:
            self._batch.cut()

    def deliver_reads_to(self, take: Callable[[Iterator[Message]], None], /) -> None:
        """Call this with all that arrives together: see `interfaces.Link`."""
        if self._batch is None:
            self._batch = Batch(take)
        self._batch.take, self._deliver = take, self._batch.add

    def idle_for(self) -> float:
        """Seconds since any data arrived, by the loop's clock."""
        return self._loop.time() - self._last_data

    def send(self, message: Sendable, /) -> None:
        """Write a message.

        Raises:
            NotConnected: After `close`, `abort`, the far side's CLOSE or the end.
        """
        value = message if isinstance(message, str) else bytes(memoryview(message))
        if self._mute:
            raise NotConnected
        self._put("message", value, len(value.encode() if isinstance(value, str) else value))

    def write(self, opcode: int, message: str | bytes, /) -> None:
        """The same for what needs no look at its type: see `interfaces.Link`."""
        if get_ident() != self._thread:
            raise RuntimeError("write was called from another thread than the event loop's")
        self.send(message)

    def ping(self, payload: bytes, /) -> None:
        """Write a PING of up to 125 bytes; nothing where `send` would raise `NotConnected`."""
        if len(payload) > 125:
            raise ValueError(f"payload must be at most 125 bytes, not {len(payload)}")
        self._put("ping", payload, len(payload))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Write a CLOSE; the link ends when the far side answers it.  Idempotent."""
        check_close_code(code)
        if self._unanswered:
            self._answer_close()
        elif self._sent_close is None and self._end is None and not self._over:
            reason = shortened(reason)
            self._put("close", (code, reason), 2 + len(reason.encode()))
            self._sent_close = code, reason
            self._mute = True

    def abort(self) -> None:
        """End the link at once, whatever waits to be written.  Idempotent."""
        if not self._over:
            self._end = self._end or (1006, "aborted", False)
            self._stop_linger()
            self._deaf = self._mute = True
            self._unanswered = False
            self._loop.call_soon(self._finish)

    def pause_reading(self) -> None:
        """Stop taking what arrives.  Idempotent."""
        self.is_reading = False

    def resume_reading(self) -> None:
        """Go on.  Idempotent."""
        if not self.is_reading:
            self.is_reading = True
            self._loop.call_soon(self._read)

    # What the far end calls

    def _arrive(self, item: _Item) -> None:
        """Take an item off the pipe; it may have to wait until reading is resumed."""
        if not self._over:
            self._last_data = self._loop.time()
            self._inbox.append(item)
            self._read()

    def _taken(self, size: int) -> None:
        if self._buffer.take(size) and not self._over:
            self._listener.on_resume_writing()

    # What only this class calls

    def _put(self, what: str, value: object, size: int) -> None:
        if not self._mute:
            self._write(what, value, size)

    def _write(self, what: str, value: object, size: int) -> None:
        size += _HEADER
        self._out.put((what, value, size))
        if self._buffer.put(size):
            self._listener.on_pause_writing()

    def _read(self) -> None:
        self._take_inbox()
        self._flush()

    def _flush(self) -> None:
        if self._batch is not None:
            try:
                self._batch.flush(self._hand_over)
            except (Exception, asyncio.CancelledError) as error:
                self._listener.on_deliver_failed(error)

    def _take_inbox(self) -> None:
        while self._inbox and self.is_reading and not self._over:
            if self._batch and self._inbox[0][0] != "message":
                self._flush()
                continue  # whoever took that may have paused or ended us
            what, value, size = self._inbox.popleft()
            self.far.taken(size)
            if what == "end":
                if self._end is None:
                    self._end = self._unexplained(value)
                self._finish()
            elif self._deaf:
                continue
            elif what == "message":
                message, fragments = value
                self._on_message(message, fragments, size - _HEADER)
            elif what == "ping":
                self._put("pong", value, len(value))
            elif what == "pong":
                self._listener.on_pong(value)
            else:
                self._on_close(*value)

    def _on_message(self, message: Message, fragments: int, size: int) -> None:
        if size > self._limits.message_size:
            self._fail(1009, f"message over {self._limits.message_size} bytes")
        elif fragments > self._limits.fragments:
            self._fail(1009, f"message in over {self._limits.fragments} fragments")
        else:
            self.received += 1
            self._hand_over(message)

    def _hand_over(self, message: Message) -> None:
        try:
            result = self._deliver(message)
        except (Exception, asyncio.CancelledError) as error:
            self._listener.on_deliver_failed(error)
        else:
            if result is not None:
                self._listener.on_result(result)

    def _on_close(self, code: int, reason: str) -> None:
        if self._sent_close is not None:
            self._end = met(self._sent_close, code, reason)
            self._disconnect()
            return
        self._end = code, reason, True
        if code in GOING_AWAY:
            self._deaf = self._mute = self._unanswered = True
            error = ConnectionClosed(code=code, reason=reason, by_peer=True)
            self._listener.on_going_away(error)
        else:
            self._answer_close()

    def _answer_close(self) -> None:
        assert self._end is not None
        code, _, _ = self._end
        self._unanswered = False
        self._write("close", (1000 if code == 1005 else code, ""), 2)
        self._disconnect()

    def _fail(self, code: int, reason: str) -> None:
        self._flush()
        if self._deaf:  # whoever took what came before may have ended us
            return
        self._end = code, reason, False
        self._put("close", (code, reason), 2 + len(reason))
        self._disconnect()

    def _disconnect(self) -> None:
        self._deaf = self._mute = True
        self._linger = self._loop.call_later(LINGER if self.buffered else 0, self._finish)

    def _stop_linger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _unexplained(self, reason: str) -> tuple[int, str, bool]:
        if self._sent_close is not None:
            return 1006, "no answer to our CLOSE", False
        return 1006, reason, True

    def _finish(self) -> None:
        if self._over:
            return
        self._over = self._deaf = self._mute = True
        self._unanswered = False
        self._stop_linger()
        self._inbox.clear()
        self._out.put(("end", "connection reset or timed out", 0))
        code, reason, by_peer = self._end or (1006, "", True)
        self._listener.on_closed(ConnectionClosed(code=code, reason=reason, by_peer=by_peer))
