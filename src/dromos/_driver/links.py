"""What the driver knows of one link, and what that link tells it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias

from dromos._core import liveness
from dromos._driver.callbacks import heard_from
from dromos._driver.options import Options
from dromos._driver.pings import Pings
from dromos._driver.writing import Writing
from dromos.errors import ConnectionClosed, NotConnected
from dromos.interfaces import Link, WireBytes
from dromos.model import Message, Token
from dromos.redaction import without

__all__ = ["HOLD_BYTES", "HOLD_MESSAGES", "LinkRecord", "Owner"]

HOLD_MESSAGES: Final = 64
HOLD_BYTES: Final = 2**20
"""Received messages, and bytes of them, at which reading pauses."""

Item: TypeAlias = Message | Callable[[], Awaitable[None]]
"""A message to deliver, or a callback to run between two of them."""

_NOTHING: Final[deque[Item]] = deque(maxlen=0)
"""What a link holds before it ever held anything: a deque of its own is no small thing."""

PAUSE_NOTICE: Final = 5.0
"""Seconds of a pause after which somebody is told."""


class Owner(Protocol):
    """The session, as a link's record sees it."""

    def tick(self) -> float: ...

    def link_closed(self, record: "LinkRecord", error: ConnectionClosed) -> None: ...

    def link_proven(self, record: "LinkRecord") -> None: ...

    def proof_failed(self, record: "LinkRecord", error: Exception) -> None: ...

    def departure_announced(self, record: "LinkRecord", error: ConnectionClosed) -> None: ...

    def deliver_failed(self, error: Exception) -> None: ...

    def take_result(self, record: "LinkRecord", result: object) -> None: ...

    def reading_paused(self, record: "LinkRecord", seconds: float) -> None: ...

    def pinged(self, record: "LinkRecord") -> None: ...

    def unwritable(self, record: "LinkRecord") -> None: ...

    def writable(self, record: "LinkRecord") -> None: ...


class LinkRecord:
    """One link, from its dial to its end.  It is the link's `LinkListener`.

    Attributes:
        number: The link's number in the session.
        handover: Whether it was dialled while another link was open.
        link: The open link; None before, and after its end.
        dial: The task that opens it.
        opened_at: When it opened, in monotonic seconds.
        taking_over: Whether it is greeted or proven while another one serves.
        greeting_due: Whether its `on_connect` is next, whatever becomes of the link.
        is_greeting: Whether its `on_connect` or `on_handover` has not ended yet.
        introduction: The task that runs its `on_handover`.
        greeted: Whether that has returned.
        released: Whether we let it go, so that its end is no news.
        adopted: Whether it serves, or has served.
        pings: Its pings, and how many messages were sent on it and confirmed.
        is_going_away: Whether the far side takes nothing more, and waits for our CLOSE.
        tap: Sees each message before it is held; True takes it away.
        held: What is to be delivered: messages, and callbacks between them.  Look, and `take`.
        waker: Called when something is held that was not there before.
        discarded: Messages that came after the end of all delivery.
        token: What the far side was last told on it, and must not be heard of again.
    """

    __slots__ = (
        "_close_code",
        "_closed",
        "_end_timer",
        "_held_callbacks",
        "_held_size",
        "_is_held_back",
        "_linger_then",
        "_lingering",
        "_loop",
        "_options",
        "_owner",
        "_pause_timer",
        "_paused_at",
        "_proof",
        "_proof_timer",
        "_proof_within",
        "_release_within",
        "_watch",
        "_watch_timer",
        "_why",
        "adopted",
        "dial",
        "discarded",
        "error",
        "greeted",
        "greeting_due",
        "handover",
        "held",
        "introduction",
        "is_going_away",
        "is_greeting",
        "link",
        "number",
        "opened_at",
        "pings",
        "received",
        "released",
        "taking_over",
        "tap",
        "token",
        "waker",
        "wire_bytes",
        "writing",
    )

    def __init__(self, *, number: int, handover: bool, owner: Owner, options: Options) -> None:
        self.number = number
        self.handover = handover
        self.taking_over = handover
        self.link: Link | None = None
        self.dial: asyncio.Task[None] | None = None
        self.opened_at = 0.0
        self.greeting_due = False
        self.is_greeting = True
        self.introduction: asyncio.Task[None] | None = None
        self.greeted = False
        self.released = False
        self.adopted = False
        self.received = 0
        self.wire_bytes: WireBytes | None = None
        self.discarded = 0
        self.token: Token | None = None
        self.pings = Pings(self)
        self.is_going_away = False
        self.tap: Callable[[Message], bool] | None = None
        self.held: deque[Item] = _NOTHING
        self.waker: Callable[[], None] | None = None
        self.error: ConnectionClosed | None = None
        self._held_size = 0
        self._held_callbacks = 0
        self._owner = owner
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] | None = None
        self._why: str | None = None
        self._watch: liveness.Watch | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        self._release_within: float | None = None
        self._proof: int | None = None
        self._proof_within = 0.0
        self._proof_timer: asyncio.TimerHandle | None = None
        self._close_code: int | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._linger_then = 0.0
        self._is_held_back = False
        self._paused_at: float | None = None
        self._pause_timer: asyncio.TimerHandle | None = None
        self.writing = Writing(self, options.write_timeout)

    @property
    def is_open(self) -> bool:
        """Whether the link is open and we want it."""
        return self.link is not None and not self.released

    @property
    def is_unwanted(self) -> bool:
        """Whether nothing that came on it will be delivered: it never came to serve."""
        return not self.adopted or not (self.greeted or self.is_greeting)

    @property
    def received_now(self) -> int:
        """How many messages have come so far."""
        link = self.link  # once: another thread may ask while it ends
        return self.received if link is None else link.received

    @property
    def wire_bytes_now(self) -> WireBytes | None:
        """How many bytes have crossed the wire so far; None where the link does not tell."""
        link = self.link
        if link is None:
            return self.wire_bytes
        tell: Callable[[], WireBytes | None] | None = getattr(link, "wire_bytes", None)
        return None if tell is None else tell()

    @property
    def held_messages(self) -> int:
        """How many messages wait to be delivered."""
        return len(self.held) - self._held_callbacks

    @property
    def buffered(self) -> int:
        """How many bytes wait to be written."""
        return 0 if self.link is None else self.link.buffered

    def closed(self) -> asyncio.Future[None]:
        """Return what is done once the open link has ended: made for the first who asks."""
        if self._closed is None:
            self._closed = self._loop.create_future()
        return self._closed

    # What the session orders

    def open(self, link: Link, *, first_message: str | None = None) -> None:
        """Take the link that the dial has opened, and watch over it.

        Args:
            link: What the dialer has opened.
            first_message: How the token is presented, where the handshake was not the place.
        """
        now = self._loop.time()
        self.link, self.opened_at, self.dial = link, now, None
        if first_message is not None:
            # If it has been closed already, that is heard of in the usual way.
            with suppress(NotConnected):
                link.send(first_message)
        interval = self._options.ping_interval
        if interval is not None:
            self._watch = liveness.begin(
                interval=interval, timeout=self._options.ping_timeout, now=now
            )
            self._watch_timer = self._loop.call_at(self._watch.at, self._look)
        if self._options.outbox is not None:
            self.pings.ping()  # to learn whether it answers any

    def release(self, within: float, *, code: int = 1000, reason: str = "") -> None:
        """Close the link politely, and abort it if that takes too long."""
        self.released = True
        self.taking_over = False
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self.link is None:
            self.drop()
            return
        # A far side that closes by itself just now would answer this, and not our CLOSE.
        self.pings.ask_after_now()
        self._close_code = code
        self.link.close(code, reason)
        self._release_within = within
        self._limit_release()

    def answer(self) -> None:
        """Answer the far side's CLOSE; the link ends."""
        if self.link is not None:
            self.link.close()
            self._release_within = self._options.close_timeout
            self._limit_release()

    def drop(self) -> None:
        """End the dial or the link at once; nobody hears of it again."""
        self.released = True
        if self.dial is not None:
            self.dial.cancel()
        self.abort("dropped")

    def abort(self, why: str) -> None:
        """End the link at once, whatever waits to be written."""
        if self.link is not None:
            self._why = self._why or why
            self.link.abort()

    def prove(self, within: float) -> None:
        """Ping the link, and tell the owner whether it answers in time."""
        self._forget_proof()
        if self.link is None:
            return
        self._proof = self.pings.ping()
        self._proof_within = within
        if not self.is_paused:
            self._proof_timer = self._loop.call_later(within, self._proof_missing, within)
        elif self.taking_over:
            # So much has come that we stopped reading: the answer is stuck behind it,
            # and all data is life.
            self._proof_timer = self._loop.call_later(0, self._proven)
        # Otherwise no answer is expected until we read again.

    def linger(self, within: float, *, then: float) -> None:
        """Go on reading a link that we let go, before it is closed: an answer is to come."""
        self.released = True
        self.taking_over = False
        self._lingering = self._loop.call_later(within, self.stop_lingering)
        self._linger_then = then

    def stop_lingering(self) -> None:
        """Close the link now, if that was put off."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
            self.release(self._linger_then)

    # What is delivered, and where to

    def deliver_held(self) -> None:
        """Hold messages until they are taken."""
        if self.link is not None:
            self.link.deliver_to(self.on_message)

    def deliver_directly(self, take: Callable[[Message], Any]) -> None:
        """Let the link call this itself, while nothing is held."""
        if self.link is not None:
            self.link.deliver_to(take)

    def deliver_reads(self, take: Callable[[Iterator[Message]], None]) -> bool:
        """Let it call this with what a read brings; False if the link does not know of reads."""
        deliver_reads_to: Callable[[Callable[[Iterator[Message]], None]], None] | None
        deliver_reads_to = getattr(self.link, "deliver_reads_to", None)
        if deliver_reads_to is None:
            return False
        deliver_reads_to(take)
        return True

    def discard(self) -> None:
        """Deliver nothing any more, and count what comes."""
        if self.link is not None:
            self.link.deliver_to(self._discard)
            self.resume_reading()

    def hold_back(self) -> None:
        """Read nothing more until told so: whoever takes the messages has enough."""
        self._is_held_back = True
        self.pause_reading()

    def let_flow(self) -> None:
        """Read on, as soon as there is room."""
        self._is_held_back = False
        self.resume_if_low()

    def put(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have something run before the next message, and after what is to run before it."""
        self._insert(self._held_callbacks, callback)

    def put_first(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have something run next: what is left of a message that is being delivered."""
        self._insert(0, callback)

    def _insert(self, position: int, callback: Callable[[], Awaitable[None]]) -> None:
        if self.held is _NOTHING:
            self.held = deque[Item]()
        self.held.insert(position, callback)
        self._held_callbacks += 1
        if self.waker is not None:
            self.waker()

    def take(self) -> Item:
        """Return the next thing to deliver, and go on reading if there is room again."""
        item = self.held.popleft()
        if callable(item):
            self._held_callbacks -= 1
        else:
            self._held_size -= len(item)
            if self._paused_at is not None:
                self.resume_if_low()
        return item

    def resume_if_low(self) -> None:
        """Go on reading if there is room again."""
        if (
            self._paused_at is not None
            and not self._is_held_back
            and self.held_messages <= HOLD_MESSAGES // 2
            and self._held_size <= HOLD_BYTES // 2
        ):
            self.resume_reading()

    def drop_held(self) -> int:
        """Forget what is held, and return how many messages that were."""
        dropped = self.held_messages
        self._held_callbacks = self._held_size = 0
        self.held.clear()
        return dropped

    def pause_reading(self) -> None:
        """Stop reading; a handler, or a hand-over, has enough to do."""
        if self._paused_at is None and self.link is not None:
            self._paused_at = self._loop.time()
            self.link.pause_reading()
            self._pause_timer = self._loop.call_later(PAUSE_NOTICE, self._notice_pause)
            self._limit_release()
            if self._proof_timer is not None and not self.taking_over:
                # The answer can't be seen now, so it is not late either.
                self._proof_timer.cancel()
                self._proof_timer = None

    def resume_reading(self) -> None:
        """Go on reading."""
        if self._paused_at is not None:
            self._paused_at = None
            if self._pause_timer is not None:
                self._pause_timer.cancel()
            if self.link is not None:
                self.link.resume_reading()
            self._limit_release()
            if self._proof is not None and self._proof_timer is None:
                within = self._proof_within
                self._proof_timer = self._loop.call_later(within, self._proof_missing, within)

    @property
    def is_paused(self) -> bool:
        """Whether we have stopped reading."""
        return self._paused_at is not None

    # What its pings ask for

    def tick(self) -> float:
        """Seconds by a fine clock."""
        return self._owner.tick()

    def write_ping(self, payload: bytes) -> None:
        """Write a ping with this payload."""
        assert self.link is not None
        self.link.ping(payload)

    # What the link tells

    def on_message(self, message: Message, /) -> None:
        """Hold a message until the handler is ready for it."""
        if self.tap is not None and self.tap(message):
            return
        held = self.held
        if held is _NOTHING:
            held = self.held = deque[Item]()
        held.append(message)
        self._held_size += len(message)
        if self.waker is not None:
            waker, self.waker = self.waker, None  # once is enough: it looks at all that is held
            waker()
        if self._paused_at is None and (
            len(held) >= HOLD_MESSAGES or self._held_size >= HOLD_BYTES
        ):
            self.pause_reading()
            if self._proof is not None and self.taking_over:
                self._proven()

    def on_result(self, result: object, /) -> None:
        """Pass on what a plain callback returned."""
        self._owner.take_result(self, result)

    def on_deliver_failed(self, error: BaseException, /) -> None:
        """Pass on what a handler raised."""
        self._owner.deliver_failed(heard_from(error, "on_message"))

    def on_pong(self, payload: bytes, /) -> None:
        """Note an answer to one of our pings."""
        number = self.pings.answered(payload)
        if number is None:
            return
        self._owner.pinged(self)
        if self._proof is not None and number >= self._proof:
            self._proven()

    def on_pause_writing(self) -> None:
        """Begin to watch for progress."""
        self.writing.block()
        self._owner.unwritable(self)

    def on_resume_writing(self) -> None:
        """Let those who wait go on."""
        self.writing.unblock()
        self._owner.writable(self)

    def on_going_away(self, error: ConnectionClosed, /) -> None:
        """Pass on that the far side waits for our answer to its CLOSE."""
        self.is_going_away = True
        self._owner.departure_announced(self, self._cleaned(error))

    def on_closed(self, error: ConnectionClosed, /) -> None:
        """Note the end, once, and stop every timer."""
        error = self._cleaned(error)
        if self._why is not None and not error.by_peer:
            error = ConnectionClosed(code=1006, reason=self._why, by_peer=False)
        if self.link is not None:
            self.received = self.link.received
            self.wire_bytes = self.wire_bytes_now
        self.error = error
        self.link = None
        self.taking_over = False
        if self.waker is not None:
            self.waker()
        was_answered = not error.by_peer and error.code == self._close_code
        if was_answered and not self.pings.are_answered:
            # RFC 6455, 5.5.1: what answers our CLOSE has read everything before it.  One that
            # answers pings would have answered the one before our CLOSE first (5.5.2): then
            # its CLOSE has crossed ours, and it may not have read a thing.
            self.pings.confirmed = self.pings.sent
        self.pings.end()
        self._forget_proof()
        for timer in (self._watch_timer, self._end_timer, self._pause_timer, self._lingering):
            if timer is not None:
                timer.cancel()
        self.writing.end(error)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._owner.link_closed(self, error)

    # What only this file calls

    def _cleaned(self, error: ConnectionClosed) -> ConnectionClosed:
        """Return an end whose reason repeats no credential.

        Dialers know what a handshake held, but not what a first message or the
        handler's renewal in band has told.
        """
        if self.token is None or not error.reason:
            return error
        reason = without(error.reason, self.token.credentials.values())
        if reason == error.reason:
            return error
        return ConnectionClosed(code=error.code, reason=reason, by_peer=error.by_peer)

    def _look(self) -> None:
        """Ask the core whether the link lives, and obey."""
        if self.link is None or self._watch is None:
            return
        now = self._loop.time()
        self._watch, action = liveness.look(
            self._watch, now=now, idle=self.link.idle_for(), paused=self.is_paused
        )
        if action is liveness.Action.GIVE_UP:
            self.abort(f"no answer to a ping within {self._options.ping_timeout:g} s")
            return
        if action is liveness.Action.PING:
            self.pings.ping()
        self._watch_timer = self._loop.call_at(self._watch.at, self._look)

    def _limit_release(self) -> None:
        """Give a link that we let go its time to end; none of it passes while we don't read."""
        if self._end_timer is not None:
            self._end_timer.cancel()
            self._end_timer = None
        if self._release_within is not None and not self.is_paused and self.link is not None:
            self._end_timer = self._loop.call_later(
                self._release_within, self.abort, "no answer to our CLOSE"
            )

    def _discard(self, message: Message) -> None:
        self.discarded += 1

    def _proven(self) -> None:
        self._forget_proof()
        self._owner.link_proven(self)

    def _proof_missing(self, within: float) -> None:
        self._forget_proof()
        error = ConnectionClosed(
            code=1006, reason=f"no answer to a ping within {within:g} s", by_peer=False
        )
        self._why = self._why or error.reason
        self._owner.proof_failed(self, error)

    def _forget_proof(self) -> None:
        self._proof = None
        if self._proof_timer is not None:
            self._proof_timer.cancel()
            self._proof_timer = None

    def _notice_pause(self) -> None:
        if self._paused_at is not None:
            self._owner.reading_paused(self, self._loop.time() - self._paused_at)
