"""Whether a link's write buffer drains, and who waits for that."""

import asyncio
from typing import Protocol

from dromos.errors import ConnectionClosed

__all__ = ["Writing", "WritingOwner"]


class WritingOwner(Protocol):
    """A link's record, as the watch over its write buffer sees it."""

    error: ConnectionClosed | None

    @property
    def buffered(self) -> int: ...

    def abort(self, why: str) -> None: ...


class Writing:
    """Whether a link's write buffer is over its high-water mark, and whether it shrinks."""

    __slots__ = (
        "_loop",
        "_mark",
        "_progress_at",
        "_record",
        "_timeout",
        "_timer",
        "_waiters",
        "blocked",
    )

    def __init__(self, record: WritingOwner, timeout: float) -> None:
        self.blocked = False
        self._record = record
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._waiters: list[asyncio.Future[None]] | None = None  # few links ever have any
        self._timer: asyncio.TimerHandle | None = None
        self._mark = 0
        self._progress_at = 0.0

    def block(self) -> None:
        """The buffer went over its mark: watch for progress."""
        if self.blocked:
            return
        self.blocked = True
        self._mark = self._record.buffered
        self._progress_at = self._loop.time()
        # In a flood this comes every few messages: a timer that is due anyway will do.
        if self._timer is None:
            self._look_soon()

    def wrote(self, size: int) -> None:
        """Note that the caller has added to the buffer; that is no progress."""
        self._mark += size

    def unblock(self) -> None:
        """The buffer is below its mark."""
        self.blocked = False
        for waiter in self._taken_waiters():
            waiter.set_result(None)

    def end(self, error: ConnectionClosed) -> None:
        """The link ended: those who wait hear why."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiter in self._taken_waiters():
            _fail(waiter, error)

    def drained(self) -> asyncio.Future[None]:
        """Return a future of the caller's own, done once the buffer is below its mark.

        It raises `ConnectionClosed` if the link ends first.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self._record.error is not None:
            _fail(waiter, self._record.error)
        elif self.blocked:
            self._waiters = self._waiters or []
            self._waiters.append(waiter)
        else:
            waiter.set_result(None)
        return waiter

    def _taken_waiters(self) -> list[asyncio.Future[None]]:
        """Return those who still wait, and forget them."""
        waiters, self._waiters = self._waiters or (), None
        return [waiter for waiter in waiters if not waiter.done()]

    def _look_soon(self) -> None:
        self._timer = self._loop.call_later(self._timeout / 4, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self.blocked:
            return
        self._waiters = self._taken_waiters()  # but for those who gave up: it may go on for hours
        now, buffered = self._loop.time(), self._record.buffered
        if buffered < self._mark:
            self._progress_at = now
        self._mark = buffered
        if now - self._progress_at >= self._timeout:
            self._record.abort(f"no write progress for {self._timeout:g} s")
            return
        self._look_soon()


def _fail(waiter: asyncio.Future[None], error: ConnectionClosed) -> None:
    waiter.set_exception(error)
    waiter.exception()  # whoever waited may be gone
