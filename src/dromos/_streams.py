"""What a connection is iterated from: its messages, and its events."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from dromos.events import BridgeEvent
from dromos.model import Message

__all__ = ["EVENTS_KEPT", "EventStream", "Inbox"]

EVENTS_KEPT: Final = 256


class Inbox:
    """Messages that nobody has taken yet.  It says when to stop reading, and when to go on.

    Args:
        messages: How many are enough.
        size: How many bytes of them are.
        hold_back: Called when there are enough.
        let_flow: Called when half of that is left.

    Attributes:
        flows: Whether it has room.
        dropped: Messages that came at the end, and for which there was no room.
    """

    def __init__(
        self,
        *,
        messages: int,
        size: int,
        hold_back: Callable[[], None],
        let_flow: Callable[[], None],
    ) -> None:
        self.flows = True
        self.dropped = 0
        self._most = messages, size
        self._hold_back = hold_back
        self._let_flow = let_flow
        self._queue: deque[Message] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._is_closing = False
        self._is_over = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_brimming(self) -> bool:
        """Whether it holds twice what is enough."""
        messages, size = self._most
        return len(self._queue) >= 2 * messages or self._size >= 2 * size

    def put(self, message: Message) -> None:
        """Keep a message until it is taken; at the end, as long as there is room."""
        if self.dropped or (self._is_closing and self.is_brimming):
            self.dropped += 1  # and all that follow: a stream has no holes
            return
        self._queue.append(message)
        self._size += len(message)
        self._wake()
        messages, size = self._most
        full = len(self._queue) >= messages or self._size >= size
        if full and self.flows and not self._is_closing:
            self.flows = False
            self._hold_back()

    def close(self) -> None:
        """Let come what is still to come: the far side's CLOSE is behind it.  Idempotent."""
        if not self._is_closing:
            self._is_closing = True
            self.flows = True
            self._let_flow()

    def end(self) -> None:
        """Note that there will be no more."""
        self._is_over = True
        self._wake()

    async def next(self) -> Message | None:
        """Return the next message; None once there will be none.

        Raises:
            RuntimeError: If somebody else is waiting for one.
        """
        while not self._queue:
            if self._is_over:
                return None
            if self._waiter is not None:
                raise RuntimeError("somebody is waiting for a message already")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.pop()

    def pop(self) -> Message:
        """Return a message that is there."""
        message = self._queue.popleft()
        self._size -= len(message)
        messages, size = self._most
        if not self.flows and len(self._queue) <= messages // 2 and self._size <= size // 2:
            self.flows = True
            self._let_flow()
        return message

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EventStream:
    """A session's events, to be iterated: `async for event in connection.events()`.

    Attributes:
        dropped: Events that were dropped because you were slower than they came.
    """

    def __init__(self, *, is_over: bool = False) -> None:
        self.dropped = 0
        self._events: deque[BridgeEvent] = deque()
        self._is_over = is_over
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: BridgeEvent) -> None:
        """Keep an event until it is taken."""
        self._events.append(event)
        if len(self._events) > EVENTS_KEPT:
            self._events.popleft()
            self.dropped += 1
        self._wake()

    def end(self) -> None:
        """Note that there will be no more."""
        self._is_over = True
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BridgeEvent:
        while not self._events:
            if self._is_over:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError("somebody is waiting for an event already")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._events.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
