"""The pings of one link: what their answers prove about it, and about what was sent before."""

import asyncio
from typing import Final, NamedTuple, Protocol

__all__ = ["BARRIER_EVERY", "BARRIER_MESSAGES", "Pinged", "Pings"]

BARRIER_EVERY: Final = 1.0
"""Seconds after which messages that were written are asked after, with a ping."""

BARRIER_MESSAGES: Final = 256
"""Messages after which they are, without waiting for that."""

MARKS: Final = 64
"""Unanswered pings that are kept in mind; a far side that answers none is soon given up."""


class _Mark(NamedTuple):
    """A ping: its number, how many messages came before it, and when it was written."""

    number: int
    sent: int
    at: float


class Pinged(Protocol):
    """A link's record, as its pings see it."""

    @property
    def is_paused(self) -> bool: ...

    def tick(self) -> float: ...

    def write_ping(self, payload: bytes) -> None: ...


class Pings:
    """Numbers pings, and knows what an answered one confirms.

    Attributes:
        sent: How many messages were written so far; whoever writes counts.
        confirmed: How many of them came before a ping that was answered.
        latency: Seconds that the last answered ping took, or None.
        are_answered: Whether the far side has ever answered one.
    """

    __slots__ = (
        "_asked_after",
        "_barrier",
        "_is_over",
        "_loop",
        "_marks",
        "_number",
        "_record",
        "are_answered",
        "confirmed",
        "latency",
        "sent",
    )

    def __init__(self, record: Pinged) -> None:
        self.sent = 0
        self.confirmed = 0
        self.latency: float | None = None
        self.are_answered = False
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._marks: tuple[_Mark, ...] = ()  # few, and most of the time none
        self._asked_after = 0
        self._barrier: asyncio.TimerHandle | None = None
        self._is_over = False

    def ping(self) -> int:
        """Write one, and return its number."""
        self._number += 1
        self._asked_after = self.sent
        mark = _Mark(self._number, self.sent, self._record.tick())
        self._marks = (*self._marks, mark)[-MARKS:]
        self._record.write_ping(_payload(self._number))
        return self._number

    def answered(self, payload: bytes) -> int | None:
        """Take what was written before an answered ping for arrived, and return its number.

        RFC 6455, 5.5.3: of several pings the last may be answered alone.
        """
        for position, mark in enumerate(self._marks):
            if payload == _payload(mark.number):
                self._marks = self._marks[position + 1 :]
                self.are_answered = True
                self.confirmed = mark.sent
                self.latency = self._record.tick() - mark.at
                return mark.number
        return None

    def ask_after(self) -> None:
        """See to it that a ping follows what was written: at once after many, else soon."""
        if self.sent - self._asked_after >= BARRIER_MESSAGES:
            self.ping()
        elif self._barrier is None:
            self._barrier = self._loop.call_later(BARRIER_EVERY, self._ask_again)

    def ask_after_now(self) -> None:
        """Ping, if something was written since the last one."""
        if not self._is_over and self.sent > self._asked_after:
            self.ping()

    def ask_again(self) -> bool:
        """Ping once more, and return whether something is unconfirmed: a ping may go astray."""
        if self._is_over or self.confirmed >= self.sent:
            return False
        if not self._record.is_paused or self.sent > self._asked_after:
            self.ping()
        return True

    def end(self) -> None:
        """Write no more."""
        self._is_over = True
        if self._barrier is not None:
            self._barrier.cancel()

    def _ask_again(self) -> None:
        """Go on pinging once a second while something is unconfirmed."""
        self._barrier = None
        if self.ask_again():
            self._barrier = self._loop.call_later(BARRIER_EVERY, self._ask_again)


def _payload(number: int) -> bytes:
    return b"dromos %d" % number
