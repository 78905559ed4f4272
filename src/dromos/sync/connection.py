"""`Connection`: a session as an object, whose methods block the thread that calls them."""

import asyncio
import functools
import inspect
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Hashable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Protocol, Self

from dromos.connection import Connection as AsyncConnection
from dromos.connection import EventStream
from dromos.errors import NotConnected, PermanentError
from dromos.events import BridgeEvent
from dromos.interfaces import Sendable
from dromos.model import Message, Seconds, seconds
from dromos.snapshot import SessionState, Snapshot
from dromos.sync._loop import Closable, LoopThread
from dromos.sync._mailbox import Lane, is_serving

__all__ = ["Connection", "Events"]

AHEAD: Final = 64
"""Messages that are brought to the consumer's thread at once, at most."""


class Owner(Protocol):
    """The bridge, if it was made for this connection only."""

    def close(self) -> None: ...


class Connection:
    """One session, as `bridge.connect` makes it; for use from any thread.

        with bridge.connect("connection-id", "wss://host/ws") as connection:
            for message in connection:
                connection.send(message)

    Leaving the block closes the session.  A failure that ends the session for good is
    raised, as a `PermanentError`, by whatever waits for it: the iteration, `recv`,
    `send`, `request`, `wait_open`, or else by leaving the block.

    Every method raises RuntimeError on the loop thread, such as in an async callback, and
    in a forked child; there, and at the interpreter's exit, `close` and leaving the block
    do nothing.  Ctrl-C gets through, and cancels what it interrupts.
    """

    def __init__(self, loop: LoopThread, *, receive: bool) -> None:
        """Open nothing; `Bridge.connect` calls this."""
        self._loop = loop
        self._receive = receive
        self._owned: Owner | None = None
        self._is_entered = False
        self._ready: deque[Message] = deque()
        self._iterator: weakref.ref[Generator[Message, None, None]] | None = None

    def prepare(
        self,
        inner: AsyncConnection,
        *,
        bridge: Closable,
        keep: object,
        callbacks: Lane | None,
        endpoint: Lane | None,
    ) -> None:
        """Take what does the work; `Bridge.connect` calls this.

        Args:
            inner: The connection on the loop.
            bridge: What to close at the interpreter's exit.
            keep: What to keep alive as long as that.
            callbacks: Where plain callbacks run, if there are any.
            endpoint: Where the endpoint is made, if a plain function does that.
        """
        self._inner = inner
        self._bridge = bridge
        self._keep = keep
        self._callbacks = callbacks
        self._endpoint = endpoint

    def own(self, bridge: Owner) -> None:
        """Close this bridge with the connection; `connect` calls this."""
        self._owned = bridge

    # ------------------------------------------------------------ the block

    def __enter__(self) -> Self:
        """Start the session, and return at once; `wait_open` waits for a link.

        Raises:
            RuntimeError: If it was entered before, or the bridge is closed.
        """
        if self._callbacks is not None:
            # Now: at the interpreter's exit no thread can be started any more.
            self._callbacks.start()
        try:
            self._loop.run(self._start)
        except BaseException:
            if self._is_entered:  # Ctrl-C came in between.
                self._loop.submit(self._inner.close)
            raise
        return self

    async def _start(self) -> None:
        self._loop.look_after(self._bridge, self._keep)
        await self._inner.__aenter__()
        self._is_entered = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the session, and raise what ended it if nobody has seen that.

        Raises:
            PermanentError: If the session has failed, and nobody was told.
        """
        self._end(functools.partial(self._inner.__aexit__, kind, error, trace))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the session: its link is closed, `on_disconnect` runs, the iteration ends.

        What has arrived can still be iterated.  Any thread may close, and more than one
        at once: each waits for the end, but for a callback of this connection.

        Args:
            code: 1000 (default), 1001, or 3000 to 4999.
            reason: Up to 123 bytes of UTF-8.

        Raises:
            ValueError: If `code` may not be sent, or `reason` is no text.
            RuntimeError: On the loop thread.
        """
        self._end(functools.partial(self._inner.close, code, reason))

    def drain(self, timeout: Seconds = 25.0) -> None:
        """Wait until the far side has everything that was sent, then close.

        Nothing more can be sent meanwhile; messages go on to arrive.  In a callback of
        this connection it does not wait.

        Args:
            timeout: Seconds to wait at most.  Default 25.

        Raises:
            TimeoutError: If it took longer.  The session is closed all the same; with
                an outbox, what was not sent has been reported.
            PermanentError: If the session has failed.
            RuntimeError: On the loop thread, and in a forked child.
        """
        self._check()
        self._end(functools.partial(self._inner.drain, timeout))

    def _end(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._loop.is_gone or not self._is_entered:
            return
        if is_serving(self):
            self._loop.submit(work)  # The end waits for this very callback.
            return
        try:
            self._loop.run(work)
        except Exception:
            self._release()
            raise
        self._release()

    def _release(self) -> None:
        """Let go of the threads, and of the bridge if it is ours, once the session is over."""
        if self._inner.state != "closed":
            return
        for lane in (self._callbacks, self._endpoint):
            if lane is not None:
                lane.close()
        if self._owned is not None:
            self._owned.close()

    # ------------------------------------------------------------ receiving

    def __iter__(self) -> Generator[Message, None, None]:
        """Return an iterator over messages, across links and hand-overs.

        It ends after `close`, and raises `PermanentError` if the session fails.  Up to
        64 messages are brought to this thread at once.

        Raises:
            RuntimeError: If it is being iterated already.
        """
        self._check()
        running = None if self._iterator is None else self._iterator()
        if running is not None and inspect.getgeneratorstate(running) != inspect.GEN_CLOSED:
            raise RuntimeError("the connection is being iterated already: it has one consumer")
        if not self._receive:
            raise RuntimeError("the connection was made with receive=False: nothing to iterate")
        iterator = self._iterate()
        self._iterator = weakref.ref(iterator)
        return iterator

    def _iterate(self) -> Generator[Message, None, None]:
        while (message := self._next(None)) is not None:
            yield message

    def recv(self, timeout: Seconds | None = None) -> Message:
        """Return the next message.

        Args:
            timeout: Seconds to wait for it.  None (default) waits for as long as it takes.

        Raises:
            TimeoutError: If none came in time.
            NotConnected: If the connection was closed, and all was received.
            PermanentError: If the session has failed, and all was received.
            RuntimeError: If somebody else is waiting for a message, in a callback of this
                connection, on the loop thread, and in a forked child.
        """
        within = None if timeout is None else seconds("timeout", timeout)
        message = self._next(within)
        if message is None:
            self._loop.end_thread_at_exit()
            raise NotConnected("the connection is closed, and everything was received")
        return message

    def _next(self, within: float | None) -> Message | None:
        """Return the next message; None once there will be none."""
        while True:
            self._check()
            with suppress(IndexError):
                return self._ready.popleft()
            if not self._fetch(within):
                return None

    def _fetch(self, within: float | None) -> bool:
        """Wait for messages; False if there will be none."""
        self._check_waiting("a message")
        return self._loop.run(functools.partial(self._take, within))

    async def _take(self, within: float | None) -> bool:
        async with asyncio.timeout(within):
            taken = await self._inner.take(AHEAD)
        # Kept here and not returned: whoever waits may be interrupted before it gets them.
        self._ready.extend(taken)
        return bool(taken)

    # ------------------------------------------------------------ sending

    def send(self, message: Sendable, *, timeout: Seconds = 10.0) -> None:
        """Send a message: wait for an open link, write, and wait for room in its buffer.

        With an outbox it does not wait for a link: the message is kept until there is one.

        Args:
            message: `str` makes a text frame, bytes-like a binary one.
            timeout: Seconds to wait for a link, or for room in the outbox with
                `when_full="wait"`.  Default 10.

        Raises:
            NotConnected: If no link was open in time, or the connection is closed: the
                message was not sent.
            ConnectionClosed: If the link ended while the message waited in its buffer.
            MessageTooBig: If it is over `send_size_limit`, or the outbox's `max_bytes`.
            SendBufferFull: If there is no room for it.
            PermanentError: If the session has failed.
            TypeError: If it is neither a str nor bytes-like.
            RuntimeError: On the loop thread, and in a forked child.
        """
        self._check()
        self._loop.run(functools.partial(self._inner.send, message, timeout=timeout))

    def request(
        self,
        message: Sendable,
        *,
        correlate: Callable[[Message], Hashable | None],
        timeout: Seconds = 10.0,
    ) -> Message:
        """Send a message, and return the one that answers it; that one is not iterated.

        Args:
            message: The request.
            correlate: Makes a key of a message; that of the answer equals the request's.
                It is called on the loop thread, for every message that arrives, so it
                must be quick.  None is for a message of which it can't tell.
            timeout: Seconds for all of it.  Default 10.

        Raises:
            TimeoutError: If no answer came in time.  One that comes later is iterated.
            ConnectionClosed: If the request's link ended first.
            ReceivePaused: At once, if reading is paused because messages wait to be iterated.
            NotConnected: If no link was open in time, or the connection is closed.
            PermanentError: If the session has failed.
            ValueError: If `correlate` makes None of the request, or a key that is pending.
            TypeError: If `correlate` is not callable, or its key not hashable.
            RuntimeError: On the loop thread, and in a forked child.
        """
        self._check()
        return self._loop.run(
            functools.partial(self._inner.request, message, correlate=correlate, timeout=timeout)
        )

    # ------------------------------------------------------------ the link

    def wait_open(self, timeout: Seconds | None = None) -> int:
        """Return the number of the open link, once there is one.

        Args:
            timeout: Seconds to wait for it.  None (default) waits for as long as it takes.

        Raises:
            TimeoutError: If there was none in time.
            NotConnected: If the connection is closed.
            PermanentError: If the session has failed.
            RuntimeError: In a callback of this connection, on the loop thread, and in a
                forked child.
        """
        self._check()
        self._check_waiting("a link")
        return self._loop.run(functools.partial(self._inner.wait_open, timeout))

    def renew(self) -> None:
        """Obtain a new token now, and hand over to a link that was opened with it.

        As in `dromos.connection.Connection.renew`.

        Raises:
            NotConnected: If no link is open, or it was lost meanwhile.
            TokenError: If there is no new token.
            HandshakeError: If the next link did not open.
            ConnectionClosed: If it did not come to serve.
            PermanentError: If the session has failed.
            RuntimeError: In a callback of this connection, on the loop thread, and in a
                forked child.
        """
        self._check()
        self._check_waiting("the next link")
        self._loop.run(self._inner.renew)

    # ------------------------------------------------------------ what it looks like

    @property
    def state(self) -> SessionState:
        """Where the session is; `"open"` once a link is greeted, hand-overs included."""
        self._loop.check_process()
        return self._inner.state

    @property
    def link(self) -> int | None:
        """The number of the link that serves; None while there is none."""
        self._loop.check_process()
        return self._inner.link

    @property
    def latency(self) -> float | None:
        """Seconds that the last ping on the link that serves took; None if unknown."""
        self._loop.check_process()
        return self._inner.latency

    @property
    def error(self) -> PermanentError | None:
        """What has ended the session for good; None if nothing has."""
        self._loop.check_process()
        return self._inner.error

    def snapshot(self) -> Snapshot:
        """Return everything about the session at this moment.

        Raises:
            RuntimeError: On the loop thread, and in a forked child.
        """
        self._check()
        snapshot = self._loop.call(self._inner.snapshot)
        return replace(snapshot, receive_queue=snapshot.receive_queue + len(self._ready))

    def events(self) -> "Events":
        """Return an iterator over this session's events from now on.

        It keeps 256 of them; if you are slower, the oldest are dropped and counted.

        Raises:
            RuntimeError: On the loop thread, and in a forked child.
        """
        self._check()
        return Events(self._loop, self._loop.call(self._inner.events))

    def __repr__(self) -> str:
        # A traceback may show one that is half made.
        inner: AsyncConnection | None = getattr(self, "_inner", None)
        return "<Connection>" if inner is None else repr(inner)

    # ------------------------------------------------------------ small things

    def _check(self) -> None:
        self._loop.check()
        if not self._is_entered:
            raise RuntimeError("enter the connection first: with bridge.connect(...)")

    def _check_waiting(self, what: str) -> None:
        if is_serving(self):
            raise RuntimeError(
                f"a callback of this connection can't wait for {what}, which waits for its return"
            )


class Events:
    """A session's events, to be iterated: `for event in connection.events()`.

    Waiting for the next one blocks; the iteration ends with the session.
    """

    def __init__(self, loop: LoopThread, stream: EventStream) -> None:
        self._loop = loop
        self._stream = stream

    @property
    def dropped(self) -> int:
        """Events that were dropped because you were slower than they came."""
        self._loop.check_process()
        return self._stream.dropped

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BridgeEvent:
        try:
            return self._loop.run(self._stream.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None
