"""Takes nothing more to be sent, and waits until what was taken has arrived."""

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final, Protocol

from dromos._driver.links import LinkRecord
from dromos._driver.sending import Outlet

__all__ = ["Flush", "FlushOwner"]

LOOK_AGAIN: Final = 1.0
"""Seconds after which it asks again: an answer may go astray."""


class FlushOwner(Protocol):
    """The session, as its flush sees it."""

    @property
    def outlet(self) -> Outlet: ...

    @property
    def records(self) -> Iterable[LinkRecord]: ...

    @property
    def is_ending(self) -> bool: ...


class Flush:
    """The flushes of one session: any number at once, each for whoever asked.

    If a link is lost meanwhile, what it took with it has been reported and is not waited
    for; what waits in the outbox is.
    """

    __slots__ = ("_changed", "_owner", "_under_way")

    def __init__(self, owner: FlushOwner) -> None:
        self._owner = owner
        self._under_way = 0
        self._changed: asyncio.Future[None] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether nothing is taken to be sent, until what was taken has arrived."""
        return self._under_way > 0

    @contextmanager
    def begun(self) -> Generator[None]:
        """Shut the outlet, which stays shut, for whoever waits in here."""
        self._under_way += 1
        self._owner.outlet.shut()
        try:
            yield
        finally:
            self._under_way -= 1
            self.look()

    async def finished(self) -> None:
        """Wait until all has arrived, or nobody flushes any more."""
        while not self._is_done() and self.is_under_way:
            changed, _ = await asyncio.wait([self._next_look()], timeout=LOOK_AGAIN)
            if not changed:
                for record in self._open_links():
                    record.pings.ask_again()

    def look(self) -> None:
        """Look again: something has changed."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _is_done(self) -> bool:
        """Whether all that was sent has arrived; if not, have it confirmed soon."""
        owner = self._owner
        if owner.is_ending:
            return True
        for record in self._open_links():
            record.pings.ask_after_now()
        if owner.outlet.ledger is not None:
            return not owner.outlet.ledger.count
        return all(record.pings.confirmed >= record.pings.sent for record in owner.records)

    def _open_links(self) -> list[LinkRecord]:
        return [record for record in self._owner.records if record.is_open]

    def _next_look(self) -> asyncio.Future[None]:
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed
