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
        self._waiters: asyncio.Future[None] | None = None
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
        self._timer = self._loop.call_later(self._timeout / 4, self._look)

    def wrote(self, size: int) -> None:
        """Note that the caller has added to the buffer; that is no progress."""
        self._mark += size

    def unblock(self) -> None:
        """The buffer is below its mark."""
        self.blocked = False
        self._stop()
        if self._waiters is not None and not self._waiters.done():
            self._waiters.set_result(None)
        self._waiters = None

    def end(self, error: ConnectionClosed) -> None:
        """The link ended: those who wait hear why."""
        self._stop()
        if self._waiters is not None and not self._waiters.done():
            self._waiters.set_exception(error)
            self._waiters.exception()  # whoever waited may be gone
        self._waiters = None

    async def wait_drained(self) -> None:
        """Wait until the buffer is below its mark.

        Raises:
            ConnectionClosed: If the link ends first.
        """
        if self._record.error is not None:
            raise self._record.error
        if not self.blocked:
            return
        if self._waiters is None:
            self._waiters = self._loop.create_future()
        # Shielded: one waiter that is cancelled must not cancel the others.
        await asyncio.shield(self._waiters)

    def _look(self) -> None:
        now, buffered = self._loop.time(), self._record.buffered
        if buffered < self._mark:
            self._progress_at = now
        self._mark = buffered
        if now - self._progress_at >= self._timeout:
            self._record.abort(f"no write progress for {self._timeout:g} s")
            return
        self._timer = self._loop.call_later(self._timeout / 4, self._look)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
