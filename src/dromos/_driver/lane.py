"""Runs a handler's callbacks, one at a time and in the order of events."""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from dromos._driver.callbacks import Callback, Callbacks, stray_cancellation
from dromos._driver.links import HOLD_BYTES, HOLD_MESSAGES, LinkRecord
from dromos._driver.sending import Sender
from dromos.errors import ConnectionClosed
from dromos.model import Message, Token

__all__ = ["Lane", "LaneOwner"]


class LaneOwner(Protocol):
    """The session, as the lane sees it."""

    def greeted(self, record: LinkRecord) -> None: ...

    def greeting_failed(self, record: LinkRecord, method: str, error: Exception) -> None: ...

    def token_offered(self, record: LinkRecord, *, accepted: bool) -> None: ...

    def handler_failed(self, method: str, error: Exception) -> None: ...

    def make_sender(self, record: LinkRecord) -> Sender: ...


class Lane:
    """The order of a session's callbacks.

    Messages of a link follow its `on_connect`; `on_disconnect` follows the
    last message of the links before; the next `on_connect` follows that.

    A plain `def on_message` is called by the link itself while the lane has
    nothing else to do: no queue, no task switch.
    """

    def __init__(self, callbacks: Callbacks, owner: LaneOwner) -> None:
        self._callbacks = callbacks
        self._owner = owner
        self._inbox: deque[Message | Callable[[], Awaitable[None]]] = deque()
        self._size = 0
        self._messages = 0
        self._source: LinkRecord | None = None
        self._farewell: tuple[Exception | None, list[LinkRecord]] | None = None
        self._after_farewell: list[Callable[[], Awaitable[None]]] = []
        self._connected = False
        self._direct = False
        self._busy = False
        self._idle: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        # A plain function may still return an awaitable: its first call tells.
        self._may_be_direct = False
        self.method: str | None = None

    def start(self, spawn: Callable[..., asyncio.Task[None]]) -> None:
        """Begin to run callbacks."""
        self._spawn = spawn
        self._task = spawn(self._run(), "lane")

    # What the session orders

    def greet(self, record: LinkRecord, within: float) -> None:
        """Run `on_connect` in its turn."""
        self._add(lambda: self._on_connect(record, within))

    def greet_successor(self, record: LinkRecord, within: float) -> None:
        """Run `on_handover` now, beside the callbacks of the link that serves."""
        method = self._callbacks.on_handover
        coroutine = self._introduce(record, "on_handover", method, within)
        self._greeting = self._spawn(coroutine, f"handover-{record.number}")

    def offer_token(self, record: LinkRecord, token: Token) -> None:
        """Run `on_token_refresh` in its turn."""
        self._add(lambda: self._on_token_refresh(record, token))

    def part(self, error: Exception | None, closing: list[LinkRecord]) -> None:
        """Run `on_disconnect` once these links have ended and all they had is delivered."""
        self._farewell = error, closing
        self.settle()

    def settle(self) -> None:
        """Look again whether `on_disconnect` may be queued, after a link has ended."""
        if self._farewell is None:
            return
        error, closing = self._farewell
        if any(record.link is not None for record in closing):
            return
        self._farewell = None
        self._add(lambda: self._on_disconnect(error))
        later, self._after_farewell = self._after_farewell, []
        for item in later:
            self._add(item)

    def flow(self, record: LinkRecord) -> None:
        """Deliver this link's messages from now on, the held ones first."""
        self._source = record
        for message in record.take_held():
            self._put(message)
        if record.link is not None:
            record.deliver_to(self.take)
            if not self._is_full():
                record.resume_reading()
        self._wake()
        self._try_direct()

    def take(self, message: Message) -> None:
        """Queue a message."""
        self._put(message)
        if self._idle is not None:
            self._wake()
        if self._messages >= HOLD_MESSAGES or self._size >= HOLD_BYTES:
            self._pause()

    async def drain(self) -> None:
        """Wait until all that was queued has been run."""
        while self._busy or self._inbox or self._farewell is not None:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    async def cancel(self, deadline: float) -> int:
        """Cancel the running callback, drop the queue, and run `on_disconnect` if it is due.

        Args:
            deadline: For all of this, in monotonic seconds.

        Returns:
            How many messages were dropped.
        """
        dropped = self._messages
        if self._source is not None:
            dropped += len(self._source.held)
            self._source.deliver_to(_discard)
        self._inbox.clear()
        tasks = [task for task in (self._task, self._greeting) if task is not None]
        for task in tasks:
            task.cancel()
        now = asyncio.get_running_loop().time
        if tasks:
            # A callback that swallows its cancellation must not eat all the time there is.
            await asyncio.wait(tasks, timeout=(deadline - now()) / 2)
        if self._connected:
            await self._on_disconnect_within(deadline - now())
        return dropped

    # The task

    async def _run(self) -> None:
        while True:
            self._busy = True
            while self._inbox:
                item = self._inbox.popleft()
                if callable(item):
                    await item()
                    continue
                self._messages -= 1
                self._size -= len(item)
                await self._on_message(item)
                self._resume_if_low()
            self._busy = False
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
            self._try_direct()
            self._idle = asyncio.get_running_loop().create_future()
            try:
                await self._idle
            finally:
                self._idle = None

    async def _on_message(self, message: Message) -> None:
        self.method = "on_message"
        try:
            result = self._callbacks.on_message(message)
            if result is None:
                self._may_be_direct = not self._callbacks.is_async
            else:
                with stray_cancellation("on_message"):
                    await result
        except Exception as error:
            self._owner.handler_failed("on_message", error)

    async def _on_connect(self, record: LinkRecord, within: float) -> None:
        """Greet a link, although it may be lost already: what it said still counts."""
        self._connected = True
        await self._introduce(record, "on_connect", self._callbacks.on_connect, within)
        if record.greeted and record.link is None:
            for message in record.take_held():
                await self._on_message(message)

    async def _introduce(
        self, record: LinkRecord, name: str, method: Callback, within: float
    ) -> None:
        self.method = name
        send = self._owner.make_sender(record)
        limit = asyncio.timeout(within)
        try:
            async with limit:
                result = method(send)
                if result is not None:
                    with stray_cancellation(name):
                        await result
        except Exception as raised:
            late = ConnectionClosed(
                code=1000, reason=f"{name} took over {within:g} s", by_peer=False
            )
            self._owner.greeting_failed(record, name, late if limit.expired() else raised)
        else:
            record.greeted = True
            self._owner.greeted(record)

    async def _on_token_refresh(self, record: LinkRecord, token: Token) -> None:
        method = self._callbacks.on_token_refresh
        accepted = False
        if method is not None and record.link is not None:
            self.method = "on_token_refresh"
            try:
                result = method(token, self._owner.make_sender(record))
                if inspect.isawaitable(result):
                    with stray_cancellation("on_token_refresh"):
                        result = await result
                accepted = result is not False
            except Exception as error:
                self._owner.handler_failed("on_token_refresh", error)
        self._owner.token_offered(record, accepted=accepted)

    async def _on_disconnect(self, error: Exception | None) -> None:
        if self._greeting is not None and not self._greeting.done():
            await asyncio.wait([self._greeting])
        if not self._connected:
            return
        self._connected = False
        self.method = "on_disconnect"
        try:
            result = self._callbacks.on_disconnect(error)
            if result is not None:
                with stray_cancellation("on_disconnect"):
                    await result
        except Exception as raised:
            self._owner.handler_failed("on_disconnect", raised)

    async def _on_disconnect_within(self, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self._on_disconnect(None)
        except TimeoutError:
            error = TimeoutError(f"on_disconnect took over {within:g} s and was cancelled")
            self._owner.handler_failed("on_disconnect", error)

    # The queue

    def _add(self, item: Callable[[], Awaitable[None]]) -> None:
        if self._farewell is not None:
            self._after_farewell.append(item)
            return
        self._leave_direct()
        self._inbox.append(item)
        self._wake()

    def _put(self, message: Message) -> None:
        self._inbox.append(message)
        self._messages += 1
        self._size += len(message)

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _is_full(self) -> bool:
        return self._messages >= HOLD_MESSAGES or self._size >= HOLD_BYTES

    def _pause(self) -> None:
        if self._source is not None:
            self._source.pause_reading()

    def _resume_if_low(self) -> None:
        source = self._source
        if source is None or not source.is_paused:
            return
        if self._messages <= HOLD_MESSAGES // 2 and self._size <= HOLD_BYTES // 2:
            source.resume_reading()

    # The short way

    def _try_direct(self) -> None:
        if self._busy or self._inbox or not self._may_be_direct or self._source is None:
            return
        if not self._direct:
            self._direct = True
        self._source.deliver_to(self._callbacks.on_message)

    def _leave_direct(self) -> None:
        if self._direct and self._source is not None:
            self._direct = False
            self._source.deliver_to(self.take)


def _discard(message: Message) -> Any:
    """Take what comes after the end."""
