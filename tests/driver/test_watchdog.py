"""A callback that blocks its event loop is named: real threads and loops, with tiny limits.

What blocks a loop here does so until the watchdog has said so, however slow the machine is.
"""

import asyncio
import functools
import gc
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from dromos._driver.watchdog import Unwatched, Watchdog, the_watchdog

BLOCKED_AFTER = 0.03
PATIENCE = 10.0

Blocked = tuple[str, float, str]


class Barks(logging.Handler):
    """Everything that the library logs, and a wait for it that blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._heard = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._heard:
            self.records.append(record)
            self._heard.notify_all()

    def block(self, count: int = 1) -> None:
        """Block the calling thread until so much was logged."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.records) >= count, PATIENCE)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@dataclass
class Session:
    """Who is watched: `told` of each block, with the thread that told it."""

    told: list[Blocked] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    def blocked(self, method: str, seconds: float, stack: str) -> None:
        self.told.append((method, seconds, stack))
        self.threads.append(threading.get_ident())
        self._heard.set()

    async def until_told(self) -> Blocked:
        await asyncio.wait_for(self._heard.wait(), PATIENCE)
        return self.told[0]


@pytest.fixture
def barks() -> Iterator[Barks]:
    handler = Barks()
    logger = logging.getLogger("dromos")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    dog = make_dog()
    yield dog
    assert dog.join(PATIENCE), "a test has left its watch open"


def make_dog(**options: Any) -> Watchdog:
    return Watchdog(**({"blocked_after": BLOCKED_AFTER, "pause": 0.01} | options))


def methods_of(handler: object) -> dict[str, Callable[..., Any]]:
    return {
        f"Agent.{name}": getattr(handler, name)
        for name in ("on_connect", "on_message", "on_disconnect")
        if hasattr(handler, name)
    }


async def watch_one_call(
    dog: Watchdog, methods: Mapping[str, Callable[..., Any]], *arguments: object
) -> Blocked:
    """Call the last of the methods while the loop is watched, and wait for the report."""
    session = Session()
    end = dog.watch(asyncio.get_running_loop(), methods, session.blocked)
    try:
        result = list(methods.values())[-1](*arguments)
        if isinstance(result, Awaitable):
            await result
        return await session.until_told()
    finally:
        end()


class Agent:
    """A handler that does what it should not, until the watchdog barks."""

    def __init__(self, barks: Barks) -> None:
        self.barks = barks

    def on_connect(self, send: object) -> None: ...

    def on_message(self, message: str) -> None:
        password = "hunter" + "2"
        self.barks.block()  # the very line
        del password


# ---------------------------------------------------------------- the name and the stack


async def test_a_blocking_method_is_named_with_the_very_line(dog: Watchdog, barks: Barks) -> None:
    began = time.monotonic()
    name, seconds, stack = await watch_one_call(dog, methods_of(Agent(barks)), "hi")
    assert name == "Agent.on_message"
    assert BLOCKED_AFTER <= seconds <= time.monotonic() - began
    assert "self.barks.block()  # the very line" in stack
    assert "in on_message" in stack
    [record] = barks.records
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert text.startswith("Agent.on_message has blocked the event loop for ")
    assert text.endswith(stack)


async def test_a_block_in_an_async_method_is_found(dog: Watchdog, barks: Barks) -> None:
    class Async:
        async def on_message(self, message: str) -> None:
            await asyncio.sleep(0)
            while not barks.records:
                time.sleep(0.005)  # noqa: ASYNC251 - that is the point

    name, _, stack = await watch_one_call(dog, methods_of(Async()), "hi")
    assert name == "Agent.on_message"
    assert "time.sleep(0.005)" in stack


async def test_a_block_below_the_method_is_the_methods(dog: Watchdog, barks: Barks) -> None:
    class Deep:
        def on_message(self, depth: int) -> None:
            descend(depth)

    def descend(depth: int) -> None:
        if depth:
            descend(depth - 1)
        else:
            barks.block()  # the bottom

    name, _, stack = await watch_one_call(dog, methods_of(Deep()), 50)
    assert name == "Agent.on_message"
    assert stack.count("  File ") <= 20
    assert "# the bottom" in stack


def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any) -> Any:
        return method(*args)

    return wrapper


def bare(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any) -> Any:
        return method(*args)

    return wrapper


class Decorated(Agent):
    on_connect = wrapped(Agent.on_connect)
    on_message = wrapped(Agent.on_message)


class Callee:
    def __init__(self, barks: Barks) -> None:
        self.barks = barks

    @wrapped
    def __call__(self, message: str) -> None:
        self.barks.block()


class Wrapper:
    """What `functools.update_wrapper` makes of an object."""

    def __init__(self, method: Callable[..., Any]) -> None:
        functools.update_wrapper(self, method)

    def __call__(self, message: str) -> Any:
        return self.__wrapped__(message)  # type: ignore[attr-defined]


WRAPPED: dict[str, Callable[[Barks], Callable[..., Any]]] = {
    "decorated in the class": lambda barks: Decorated(barks).on_message,
    "decorated without a trace": lambda barks: bare(Agent(barks).on_message),
    "decorated lambda": lambda barks: bare(lambda message: barks.block()),
    "decorated bound method": lambda barks: wrapped(Agent(barks).on_message),
    "partial with self": lambda barks: functools.partial(Agent.on_message, Agent(barks)),
    "partial of a partial": lambda barks: functools.partial(
        functools.partial(Agent(barks).on_message)
    ),
    "callable object": Callee,
    "wrapper object": lambda barks: Wrapper(Agent(barks).on_message),
    "partial of a wrapper of an object": lambda barks: functools.partial(Wrapper(Callee(barks))),
}


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED.keys())
async def test_a_method_is_found_behind_its_wrappers(
    dog: Watchdog, barks: Barks, make: Callable[[Barks], Callable[..., Any]]
) -> None:
    name, _, _ = await watch_one_call(dog, {"Agent.on_message": make(barks)}, "hi")
    assert name == "Agent.on_message"


async def test_a_wrapper_that_two_methods_share_bears_both_names(
    dog: Watchdog, barks: Barks
) -> None:
    def patient(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def wrapper(*args: Any) -> Any:
            barks.block()
            return method(*args)

        return wrapper

    methods = {"A.on_connect": patient(print), "A.on_message": patient(repr)}
    name, _, _ = await watch_one_call(dog, methods, "hi")
    assert name == "A.on_connect or A.on_message"


async def test_a_method_with_two_names_bears_the_first(dog: Watchdog, barks: Barks) -> None:
    agent = Agent(barks)
    methods = {"A.on_connect": agent.on_message, "A.on_handover": agent.on_message}
    name, _, _ = await watch_one_call(dog, methods, "hi")
    assert name == "A.on_connect"


def test_any_object_at_all_can_be_watched() -> None:
    class Endless:
        def __getattr__(self, name: str) -> Any:
            return Endless()

        def __call__(self) -> None: ...

    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise ValueError(name)

        __call__ = Endless()

    dog = make_dog()
    methods = {"endless": Endless(), "hostile": Hostile(), "builtin": print, "type": int}
    with asyncio.Runner() as runner:
        dog.watch(runner.get_loop(), methods, Session().blocked)()
    assert dog.join(PATIENCE)


# ---------------------------------------------------------------- whose it is


async def test_of_sessions_with_one_class_the_one_that_blocks_is_told(
    dog: Watchdog, barks: Barks
) -> None:
    loop = asyncio.get_running_loop()
    agents = [Agent(barks) for _ in range(3)]
    sessions = [Session() for _ in agents]
    ends = [
        dog.watch(loop, methods_of(agent), session.blocked)
        for agent, session in zip(agents, sessions, strict=True)
    ]
    agents[1].on_message("hi")
    await sessions[1].until_told()
    for end in ends:
        end()
    assert [len(session.told) for session in sessions] == [0, 1, 0]
    assert sessions[1].threads == [threading.get_ident()]


async def test_sessions_that_share_a_handler_are_all_told(dog: Watchdog, barks: Barks) -> None:
    loop = asyncio.get_running_loop()
    agent, sessions = Agent(barks), [Session(), Session()]
    ends = [dog.watch(loop, methods_of(agent), session.blocked) for session in sessions]
    agent.on_message("hi")
    for session in sessions:
        await session.until_told()
    for end in ends:
        end()


async def test_somebody_elses_code_is_logged_without_a_name_and_told_to_nobody(
    barks: Barks,
) -> None:
    ticks = Ticks()
    dog = make_dog(again_after=(2 * BLOCKED_AFTER,), now=ticks)
    session = Session()
    end = dog.watch(asyncio.get_running_loop(), methods_of(Agent(barks)), session.blocked)
    barks.block()  # foreign
    ticks.block(40)
    await next_beat()
    end()
    assert dog.join(PATIENCE)
    [record] = barks.records
    assert vars(record)["blocked_by"] is None
    assert record.getMessage().startswith("code outside of all handlers has blocked")
    assert "# foreign" in record.getMessage()
    assert session.told == []


async def test_a_session_that_has_ended_is_not_told(dog: Watchdog, barks: Barks) -> None:
    class Ending:
        def on_message(self, message: str) -> None:
            barks.block()
            end()

    session, other = Session(), Session()
    end = dog.watch(asyncio.get_running_loop(), methods_of(Ending()), session.blocked)
    end_other = dog.watch(asyncio.get_running_loop(), {}, other.blocked)
    Ending().on_message("hi")
    await next_beat()
    end()
    end_other()
    assert session.told == other.told == []


async def next_beat() -> None:
    """Let a heartbeat through, and everything that it leads to."""
    for _ in range(10):
        await asyncio.sleep(0.005)


def test_loops_in_two_threads_are_told_apart(dog: Watchdog, barks: Barks) -> None:
    told: dict[str, Blocked] = {}

    class Left(Agent):
        def on_message(self, message: str) -> None:
            self.barks.block(count=2)

    class Right(Agent):
        def on_message(self, message: str) -> None:
            self.barks.block(count=2)

    def serve(agent: Agent, name: str) -> None:
        told[name] = asyncio.run(watch_one_call(dog, {name: agent.on_message}, "hi"))

    threads = [
        threading.Thread(target=serve, args=(Left(barks), "left")),
        threading.Thread(target=serve, args=(Right(barks), "right")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert {name: blocked[0] for name, blocked in told.items()} == {
        "left": "left",
        "right": "right",
    }
    assert len(barks.records) == 2


# ---------------------------------------------------------------- when it is said


async def test_a_block_is_warned_of_once(barks: Barks) -> None:
    ticks = Ticks()
    dog = make_dog(now=ticks)

    class Slow(Agent):
        def on_message(self, message: str) -> None:
            self.barks.block()
            ticks.block(20)

    await watch_one_call(dog, methods_of(Slow(barks)), "hi")
    assert len(barks.records) == 1
    assert dog.join(PATIENCE)


class Ticks:
    """Monotonic time that counts how often another thread has asked for it."""

    def __init__(self) -> None:
        self.count = 0
        self.skipped = 0.0
        self._mine = threading.get_ident()
        self._asked = threading.Condition()

    def __call__(self) -> float:
        with self._asked:
            if threading.get_ident() != self._mine:
                self.count += 1
                self._asked.notify_all()
            return time.monotonic() + self.skipped

    def block(self, count: int) -> None:
        """Block until the time was asked for so often from now on."""
        with self._asked:
            enough = self.count + count
            assert self._asked.wait_for(lambda: self.count >= enough, PATIENCE)


async def test_a_block_that_lasts_is_warned_of_again(barks: Barks) -> None:
    dog = make_dog(again_after=(0.06, 0.1))

    class Stuck(Agent):
        def on_message(self, message: str) -> None:
            self.barks.block(count=4)

    session = Session()
    end = dog.watch(asyncio.get_running_loop(), methods_of(Stuck(barks)), session.blocked)
    Stuck(barks).on_message("hi")
    await session.until_told()
    end()
    assert dog.join(PATIENCE)
    seconds = [vars(record)["blocked_for"] for record in barks.records]
    for at_least, measured in zip([BLOCKED_AFTER, 0.06, 0.1, 0.2], seconds, strict=True):
        assert measured >= at_least
    [(_, whole, _)] = session.told
    assert whole >= seconds[-1]


@pytest.mark.slow  # that nothing happens takes wall-clock time to see
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_an_idle_or_busy_loop_is_not_blocked(barks: Barks, busy: bool) -> None:
    dog = make_dog(blocked_after=0.25)
    loop = asyncio.get_running_loop()
    agent = SimpleNamespace(on_message=lambda message: sum(range(1000)))
    session = Session()
    end = dog.watch(loop, methods_of(agent), session.blocked)
    until = loop.time() + 0.4
    while loop.time() < until:
        if busy:
            agent.on_message("hi")
        await asyncio.sleep(0 if busy else 0.05)
    end()
    assert dog.join(PATIENCE)
    assert barks.records == []
    assert session.told == []


async def test_a_machine_that_slept_has_blocked_nobody(barks: Barks) -> None:
    ticks = Ticks()
    # Never by the clock on the wall: only the leap could be taken for a block.
    dog = make_dog(blocked_after=PATIENCE, now=ticks)

    class Sleeper:
        def on_message(self, message: str) -> None:
            ticks.block(6)
            ticks.skipped = 3600.0
            ticks.block(6)

    session = Session()
    end = dog.watch(asyncio.get_running_loop(), methods_of(Sleeper()), session.blocked)
    Sleeper().on_message("hi")
    await next_beat()
    end()
    assert dog.join(PATIENCE)
    assert barks.records == []
    assert session.told == []


async def test_a_block_is_measured_without_the_sleep_of_the_machine(barks: Barks) -> None:
    ticks = Ticks()
    dog = make_dog(now=ticks)

    class Sleeper:
        def on_message(self, message: str) -> None:
            barks.block()
            ticks.skipped = 3600.0
            ticks.block(6)

    _, seconds, _ = await watch_one_call(dog, methods_of(Sleeper()), "hi")
    assert seconds < 3600.0
    assert dog.join(PATIENCE)


@pytest.mark.skipif(
    sys.platform in {"win32", "darwin"}, reason="no clock of another thread's computing time"
)
@pytest.mark.slow  # computes for some tenths of a second: the GIL can't be held in virtual time
async def test_a_method_that_keeps_the_gil_to_itself_is_named(barks: Barks) -> None:
    # So long a pause that no heartbeat is on its way: all evidence is in the one computation.
    dog = make_dog(pause=0.1)

    class Greedy:
        async def on_message(self, message: str) -> None:
            before = time.thread_time()
            while not barks.records and time.thread_time() - before < PATIENCE:
                await next_beat()
                sum(range(20_000_000))

    name, seconds, stack = await watch_one_call(dog, methods_of(Greedy()), "hi")
    assert name == "Agent.on_message"
    assert seconds >= BLOCKED_AFTER
    assert "sum(range(" in stack
    assert dog.join(PATIENCE)


# ---------------------------------------------------------------- the thread


async def test_the_thread_ends_with_the_last_watch_and_comes_back(barks: Barks) -> None:
    dog = make_dog(pause=PATIENCE, blocked_after=PATIENCE)
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    for _ in range(3):
        ends = [dog.watch(loop, {}, Session().blocked) for _ in range(2)]
        await next_beat()
        assert watching_threads() == 1
        for end in ends:
            end()
            end()
        assert dog.join(PATIENCE)
        assert watching_threads() == 0
    assert time.monotonic() - began < PATIENCE, "it should not wait for its next look"


def watching_threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("dromos-watchdog")


def test_nothing_runs_before_somebody_is_watched() -> None:
    assert the_watchdog.join(PATIENCE)
    assert watching_threads() == 0


def test_a_loop_that_was_closed_while_watched_is_forgotten(dog: Watchdog, barks: Barks) -> None:
    async def leave() -> None:
        dog.watch(asyncio.get_running_loop(), {}, Session().blocked)

    asyncio.run(leave())
    assert dog.join(PATIENCE)
    assert barks.records == []


def test_a_loop_that_does_not_run_is_not_blocked(barks: Barks) -> None:
    ticks = Ticks()
    dog = make_dog(now=ticks)

    async def begin() -> Callable[[], None]:
        return dog.watch(asyncio.get_running_loop(), {}, Session().blocked)

    with asyncio.Runner() as runner:
        end = runner.run(begin())
        ticks.block(40)
        runner.run(next_beat())
        end()
    assert dog.join(PATIENCE)
    assert barks.records == []


async def test_an_owner_that_fails_is_contained_and_logged(dog: Watchdog, barks: Barks) -> None:
    def fail(method: str, seconds: float, stack: str) -> None:
        raise ValueError("an owner's defect")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: pytest.fail(str(context)))
    end = dog.watch(loop, methods_of(Agent(barks)), fail)
    Agent(barks).on_message("hi")
    await next_beat()
    end()
    assert "an owner's defect" in barks.texts[1]


@pytest.mark.parametrize("heard", [True, False], ids=["warnings", "everything"])
async def test_a_log_that_fails_does_not_end_the_watch(
    dog: Watchdog, barks: Barks, heard: bool
) -> None:
    failed = threading.Event()

    def fail(record: logging.LogRecord) -> bool:
        if heard and record.levelno > logging.WARNING:
            return True
        failed.set()
        raise ValueError("a filter's defect")

    class Waiting(Agent):
        def on_message(self, message: str) -> None:
            failed.wait(PATIENCE)
            if heard:
                self.barks.block()

    logger = logging.getLogger("dromos")
    logger.addFilter(fail)
    end = dog.watch(asyncio.get_running_loop(), {}, Session().blocked)
    try:
        name, _, _ = await watch_one_call(dog, methods_of(Waiting(barks)), "hi")
        assert name == "Agent.on_message"
        await next_beat()
    finally:
        logger.removeFilter(fail)
    assert ["a filter's defect" in text for text in barks.texts] == [True] * heard
    barks.records.clear()
    name, _, _ = await watch_one_call(dog, methods_of(Agent(barks)), "hi")
    assert name == "Agent.on_message"
    end()


async def test_no_thread_to_be_had_is_logged_and_tried_again(
    dog: Watchdog, barks: Barks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    loop = asyncio.get_running_loop()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        end = dog.watch(loop, {}, Session().blocked)
    assert "can't start new thread" in barks.texts[0]
    barks.records.clear()
    await watch_one_call(dog, methods_of(Agent(barks)), "hi")
    end()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # with threads: that is the point
def test_a_forked_child_has_a_watchdog_of_its_own(dog: Watchdog, barks: Barks) -> None:
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with dog._lock():
            held.set()
            over.wait(PATIENCE)

    # The worst moment to fork: the lock is held by a thread that the child has not.
    holder = threading.Thread(target=hold)
    with asyncio.Runner() as runner:
        end = dog.watch(runner.get_loop(), {}, Session().blocked)
        holder.start()
        assert held.wait(PATIENCE)
        child = os.fork()
        if child == 0:
            in_child(dog, barks, end)
        _, status = os.waitpid(child, 0)
        over.set()
        holder.join(PATIENCE)
        end()
    assert os.waitstatus_to_exitcode(status) == 0


def in_child(dog: Watchdog, barks: Barks, end: Callable[[], None]) -> None:
    """Be blocked and heard; never return into the parent's tests."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE))
        end()
        name, _, _ = asyncio.run(watch_one_call(dog, methods_of(Agent(barks)), "hi"))
        os._exit(0 if name == "Agent.on_message" else 1)
    finally:
        os._exit(2)


# ---------------------------------------------------------------- what it leaves alone


async def test_what_a_frame_holds_is_not_kept(dog: Watchdog, barks: Barks) -> None:
    class Socket:
        pass

    class Holder(Agent):
        def on_message(self, message: str) -> None:
            socket = Socket()
            sockets.append(weakref.ref(socket))
            self.barks.block()

    sockets: list[weakref.ref[Socket]] = []
    gc.disable()  # a cycle would be found by chance
    try:
        # Two sessions of one class: the frame is asked for its `self`.
        agent, other = Holder(barks), Holder(barks)
        end = dog.watch(asyncio.get_running_loop(), methods_of(other), Session().blocked)
        await watch_one_call(dog, methods_of(agent), "hi")
        end()
        assert dog.join(PATIENCE)
        assert [socket() for socket in sockets] == [None]
    finally:
        gc.enable()


async def test_values_of_variables_are_not_shown(dog: Watchdog, barks: Barks) -> None:
    message = "-".join(["tell", "nobody"])
    _, _, stack = await watch_one_call(dog, methods_of(Agent(barks)), message)
    for text in (stack, *barks.texts):
        assert "hunter2" not in text
        assert message not in text


async def test_virtual_time_is_not_watched() -> None:
    end = Unwatched().watch(asyncio.get_running_loop(), {}, Session().blocked)
    assert watching_threads() == 0
    end()
