"""One session: hears what happens, asks the core, and does what it says.

One event at a time; all commands of a decision are performed before the next
event is heard.  There is no policy here: no `if` on an error's kind, no
arithmetic on delays.
"""

import asyncio
import functools
from collections.abc import Coroutine, Iterable
from contextvars import Context
from dataclasses import replace
from typing import Any, Final, Protocol

from dromos._core import commands as do
from dromos._core import events as heard
from dromos._core.policy import Moment, Policy
from dromos._core.schedule import LONGEST_SLEEP
from dromos._core.session import Decision, decide, start, wake_at
from dromos._core.states import (
    Authorizing,
    Dialing,
    Doomed,
    Greeting,
    Open,
    Settled,
    State,
    Stopped,
    Succeeding,
    Waiting,
)
from dromos._driver.attempts import Attempts
from dromos._driver.callbacks import Callbacks
from dromos._driver.endpoint import shown
from dromos._driver.flush import Flush
from dromos._driver.lane import Lane
from dromos._driver.links import LinkRecord
from dromos._driver.options import Options, Parts
from dromos._driver.sending import Outlet, Sender
from dromos._driver.tally import Tally
from dromos._driver.turnstile import Turnstile
from dromos.errors import ConnectionClosed, InteractionRequired, NotConnected, PermanentError
from dromos.events import (
    BridgeEvent,
    Connected,
    Disconnected,
    DuplicatesDropped,
    HandlerFailed,
    LatencyMeasured,
    LinkLost,
    LoopBlocked,
    MessagesDropped,
    ReadingPaused,
    SessionEnded,
    SessionStarted,
    SuspendDetected,
)
from dromos.interfaces import Endpoint, WireBytes
from dromos.snapshot import SessionState, Snapshot

__all__ = ["Session"]

CLEAN_UP_WITHIN = 1.0
"""Seconds for aborted sockets and cancelled tasks to be gone; a callback of the
user's that swallows its cancellation is left behind after that."""

DRIFT = 2.0
"""Seconds between wall and monotonic clock that tell of a suspend or a clock step."""

OVERDUE: Final = 5.0
"""Seconds by which the timer of a session may be late, on a loop that turns."""


_PHASES: Final[dict[type[State], SessionState]] = {
    Waiting: "waiting",
    Authorizing: "authorizing",
    Dialing: "dialing",
    Greeting: "greeting",
    Open: "open",
    Stopped: "closing",
}


class Watcher(Protocol):
    """Somebody who follows a session from close by: a `Connection`."""

    def on_event(self, event: BridgeEvent, /) -> None: ...

    def on_change(self) -> None: ...


class Session:
    """One call of `maintain_websocket`, over as many links as it takes."""

    __slots__ = (
        "_asking",
        "_attempts",
        "_callbacks",
        "_clocks",
        "_close_frame",
        "_close_within",
        "_deciding",
        "_ended",
        "_flush",
        "_gap_since",
        "_hurry",
        "_inbox",
        "_is_hurried",
        "_is_stop_due",
        "_lane",
        "_lane_task",
        "_links",
        "_loop",
        "_next_link",
        "_next_ticket",
        "_options",
        "_outlet",
        "_over",
        "_parts",
        "_policy",
        "_since",
        "_state",
        "_tally",
        "_tasks",
        "_timer",
        "_turnstile",
        "_watchers",
        "connection_id",
        "is_connected",
        "is_over",
        "number",
    )

    def __init__(
        self,
        *,
        number: int,
        connection_id: str,
        endpoint: Endpoint,
        callbacks: Callbacks,
        policy: Policy,
        options: Options,
        parts: Parts,
        turnstile: Turnstile | None = None,
    ) -> None:
        """Do nothing yet.

        Args:
            number: Its number in the bridge.
            connection_id: What the source of tokens knows the connection by.
            endpoint: Where to dial.
            callbacks: The handler's methods.
            policy: What the core decides by.
            options: What the driver obeys by.
            parts: What it is given from outside.
            turnstile: What its attempts wait for in turn with those of others.  None
                (default) is in no group.
        """
        self.number = number
        self.connection_id = connection_id
        self.is_connected = False
        self._policy = policy
        self._options = options
        self._parts = parts
        self._turnstile = turnstile
        self._loop = asyncio.get_running_loop()
        self._state: State | None = None
        self._inbox: list[heard.Event] = []  # few at a time
        self._deciding = False
        self._links: list[LinkRecord] = []  # one most of the time
        self._next_link = 1
        self._next_ticket = 1
        self._attempts = Attempts(self, endpoint=endpoint, options=options, parts=parts)
        self._asking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._clocks = self._loop.time(), parts.wall()
        self._tasks: list[asyncio.Task[None]] = []  # one most of the time
        self._over: asyncio.Future[Exception | None] = self._loop.create_future()
        self._is_hurried = False
        self._is_stop_due = False
        self._hurry: asyncio.Future[None] | None = None
        self.is_over = False
        self._ended: asyncio.Future[None] | None = None
        self._gap_since: float | None = None
        self._close_frame = (1000, "")
        self._flush: Flush | None = None
        self._close_within = options.close_timeout
        self._outlet = Outlet(options, self, parts.written)
        self._lane = Lane(callbacks, self, options.dedupe)
        self._lane_task: asyncio.Task[None] | None = None
        self._callbacks = callbacks
        self._tally = Tally(has_outbox=options.outbox is not None)
        self._since = parts.wall()
        self._watchers: tuple[Watcher, ...] = ()

    # ------------------------------------------------------------ from outside

    async def run(self) -> None:
        """Run until closed, cancelled or permanently failed.

        Raises:
            PermanentError: If the session can't go on.
        """
        self._parts.tokens.join(self.connection_id)
        self.emit(SessionStarted(endpoint=shown(self._attempts.endpoint)))
        end_watch = self._parts.watchdog.watch(self._loop, self._callbacks.methods(), self._blocked)
        error: Exception | None = None
        cancelled = False
        try:
            self._lane_task = self._lane.start(self._spawn)
            self._carry_out(start(self._moment()))
            self._hear_all()  # somebody may have stopped it already
            error = await self._over
            if isinstance(error, InteractionRequired) and error.connection_id is None:
                error.connection_id = self.connection_id  # the core knows of no names
            await self._wind_down()
        except asyncio.CancelledError:
            cancelled = True
            if self._over.cancelled():
                # It went with our waiting for it.  A shield would take half a KiB all the while.
                self._over = self._loop.create_future()
            try:
                await self.flushed()  # it has a limit, and whoever set that stops us
            finally:  # who cancels once more is in a hurry
                await self._close_now()
            raise
        finally:
            try:
                await self._clean_up()
            finally:
                end_watch()
                self._parts.tokens.leave(self.connection_id)
                self._close_outbox(error)
                self.emit(SessionEnded(error=error, cancelled=cancelled))
                self.note_end()
                self._tell_watchers()
        if error is not None:
            raise error

    def note_end(self) -> None:
        """Note the end, once; of `run`'s task, if that was cancelled before its first step."""
        if not self.is_over:
            self.is_over = True
            self._parts.forget(self.number)
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)

    def ended(self) -> asyncio.Future[None]:
        """Return what is done once it is over: a future that is made for the first who asks."""
        if self._ended is None:
            self._ended = self._loop.create_future()
            if self.is_over:
                self._ended.set_result(None)
        return self._ended

    def owns(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether a task is one of this session's, such as the one that runs its callbacks."""
        return task in self._tasks

    def limit_close(self, within: float) -> None:
        """Have less time than `close_timeout` for an end in a hurry."""
        self._close_within = min(within, self._close_within)

    def stop_now(self) -> None:
        """End the session within `close_timeout`, whatever its handler does."""
        self.hear(heard.StopRequested())
        self._hurry_up()

    def stop(self, code: int = 1000, reason: str = "") -> None:
        """End the session with a close frame, the first one asked for.

        `run` returns when that is done.  While it flushes, this is what follows.
        """
        if not self._is_stop_due:
            self._is_stop_due = True
            self._close_frame = code, reason
        if not self.is_flushing:
            self.hear(heard.StopRequested())

    async def flush(self) -> None:
        """Take nothing more to be sent, and wait until the far side has what was.

        Meanwhile neither a wish to stop nor a cancellation ends the session: both are what
        a program does whose messages are not taken any more, and would cost those that were.
        So give it a limit, and call `stop_now` after that; or `reopen`.
        """
        self._flush = self._flush or Flush(self)
        with self._flush.begun():
            self._tell_watchers()  # those who wait to send need not wait any longer
            await self._flush.finished()

    async def flushed(self) -> None:
        """Wait until nobody flushes it, if somebody does."""
        if self._flush is not None:
            await self._flush.finished()

    async def drain(self) -> None:
        """Flush, and stop."""
        await self.flush()
        self.stop()

    def reopen(self) -> None:
        """Take messages again, unless somebody else still flushes, or it was to stop after that."""
        if self.is_flushing:
            return
        if self._is_stop_due:
            self.hear(heard.StopRequested())
        else:
            self._outlet.reopen()

    @property
    def is_flushing(self) -> bool:
        """Whether it takes nothing more, until what it took has arrived."""
        return self._flush is not None and self._flush.is_under_way

    # ------------------------------------------------------------ for a `Connection`

    @property
    def outlet(self) -> Outlet:
        """Where its messages go."""
        return self._outlet

    @property
    def records(self) -> Iterable[LinkRecord]:
        """Its links, those that are being let go included."""
        return self._links

    @property
    def is_ending(self) -> bool:
        """Whether what ends it has happened."""
        # A cancellation may be waiting for what is being flushed.
        return self._over.done() and not self._over.cancelled()

    @property
    def close_timeout(self) -> float:
        """Seconds for the far side to answer our CLOSE."""
        return self._options.close_timeout

    @property
    def phase(self) -> SessionState:
        """Where it is, in a word."""
        if self.is_over:
            return "closed"
        if self.is_ending:
            return "closing"
        return "authorizing" if self._state is None else _PHASES[type(self._state)]

    @property
    def is_open(self) -> bool:
        """Whether a link is open and greeted."""
        return isinstance(self._state, Open)

    @property
    def is_renewing(self) -> bool:
        """Whether a token or a link is being renewed."""
        return isinstance(self._state, Open) and not isinstance(self._state.step, Settled | Doomed)

    @property
    def has_token(self) -> bool:
        """Whether it has obtained its first token."""
        return self._attempts.grant is not None

    def is_stalled_at(self, now: float) -> bool:
        """Whether it runs without a timer that will wake it: it has died without a word.

        Args:
            now: Monotonic seconds.
        """
        timer = self._timer
        if timer is not None:
            return now > timer.when() + OVERDUE
        # Without one it has not begun, or it ends.
        return self._state is not None and not isinstance(self._state, Stopped)

    def watch(self, watcher: Watcher) -> None:
        """Have somebody told of every event and change from now on."""
        self._watchers = (*self._watchers, watcher)

    def answered(self, link: int) -> None:
        """Note that no answer is to come on this link any more."""
        record = self._record(link)
        if record is not None:
            record.stop_lingering()

    def request_renewal(self) -> None:
        """Ask for a new token now, and a new link with it."""
        self.hear(heard.RenewalRequested())

    def hold_back(self) -> None:
        """Read nothing more, until there is room where it goes."""
        self._lane.hold_back()

    def let_flow(self) -> None:
        """Go on reading."""
        self._lane.let_flow()

    @property
    def token_expires_at(self) -> float | None:
        """Unix time at which its token expires; None if it has none, or one that never does."""
        grant = self._attempts.grant
        return None if grant is None else grant.token.expires_at

    def traffic(self) -> tuple[int, int]:
        """Return how many messages came on the links that are open, and how many went."""
        received = sent = 0
        for record in tuple(self._links):
            received += record.received_now
            sent += record.pings.sent
        return received, sent

    def wire_bytes(self) -> list[WireBytes]:
        """Return what the wire has carried of each open link that tells."""
        records = tuple(self._links)
        return [told for record in records if (told := record.wire_bytes_now) is not None]

    def snapshot(self) -> Snapshot:
        """Return what the session looks like now."""
        records = list(self._links)
        serving, state, ledger = self._outlet.record, self._state, self._outlet.ledger
        counted = self._tally.counters
        step = state.step if isinstance(state, Open) else None
        received, sent = self.traffic()
        now, wall = self._loop.time(), self._parts.wall()
        queued = 0 if self._callbacks.queued is None else self._callbacks.queued()
        return Snapshot(
            connection_id=self.connection_id,
            session=self.number,
            endpoint=shown(self._attempts.endpoint),
            state=self.phase,
            since=self._since,
            link=None if serving is None else serving.number,
            link_since=None if serving is None else wall - (now - serving.opened_at),
            next_link=step.link if isinstance(step, Succeeding) else None,
            attempts=0 if self.is_open else self._tally.failed_in_a_row,
            last_error=self._tally.last_error,
            last_error_at=self._tally.last_error_at,
            next_attempt_at=(
                wall + max(0.0, state.until - now) if isinstance(state, Waiting) else None
            ),
            token_expires_at=self.token_expires_at,
            receive_queue=queued + sum(record.held_messages for record in records),
            write_buffer=sum(record.buffered for record in records),
            outbox_unsent=0 if ledger is None else len(ledger.unsent),
            outbox_unconfirmed=0 if ledger is None else ledger.unconfirmed,
            latency=None if serving is None else serving.pings.latency,
            counters=replace(
                counted, received=counted.received + received, sent=counted.sent + sent
            ),
        )

    # ------------------------------------------------------------ hear and obey

    def hear(self, event: heard.Event) -> None:
        """Note what happened, ask the core, and do what it says."""
        self._inbox.append(event)
        if not self._deciding and self._state is not None:
            self._hear_all()

    def _hear_all(self) -> None:
        self._deciding = True
        try:
            while self._inbox and self._state is not None:
                event = self._inbox.pop(0)
                self._carry_out(decide(self._policy, self._state, event, self._moment()))
        except Exception as error:
            self._crash(error)
        finally:
            self._deciding = False

    def _crash(self, error: BaseException) -> None:
        """End the session in a defect of ours, rather than hang without a word."""
        if not self._over.done():
            final = PermanentError(f"defect in dromos: {error!r}")
            final.__cause__ = error
            self._over.set_result(final)
        self._hurry_up()

    def _lane_ended(self) -> None:
        """Nobody else may end the lane: without it no callback would ever run again."""
        if self._state is not None and not self._over.done():
            self._crash(RuntimeError("the task that runs the callbacks has ended"))

    def _carry_out(self, decision: Decision) -> None:
        before, (self._state, commands) = self._state, decision
        if type(before) is not type(self._state):
            self._since = self._parts.wall()
        for command in commands:
            self._perform(command)
        self._arm()
        self._tell_watchers()

    def _perform(self, command: do.Command) -> None:
        match command:
            case do.Authorize():
                self._authorize(command)
            case do.TakeTurn() | do.StandInLine() | do.LeaveLine():
                if self._turnstile is not None:
                    self._turnstile.obey(command)
            case do.Dial(link, handover):
                self._start_dial(link, handover)
            case do.Part(error):
                self._part(error)
            case do.Announce(event):
                self.emit(event)
            case do.Finish(error):
                if not self._over.done():  # cancelled in this very turn: that goes first
                    self._over.set_result(error)
            case _:
                # A link may have ended a moment ago; the news of it is in the inbox.
                record = self._record(command.link)
                if record is not None:
                    self._perform_on(record, command)

    def _perform_on(self, record: LinkRecord, command: do.LinkCommand) -> None:
        match command:
            case do.Adopt():
                self._adopt(record)
            case do.Greet(_, handover, within):
                self._greet(record, handover, within)
            case do.Prove(_, within):
                record.prove(within)
            case do.Reauthenticate():
                record.token = self._attempts.token
                self._lane.offer_token(record, record.token)
            case do.Release(_, within):
                self._release(record, within)
            case do.Answer():
                record.answer()
            case do.Abort():
                record.abort("given up")
            case do.Drop():
                if record.link is None:  # an open one is forgotten when it has ended
                    self._links.remove(record)
                self._forget_introduction(record)
                record.drop()

    def _moment(self) -> Moment:
        now, turnstile = self._loop.time(), self._turnstile
        return Moment(
            now=now,
            wall=self._parts.wall(),
            roll=self._parts.roll(),
            link=self._next_link,
            ticket=self._next_ticket,
            turn=None if turnstile is None else turnstile.next(now),
        )

    def _arm(self) -> None:
        """Set the one timer to when the core wants to hear of the time, or leave it sooner.

        The core may be told of the time too soon, and a timer that is cancelled stays in the
        loop's heap until its time.
        """
        if self._state is None or isinstance(self._state, Stopped):
            self._disarm()
            return
        at = wake_at(self._state, self._policy, self._moment())
        soon = self._loop.time() + LONGEST_SLEEP
        at = soon if at is None else min(at, soon)
        if self._timer is None or at < self._timer.when():
            self._disarm()
            self._timer = self._loop.call_at(at, self._wake)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        before, wall_before = self._clocks
        self._clocks = now, wall = self._loop.time(), self._parts.wall()
        drift = (wall - wall_before) - (now - before)
        if abs(drift) > DRIFT:
            self.emit(SuspendDetected(drift=drift))
            self.hear(heard.SuspendNoticed())
        self.hear(heard.TimerFired())

    # ------------------------------------------------------------ tokens

    def _authorize(self, command: do.Authorize) -> None:
        self._next_ticket = max(self._next_ticket, command.ticket + 1)
        if self._asking is not None:
            self._asking.cancel()
        self._asking = self._spawn(self._attempts.obtain(command), "token")

    # ------------------------------------------------------------ links

    def _start_dial(self, number: int, handover: bool) -> None:
        self._next_link = number + 1
        for other in self._links:
            other.stop_lingering()  # two links are enough
        record = LinkRecord(number=number, handover=handover, owner=self, options=self._options)
        if self._callbacks.tap is not None:
            record.tap = functools.partial(self._lane.tap, record)
        if self._outlet.record is not None:
            self._lane.begin_overlap(self._outlet.record)
        self._links.append(record)
        record.dial = self._spawn(self._attempts.dial(record), f"dial-{number}")

    def _record(self, number: int) -> LinkRecord | None:
        return next((record for record in self._links if record.number == number), None)

    async def wait_for_room(self, record: LinkRecord) -> None:
        """Wait while a link that we let go is still unread, and another one serves.

        A handler that is stuck would otherwise collect one link with each hand-over.  It is
        a bound on sockets, as the gate of the dials is: the core has decided already.
        """
        while (serving := self._outlet.record) is not None and record.handover:
            others = [each for each in self._links if each.released and each.is_paused]
            unread = [each.closed() for each in others if each.link is not None]
            if not unread or serving.link is None:
                return
            await asyncio.wait([*unread, serving.closed()], return_when=asyncio.FIRST_COMPLETED)

    def dial_failed(self, record: LinkRecord) -> None:
        """A dial did not lead to a link; what that means is heard next."""
        if record in self._links:
            self._links.remove(record)
        self._forget_successor(record)

    def _adopt(self, record: LinkRecord) -> None:
        record.taking_over = False
        self._outlet.serve(record)
        record.adopted = True
        if record.introduction is not None:
            self._lane.follow(record)
        self._outlet.flush()

    def _greet(self, record: LinkRecord, handover: bool, within: float) -> None:
        if handover:
            self._lane.introduce(record, within)
            return
        record.handover = False
        gap = None if self._gap_since is None else self._loop.time() - self._gap_since
        self.is_connected = True
        self.emit(Connected(link=record.number, gap=gap))
        self._lane.greet(record, within)

    def _release(self, record: LinkRecord, within: float | None) -> None:
        if self._outlet.record is record:
            self._outlet.serve(None)
        self._forget_introduction(record)
        if record.is_unwanted:
            # Nobody will take what it brings, and its CLOSE comes behind that.
            self._count_dropped(record)
            record.discard()
        code, reason = self._close_frame
        awaits = self._callbacks.awaits
        if within is None:
            within = self._options.close_timeout
        elif awaits is not None and awaits(record.number) and not record.is_going_away:
            # Nobody answers after a CLOSE; a request should not notice a hand-over.
            record.linger(within / 2, then=within / 2)
            return
        record.release(within, code=code, reason=reason)

    def _part(self, error: Exception | None) -> None:
        self.is_connected = False
        self._gap_since = self._loop.time()
        self.emit(Disconnected(error=error))
        self._lane.part(error)

    def _forget_introduction(self, record: LinkRecord) -> None:
        """End the `on_handover` of a link that never came to serve."""
        if record.introduction is not None and not record.adopted:
            record.introduction.cancel()
        self._forget_successor(record)

    def _forget_successor(self, record: LinkRecord) -> None:
        if record.handover and not record.adopted and self._outlet.record is not None:
            self._lane.forget_overlap(self._outlet.record)

    # ------------------------------------------------------------ what links tell

    def link_closed(self, record: LinkRecord, error: ConnectionClosed) -> None:
        """A link ended."""
        self._outlet.lose(record)
        self._lane.link_ended(record)
        if record.is_unwanted:
            self._count_dropped(record)
        if record not in self._links:
            return
        self._links.remove(record)
        wire = record.wire_bytes
        self.emit(
            LinkLost(
                link=record.number,
                error=error,
                lived=self._loop.time() - record.opened_at,
                messages=record.received,
                released=record.released,
                sent=record.pings.sent,
                unconfirmed=record.pings.sent - record.pings.confirmed,
                bytes_received=None if wire is None else wire.received,
                bytes_sent=None if wire is None else wire.sent,
            )
        )
        if self._outlet.record is record:
            self._outlet.serve(None)
        if not record.released:
            self._forget_introduction(record)
            self.hear(heard.LinkLost(record.number, error, self._parts.override(error)))

    def tick(self) -> float:
        """Seconds by a fine clock, for what is measured."""
        return self._parts.tick()

    def link_proven(self, record: LinkRecord) -> None:
        """A link answered."""
        self.hear(heard.LinkProven(record.number))

    def proof_failed(self, record: LinkRecord, error: Exception) -> None:
        """A link did not answer."""
        self.hear(heard.ProofFailed(record.number, error))

    def departure_announced(self, record: LinkRecord, error: ConnectionClosed) -> None:
        """The far side goes away, and waits for our answer."""
        if not record.released:
            override = self._parts.override(error)
            self.hear(heard.DepartureAnnounced(record.number, error, override))

    def deliver_failed(self, error: Exception) -> None:
        """A plain `on_message` raised."""
        self.handler_failed("on_message", error)

    def reading_paused(self, record: LinkRecord, seconds: float) -> None:
        """The handler keeps us from reading."""
        method = f"{self._callbacks.name}.{self._lane.method or 'on_message'}"
        self.emit(ReadingPaused(link=record.number, method=method, seconds=seconds))

    def pinged(self, record: LinkRecord) -> None:
        """A link answered a ping, and what was written before it has arrived."""
        if record.pings.latency is not None:
            self.emit(LatencyMeasured(link=record.number, seconds=record.pings.latency))
        self._outlet.confirmed(record)
        self._tell_watchers()

    def unwritable(self, record: LinkRecord) -> None:
        """A link's write buffer is full."""
        if record is self._outlet.record:
            self._outlet.adjust()

    def writable(self, record: LinkRecord) -> None:
        """A link takes messages again."""
        if record is self._outlet.record:
            self._outlet.adjust()
            self._outlet.flush()

    # ------------------------------------------------------------ what the lane tells

    def greeted(self, record: LinkRecord) -> None:
        """`on_connect` returned."""
        self.hear(heard.LinkGreeted(record.number))
        if record is self._outlet.record:
            if self._outlet.ledger is not None:
                self._outlet.ledger.unknown = ()
            self._outlet.flush()

    def greeting_failed(self, record: LinkRecord, method: str, error: Exception) -> None:
        """`on_connect` raised, or took too long."""
        # On a link that is gone, that a send failed is no fault of the handler's.
        if record.link is not None or not isinstance(error, NotConnected | ConnectionClosed):
            self.emit(HandlerFailed(method=method, error=error))
        final = _permanent(error)
        if final is not None:
            self.hear(heard.HandlerEnded(final))
            return
        self.hear(heard.GreetingFailed(record.number, error, self._parts.override(error)))

    def token_offered(self, record: LinkRecord, *, accepted: bool) -> None:
        """`on_token_refresh` returned."""
        number = record.number
        self.hear(heard.TokenAccepted(number) if accepted else heard.TokenDeclined(number))

    def handler_failed(self, method: str, error: Exception) -> None:
        """A callback raised."""
        self.emit(HandlerFailed(method=method, error=error))
        final = _permanent(error)
        if final is not None:
            self.hear(heard.HandlerEnded(final))
        elif self._options.handler_errors == "raise":
            final = PermanentError(f"{self._callbacks.name}.{method} raised {error!r}")
            final.__cause__ = error
            self.hear(heard.HandlerEnded(final))

    def messages_dropped(self, count: int) -> None:
        """Messages came that the handler will not see."""
        self.emit(MessagesDropped(count=count))

    def duplicates_dropped(self, count: int) -> None:
        """Messages came on both links of a hand-over, and were delivered once."""
        self.emit(DuplicatesDropped(count=count))

    def take_result(self, record: LinkRecord, result: object) -> None:
        """A plain `on_message` returned something."""
        self._lane.take_result(record, result)

    def make_sender(self, record: LinkRecord) -> Sender:
        """Return the `send` of a link."""
        return self._outlet.make_sender(record)

    def _blocked(self, method: str, seconds: float, stack: str) -> None:
        self.emit(LoopBlocked(method=method, seconds=seconds, stack=stack))

    # ------------------------------------------------------------ the end

    async def _wind_down(self) -> None:
        """Let links end and the handler hear everything, until somebody is in a hurry."""
        settled = self._spawn(self._settle(), "settle")
        self._hurry = self._loop.create_future()
        if not self._is_hurried:
            await asyncio.wait((settled, self._hurry), return_when=asyncio.FIRST_COMPLETED)
        if not settled.done():
            settled.cancel()
            await self._close_now()

    def _hurry_up(self) -> None:
        self._is_hurried = True
        if self._hurry is not None and not self._hurry.done():
            self._hurry.set_result(None)

    async def _settle(self) -> None:
        for record in list(self._links):
            if record.link is not None:
                await asyncio.shield(record.closed())
        await self._lane.drain()

    async def _close_now(self) -> None:
        """Close within `close_timeout`, whatever the handler and the far side do."""
        deadline = self._loop.time() + self._close_within
        self.hear(heard.StopRequested())
        records = list(self._links)
        for record in records:
            # All is released by now, unless it was a defect that ended the session.
            if not record.released:
                self._release(record, None)
        if self.is_connected:
            self._part(None)
        await self._lane.cancel(deadline)
        for record in records:
            self._count_dropped(record)
            record.discard()
        await self._wait_closed(records, deadline - self._loop.time())
        for record in records:
            self._count_dropped(record)

    def _count_dropped(self, record: LinkRecord) -> None:
        dropped = record.drop_held() + record.discarded
        record.discarded = 0
        if dropped:
            self.emit(MessagesDropped(count=dropped))

    def _close_outbox(self, error: Exception | None) -> None:
        """Report what was not sent, and what may not have arrived."""
        ledger = self._outlet.ledger
        if ledger is None:
            return
        unsent = ledger.close()
        if isinstance(error, PermanentError):
            error.unsent, error.unknown = unsent, ledger.unknown

    async def _clean_up(self) -> None:
        """Leave nothing behind: no task, no timer, no socket."""
        self._disarm()
        self._state = None
        self._outlet.serve(None)
        records = list(self._links)
        for record in records:
            record.drop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLEAN_UP_WITHIN)
        await self._wait_closed(records, CLEAN_UP_WITHIN)
        self._links.clear()
        if not self._over.done():
            self._over.cancel()

    async def _wait_closed(self, records: list[LinkRecord], within: float) -> None:
        closings = [record.closed() for record in records if record.link is not None]
        if closings:
            await asyncio.wait(closings, timeout=max(0.0, within))

    def _spawn(
        self, coroutine: Coroutine[Any, Any, None], name: str, context: Context | None = None
    ) -> asyncio.Task[None]:
        name = f"dromos-{self.number}-{name}"
        task = self._loop.create_task(coroutine, name=name, context=context)
        self._tasks.append(task)
        task.add_done_callback(self._task_done, context=context)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if task is self._asking:
            self._asking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)
        if task is self._lane_task:
            self._lane_ended()

    def emit(self, event: BridgeEvent) -> None:
        """Tell the observers, and count."""
        event = replace(
            event,
            connection_id=self.connection_id,
            session=self.number,
            at=self._parts.wall(),
        )
        self._tally.hear(event)
        self._parts.emit(event)
        for watcher in self._watchers:
            watcher.on_event(event)

    def _tell_watchers(self) -> None:
        if self._flush is not None:
            self._flush.look()
        for watcher in self._watchers:
            watcher.on_change()


def _permanent(error: Exception) -> PermanentError | None:
    """The wish to end the session in what a handler raised, its task groups included."""
    if isinstance(error, PermanentError):
        return error
    inside: tuple[Exception, ...] = getattr(error, "exceptions", ())
    found = (_permanent(inner) for inner in inside)
    return next((final for final in found if final is not None), None)
