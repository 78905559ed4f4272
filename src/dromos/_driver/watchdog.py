"""Says which callback blocks an event loop, and where: one thread that watches them all."""

import functools
import linecache
import logging
import os
import sys
import threading
import time
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, Final

__all__ = ["BLOCKED_AFTER", "Unwatched", "Watchdog", "the_watchdog"]

BLOCKED_AFTER: Final = 1.0
"""Seconds that a heartbeat is under way after which its loop counts as blocked."""

PAUSE: Final = 0.5
"""Seconds between two heartbeats: so late a block may be noticed, and so much shorter measured."""

AGAIN_AFTER: Final = (10.0, 60.0, 600.0)
"""Seconds after which a block that lasts is warned of again; the last is repeated."""

STACK_LINES: Final = 20
"""Frames of a stack to show, from the innermost."""

LAYERS: Final = 32
"""Wrappers to look through: an object may claim to wrap something without end."""

_log: Final = logging.getLogger("dromos")


@dataclass(slots=True, eq=False)
class _Watch:
    """One session: whose code to look for, and whom to tell.

    Attributes:
        dog: Who watches it.
        pulse: Its loop's.
        blocked: Is told of each block that is over.
        names: What each code object is called.  Sessions of one class share it.
        receivers: The `self` that each of these is called with, to tell such sessions apart.
    """

    dog: "Watchdog"
    pulse: "_Pulse"
    blocked: Callable[[str, float, str], None]
    names: dict[CodeType, str]
    receivers: tuple[object, ...]

    def __call__(self) -> None:
        """End it."""
        self.dog.end(self)

    def is_of(self, receiver: object, code: CodeType) -> bool:
        """Whether this is the `self` that a code object is called with."""
        return any(
            mine is receiver
            for known, mine in zip(self.names, self.receivers, strict=True)
            if known == code
        )


@dataclass(frozen=True, slots=True)
class _Sample:
    """What a loop was doing.  `name` is None if it was nothing of ours."""

    name: str | None
    watches: list[_Watch]
    stack: traceback.StackSummary

    def text(self) -> str:
        """The stack with its lines of source, which are read from files only now."""
        return "".join(self.stack.format())


@dataclass(slots=True)
class _Block:
    """A block that was warned of, and will be again when it has lasted for `again_after`."""

    sample: _Sample
    again_after: float = 0.0


@dataclass(slots=True, eq=False)
class _Pulse:
    """A loop and its heartbeat.

    Attributes:
        thread: The loop's, by its identity.
        cpu_clock: The clock of that thread's computing time, where there is one.
        computed: What that clock said when it was read before.
        is_posted: Whether a heartbeat is on its way.
        since: From when on the loop has run no heartbeat that it should have run.
    """

    loop: AbstractEventLoop
    thread: int = 0
    cpu_clock: int | None = None
    computed: float = 0.0
    is_posted: bool = False
    since: float | None = None
    block: _Block | None = None
    watches: list[_Watch] = field(default_factory=list[_Watch])

    def note_thread(self) -> None:
        """Learn the loop's thread, on that thread: a loop may be run by one after the other."""
        cpu_clock = _cpu_clock()
        if self.cpu_clock != cpu_clock:
            self.cpu_clock, self.computed = cpu_clock, _read(cpu_clock)
        self.thread = threading.get_ident()

    def shared(self, names: dict[CodeType, str]) -> dict[CodeType, str]:
        """Return the names of the watch before, if they are the same: a class has many handlers."""
        last = self.watches[-1].names if self.watches else names
        return last if list(last.items()) == list(names.items()) else names

    def has_computed(self) -> float:
        """How many seconds the loop's thread has computed since this was asked before."""
        before, self.computed = self.computed, _read(self.cpu_clock)
        return self.computed - before


@dataclass(frozen=True, slots=True)
class _Pause:
    """From one look at the loops to the next, of which the thread `asked` to sleep so much."""

    began: float
    asked: float
    ended: float

    @property
    def took(self) -> float:
        return self.ended - self.began

    @property
    def late(self) -> float:
        return self.took - self.asked


class Watchdog:
    """Sends heartbeats through event loops, and looks at the stack of one that misses its.

    Nothing is wrapped: a message costs what it costs without a watchdog.  The thread
    is there while anything is watched.
    """

    def __init__(
        self,
        *,
        blocked_after: float = BLOCKED_AFTER,
        pause: float = PAUSE,
        again_after: tuple[float, ...] = AGAIN_AFTER,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            blocked_after: Seconds without a heartbeat that count as a block.
            pause: Seconds between two heartbeats.
            again_after: When to warn again; the last is repeated.
            now: Monotonic time; asked from several threads.
        """
        self._blocked_after = blocked_after
        self._pause = pause
        self._again_after = again_after
        self._now = now
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        # Reentrant: the collector may end a watch in the middle of another call of ours.
        self._changed = threading.Condition(threading.RLock())
        self._pulses: dict[AbstractEventLoop, _Pulse] = {}
        self._thread: threading.Thread | None = None
        self._is_running = False
        self._has_complained = False

    # ------------------------------------------------------------ on the loop's thread

    def watch(
        self,
        loop: AbstractEventLoop,
        methods: Mapping[str, Callable[..., Any]],
        blocked: Callable[[str, float, str], None],
    ) -> Callable[[], None]:
        """Watch a session's callbacks, and return what ends that.

        Where several sessions share a handler nobody can tell whose call it is
        that blocks: each of them is told.

        Args:
            loop: The running loop.
            methods: The callbacks, by the name that they are to be called.
            blocked: Is called in the loop after a block, with the method's name,
                how many seconds it was at least, and the stack.
        """
        names, receivers = _learn(methods)
        with self._lock():
            pulse = self._pulses.get(loop)
            if pulse is None:
                pulse = self._pulses[loop] = _Pulse(loop)
                pulse.note_thread()
            watch = _Watch(self, pulse, blocked, pulse.shared(names), receivers)
            pulse.watches.append(watch)
            self._start()
        return watch

    def end(self, watch: _Watch) -> None:
        """End a watch; a second time does nothing."""
        pulse = watch.pulse
        with self._lock():
            if watch in pulse.watches:
                pulse.watches.remove(watch)
            if not pulse.watches:
                self._forget(pulse)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end, and return whether none is left."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _lock(self) -> threading.Condition:
        """The lock; a new one in a forked child, where nobody would release the old."""
        if self._pid != os.getpid():
            self._start_afresh()
        return self._changed

    def _start(self) -> None:
        if self._is_running and self._thread is not None and self._thread.is_alive():
            return
        thread = threading.Thread(target=self._run, name="dromos-watchdog", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # No thread to be had is no reason to have no session; the next one tries again.
            self._complain(f"can't start: {error}")
        else:
            self._thread, self._is_running = thread, True

    def _beat(self, pulse: _Pulse) -> None:
        """The heartbeat: what blocked the loop, if anything did, is over."""
        now = self._now()
        with self._lock():
            pulse.note_thread()
            since, block = pulse.since, pulse.block
            pulse.is_posted, pulse.since, pulse.block = False, None, None
        if since is not None and block is not None:
            self._tell(pulse, block.sample, now - since)

    def _tell(self, pulse: _Pulse, sample: _Sample, seconds: float) -> None:
        if sample.name is None:
            return
        stack = sample.text()
        for watch in sample.watches:
            if watch not in pulse.watches:
                continue
            try:
                watch.blocked(sample.name, seconds, stack)
            except Exception:
                self._complain(f"could not tell of a block:\n{traceback.format_exc()}")

    # ------------------------------------------------------------ on our own thread

    def _run(self) -> None:
        now = self._now()
        pause = _Pause(now, 0.0, now)
        while pulses := self._all_pulses():
            for pulse in pulses:
                try:
                    self._look(pulse, pause)
                except Exception:
                    # As text: a traceback would hold the frames of other threads.
                    self._complain(f"failed and goes on:\n{traceback.format_exc()}")
            pause = self._rest(pause.ended)

    def _all_pulses(self) -> list[_Pulse]:
        """What to look after; if that is nothing, the thread ends."""
        with self._lock():
            self._is_running = bool(self._pulses)
            return list(self._pulses.values())

    def _rest(self, began: float) -> _Pause:
        """Pause until the next heartbeat, or until a block is one, or nobody is left."""
        with self._lock():
            asked, now = self._pause, self._now()
            for pulse in self._pulses.values():
                if pulse.since is not None and pulse.block is None:
                    asked = min(asked, pulse.since + self._blocked_after - now)
            # Never a busy loop, whatever the clocks say.
            asked = max(asked, self._pause / 10)
            if self._pulses:
                self._changed.wait(asked)
        return _Pause(began, asked, self._now())

    def _look(self, pulse: _Pulse, pause: _Pause) -> None:
        with self._lock():
            if pulse.loop.is_closed():
                self._forget(pulse)
                return
            seconds = self._silence(pulse, pause)
        try:
            # First of all the stack: to send a heartbeat lets the loop go on.
            if seconds is not None and seconds >= self._blocked_after:
                self._examine(pulse, seconds)
        finally:
            self._post(pulse)

    def _silence(self, pulse: _Pulse, pause: _Pause) -> float | None:
        """For how long the loop has run no heartbeat, for all we know."""
        computed = pulse.has_computed()
        if not pulse.loop.is_running():
            # Between two `run_until_complete` nobody is blocked.
            if pulse.since is not None:
                pulse.since = pause.ended
        else:
            self._excuse(pulse, pause, computed)
        return None if pulse.since is None else pause.ended - pulse.since

    def _excuse(self, pulse: _Pulse, pause: _Pause, computed: float) -> None:
        """Judge a loop after a pause that took too long.

        Either the machine slept, or was busy with others: that time does not count,
        and when it was much, nobody knows which part of the pause it was.  Or the
        loop's thread computed all the while, and so held the GIL and us: a regular
        expression, a big JSON.  Then the heartbeat was due when the pause was.
        """
        is_long = pause.late > self._blocked_after
        if computed >= self._blocked_after:
            if is_long and pulse.since is None:
                pulse.since = pause.began + pause.asked
        elif pulse.since is not None and computed < pause.late:
            lost = pause.took if is_long else pause.late
            pulse.since = min(pulse.since + lost, pause.ended)

    def _examine(self, pulse: _Pulse, seconds: float) -> None:
        block = pulse.block
        if block is not None and seconds < block.again_after:
            return
        sample = _sample(pulse)
        if sample is None or (sample.name is None and not pulse.is_posted):
            # Without a heartbeat on its way only a callback in the stack is evidence.
            return
        # Whoever else blocks the loop is not ours to nag about.
        again = float("inf") if sample.name is None else self._again(seconds)
        with self._lock():
            if pulse.since is None:
                # It was over while we looked: that stack may be anybody's.
                return
            pulse.block = pulse.block or _Block(sample)
            pulse.block.again_after = again
        _warn(sample, seconds)

    def _again(self, seconds: float) -> float:
        """How long a block must last to be warned of the next time."""
        later = next((due for due in self._again_after if due > seconds), None)
        period = self._again_after[-1]
        return later or (seconds // period + 1) * period

    def _post(self, pulse: _Pulse) -> None:
        with self._lock():
            if pulse.is_posted:
                return
            pulse.is_posted = True
            if pulse.since is None:
                pulse.since = self._now()
        try:
            pulse.loop.call_soon_threadsafe(self._beat, pulse)
        except Exception:
            # A heartbeat that never comes must not be taken for a block.
            self._forget(pulse)
            if not pulse.loop.is_closed():
                raise

    def _forget(self, pulse: _Pulse) -> None:
        with self._lock():
            if self._pulses.get(pulse.loop) is pulse:
                del self._pulses[pulse.loop]
            if not self._pulses:
                self._changed.notify_all()

    def _complain(self, what: str) -> None:
        """Once: what fails twice a second would fill the log."""
        if not self._has_complained:
            self._has_complained = True
            with suppress(Exception):  # What failed may be the log.
                _log.error("the watchdog of event loops %s", what)


class Unwatched:
    """A watchdog that sleeps: in virtual time nothing takes long."""

    def watch(
        self,
        loop: AbstractEventLoop,
        methods: Mapping[str, Callable[..., Any]],
        blocked: Callable[[str, float, str], None],
    ) -> Callable[[], None]:
        """Watch nothing, and return what ends that."""
        return _do_nothing


def _do_nothing() -> None:
    pass


def _warn(sample: _Sample, seconds: float) -> None:
    _log.warning(
        "%s has blocked the event loop for %.1f s; nothing else can run in it:\n%s",
        sample.name or "code outside of all handlers",
        seconds,
        sample.text(),
        extra={"blocked_by": sample.name, "blocked_for": seconds},
    )


# ---------------------------------------------------------------- whose code it is


def _learn(
    methods: Mapping[str, Callable[..., Any]],
) -> tuple[dict[CodeType, str], tuple[object, ...]]:
    """Return the names of the methods' code, and the `self` that each is called with.

    A wrapper that is that of two methods bears the names of both.
    """
    names: dict[CodeType, str] = {}
    receivers: dict[CodeType, object] = {}
    seen: list[object] = []
    for name, method in methods.items():
        # A handler may be any object, and fail at any question.
        with suppress(Exception):
            if any(_is_same(method, other) for other in seen):
                continue
            seen.append(method)
            for code, receiver in _layers(method):
                known = names.get(code)
                names[code] = name if known in {None, name} else f"{known} or {name}"
                receivers[code] = receiver
    return names, tuple(receivers.values())


def _is_same(method: object, other: object) -> bool:
    """Whether two callables are one, by identity: what a handler's `==` does is its own affair."""
    if isinstance(method, MethodType) and isinstance(other, MethodType):
        return method.__func__ is other.__func__ and method.__self__ is other.__self__
    return method is other


def _layers(method: object) -> Iterator[tuple[CodeType, object]]:
    """Each Python function that a call goes through, with its `self`.

    `inspect.unwrap` would tell the last one only, and a wrapper can block as well.
    """
    layers: list[tuple[object, object]] = [(method, None)]
    for _ in range(LAYERS):
        if not layers:
            return
        layer, receiver = layers.pop()
        if isinstance(layer, MethodType):
            layers.append((layer.__func__, layer.__self__))
        elif isinstance(layer, functools.partial):
            arguments: tuple[object, ...] = layer.args
            layers.append((layer.func, next(iter(arguments), receiver)))
        elif layer is not None:
            code = getattr(layer, "__code__", None)
            call = getattr(type(layer), "__call__", None)  # noqa: B004 - its code
            layers.append((getattr(layer, "__wrapped__", None), receiver))
            if isinstance(code, CodeType):
                yield code, receiver
            elif isinstance(call, FunctionType):
                layers.append((call, layer))


# ---------------------------------------------------------------- what a thread is doing


def _sample(pulse: _Pulse) -> _Sample | None:
    """Look at a loop's stack, and let go of it at once: frames hold sockets and secrets."""
    innermost = sys._current_frames().get(pulse.thread)  # pyright: ignore[reportPrivateUsage]
    if innermost is None:
        return None
    # One quick walk for name and lines: the stack may move on under our eyes.
    frames = list(traceback.walk_stack(innermost))
    name, watches, watched = None, list[_Watch](), tuple(pulse.watches)
    for frame, _ in frames:
        # The innermost: a wrapper is outside of what it wraps, and may be of many methods.
        watches = [watch for watch in watched if frame.f_code in watch.names]
        if watches:
            watches = _owners(frame, watches)
            name = watches[0].names[frame.f_code]
            break
    stack = [_describe(frame, line) for frame, line in reversed(frames[:STACK_LINES])]
    return _Sample(name, watches, traceback.StackSummary.from_list(stack))


def _describe(frame: FrameType, line: int) -> traceback.FrameSummary:
    """What `StackSummary.extract` makes of a frame, but for its look at the file.

    That would release the GIL: the frame might be over, and was held meanwhile.
    """
    code = frame.f_code
    linecache.lazycache(code.co_filename, frame.f_globals)
    return traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False)


def _owners(frame: FrameType, watches: list[_Watch]) -> list[_Watch]:
    """Whose call a frame is, among sessions that run the same code."""
    code = frame.f_code
    if len(watches) == 1 or not code.co_argcount:
        return watches
    receiver = frame.f_locals.get(code.co_varnames[0])
    owners = [watch for watch in watches if watch.is_of(receiver, code)]
    return owners or watches


def _cpu_clock() -> int | None:
    """The clock of this thread's computing time, for other threads to read.

    Asked by the thread itself: of a thread that has ended, the question may crash.
    """
    if sys.platform != "win32" and sys.platform != "darwin":
        with suppress(OSError):
            return time.pthread_getcpuclockid(threading.get_ident())
    return None


def _read(cpu_clock: int | None) -> float:
    """Seconds; always 0.0 where there is no such clock, or no such thread any more."""
    if sys.platform != "win32" and cpu_clock is not None:
        with suppress(OSError):
            return time.clock_gettime(cpu_clock)
    return 0.0


the_watchdog: Final = Watchdog()
"""The one of this process."""
