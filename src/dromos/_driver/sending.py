"""What a handler sends with, and the outlet that all of a session's senders share."""

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Final, Protocol, cast

from dromos._driver.links import LinkRecord
from dromos._driver.options import Options
from dromos._driver.outbox import Entry, Ledger
from dromos.errors import ConnectionClosed, MessageTooBig, NotConnected, SendBufferFull
from dromos.events import BridgeEvent
from dromos.interfaces import Sendable

__all__ = ["BEING_DRAINED", "KeptSender", "Outlet", "Sender", "done_future", "size_of"]

BEING_DRAINED: Final = "the session is being drained; the message was not sent"

HIGH_WATER: Final = 64 * 1024
"""The write buffer that an engine has at most while it does not call itself full (asyncio's)."""


TEXT: Final = 1
BINARY: Final = 2
"""RFC 6455, 11.8: opcodes."""


def done_future(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Return what is awaited while there is room in the write buffer: it returns at once.

    One is enough for all.  An awaitable class of ours would take twice as long to await.
    """
    future: asyncio.Future[None] = loop.create_future()
    future.set_result(None)
    return future


class _Drained:
    """Awaiting it waits until the write buffer is below its high-water mark."""

    __slots__ = ("_record",)

    def __init__(self, record: LinkRecord) -> None:
        self._record = record

    def __await__(self) -> Generator[asyncio.Future[None], None, None]:
        return self._record.writing.drained().__await__()


class _Sent(_Drained):
    """The same for a message that is kept: if its link dies, that is reported otherwise."""

    __slots__ = ()

    def __await__(self) -> Generator[asyncio.Future[None], None, None]:
        try:
            yield from super().__await__()
        except ConnectionClosed:
            return


class OutletOwner(Protocol):
    """The session, as its outlet sees it."""

    def stop(self, code: int, reason: str) -> None: ...

    def emit(self, event: BridgeEvent) -> None: ...


class Outlet:
    """Where a session's messages go: the link that serves, if there is one."""

    __slots__ = (
        "_done",
        "_owner",
        "easy",
        "is_shut",
        "ledger",
        "link",
        "pings",
        "record",
        "send_buffer_limit",
        "send_size_limit",
        "short",
        "thread",
        "written",
    )

    def __init__(
        self,
        options: Options,
        owner: OutletOwner,
        done: asyncio.Future[None],
    ) -> None:
        self.record: LinkRecord | None = None
        self.ledger = None if options.outbox is None else Ledger(options.outbox, owner.emit)
        self._owner = owner
        self.thread = get_ident()
        self.send_size_limit = options.send_size_limit
        self.send_buffer_limit = options.send_buffer_limit
        self.is_shut = False
        self.short = self._short()
        self._done = done
        # For the quick way of sending, and of no meaning while `easy` is negative.
        self.easy = -1
        self.link: Any = None
        self.pings: Any = None
        self.written: Awaitable[None] = done

    def serve(self, record: LinkRecord | None) -> None:
        """Write to this link from now on; None while there is none."""
        self.record = record
        self.adjust()

    def close(self, code: int, reason: str) -> None:
        """End the session with a close frame."""
        self._owner.stop(code, reason)

    def shut(self) -> None:
        """Take nothing more, except what greets a link or renews its token."""
        self.is_shut = True
        self.adjust()

    def reopen(self) -> None:
        """Take messages again."""
        self.is_shut = False
        self.adjust()

    def adjust(self) -> None:
        """Note whether a text can be written with no more ado, and how long it may be for that.

        So that nothing of it has to be asked for each message: is a link open that can `write`
        and is not blocked, and is nothing to be kept or refused?
        """
        record, self.easy = self.record, -1
        self.link = None  # or it would be kept, with its buffers, until the next one comes
        if record is None:
            return
        self.written = self.room_on(record)
        may = not (record.writing.blocked or self.is_shut or self.ledger is not None)
        if may and hasattr(record.link, "write"):
            self.link, self.pings, self.easy = record.link, record.pings, self.short

    def room_on(self, record: LinkRecord) -> Awaitable[None]:
        """Return what waits until the link's write buffer is below its high-water mark."""
        return _Drained(record) if record.writing.blocked else self._done

    def _short(self) -> int:
        """How long a message may be to pass every limit without being measured.

        In characters or bytes, whatever the encoding, while the write buffer is below its
        high-water mark.
        """
        size, room = self.send_size_limit, max(0, self.send_buffer_limit - HIGH_WATER)
        return (room if size is None else min(size, room)) // 4

    def make_sender(self, record: LinkRecord | None = None) -> "Sender":
        """Return a `send` for a link, or for whichever serves."""
        return Sender(self, record) if self.ledger is None else KeptSender(self, record)

    def refuse_unsendable(self, message: object) -> None:
        """Raise what forbids sending a message ever; quick for a short one."""
        short = type(message) is str or type(message) is bytes
        if not short or len(message) > self.short:  # type: ignore[arg-type]
            self.check_size(message)

    def check_size(self, message: object) -> int:
        """Return the message's size in bytes, or raise what forbids sending it ever."""
        size = size_of(message)
        if self.send_size_limit is not None and size > self.send_size_limit:
            raise MessageTooBig(size=size, limit=self.send_size_limit)
        return size

    def check(self, message: object, record: LinkRecord, *, passes: bool) -> int:
        """Return the message's size in bytes, or raise what forbids sending it now.

        Args:
            message: What to send.
            record: The link to write to.
            passes: Whether it is taken even while the outlet is shut.
        """
        size = self.check_size(message)
        if self.is_shut and not passes and not record.is_greeting:
            raise NotConnected(BEING_DRAINED)
        buffered = record.buffered
        if buffered + size > self.send_buffer_limit:
            raise SendBufferFull(size=size, buffered=buffered, limit=self.send_buffer_limit)
        return size

    def check_thread(self) -> None:
        """Say what to do instead of sending from another thread."""
        if get_ident() != self.thread:
            raise RuntimeError(
                "send was called from another thread than its event loop's; use "
                "loop.call_soon_threadsafe, or dromos.sync"
            )

    # With an outbox

    def post(
        self, ledger: Ledger, message: Sendable, own: LinkRecord | None, *, passes: bool
    ) -> Awaitable[None]:
        """Write a message if it is its turn, or keep it until it is.

        Args:
            ledger: The outbox's account.
            message: What to send.
            own: The link to write to whatever waits, because it is still being greeted.
            passes: Whether it is taken even while the outlet is shut.
        """
        size = self.check_size(message)
        if self.is_shut and own is None and not passes:
            raise NotConnected(BEING_DRAINED)
        kept = message if isinstance(message, str) else bytes(message)
        entry = ledger.admit(kept, size)
        record = own or self.ready(ledger)
        if record is None or not self._write(ledger, entry, record):
            if own is not None:
                ledger.dismiss(entry)
                raise NotConnected
            ledger.wait(entry)
            return self._done
        return _Sent(record) if record.writing.blocked else self._done

    def ready(self, ledger: Ledger) -> LinkRecord | None:
        """The link that a new message may be written to now, ahead of nothing that waits."""
        record = self.record
        if record is None or ledger.unsent or not record.greeted or record.writing.blocked:
            return None
        return record

    def flush(self) -> None:
        """Write what waits, as far as the link takes it."""
        ledger = self.ledger
        record = self.record
        if ledger is None or record is None or not record.greeted:
            return
        while not record.writing.blocked and (entry := ledger.next()) is not None:
            if not self._write(ledger, entry, record):
                ledger.put_back(entry)
                return

    def confirmed(self, record: LinkRecord) -> None:
        """Note what a link has confirmed."""
        if self.ledger is not None:
            self.ledger.confirm(record.number, record.pings.confirmed)

    def lose(self, record: LinkRecord) -> None:
        """Note what a link has taken with it."""
        if self.ledger is not None:
            self.ledger.confirm(record.number, record.pings.confirmed)
            self.ledger.lose(record.number)
            if self.record is not None and self.record is not record:
                self.ledger.unknown = ()  # another link serves: this was not the last
            self.flush()  # what is to be sent again, if another link serves

    def _write(self, ledger: Ledger, entry: Entry, record: LinkRecord) -> bool:
        """Write a message; False if the link takes nothing any more."""
        link = record.link
        if link is None:
            return False
        try:
            link.send(entry.message)
        except NotConnected:
            return False
        record.pings.sent += 1
        ledger.wrote(entry, link=record.number, number=record.pings.sent)
        record.pings.ask_after()
        return True


class _Quick(Protocol):
    """What the quick way of sending looks at, in place of all that `Outlet.adjust` does."""

    easy: int
    link: Any
    pings: Any
    written: Awaitable[None]


class _Never:
    """No message goes the quick way."""

    easy = -1
    link = pings = written = cast("Any", None)


_NEVER: Final = _Never()


class Sender:
    """The `send` that one link's `on_connect` gets.

    While its link is taking over it writes to that link; afterwards, like every
    other sender of the session, to the link that serves.
    """

    __slots__ = ("_outlet", "_own", "_passes", "_quick", "handover", "link", "made_for")

    def __init__(self, outlet: Outlet, record: LinkRecord | None) -> None:
        self._passes = False
        self._quick: _Quick = outlet if record is None else _NEVER
        self._outlet = outlet
        self._own = record
        self.made_for = record
        self.link = 0 if record is None else record.number
        self.handover = record is not None and record.handover

    @property
    def is_greeting(self) -> bool:
        """Whether the callback that this was made for is still running, and its link open."""
        record = self.made_for
        return record is not None and record.is_greeting and record.link is not None

    def __call__(self, message: Sendable, /) -> Awaitable[None]:
        """Write a message; see `dromos.interfaces.Send`."""
        quick, kind = self._quick, type(message)
        opcode = TEXT if kind is str else BINARY if kind is bytes else 0
        if opcode and len(message) <= quick.easy:
            write = quick.link.write  # by itself: called as a method it would be looked up slowly
            try:
                write(opcode, message)
            except RuntimeError:
                self._outlet.check_thread()
                raise
            quick.pings.sent += 1
            return quick.written  # read now: this very write may have filled the buffer
        return self._send_checked(message)

    def _send_checked(self, message: Sendable) -> Awaitable[None]:
        outlet = self._outlet
        outlet.check_thread()
        record = outlet.record if self._own is None else self._target()
        if record is None or (link := record.link) is None:
            raise NotConnected
        size = outlet.check(message, record, passes=self._passes)
        link.send(message)
        record.pings.sent += 1
        if record.writing.blocked:
            record.writing.wrote(size)
        return outlet.room_on(record)

    @contextmanager
    def passing(self) -> Generator["Sender"]:
        """Have its messages taken in here even by an outlet that is shut.

        What renews the token keeps the link alive on which the rest is to arrive.
        """
        self._passes = True
        try:
            yield self
        finally:
            self._passes = False

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
        self._quick = self._outlet
        return self._outlet.record

    def __repr__(self) -> str:
        return f"<send of link {self.link}>"


class KeptSender(Sender):
    """The `send` of a session with an outbox: what can't be written now is kept."""

    __slots__ = ()

    def __call__(self, message: Sendable, /) -> Awaitable[None]:
        """Write a message, or keep it; see `dromos.model.Outbox`."""
        outlet = self._outlet
        outlet.check_thread()
        assert outlet.ledger is not None
        own = self._own
        if own is not None and (own.greeted or own.released or own.link is None):
            own = own if own.taking_over else None
            self._own = own
        return outlet.post(outlet.ledger, message, own, passes=self._passes)


def size_of(message: object) -> int:
    """Return how many bytes a message has.

    Raises:
        TypeError: If it is neither a str nor bytes-like.
    """
    if isinstance(message, str):
        return len(message.encode())
    if isinstance(message, bytes | bytearray):
        return len(message)
    if isinstance(message, memoryview):
        return message.nbytes
    raise TypeError(f"message must be str or bytes-like, not {type(message).__name__}")
