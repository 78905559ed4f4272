"""What was given to be sent: what waits for a link, and what a link has not confirmed."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dromos.errors import MessageTooBig, NotConnected, SendBufferFull
from dromos.events import BridgeEvent, DeliveryUnknown, MessagesUnsent
from dromos.model import Message, Outbox, in_seconds

__all__ = ["Entry", "Ledger"]


@dataclass(slots=True, eq=False)
class Entry:
    """A message, and the time at which it is too old to be sent."""

    message: Message
    size: int
    expires: float | None
    number: int = 0
    """Which message of its last link it was; 0 if it was never written."""
    link: int = 0
    """That link's number."""


class Ledger:
    """Keeps account of every message until its fate is known.  It sends nothing itself.

    Attributes:
        unsent: What waits for a link, in order.
        unknown: What the last link that died has taken with it.
    """

    def __init__(self, rules: Outbox, tell: Callable[[BridgeEvent], None]) -> None:
        self.rules = rules
        self.unsent: deque[Entry] = deque()
        self.unknown: tuple[Message, ...] = ()
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._ttl = None if rules.ttl is None else in_seconds(rules.ttl)
        self._written: dict[int, deque[Entry]] = {}
        self._count = 0
        self._size = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many messages it keeps."""
        return self._count

    @property
    def unconfirmed(self) -> int:
        """How many messages were written and not confirmed."""
        return self._count - len(self.unsent)

    # What comes in

    def admit(self, message: Message, size: int) -> Entry:
        """Take a message into account, or raise what forbids it.

        Raises:
            NotConnected: If the session is over.
            MessageTooBig: If there could never be room.
            SendBufferFull: If there is no room, and none can be made.
        """
        if self._is_closed:
            raise NotConnected("the session is over; the message was not sent")
        if size > self.rules.max_bytes:
            raise MessageTooBig(size=size, limit=self.rules.max_bytes)
        self._expire()
        if self.rules.when_full == "drop_oldest":
            self._make_room(size)
        if not self.has_room(size):
            raise self.full(size)
        expires = None if self._ttl is None else self._loop.time() + self._ttl
        self._count += 1
        self._size += size
        return Entry(message, size, expires)

    def full(self, size: int) -> SendBufferFull:
        """The error for a message of this size that has no room."""
        return SendBufferFull(
            size=size,
            buffered=self._size,
            limit=self.rules.max_bytes,
            message=f"the outbox keeps {self._count} messages of {self._size} bytes, "
            f"{self.unconfirmed} of them written and not confirmed; not sent",
        )

    def dismiss(self, entry: Entry) -> None:
        """Take a message out of account: its sender hears of it otherwise."""
        self._forget(entry)

    def wait(self, entry: Entry) -> None:
        """Have an admitted message wait for a link, after those that wait already."""
        self.unsent.append(entry)
        self._arm()

    # What became of it

    def next(self) -> Entry | None:
        """Take the oldest message that waits, and is not too old."""
        self._expire()
        return self.unsent.popleft() if self.unsent else None

    def put_back(self, entry: Entry) -> None:
        """Have a message wait again, before all others: it could not be written after all."""
        self.unsent.appendleft(entry)
        self._arm()

    def wrote(self, entry: Entry, *, link: int, number: int) -> None:
        """Note that a message was written, as this one of its link's."""
        entry.number, entry.link = number, link
        self._written.setdefault(link, deque()).append(entry)

    def confirm(self, link: int, upto: int) -> None:
        """Note that a link's messages up to this number have arrived."""
        written = self._written.get(link)
        while written and written[0].number <= upto:
            self._forget(written.popleft())

    def is_unconfirmed(self, link: int) -> bool:
        """Whether a link has messages that were not confirmed."""
        return bool(self._written.get(link))

    def lose(self, link: int) -> None:
        """Note that a link has ended: nobody knows what became of what it did not confirm."""
        lost = self._written.pop(link, None)
        if not lost:
            return
        resend = self.rules.resend_unknown
        messages = tuple(entry.message for entry in lost)
        if resend:
            for entry in lost:
                entry.expires = None  # it was sent in time
            self.unsent.extendleft(reversed(lost))
        else:
            self.unknown = messages
            for entry in lost:
                self._forget(entry)
        self._tell(
            DeliveryUnknown(link=link, count=len(messages), resent=resend, messages=messages)
        )

    def close(self) -> tuple[Message, ...]:
        """End the account: return what was never sent; report it, and what is unknown."""
        self._is_closed = True
        again = [entry for entry in self.unsent if entry.number]
        again += (entry for entries in self._written.values() for entry in entries)
        left = [entry for entry in self.unsent if not entry.number]
        self.unsent.clear()
        self._written.clear()
        for link in sorted({entry.link for entry in again}):
            self._leave_unknown(link, [entry for entry in again if entry.link == link])
        self._give_up(left, "closed")
        if self._expiry is not None:
            self._expiry.cancel()
        return tuple(entry.message for entry in left)

    def _leave_unknown(self, link: int, entries: list[Entry]) -> None:
        """Report what is not sent again, because there is no next link."""
        messages = tuple(entry.message for entry in entries)
        self.unknown += messages
        for entry in entries:
            self._forget(entry)
        self._tell(DeliveryUnknown(link=link, count=len(messages), resent=False, messages=messages))

    # Room and age

    def has_room(self, size: int) -> bool:
        """Whether a message of this size can be admitted."""
        rules = self.rules
        return self._count < rules.max_messages and self._size + size <= rules.max_bytes

    def _make_room(self, size: int) -> None:
        """Give up the oldest that wait; but none of them for a message that never fits."""
        if self.has_room(size):
            return
        # What was written once is not unsent, whatever became of it.
        fresh = [entry for entry in self.unsent if not entry.number]
        kept = self._size - sum(entry.size for entry in fresh)
        full = self._count - len(fresh) >= self.rules.max_messages
        if full or kept + size > self.rules.max_bytes:
            return
        dropped: list[Entry] = []
        for entry in fresh:
            dropped.append(entry)
            self.unsent.remove(entry)
            self._forget(entry)
            if self.has_room(size):
                break
        self._report(dropped, "dropped")

    def _expire(self) -> None:
        """Give up what has waited for too long."""
        now = self._loop.time()
        soonest = self._soonest()
        if soonest is None or soonest > now:
            return
        old = [entry for entry in self.unsent if _is_old(entry, now)]
        self.unsent = deque(entry for entry in self.unsent if not _is_old(entry, now))
        self._give_up(old, "expired")

    def _soonest(self) -> float | None:
        """When the first of those that wait is too old: they are in order of their age."""
        ages = (entry.expires for entry in self.unsent if entry.expires is not None)
        return next(ages, None)

    def _arm(self) -> None:
        """Set the timer for the oldest message that waits."""
        if self._expiry is None and (soonest := self._soonest()) is not None:
            self._expiry = self._loop.call_at(soonest, self._look)

    def _look(self) -> None:
        self._expiry = None
        self._expire()
        self._arm()

    def _give_up(self, entries: list[Entry], reason: str) -> None:
        for entry in entries:
            self._forget(entry)
        self._report(entries, reason)

    def _report(self, entries: list[Entry], reason: str) -> None:
        if entries:
            messages = tuple(entry.message for entry in entries)
            self._tell(MessagesUnsent(count=len(messages), reason=reason, messages=messages))

    def _forget(self, entry: Entry) -> None:
        self._count -= 1
        self._size -= entry.size


def _is_old(entry: Entry, now: float) -> bool:
    return entry.expires is not None and entry.expires <= now
