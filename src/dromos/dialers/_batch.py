"""What one read has brought, on its way to whoever takes it together."""

from collections.abc import Callable, Iterator
from typing import Final

from dromos.model import Message

__all__ = ["Batch"]

_NOTHING: Final[Iterator[Message]] = iter(())


class Batch:
    """Collects messages, and hands them over when it is told to: for `deliver_reads_to`.

    Attributes:
        add: Takes a message.  It is the list's own method, so nothing of ours runs for each.
        take: Whom to hand them to.
    """

    __slots__ = ("_coming", "_messages", "_rest", "add", "take")

    def __init__(self, take: Callable[[Iterator[Message]], None]) -> None:
        self._messages: list[Message] = []
        self._coming: Iterator[Message] = _NOTHING
        self._rest: tuple[Message, ...] = ()
        self.add = self._messages.append
        self.take = take

    def __len__(self) -> int:
        """How many messages wait for `flush`."""
        return len(self._messages)

    def flush(self, otherwise: Callable[[Message], None]) -> None:
        """Hand over what has come since the last time.

        None of our links takes a frame while it hands messages over, so this is not called
        by way of `take`.

        Args:
            otherwise: Called with each message that `take` leaves, or that `cut` has cut off.
        """
        if not self._messages:
            return
        self._coming = coming = iter(self._messages.copy())
        self._messages.clear()
        try:
            self.take(coming)
        finally:
            rest, self._rest, self._coming = iter((*self._rest, *coming)), (), _NOTHING
            self._pass_on(rest, otherwise)

    def _pass_on(self, rest: Iterator[Message], otherwise: Callable[[Message], None]) -> None:
        try:
            for message in rest:
                otherwise(message)
        except BaseException:  # as `SystemExit`, which takes no other message's turn
            self._pass_on(rest, otherwise)
            raise

    def cut(self) -> None:
        """Let `take` have nothing more of what is being handed over."""
        self._rest = (*self._rest, *self._coming)
