"""Stands between a transport and an engine's protocol, for what the engine does not offer."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

__all__ = ["LEAST", "MOST", "MOST_TOGETHER", "Reads"]

LEAST: Final = 64 * 1024
"""Bytes that one read may bring while whoever takes them has to pause us."""

MOST: Final = 1024 * 1024
"""Bytes that one read may bring at most."""

MOST_TOGETHER: Final = 512 * 1024
"""The same where all that it brings is taken together."""


class Reads(asyncio.BufferedProtocol):
    """Bounds what one read may bring, and tells somebody when it is over.

    picows doubles its read buffer whenever a read has filled nine tenths of it.  Whoever
    pauses finds the kernel's buffer full each time, so each read would bring twice as
    much as the one before, up to megabytes: all of it messages that have to be held.
    So a portion begins small, each read that fills it doubles it, and a pause makes it small
    again.  If all were small each small message would cost an eighth more, since after each
    read the kernel tells the far side how much room there is.  And messages that are taken
    together in megabytes would cost twice as much: each read would take its memory from the
    kernel anew.

    Attributes:
        portion: Bytes that the next read may bring.
        after: Called after each read; None where each message is taken at once.
    """

    __slots__ = ("_engine", "_get_buffer", "_read", "after", "portion")

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._get_buffer = engine.get_buffer
        self._read: Callable[[int], None] = engine.buffer_updated
        self.portion = LEAST
        self.after: Callable[[], None] | None = None

    def get_buffer(self, sizehint: int) -> Any:
        """Return as much of the engine's buffer as a read may fill."""
        return self._get_buffer(sizehint)[: self.portion]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on that so much was read."""
        most = MOST if self.after is None else MOST_TOGETHER
        if nbytes == self.portion < most:
            self.portion *= 2
        self._read(nbytes)
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
