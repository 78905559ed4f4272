"""Which messages came on both links of a hand-over, so that each is delivered once."""

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Final

from dromos.model import Message

__all__ = ["AFTERWARDS", "WINDOW", "Overlap"]

WINDOW: Final = 65_536
"""Messages of one link that are remembered, at most."""

LINKS: Final = 16
"""Links of which anything is remembered, at most."""

AFTERWARDS: Final = 5.0
"""Seconds after an old link's end in which its successor's messages may still be its copies."""


class _Heard:
    """What was delivered from a link since its successor was dialled."""

    def __init__(self) -> None:
        self.keys: Counter[Hashable] = Counter()
        self.order: deque[Hashable] = deque()
        self.until: float | None = None

    def add(self, key: Hashable) -> None:
        self.keys[key] += 1
        self.order.append(key)
        if len(self.order) > WINDOW:
            self.take(self.order.popleft())

    def take(self, key: Hashable) -> bool:
        count = self.keys.get(key, 0)
        if count > 1:
            self.keys[key] = count - 1
        elif count:
            del self.keys[key]
        return count > 0


class Overlap:
    """Compares what comes on a link with what came on the one before it.

    Only while two links overlap is anything remembered, and each delivered message
    hides one copy: a far side that says the same twice on one link is heard twice.

    Attributes:
        dropped: Copies found since this was last asked and reset.
    """

    def __init__(self, key: Callable[[Message], Hashable], failed: Callable[[Exception], None]):
        self.dropped = 0
        self._key = key
        self._failed = failed
        self._heard: dict[int, _Heard] = {}
        self._taken: dict[int, Counter[Hashable]] = {}

    @property
    def is_on(self) -> bool:
        """Whether messages have to be looked at."""
        return bool(self._heard)

    def begin(self, link: int) -> None:
        """Remember what comes on a link from now on: its successor is being dialled."""
        self._heard[link] = _Heard()
        if len(self._heard) > LINKS:
            # Where nothing is ever said, no message comes that would make us look.
            del self._heard[next(iter(self._heard))]

    def forget(self, link: int) -> None:
        """Stop that: the successor did not come to serve."""
        heard = self._heard.get(link)
        if heard is not None and heard.until is None:
            del self._heard[link]
            if not self._heard:
                self._taken.clear()

    def took(self, link: int, message: Message) -> None:
        """Note that a message was taken away before its turn; its copy is one all the same."""
        key = self._key_of(message) if self._heard else None
        if key is not None:
            self._taken.setdefault(link, Counter())[key] += 1

    def ended(self, link: int, now: float) -> None:
        """Note that an old link has ended: its last copies come soon."""
        heard = self._heard.get(link)
        if heard is not None:
            heard.until = now + AFTERWARDS

    def admits(self, link: int, message: Message, *, now: float, behind: bool) -> bool:
        """Whether a message is to be delivered.

        Args:
            link: The link that it came on.
            message: The message.
            now: Monotonic seconds.
            behind: Whether more has come than was looked at, so that time proves nothing.
        """
        self._age(link, now, behind)
        if not self._heard:
            return True
        key = self._key_of(message)
        if key is None:
            return True
        for taken in (taken for other, taken in self._taken.items() if other != link):
            if taken[key] > 0:
                taken[key] -= 1
                self.dropped += 1
                return False
        copy = any(heard.take(key) for older, heard in self._heard.items() if older < link)
        mine = self._heard.get(link)
        if mine is not None:
            # A copy as well: where three links overlap, the next one brings another.
            mine.add(key)
        self.dropped += copy
        return not copy

    def _key_of(self, message: Message) -> Hashable | None:
        try:
            key = self._key(message)
            hash(key)
        except Exception as error:
            self._failed(error)
            return None
        return key

    def _age(self, current: int, now: float, behind: bool) -> None:
        for link, heard in list(self._heard.items()):
            if heard.until is None or link >= current:
                continue  # more may be to come of what it brought
            if behind:
                heard.until = now + AFTERWARDS
            elif now >= heard.until or not heard.keys:
                del self._heard[link]
        if not self._heard:
            self._taken.clear()
