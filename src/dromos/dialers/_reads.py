"""Stands between a transport and an engine's protocol, for what the engine does not offer."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

__all__ = ["LEAST", "MOST", "SMALL", "Reads"]

LEAST: Final = 64 * 1024
MOST: Final = 1024 * 1024
"""Bytes that one read may bring: at first, and at most."""

SMALL: Final = 400
"""Bytes of a message up to which Python's own allocator has its object: it serves 512."""


class Reads(asyncio.BufferedProtocol):
    """Bounds what one read may bring, and tells somebody when it is over.

    picows doubles its read buffer whenever a read has filled nine tenths of it.  Whoever
    pauses finds the kernel's buffer full each time, so each read would bring twice as
    much as the one before, up to megabytes: all of it messages that have to be held.
    So a portion begins small, each read that fills it doubles it, and a pause makes it small
    again, or a read of messages that are not small.  If all portions were small each small
    message would cost an eighth more, for ten times as many reads.  If all were big each big
    message might cost three times as much, where those of one read are kept together: their
    memory is new to the process each time, with one or two page faults for 16 KiB.

    Attributes:
        portion: Bytes that the next read may bring.
        after: Called after each read.
    """

    __slots__ = ("_engine", "_get_buffer", "_read", "_received", "after", "portion")

    def __init__(self, engine: Any, received: Callable[[], int]) -> None:
        """Stand before an engine.

        Args:
            engine: Its protocol.
            received: How many messages it has read so far.
        """
        self._engine = engine
        self._received = received
        self._get_buffer = engine.get_buffer
        self._read: Callable[[int], None] = engine.buffer_updated
        self.portion = LEAST
        self.after: Callable[[], None] | None = None

    def get_buffer(self, sizehint: int) -> Any:
        """Return as much of the engine's buffer as a read may fill."""
        return self._get_buffer(sizehint)[: self.portion]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on that so much was read."""
        if nbytes == self.portion < MOST:
            self.portion *= 2
        before = self._received()
        self._read(nbytes)
        if nbytes > SMALL * (self._received() - before):
            self.portion = LEAST
        if self.after is not None:
            self.after()

    def pause_writing(self) -> None:
        """Pass on that the write buffer is over its mark."""
        self._engine.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it is below."""
        self._engine.resume_writing()

    def eof_received(self) -> bool | None:
        """Pass on that the far side writes nothing more."""
        return bool(self._engine.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end."""
        self._engine.connection_lost(exc)
