"""A session as an object: to iterate, to send on, to ask, and to look at."""

import asyncio
import functools
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from dromos._driver import Callbacks, Sender, Session, end
from dromos._driver.links import HOLD_BYTES, HOLD_MESSAGES, LinkRecord
from dromos._driver.outbox import Ledger
from dromos._driver.sending import BEING_DRAINED, size_of
from dromos._requests import Correlate, Request, Requests
from dromos._streams import EventStream, Inbox
from dromos.errors import (
    BridgeError,
    NotConnected,
    PermanentError,
    ReceivePaused,
    SendBufferFull,
)
from dromos.events import (
    BridgeEvent,
    DeliveryUnknown,
    EndDeferred,
    LinkLost,
    MessagesUnsent,
    RenewalFailed,
)
from dromos.interfaces import Send, Sendable
from dromos.model import Message, Seconds, Token, seconds
from dromos.snapshot import SessionState, Snapshot

__all__ = [
    "ConnectCallback",
    "Connection",
    "DisconnectCallback",
    "EventStream",
    "RefreshCallback",
]

ConnectCallback: TypeAlias = Callable[[Send], Awaitable[None] | None]
DisconnectCallback: TypeAlias = Callable[[Exception | None], Awaitable[None] | None]
RefreshCallback: TypeAlias = Callable[[Token, Send], Awaitable[bool | None] | bool | None]
CLOSING_PAUSE: Final = 0.05
"""Seconds after which a link that refused a message is tried again."""

SEND_TIMEOUT: Final = 10.0
"""Seconds that `send` waits for a link, where nothing else is said."""

_NO_LINK: Final = "no link was open in time; the message was not sent"

_greeting: Final[ContextVar["tuple[Connection, Sender] | None"]] = ContextVar(
    "dromos_greeting", default=None
)
"""Whose `on_connect` or `on_handover` runs in this context, and what it sends with: what it
sends through the connection is for that link as well."""


class Connection:
    """One session, as `bridge.connect` makes it.

        async with bridge.connect("connection-id", "wss://host/ws") as connection:
            async for message in connection:
                await connection.send(message)

    Leaving the block closes the session.  A failure that ends the session for good is
    raised, as a `PermanentError`, by whatever waits for it: the iteration, `send`,
    `request`, `wait_open`, or else by leaving the block.

    All methods belong to the event loop that the block was entered on; for threads
    there is `dromos.sync`.
    """

    def __init__(
        self,
        *,
        on_connect: ConnectCallback | None,
        on_handover: ConnectCallback | None,
        on_disconnect: DisconnectCallback | None,
        on_token_refresh: RefreshCallback | None,
        receive: bool,
    ) -> None:
        """Check the callbacks; `Bridge.connect` calls this."""
        self._requests = Requests(
            # There is no session yet.
            lambda method, error: self._open_session.handler_failed(method, error)  # noqa: PLW0108
        )
        self._inbox = Inbox(
            messages=HOLD_MESSAGES,
            size=HOLD_BYTES,
            hold_back=lambda: self._open_session.hold_back(),  # noqa: PLW0108
            let_flow=lambda: self._open_session.let_flow(),  # noqa: PLW0108
        )
        face = _Face(self, on_connect, on_handover, on_disconnect, on_token_refresh)
        self.callbacks = Callbacks(face)
        self.callbacks.name = "Connection"
        self.callbacks.tap = self._requests.take
        self.callbacks.on_untapped = self.arrived_untapped
        self.callbacks.is_brimming = lambda: self._inbox.is_brimming
        self.callbacks.awaits = self._requests.awaits
        self.callbacks.queued = lambda: len(self._inbox)
        self._receive = receive
        self._begin: Callable[[], Session] | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._iterator: weakref.ref[_Messages] | None = None
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._changed: asyncio.Future[None] | None = None
        self._renewal: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._error: PermanentError | None = None
        self._error_was_seen = False
        self._is_over = False
        self._closing: str | None = None

    def prepare(self, *, begin: Callable[[], Session]) -> None:
        """Take what makes the session; `Bridge.connect` calls this."""
        self._begin = begin

    # ------------------------------------------------------------ the block

    async def __aenter__(self) -> Self:
        """Start the session, and return at once; `wait_open` waits for a link.

        Raises:
            RuntimeError: If it was entered before, or the bridge is closed.
        """
        if self._session is not None or self._begin is None:
            raise RuntimeError("a connection can be entered once; call bridge.connect again")
        self._loop = asyncio.get_running_loop()
        self._session = self._begin()
        self._sender: Sender = self._session.outlet.make_sender()
        self._session.watch(self)
        self._task = self._loop.create_task(
            self._keep(self._session), name=f"dromos-{self._session.number}"
        )
        self._task.add_done_callback(self._task_ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the session, and raise what ended it if nobody has seen that.

        Raises:
            PermanentError: If the session has failed, and nobody was told.
        """
        self._receive = False  # nobody is left to iterate
        await self.close()
        if kind is None and self._error is not None and not self._error_was_seen:
            raise self._seen(self._error)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the session: its link is closed, `on_disconnect` runs, the iteration ends.

        What has arrived can still be iterated.  Closing again waits for the same end.

        Args:
            code: 1000 (default), 1001, or 3000 to 4999.
            reason: Up to 123 bytes of UTF-8.

        Raises:
            ValueError: If `code` may not be sent, or `reason` is no text.
            RuntimeError: From another event loop.
        """
        session, task = self._entered()
        if not self._is_over:
            self._sender.close(code, reason)
            self._closing = "the connection is closed"
            self._inbox.close()
            self._tell_changed()
        if session.owns(asyncio.current_task()):
            return  # a callback can't wait for its own end
        try:
            await end([session], session.close_timeout)
        finally:
            await asyncio.wait([task])

    async def drain(self, timeout: Seconds = 25.0) -> None:
        """Wait until the far side has everything that was sent, then close.

        Nothing more can be sent meanwhile; messages go on to arrive.  If the link is lost
        meanwhile, what it took with it has been reported, and is not waited for.

        Args:
            timeout: Seconds to wait at most.  Default 25.

        Raises:
            TimeoutError: If it took longer.  The session is closed all the same; with
                an outbox, what was not sent has been reported.
            PermanentError: If the session has failed.
        """
        within = seconds("timeout", timeout)
        session, _ = self._entered()
        self._refuse_if_over()
        late = False
        try:
            async with asyncio.timeout(within):
                await session.flush()
        except TimeoutError:
            late = True
        except asyncio.CancelledError:
            session.reopen()
            raise
        await self.close()
        if self._error is not None:
            raise self._seen(self._error)
        if late:
            raise TimeoutError(f"not everything that was sent was confirmed within {within:g} s")

    # ------------------------------------------------------------ receiving

    def __aiter__(self) -> "_Messages":
        """Return an iterator over messages, across links and hand-overs.

        It ends after `close`, and raises `PermanentError` if the session fails.

        Raises:
            RuntimeError: If it is being iterated already.
        """
        self._entered()
        running = None if self._iterator is None else self._iterator()
        if running is not None:
            raise RuntimeError("the connection is being iterated already: it has one consumer")
        if not self._receive and not self._is_over:
            raise RuntimeError("the connection was made with receive=False: nothing to iterate")
        iterator = _Messages(self, self._inbox)
        self._iterator = weakref.ref(iterator)
        return iterator

    async def recv(self, timeout: Seconds | None = None) -> Message:
        """Return the next message.

        Args:
            timeout: Seconds to wait for it.  None (default) waits for as long as it takes.

        Raises:
            TimeoutError: If none came in time.
            NotConnected: If the connection was closed, and all was received.
            PermanentError: If the session has failed, and all was received.
            RuntimeError: If somebody else is waiting for a message.
        """
        within = None if timeout is None else seconds("timeout", timeout)
        self._entered()
        async with asyncio.timeout(within):
            message = await self._next()
        if message is None:
            raise NotConnected("the connection is closed, and everything was received")
        return message

    async def take(self, most: int) -> list[Message]:
        """Return the messages that are there, `most` of them at most, and wait for one.

        An empty list says that the connection is closed.  `dromos.sync` lives on it.
        """
        first = await self._next()
        if first is None:
            return []
        taken = [first]
        while self._inbox and len(taken) < most:
            taken.append(self._inbox.pop())
        return taken

    async def _next(self) -> Message | None:
        """Return the next message; None once there will be none."""
        message = await self._inbox.next()
        if message is None and self._error is not None:
            raise self._seen(self._error)
        return message

    def arrived(self, message: Message) -> None:
        """Keep a message until it is taken; the session calls this."""
        if self._receive:
            self._inbox.put(message)

    def arrived_untapped(self, message: Message) -> None:
        """The same for one that may be an answer; the session calls this."""
        if self._requests.pending and self._requests.take(message):
            return
        if self._receive:
            self._inbox.put(message)

    def all_arrived(self) -> None:
        """Report what there was no room for; the session calls this after a last message."""
        if self._inbox.dropped and not self._is_over:
            self._open_session.messages_dropped(self._inbox.dropped)

    # ------------------------------------------------------------ sending

    async def send(self, message: Sendable, *, timeout: Seconds = SEND_TIMEOUT) -> None:
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
            UnicodeEncodeError: If it is a str with a lone surrogate (RFC 6455, 5.6).
            RuntimeError: From another event loop.
        """
        if timeout is not SEND_TIMEOUT:
            timeout = seconds("timeout", timeout)
        if self._is_at_ease():
            try:
                written = self._sender(message)
            except NotConnected:
                pass  # a link that is closing: the next one may come in time
            else:
                await written
                return
        deadline = self._now() + seconds("timeout", timeout)
        outlet = self._open_session.outlet
        outlet.refuse_unsendable(message)
        self._refuse_if_over()
        if (greeting := self._greeting_send()) is not None:
            await greeting(message)
            return
        self._refuse_if_ending()
        if outlet.ledger is None:
            await (await self._write(message, deadline))
            return
        await (await self._post(message, deadline, outlet.ledger))

    async def request(
        self, message: Sendable, *, correlate: Correlate, timeout: Seconds = 10.0
    ) -> Message:
        """Send a message, and return the one that answers it; that one is not iterated.

        `correlate` is asked about every message that arrives while a request is pending,
        so it should be quick, and return None where it can't tell.  A request does not
        wait in an outbox, and is not kept there: what was not answered was not done, as
        far as anybody can know.

        Args:
            message: The request.
            correlate: Makes a key of a message; that of the answer equals the request's.
            timeout: Seconds for all of it.  Default 10.

        Raises:
            TimeoutError: If no answer came in time.  One that comes later is iterated.
            ConnectionClosed: If the request's link ended first.
            ReceivePaused: At once, if reading is paused because messages wait to be
                iterated: the answer would be behind them.
            NotConnected: If no link was open in time, or the connection is closed.
            PermanentError: If the session has failed.
            ValueError: If `correlate` makes None of the request, or a key that is pending.
            TypeError: If `correlate` is not callable, or its key not hashable.
        """
        if not callable(correlate):
            raise TypeError(f"correlate must be callable, not {type(correlate).__name__}")
        within = seconds("timeout", timeout, above=0)
        self._open_session.outlet.refuse_unsendable(message)
        self._refuse_if_over()
        self._refuse_if_paused()
        text = message if isinstance(message, str | bytes) else bytes(message)
        request = self._requests.begin(text, correlate)
        try:
            async with asyncio.timeout(within):
                return await self._ask(message, request, self._now() + within)
        except TimeoutError:
            if request.link is None:
                raise NotConnected(_NO_LINK) from None
            raise
        finally:
            self._requests.end(request)
            if request.link is not None and not self._requests.awaits(request.link):
                self._open_session.answered(request.link)

    async def _ask(self, message: Sendable, request: Request, deadline: float) -> Message:
        written = await self._write(message, deadline, request)
        await written
        return await request.answer

    async def _write(
        self, message: Sendable, deadline: float, request: Request | None = None
    ) -> Awaitable[None]:
        """Write a message to a link that takes it, which a link that is closing does not."""
        session = self._open_session
        while True:
            greeting = self._greeting_send()
            if greeting is None:
                await self._until_sendable(deadline)
            if request is not None:
                self._refuse_if_paused()
            record = session.outlet.record if greeting is None else greeting.made_for
            try:
                written = Sender(session.outlet, None if greeting is None else record)(message)
            except NotConnected:
                # An engine may not tell that its link is closing.
                if self._now() + CLOSING_PAUSE >= deadline:
                    raise
                await asyncio.wait([self._next_change()], timeout=CLOSING_PAUSE)
            else:
                if request is not None:
                    request.link = 0 if record is None else record.number
                return written

    def _is_at_ease(self) -> bool:
        """Whether a message can be written with no more ado: all is as it nearly always is."""
        session = self._session
        if session is None or asyncio.get_running_loop() is not self._loop:
            return False
        outlet = session.outlet
        record = outlet.record
        return (
            session.is_open
            and record is not None
            and not record.is_going_away
            and outlet.ledger is None
            and self._closing is None
            and not self._is_over
            and _greeting.get() is None
        )

    def _greeting_send(self) -> Sender | None:
        """The `send` of the link that is being greeted, for what its `on_connect` sends."""
        greeting = _greeting.get()
        if greeting is None or greeting[0] is not self or not greeting[1].is_greeting:
            return None
        return greeting[1]

    async def _post(self, message: Sendable, deadline: float, ledger: Ledger) -> Awaitable[None]:
        """Give a message to the outbox, once there is room in it."""
        if ledger.rules.when_full != "wait":
            return self._sender(message)
        # Whoever waits for room goes first.
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            raise ledger.full(size_of(message)) from None
        try:
            while True:
                self._refuse_if_ending()
                try:
                    return self._sender(message)
                except SendBufferFull as full:
                    await self._wait_for_room(full, deadline, ledger)
        finally:
            self._turn.release()

    async def _wait_for_room(self, full: SendBufferFull, deadline: float, ledger: Ledger) -> None:
        while not ledger.has_room(full.size):
            left = deadline - self._now()
            if left <= 0:
                raise full
            await asyncio.wait([self._next_change()], timeout=left)
            self._refuse_if_ending()

    async def _until_sendable(self, deadline: float) -> None:
        while not self._is_sendable():
            self._refuse_if_ending()
            self._refuse_in_callback()
            left = deadline - self._now()
            if left <= 0:
                raise NotConnected(_NO_LINK)
            await asyncio.wait([self._next_change()], timeout=left)
        self._refuse_if_ending()

    def _refuse_in_callback(self) -> None:
        """Refuse to wait for what can only come after the callback that waits."""
        if self._open_session.owns(asyncio.current_task()):
            raise NotConnected("no link is open, and the next one is greeted after this callback")

    def _is_sendable(self) -> bool:
        session = self._open_session
        record = session.outlet.record
        if record is None or record.link is None or record.is_going_away:
            return False
        return session.is_open

    # ------------------------------------------------------------ what it looks like

    @property
    def state(self) -> SessionState:
        """Where the session is; `"open"` once a link is greeted, hand-overs included."""
        return "closed" if self._session is None or self._is_over else self._session.phase

    @property
    def link(self) -> int | None:
        """The number of the link that serves; None while there is none."""
        record = self._record
        return None if record is None else record.number

    @property
    def latency(self) -> float | None:
        """Seconds that the last ping on the link that serves took; None if unknown."""
        record = self._record
        return None if record is None else record.pings.latency

    @property
    def error(self) -> PermanentError | None:
        """What has ended the session for good; None if nothing has."""
        return self._error

    def snapshot(self) -> Snapshot:
        """Return everything about the session at this moment."""
        self._entered()
        return self._open_session.snapshot()

    def events(self) -> "EventStream":
        """Return an iterator over this session's events from now on.

        It keeps 256 of them; if you are slower, the oldest are dropped and counted.
        """
        self._entered()
        stream = EventStream(is_over=self._is_over)
        self._streams.add(stream)
        return stream

    async def wait_open(self, timeout: Seconds | None = None) -> int:
        """Return the number of the open link, once there is one.

        Args:
            timeout: Seconds to wait for it.  None (default) waits for as long as it takes.

        Raises:
            TimeoutError: If there was none in time.
            NotConnected: If the connection is closed.
            PermanentError: If the session has failed.
        """
        within = None if timeout is None else seconds("timeout", timeout)
        session, _ = self._entered()
        async with asyncio.timeout(within):
            while True:
                self._refuse_if_over()
                record = session.outlet.record
                if session.is_open and record is not None:
                    return record.number
                self._refuse_in_callback()
                await asyncio.wait([self._next_change()])

    async def renew(self) -> None:
        """Obtain a new token now, and hand over to a link that was opened with it.

        Where the far side allows one link only, or with `renewal="keep"`, the token is
        renewed in memory; a handler with `on_token_refresh` renews it in band.  A call
        while something is being renewed waits for that.

        Raises:
            NotConnected: If no link is open, or it was lost meanwhile: the next one is
                dialled with a token that is asked for anyway.
            TokenError: If there is no new token.  It is tried again, as is what follows.
            HandshakeError: If the next link did not open.
            ConnectionClosed: If it did not come to serve.
            Exception: Whatever `on_handover` or `on_connect` raised on the next link.
            PermanentError: If the session has failed.
        """
        session, _ = self._entered()
        self._refuse_if_over()
        if not session.is_open:
            raise NotConnected("no link is open, so there is none to renew")
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_future()
        renewal = self._renewal
        session.request_renewal()
        if not session.is_renewing and not renewal.done():
            self._fail_renewal(BridgeError("the session will end with this link: see its events"))
        await asyncio.shield(renewal)

    def __repr__(self) -> str:
        return f"<Connection {self.state}, link {self.link}>"

    # ------------------------------------------------------------ what the session tells

    def on_event(self, event: BridgeEvent) -> None:
        """Pass an event on; the session calls this."""
        for stream in list(self._streams):
            stream.put(event)
        match event:
            case LinkLost(link=link, error=error):
                self._requests.fail(error, link=link)
            case RenewalFailed(error=error) | EndDeferred(error=error):
                self._fail_renewal(error)
            case MessagesUnsent() | DeliveryUnknown():
                self._tell_changed()  # there is room in the outbox
            case _:
                pass

    def on_change(self) -> None:
        """Let those look again who wait for something; the session calls this."""
        session, renewal = self._open_session, self._renewal
        if session.phase == "closing":
            self._inbox.close()
        if renewal is not None and not renewal.done():
            if not session.is_open:
                self._fail_renewal(NotConnected("the link was lost while it was renewed"))
            elif not session.is_renewing:
                renewal.set_result(None)
        self._tell_changed()

    async def _keep(self, session: Session) -> None:
        try:
            await session.run()
        except PermanentError as error:
            self._error = error
        finally:
            self._end()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Note the end of a task that was cancelled before its first step, which notes nothing."""
        if not self._is_over:
            self._open_session.note_end()
            self._end()

    def _end(self) -> None:
        self._is_over = True
        reason = self._error or NotConnected("the connection is closed")
        self._requests.fail(reason)
        self._fail_renewal(reason)
        self._inbox.end()
        for stream in list(self._streams):
            stream.end()
        self._tell_changed()

    def _fail_renewal(self, error: Exception) -> None:
        if self._renewal is not None and not self._renewal.done():
            self._renewal.set_exception(error)
            self._renewal.exception()  # whoever waited may be gone

    # ------------------------------------------------------------ small things

    @property
    def _open_session(self) -> Session:
        return self._entered()[0]

    @property
    def _record(self) -> LinkRecord | None:
        return None if self._session is None else self._session.outlet.record

    def _entered(self) -> tuple[Session, asyncio.Task[None]]:
        """The session and its task; or say what to do first."""
        if self._session is None or self._task is None:
            raise RuntimeError("enter the connection first: async with bridge.connect(...)")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "the connection belongs to another event loop; use "
                "asyncio.run_coroutine_threadsafe, or dromos.sync"
            )
        return self._session, self._task

    def _now(self) -> float:
        """The time, on the loop that the connection belongs to."""
        self._entered()
        return asyncio.get_running_loop().time()

    def _refuse_if_over(self) -> None:
        if self._error is not None:
            raise self._seen(self._error)
        if self._closing is not None or self._is_over:
            raise NotConnected(f"{self._closing or 'the connection is closed'}; nothing was sent")

    def _refuse_if_ending(self) -> None:
        """Refuse what is new, while what was sent is to arrive and then all is to end."""
        self._refuse_if_over()
        if self._open_session.is_flushing:
            raise NotConnected(BEING_DRAINED)

    def _refuse_if_paused(self) -> None:
        record = self._record
        if not self._inbox.flows or (record is not None and record.is_paused):
            raise ReceivePaused(
                f"{len(self._inbox)} messages wait to be iterated, so reading is paused and "
                "an answer could not arrive; the request was not sent"
            )

    def _seen(self, error: PermanentError) -> PermanentError:
        self._error_was_seen = True
        # Raised again and again, it would collect every frame that it went through.
        return error.with_traceback(None)

    def _next_change(self) -> asyncio.Future[None]:
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    def _tell_changed(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class _Messages:
    """What `async for` iterates; the connection knows whether it is still there."""

    def __init__(self, connection: Connection, inbox: Inbox) -> None:
        self._connection = connection
        self._inbox = inbox

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._inbox:
            return self._inbox.pop()
        message = await self._connection._next()  # pyright: ignore[reportPrivateUsage]
        if message is None:
            raise StopAsyncIteration
        return message


class _Face:
    """The handler that the engine drives for a `Connection`."""

    def __init__(
        self,
        connection: Connection,
        on_connect: ConnectCallback | None,
        on_handover: ConnectCallback | None,
        on_disconnect: DisconnectCallback | None,
        on_token_refresh: RefreshCallback | None,
    ) -> None:
        given: dict[str, Any] = {
            "on_connect": on_connect,
            "on_handover": on_handover,
            "on_disconnect": on_disconnect,
            "on_token_refresh": on_token_refresh,
        }
        for name, callback in given.items():
            if callback is not None and not callable(callback):
                raise TypeError(f"{name} must be callable or None, not {type(callback).__name__}")
        self._connection = connection
        self._on_connect = on_connect
        self.on_message = connection.arrived
        self._on_disconnect = on_disconnect
        self.on_handover = (
            None if on_handover is None else functools.partial(self._greet, on_handover)
        )
        self.on_token_refresh = on_token_refresh

    async def on_connect(self, send: Sender) -> None:
        """Call the user's."""
        if self._on_connect is not None:
            await self._greet(self._on_connect, send)

    def on_disconnect(self, error: Exception | None) -> Awaitable[None] | None:
        """Call the user's: everything has arrived."""
        self._connection.all_arrived()
        return None if self._on_disconnect is None else self._on_disconnect(error)

    async def _greet(self, callback: ConnectCallback, send: Sender) -> None:
        """Call it; what it sends, and starts, may send although the link is not open yet."""
        token = _greeting.set((self._connection, send))
        try:
            result = callback(send)
            if result is not None:
                await result
        finally:
            _greeting.reset(token)
