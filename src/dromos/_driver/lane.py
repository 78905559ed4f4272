"""Runs a handler's callbacks, one at a time and in the order of events."""

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from types import CoroutineType
from typing import Protocol

from dromos._driver.callbacks import (
    Callback,
    Callbacks,
    heard_from,
    stray,
    stray_cancellation,
)
from dromos._driver.links import LinkRecord
from dromos._driver.overlap import Overlap
from dromos._driver.sending import Sender
from dromos._driver.stepping import Begun, Stepper
from dromos.errors import ConnectionClosed
from dromos.model import Message, Token

__all__ = ["Lane", "LaneOwner"]


class LaneOwner(Protocol):
    """The session, as the lane sees it."""

    def greeted(self, record: LinkRecord) -> None: ...

    def greeting_failed(self, record: LinkRecord, method: str, error: Exception) -> None: ...

    def token_offered(self, record: LinkRecord, *, accepted: bool) -> None: ...

    def handler_failed(self, method: str, error: Exception) -> None: ...

    def messages_dropped(self, count: int) -> None: ...

    def duplicates_dropped(self, count: int) -> None: ...

    def make_sender(self, record: LinkRecord) -> Sender: ...


@dataclass(slots=True)
class _Greeting:
    """Run `on_connect`."""

    record: LinkRecord
    within: float


@dataclass(slots=True)
class _Stream:
    """Deliver what this link has, until it has ended."""

    record: LinkRecord


@dataclass(slots=True)
class _Farewell:
    """Run `on_disconnect`."""

    error: Exception | None


_Step = _Greeting | _Stream | _Farewell


class Lane:
    """The order of a session's callbacks, as a list of steps.

    A link is greeted, then streams until it has ended; a link that takes over
    streams after the one before; `on_disconnect` follows the last one.  So no
    message can pass another, and nothing comes after `on_disconnect`.

    While its stream has nothing else to do, the link itself calls a plain
    `def on_message`, and makes the first step of an `async def` one: no queue, and no
    task switch where that is all.
    """

    __slots__ = (
        "_begun",
        "_callbacks",
        "_connected",
        "_context",
        "_direct",
        "_drained",
        "_flows",
        "_idle",
        "_introduction",
        "_may_be_direct",
        "_now",
        "_overlap",
        "_owner",
        "_spawn",
        "_stepper",
        "_steps",
        "_task",
        "method",
    )

    def __init__(
        self,
        callbacks: Callbacks,
        owner: LaneOwner,
        dedupe: Callable[[Message], Hashable] | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._owner = owner
        self._overlap = None if dedupe is None else Overlap(dedupe, self._dedupe_failed)
        self._flows = True
        self._steps: list[_Step] = []  # few at a time
        self._now: _Step | None = None
        self._connected = False
        self._idle: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._introduction: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        # A plain function may still return an awaitable; a first call tells whether it does.
        self._may_be_direct = False
        self._direct: LinkRecord | None = None
        self._stepper: Stepper | None = None  # until an `async def on_message` needs it
        self._begun: Begun | None = None
        self.method = "on_connect"

    def start(self, spawn: Callable[..., asyncio.Task[None]]) -> asyncio.Task[None]:
        """Begin to run callbacks."""
        context = contextvars.copy_context()
        self._spawn = spawn
        self._task = spawn(self._run(), "lane", context)
        self._context = context
        return self._task

    # What the session orders

    def greet(self, record: LinkRecord, within: float) -> None:
        """Run `on_connect` in its turn, and then deliver what the link has."""
        # While nothing else is to do its turn is now, even if the link is lost meanwhile.
        record.greeting_due = self._now is None and not self._steps
        self._add(_Greeting(record, within))
        self._add(_Stream(record))

    def begin_overlap(self, serving: LinkRecord) -> None:
        """Compare what a link brings with what the next one will, which is being dialled."""
        if self._overlap is not None:
            self._overlap.begin(serving.number)
            self._deliver_anew()

    def forget_overlap(self, serving: LinkRecord) -> None:
        """Stop that: the next link did not come to serve."""
        if self._overlap is not None:
            self._overlap.forget(serving.number)
            self._report_duplicates()
            self._deliver_anew()

    def link_ended(self, record: LinkRecord) -> None:
        """Note that a link has ended: its last copies come soon."""
        if self._overlap is not None:
            self._overlap.ended(record.number, asyncio.get_running_loop().time())

    def hold_back(self) -> None:
        """Deliver nothing more, until there is room where it goes."""
        self._flows = False
        streaming = self._streaming()
        if streaming is not None:
            streaming.hold_back()

    def let_flow(self) -> None:
        """Go on delivering."""
        if not self._flows:
            self._flows = True
            streaming = self._streaming()
            if streaming is not None:
                streaming.let_flow()
            self._wake()

    def introduce(self, record: LinkRecord, within: float) -> None:
        """Run `on_handover` now, beside the callbacks of the link that serves."""
        coroutine = self._introduce_after(self._introduction, record, within)
        self._introduction = self._spawn(coroutine, f"handover-{record.number}")
        record.introduction = self._introduction

    def follow(self, record: LinkRecord) -> None:
        """Deliver what this link has, once the one before it has ended."""
        self._add(_Stream(record))

    def offer_token(self, record: LinkRecord, token: Token) -> None:
        """Run `on_token_refresh` in its turn."""
        record.put(lambda: self._on_token_refresh(record, token))

    def part(self, error: Exception | None) -> None:
        """Run `on_disconnect` after all that the links before still have."""
        waiting = next((step for step in self._steps if isinstance(step, _Greeting)), None)
        if waiting is None or waiting.record.greeting_due:
            self._add(_Farewell(error))
            return
        # The handler is still busy with what was before: it has not seen this link,
        # and won't.  Otherwise a stuck handler would collect one after another.
        self._steps = [
            step for step in self._steps if getattr(step, "record", None) is not waiting.record
        ]
        self._drop_held(waiting.record)

    async def drain(self) -> None:
        """Wait until all steps are done, or the lane has died."""
        while (self._steps or self._now is not None) and not self._is_dead():
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    async def cancel(self, deadline: float) -> None:
        """Cancel the running callback, drop the queue, and run `on_disconnect` if it is due.

        Args:
            deadline: For all of this, in monotonic seconds.
        """
        error = self._pending_error()
        self._report_duplicates()
        records = {step.record for step in self._all_steps() if not isinstance(step, _Farewell)}
        for record in records:
            self._drop_held(record)
            record.discard()
        self._steps.clear()
        # An `on_disconnect` that runs already is let go on.
        leaving = isinstance(self._now, _Farewell)
        tasks = [self._introduction] if leaving else [self._introduction, self._task]
        running = [task for task in tasks if task is not None and not task.done()]
        for task in running:
            task.cancel()
        now = asyncio.get_running_loop().time
        if running:
            # A callback that swallows its cancellation must not eat all the time there is.
            await asyncio.wait(running, timeout=max(0.0, deadline - now()) / 2)
        if leaving:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - now())):
                    await self.drain()
        elif self._connected:
            await self._part_within(error, deadline - now())

    # The task

    async def _run(self) -> None:
        while True:
            while self._steps:
                self._now = self._steps.pop(0)
                match self._now:
                    case _Greeting(record, within):
                        await self._on_connect(record, within)
                    case _Stream(record):
                        await self._stream(record)
                    case _Farewell(error):
                        await self._on_disconnect(error)
            self._now = None
            self._tell_drained()
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
            self._idle = None

    async def _stream(self, record: LinkRecord) -> None:
        """Deliver a link's messages until it has ended; none, if it was never greeted."""
        while record.is_greeting:
            await self._wait_for(record)
        if not record.greeted:
            self._drop_held(record)
            return
        if self._flows:
            record.resume_if_low()
        else:
            record.hold_back()
        waited = bool(record.held)
        while True:
            while record.held and (callable(record.held[0]) or self._may_deliver(record)):
                item = record.take()
                if callable(item):
                    await item()
                elif self._overlap is None:
                    await self._on_messages(record, item)
                elif self._is_first(record, item, waited=waited):
                    await self._on_message(item)
                del item  # or it would be kept until the next one comes
                waited = bool(record.held)
            if record.link is None and not record.held:
                self._report_duplicates()
                self.link_ended(record)  # what it brought has only now been delivered
                return
            waited = bool(record.held)
            await self._wait_for(record)

    def _may_deliver(self, record: LinkRecord) -> bool:
        """Whether there is room; a link that has ended must not keep the next one waiting."""
        if self._flows:
            return True
        brimming = self._callbacks.is_brimming
        return record.link is None and brimming is not None and not brimming()

    async def _wait_for(self, record: LinkRecord) -> None:
        """Sleep until the link has something for us."""
        record.waker = self._wake
        if self._may_be_direct and record.greeted and not record.held:
            self._direct = record
            self._deliver_anew(at_rest=True)
        self._idle = asyncio.get_running_loop().create_future()
        try:
            await self._idle
        except asyncio.CancelledError as error:
            await self._pass_on(error)
        finally:
            self._idle = self._direct = None
            record.waker = None
            record.deliver_held()

    async def _pass_on(self, error: asyncio.CancelledError) -> None:
        """Let the callback that has begun as this task hear of what cancels the task.

        Most often it is a scope of the callback's own: a timeout that was over at once, or a
        task group with a child that failed before this task had its next turn.
        """
        if self._task is not None and not self._task.cancelling():
            return  # a callback that is over has taken it back; one that has begun since goes on
        if self._begun is None:
            raise error
        self._begun.cancel(error)
        await self._go_on()

    # Straight from the link

    def _deliver_anew(self, *, at_rest: bool = False) -> None:
        """Have the link that delivers straight to the handler do so as it now should.

        Args:
            at_rest: Whether it surely is not in the middle of a read, of whose end a link that
                begins to collect there might not hear.
        """
        record = self._direct
        if record is None:
            return
        if self._overlap is not None and self._overlap.is_on:
            record.deliver_directly(functools.partial(self._deliver_first, record))
        elif not self._callbacks.is_async:
            record.deliver_directly(self._callbacks.on_untapped)
        elif not (at_rest and record.deliver_reads(self._stepping().take)):
            record.deliver_directly(self._stepping().begin)
            if not at_rest:
                self._wake()  # and when it rests again, reads are taken together

    def _stepping(self) -> Stepper:
        """What runs an `async def on_message` up to where it waits: most don't.

        Those need no queue and no switch of tasks.  What is left of another one is the task's.
        """
        if self._stepper is None:
            assert self._task is not None
            self._stepper = Stepper(
                self._task,
                self._context,
                self._callbacks.on_message,
                fail=self._step_failed,
                hold=self._hold,
                go_on_with=self._go_on_with,
            )
        return self._stepper

    def _step_failed(self, error: BaseException) -> None:
        """Tell what `on_message` raised before it waited."""
        if isinstance(error, Exception | asyncio.CancelledError):
            self._owner.handler_failed("on_message", heard_from(error, "on_message"))
        else:
            self._hold()
            raise error

    def _go_on_with(self, begun: Begun) -> None:
        """Await what is left of a message, before the next one."""
        # Not `_direct`: a callback that had its link deliver more has seen to it that that is held.
        record = self._streaming()
        assert record is not None
        self.take_result(record, begun)

    def _hold(self) -> None:
        """Let nothing more go straight to the handler, until the task has nothing else to do."""
        record, self._direct = self._direct, None
        if record is not None:
            record.deliver_held()

    def _deliver_first(self, record: LinkRecord, message: Message) -> object:
        if not self._is_first(record, message):
            return None
        take = self._stepping().begin if self._callbacks.is_async else self._callbacks.on_untapped
        return take(message)

    def _is_first(self, record: LinkRecord, message: Message, *, waited: bool = False) -> bool:
        """Whether a message is no copy of one that came on the link before."""
        overlap = self._overlap
        assert overlap is not None
        if not overlap.is_on:
            return True
        now = asyncio.get_running_loop().time()
        behind = waited or bool(record.held) or record.is_paused
        first = overlap.admits(record.number, message, now=now, behind=behind)
        if not overlap.is_on:
            self._report_duplicates()
            self._deliver_anew()
        return first

    def tap(self, record: LinkRecord, message: Message) -> bool:
        """Take a message away before it is held, if somebody waits for just that."""
        tap = self._callbacks.tap
        taken = tap is not None and tap(message)
        if taken and self._overlap is not None:
            self._overlap.took(record.number, message)
        return taken

    def _report_duplicates(self) -> None:
        if self._overlap is not None and self._overlap.dropped:
            self._owner.duplicates_dropped(self._overlap.dropped)
            self._overlap.dropped = 0

    def _dedupe_failed(self, error: Exception) -> None:
        self._owner.handler_failed("dedupe", error)

    async def _on_message(self, message: str | bytes) -> None:
        self.method = "on_message"
        try:
            with stray_cancellation("on_message"):
                result = self._callbacks.on_message(message)
                if inspect.isawaitable(result):
                    self._callbacks.is_async = True
                    self._may_be_direct = type(result) is CoroutineType
                    await result
                else:
                    self._may_be_direct = not self._callbacks.is_async
        except Exception as error:
            self._owner.handler_failed("on_message", error)

    async def _on_messages(self, record: LinkRecord, message: str | bytes) -> None:
        """Deliver a message, and those behind it: many of an `async def` for one call of ours."""
        await self._on_message(message)
        if not self._callbacks.is_async:
            return
        on_message, held, take = self._callbacks.on_message, record.held, record.take
        while held and self._flows and not callable(held[0]):
            self.method = "on_message"
            try:
                result = on_message(take())
                if type(result) is CoroutineType or inspect.isawaitable(result):
                    await result
            except asyncio.CancelledError as error:
                self._owner.handler_failed("on_message", stray(error, "on_message"))
            except Exception as error:
                self._owner.handler_failed("on_message", error)

    def take_result(self, record: LinkRecord, result: object) -> None:
        """Await what `on_message` left to be awaited, before its next message."""
        if not inspect.isawaitable(result):
            return
        self._callbacks.is_async = True
        self._direct = None  # nothing more goes straight, before it ends
        record.deliver_held()
        if isinstance(result, Begun):
            self._begun = result
            record.put_first(self._go_on)
        else:
            record.put_first(functools.partial(self._await_result, result))

    async def _go_on(self) -> None:
        """Go on with the callback that has begun, unless that has been done."""
        begun, self._begun = self._begun, None
        if begun is not None:
            await self._await_result(begun)

    async def _await_result(self, result: Awaitable[object]) -> None:
        self.method = "on_message"
        try:
            with stray_cancellation("on_message"):
                await result
        except Exception as error:
            self._owner.handler_failed("on_message", error)

    async def _on_connect(self, record: LinkRecord, within: float) -> None:
        """Greet a link, although it may be lost already: what it said still counts."""
        self._connected = True
        await self._introduce(record, "on_connect", self._callbacks.on_connect, within)

    async def _introduce_after(
        self, before: asyncio.Task[None] | None, record: LinkRecord, within: float
    ) -> None:
        """Run `on_handover`; the one of a link that was let go may take its time to end."""
        try:
            if before is not None and not before.done():
                await asyncio.wait([before])
            await self._introduce(record, "on_handover", self._callbacks.on_handover, within)
        finally:
            record.is_greeting = False
            self._wake()

    async def _introduce(
        self, record: LinkRecord, name: str, method: Callback, within: float
    ) -> None:
        self.method = name
        error: Exception | None = None
        limit = asyncio.timeout(within)
        try:
            async with limit:
                with stray_cancellation(name):
                    result = method(self._owner.make_sender(record))
                    if inspect.isawaitable(result):
                        await result
        except Exception as raised:
            error = raised
        record.is_greeting = False
        if limit.expired():
            # Also if the callback swallowed the cancellation that told it so.
            reason = f"{name} took over {within:g} s"
            error = ConnectionClosed(code=1000, reason=reason, by_peer=False)
        if error is None:
            record.greeted = True
            self._owner.greeted(record)
        else:
            self._owner.greeting_failed(record, name, error)

    async def _on_token_refresh(self, record: LinkRecord, token: Token) -> None:
        method = self._callbacks.on_token_refresh
        accepted = False
        if method is not None and record.link is not None:
            self.method = "on_token_refresh"
            try:
                sender = self._owner.make_sender(record)
                with stray_cancellation("on_token_refresh"), sender.passing() as send:
                    result = method(token, send)
                    if inspect.isawaitable(result):
                        result = await result
                accepted = result is not False
            except Exception as error:
                self._owner.handler_failed("on_token_refresh", error)
        self._owner.token_offered(record, accepted=accepted)

    async def _on_disconnect(self, error: Exception | None) -> None:
        if not self._connected:
            return
        self._connected = False
        self.method = "on_disconnect"
        try:
            with stray_cancellation("on_disconnect"):
                result = self._callbacks.on_disconnect(error)
                if inspect.isawaitable(result):
                    await result
        except Exception as raised:
            self._owner.handler_failed("on_disconnect", raised)

    async def _part_within(self, error: Exception | None, within: float) -> None:
        """Run `on_disconnect` in a task of its own: ours is being cancelled."""
        task = self._spawn(self._on_disconnect(error), "goodbye")
        await asyncio.wait([task], timeout=max(0.0, within))
        if not task.done():
            task.cancel()
            late = TimeoutError(f"on_disconnect took over {within:.3g} s and was cancelled")
            self._owner.handler_failed("on_disconnect", late)

    # The list

    def _streaming(self) -> LinkRecord | None:
        return self._now.record if isinstance(self._now, _Stream) else None

    def _add(self, step: _Step) -> None:
        self._steps.append(step)
        self._wake()

    def _all_steps(self) -> list[_Step]:
        return [*self._steps] if self._now is None else [self._now, *self._steps]

    def _pending_error(self) -> Exception | None:
        """What the `on_disconnect` that is due should be called with."""
        farewells = [step for step in self._all_steps() if isinstance(step, _Farewell)]
        return farewells[0].error if farewells else None

    def _drop_held(self, record: LinkRecord) -> None:
        dropped = record.drop_held()
        if dropped:
            self._owner.messages_dropped(dropped)

    def _is_dead(self) -> bool:
        return self._task is not None and self._task.done()

    def _tell_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
