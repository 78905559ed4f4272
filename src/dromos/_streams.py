"""What a connection is iterated from: its messages, and its events."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Self, TypeVar

from dromos.events import BridgeEvent
from dromos.model import Message

__all__ = ["EVENTS_KEPT", "EventStream", "Inbox"]

EVENTS_KEPT: Final = 256

T = TypeVar("T")


class _Line(Generic[T]):
    """Things that wait for one consumer, until there will be no more."""

    what: str

    def __init__(self, *, is_over: bool = False) -> None:
        self._items: deque[T] = deque()
        self._is_over = is_over
        self._waiter: asyncio.Future[None] | None = None

    def end(self) -> None:
        """Note that there will be no more."""
        self._is_over = True
        self._wake()

    async def _has_next(self) -> bool:
        """Wait for the next one; False once there will be none."""
        while not self._items:
            if self._is_over:
                return False
            if self._waiter is not None:
                raise RuntimeError(f"somebody is waiting for {self.what} already")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return True

    def _add(self, item: T) -> None:
        self._items.append(item)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Inbox(_Line[Message]):
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

    what = "a message"

    def __init__(
        self,
        *,
        messages: int,
        size: int,
        hold_back: Callable[[], None],
        let_flow: Callable[[], None],
    ) -> None:
        super().__init__()
        self.flows = True
        self.dropped = 0
        self._most = messages, size
        self._hold_back = hold_back
        self._let_flow = let_flow
        self._size = 0
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_brimming(self) -> bool:
        """Whether it holds twice what is enough."""
        messages, size = self._most
        return len(self._items) >= 2 * messages or self._size >= 2 * size

    def put(self, message: Message) -> None:
        """Keep a message until it is taken; at the end, as long as there is room."""
        if self._is_closing and (self.dropped or self.is_brimming):
            self.dropped += 1  # and all that follow: a stream has no holes
            return
        items = self._items
        items.append(message)
        self._size += len(message)
        if self._waiter is not None:
            self._wake()
        messages, size = self._most
        full = len(items) >= messages or self._size >= size
        if full and self.flows and not self._is_closing:
            self.flows = False
            self._hold_back()

    def close(self) -> None:
        """Let come what is still to come: the far side's CLOSE is behind it.  Idempotent."""
        if not self._is_closing:
            self._is_closing = True
            self.flows = True
            self._let_flow()

    async def next(self) -> Message | None:
        """Return the next message; None once there will be none.

        Raises:
            RuntimeError: If somebody else is waiting for one.
        """
        return self.pop() if self._items or await self._has_next() else None

    def pop(self) -> Message:
        """Return a message that is there."""
        message = self._items.popleft()
        self._size -= len(message)
        if not self.flows:
            messages, size = self._most
            if len(self._items) <= messages // 2 and self._size <= size // 2:
                self.flows = True
                self._let_flow()
        return message


class EventStream(_Line[BridgeEvent]):
    """A session's events, to be iterated: `async for event in connection.events()`.

    Attributes:
        dropped: Events that were dropped because you were slower than they came.
    """

    what = "an event"

    def __init__(self, *, is_over: bool = False) -> None:
        super().__init__(is_over=is_over)
        self.dropped = 0

    def put(self, event: BridgeEvent) -> None:
        """Keep an event until it is taken."""
        self._add(event)
        if len(self._items) > EVENTS_KEPT:
            self._items.popleft()
            self.dropped += 1

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BridgeEvent:
        if not await self._has_next():
            raise StopAsyncIteration
        return self._items.popleft()
