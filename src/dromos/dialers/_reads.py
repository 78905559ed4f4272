"""Bounds what one read may bring, where an engine's buffer would take ever more."""

import asyncio
from typing import Any, Final

__all__ = ["READ_MOST", "Sips"]

READ_MOST: Final = 64 * 1024
"""Bytes of one read."""


class Sips(asyncio.BufferedProtocol):
    """Stands between a transport and an engine's protocol, and lends it less of its buffer.

    picows doubles its read buffer whenever a read has filled nine tenths of it.  Whoever
    pauses finds the kernel's buffer full each time, so each read would bring twice as
    much as the one before, up to megabytes: all of it messages that have to be held.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def get_buffer(self, sizehint: int) -> Any:
        """Return as much of the engine's buffer as a read may fill."""
        return self._engine.get_buffer(sizehint)[:READ_MOST]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on that so much was read."""
        self._engine.buffer_updated(nbytes)

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
