"""What users iterate: the messages and events of a connection, the failures of a group."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Self, TypeVar

from dromos.events import BridgeEvent
from dromos.model import Message, SessionFailure

__all__ = ["EVENTS_KEPT", "FAILURES_KEPT", "EventStream", "FailureStream", "Failures", "Inbox"]

EVENTS_KEPT: Final = 256
FAILURES_KEPT: Final = 1024

_log: Final = logging.getLogger("dromos")

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
            await self._change()
        return True

    async def _change(self) -> None:
        """Wait until something may be different."""
        if self._waiter is not None:
            raise RuntimeError(f"somebody is waiting for {self.what} already")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

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


class Failures(_Line[SessionFailure]):
    """A group's failures that nobody has taken yet.

    Args:
        is_idle: Whether no session runs in the group.

    Attributes:
        dropped: How many were dropped because nobody took them.
    """

    what = "a failure"

    def __init__(self, *, is_idle: Callable[[], bool]) -> None:
        super().__init__()
        self.dropped = 0
        self._is_idle = is_idle

    def __len__(self) -> int:
        return len(self._items)

    def put(self, failure: SessionFailure) -> None:
        """Keep a failure until it is taken."""
        self._add(failure)
        if len(self._items) > FAILURES_KEPT:
            self.dropped += 1
            log_failure(self._items.popleft(), "too many failures that nobody took")

    def take_all(self) -> list[SessionFailure]:
        """Return what nobody has taken."""
        left = list(self._items)
        self._items.clear()
        return left

    def look_again(self) -> None:
        """Have whoever waits see whether the group is idle now."""
        self._wake()

    async def next(self, *, until_idle: bool) -> SessionFailure | None:
        """Return the next one; None once there will be none, or none runs that might fail."""
        while not self._items:
            if self._is_over or (until_idle and self._is_idle()):
                return None
            await self._change()
        return self._items.popleft()


class FailureStream:
    """A group's failures, to be iterated: `async for failure in group.failures()`."""

    def __init__(self, failures: Failures, *, until_idle: bool) -> None:
        """Take what is iterated; `Group.failures` calls this."""
        self._failures = failures
        self._until_idle = until_idle

    @property
    def dropped(self) -> int:
        """How many were dropped because nobody took them, each with a line in the log."""
        return self._failures.dropped

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionFailure:
        failure = await self._failures.next(until_idle=self._until_idle)
        if failure is None:
            raise StopAsyncIteration
        return failure


def log_failure(failure: SessionFailure, why: str) -> None:
    """Write a failure to the log, where it would else be lost."""
    _log.error("%s: session of %r failed: %s", why, failure.connection_id, failure.error)
