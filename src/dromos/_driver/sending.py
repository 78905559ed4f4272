"""What a handler sends with, and the outlet that all of a session's senders share."""

import asyncio
from collections.abc import Callable, Generator
from typing import Final

from dromos._driver.links import LinkRecord
from dromos._driver.options import Options
from dromos.errors import MessageTooBig, NotConnected, SendBufferFull
from dromos.interfaces import Sendable

__all__ = ["Outlet", "Sender"]

HIGH_WATER: Final = 64 * 1024
"""The write buffer that an engine has at most while it does not call itself full (asyncio's)."""


class _Written:
    """Awaiting it returns at once: there is room in the write buffer."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


WRITTEN: Final = _Written()


class _Drained:
    """Awaiting it waits until the write buffer is below its high-water mark."""

    __slots__ = ("_record",)

    def __init__(self, record: LinkRecord) -> None:
        self._record = record

    def __await__(self) -> Generator[asyncio.Future[None], None, None]:
        yield from self._record.writing.wait_drained().__await__()


class Outlet:
    """Where a session's messages go: the link that serves, if there is one."""

    __slots__ = ("close", "easy", "record", "send_buffer_limit", "send_size_limit")

    def __init__(self, options: Options, close: Callable[[int, str], None]) -> None:
        self.record: LinkRecord | None = None
        self.close = close
        self.send_size_limit = options.send_size_limit
        self.send_buffer_limit = options.send_buffer_limit
        # A message of this many characters or bytes passes every limit, whatever
        # its encoding, while the write buffer is below its high-water mark.
        size = options.send_size_limit
        room = max(0, options.send_buffer_limit - HIGH_WATER)
        self.easy = (room if size is None else min(size, room)) // 4

    def check(self, message: object, record: LinkRecord) -> int:
        """Return the message's size in bytes, or raise what forbids sending it."""
        size = _size(message)
        if self.send_size_limit is not None and size > self.send_size_limit:
            raise MessageTooBig(size=size, limit=self.send_size_limit)
        buffered = record.buffered
        if buffered + size > self.send_buffer_limit:
            raise SendBufferFull(size=size, buffered=buffered, limit=self.send_buffer_limit)
        return size


class Sender:
    """The `send` that one link's `on_connect` gets.

    While its link is taking over it writes to that link; afterwards, like every
    other sender of the session, to the link that serves.
    """

    __slots__ = ("_outlet", "_own", "handover", "link")

    def __init__(self, outlet: Outlet, record: LinkRecord) -> None:
        self._outlet = outlet
        self._own: LinkRecord | None = record
        self.link = record.number
        self.handover = record.handover

    def __call__(self, message: Sendable, /) -> _Written | _Drained:
        """Write a message; see `dromos.interfaces.Send`."""
        record = self._outlet.record if self._own is None else self._target()
        if record is None or record.link is None:
            raise NotConnected
        kind = type(message)
        short = (kind is str or kind is bytes) and len(message) <= self._outlet.easy
        if short and not record.writing.blocked:
            record.link.send(message)
            # Asked again: this very write may have filled the buffer.
            return _Drained(record) if record.writing.blocked else WRITTEN
        size = self._outlet.check(message, record)
        record.link.send(message)
        if not record.writing.blocked:
            return WRITTEN
        record.writing.wrote(size)
        return _Drained(record)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the session with a close frame.

        Args:
            code: 1000 (default), 1001, or 3000 to 4999.
            reason: Up to 123 bytes of UTF-8.

        Raises:
            ValueError: If `code` may not be sent (RFC 6455, 7.4), or `reason` is no text.
            TypeError: If `reason` is not a str.
        """
        if not isinstance(reason, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"reason must be a str, not {type(reason).__name__}")
        reason.encode()
        if code not in (1000, 1001) and not 3000 <= code <= 4999:
            raise ValueError(f"code must be 1000, 1001 or 3000 to 4999, not {code}")
        self._outlet.close(code, reason)

    def _target(self) -> LinkRecord | None:
        """The own link until the switch, then for ever the one that serves."""
        own = self._own
        if own is not None and own.taking_over:
            return own
        self._own = None
        return self._outlet.record

    def __repr__(self) -> str:
        return f"<send of link {self.link}>"


def _size(message: object) -> int:
    if isinstance(message, str):
        return len(message.encode())
    if isinstance(message, bytes | bytearray):
        return len(message)
    if isinstance(message, memoryview):
        return message.nbytes
    raise TypeError(f"message must be str or bytes-like, not {type(message).__name__}")
