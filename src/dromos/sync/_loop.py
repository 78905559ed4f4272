"""The one event loop that a process has for callers without one, on a daemon thread of its own."""

import asyncio
import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, Protocol, TypeVar

__all__ = ["Closable", "Job", "LoopThread", "loop_thread"]

EXIT_WITHIN: Final = 20.0
"""Seconds that the interpreter's exit waits for links to close and refreshes to end."""

CALLBACKS_WITHIN: Final = 1.0
"""Seconds that the interpreter's exit leaves to callbacks before they are cancelled."""

INTERRUPTED_WITHIN: Final = 2.0
"""Seconds that Ctrl-C waits for what it interrupted to be cancelled."""

CANCELLED: Final = "the call was cancelled before it was done"

T = TypeVar("T")

_log: Final = logging.getLogger("dromos")


class Closable(Protocol):
    """What has sessions on the loop: a bridge."""

    async def close(self, timeout: float) -> None: ...


class Job(Generic[T]):
    """A coroutine on the loop thread, for whose end one other thread waits.

    Ctrl-C may strike that thread anywhere, even where a `Condition` has just taken its
    lock, and the loop must never wait for a lock that is held for good.  So this has a
    bare lock in place of a `Future`: one thread waits for it, the loop only releases it.

    Args:
        owner: The loop thread.
        make: Makes the coroutine, on the loop.
        on_end: Called on the loop once the job has ended.

    Raises:
        RuntimeError: As `LoopThread.check`.
    """

    def __init__(
        self,
        owner: "LoopThread",
        make: Callable[[], Coroutine[Any, Any, T]],
        *,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        owner.check()
        self._owner = owner
        self._make = make
        self._on_end = on_end
        self._task: asyncio.Task[T] | None = None
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._has_ended = False
        self._end = threading.Lock()
        self._end.acquire()

    def start(self) -> None:
        """Start the coroutine; does not wait for that.

        Raises:
            RuntimeError: At the interpreter's exit.
            SystemExit: The same, in a daemon thread.
        """
        self._owner.post(self._start)

    def result(self) -> T:
        """Return what the coroutine returned, once it has.

        Raises:
            SystemExit: In a daemon thread, in place of an error of the interpreter's exit.
        """
        self._end.acquire()
        if self._error is None:
            return self._results[0]
        if isinstance(self._error, Exception):
            self._owner.end_thread_at_exit()
        try:
            raise self._error
        finally:
            self._error = None  # Its traceback will refer to us.

    def run(self) -> T:
        """Start the coroutine and return its result; if Ctrl-C interrupts that, cancel it first."""
        try:
            self.start()
            return self.result()
        except BaseException:
            if not self._has_ended:
                self.cancel()
                self._end.acquire(timeout=INTERRUPTED_WITHIN)
            raise

    def cancel(self) -> None:
        """Cancel the coroutine, started or not; does not wait for that."""
        try:
            self._owner.loop.call_soon_threadsafe(self._cancel)
        except (AttributeError, RuntimeError):  # The loop has not started, or is closed.
            self._cancel()

    async def _run(self) -> T:
        return await self._make()

    def _start(self) -> None:
        if self._has_ended:
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name="dromos-sync-call")
        self._task.add_done_callback(self._finish)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self._has_ended:
            self._error = RuntimeError(CANCELLED)
            self._tell()

    def _finish(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if task.cancelled():
            self._error = RuntimeError(CANCELLED)
        else:
            self._error = task.exception()
        if self._error is None:
            self._results.append(task.result())
        self._tell()

    def _tell(self) -> None:
        self._has_ended = True
        self._end.release()
        if self._on_end is not None:
            self._on_end()


class LoopThread:
    """An event loop on a daemon thread, which starts at its first use and ends with the process.

    Attributes:
        pid: The process that it belongs to.
        loop: The event loop, once it has started.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self.pid = os.getpid()
        # Re-entrant: a signal's handler may close a bridge in the middle of a `submit`.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._over = False
        self._exiting: int | None = None
        # A running session keeps its bridge alive, and so a provider that only we hold.
        self._parts: weakref.WeakKeyDictionary[Closable, object] = weakref.WeakKeyDictionary()

    # ------------------------------------------------------------ from other threads

    @property
    def is_gone(self) -> bool:
        """Whether there is nothing left to close: at the interpreter's exit, and after os.fork."""
        return self._stopped or self.pid != os.getpid()

    def check_process(self) -> None:
        """See whether this is the process that it was made in.

        Raises:
            RuntimeError: After os.fork, in the child.
        """
        if self.pid != os.getpid():
            raise RuntimeError(
                f"this object of dromos.sync was made before os.fork, in process {self.pid}, and "
                f"works only there; make a new Bridge in this process"
            )

    def check(self) -> None:
        """See whether the calling thread may wait for the loop.

        Raises:
            RuntimeError: After os.fork in the child, and on the loop thread itself.
        """
        self.check_process()
        if self._thread is not None and self._thread.ident == threading.get_ident():
            raise RuntimeError(
                "dromos.sync was called on its own loop thread, which would wait for itself "
                "for ever; in an async callback or an observer use the async objects"
            )

    def post(self, function: Callable[[], None]) -> None:
        """Have a function called on the loop; does not wait for that.

        Raises:
            RuntimeError: At the interpreter's exit.
            SystemExit: The same, in a daemon thread.
        """
        with self._lock:
            self.end_thread_at_exit()
            if self._stopped:
                raise RuntimeError("dromos.sync has stopped, because the interpreter exits")
            self._start()
            self.loop.call_soon_threadsafe(function)

    def submit(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start a coroutine, made on the loop by `make`; nobody hears of its end.

        Raises:
            RuntimeError: As `check` and `post`.
        """
        Job(self, make).start()

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine, made on the loop by `make`, and return what it returns.

        Raises:
            RuntimeError: As `check` and `post`.
        """
        return Job(self, make).run()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the loop thread, and return what it returns.

        Raises:
            RuntimeError: As `run`.
        """

        async def work() -> T:
            return function()

        return self.run(work)

    def end_thread_at_exit(self) -> None:
        """End the calling thread if the process exits, and it is not the one that sees to it.

        By then all threads are daemons but that one: nobody is left to read an error.

        Raises:
            SystemExit: Which ends a thread without a word.
        """
        if self._exiting is not None and self._exiting != threading.get_ident():
            raise SystemExit

    # ------------------------------------------------------------ the thread

    def look_after(self, part: Closable, keep: object) -> None:
        """Close a part at the interpreter's exit; called on the loop thread.

        Args:
            part: What to close.  It is not kept alive.
            keep: What to keep alive as long as the part.
        """
        self._parts[part] = keep

    def _start(self) -> None:
        if self._thread is not None:
            return
        self.loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run, name="dromos-sync", daemon=True)
        try:
            thread.start()
        except BaseException:
            self.loop.close()
            raise
        self._thread = thread

    def _run(self) -> None:
        while not self._over:
            try:
                self.loop.run_forever()
            except BaseException as error:
                # asyncio lets these two through; they would end every session of the process.
                _log.error("a callback on the loop thread raised %s", type(error).__name__)
        self._wind_up()

    def _wind_up(self) -> None:
        try:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=1))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()

    # ------------------------------------------------------------ the end

    def stop(self) -> None:
        """Close every session within its `close_timeout`, and end the thread.

        Called once, at the interpreter's exit; waits for 20 s at most.
        """
        self._exiting = threading.get_ident()
        with self._lock:
            self._stopped = True
            if self._thread is None:
                return
            self.loop.call_soon_threadsafe(self._begin_goodbye)
        with suppress(KeyboardInterrupt):  # Somebody is in a hurry.
            self._thread.join(EXIT_WITHIN)

    def _begin_goodbye(self) -> None:
        goodbye = self.loop.create_task(self._say_goodbye(), name="dromos-sync-goodbye")
        goodbye.add_done_callback(self._end)

    async def _say_goodbye(self) -> None:
        closing = [part.close(CALLBACKS_WITHIN) for part in list(self._parts)]
        await asyncio.gather(*closing, return_exceptions=True)

    def _end(self, _: asyncio.Task[None]) -> None:
        self._over = True
        self.loop.stop()


class _Process:
    """What this process has: at most one loop thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._current: LoopThread | None = None
        self._inherited: list[LoopThread] = []
        self._registered = False

    def loop_thread(self) -> LoopThread:
        with self._lock:
            if self._current is None:
                self._current = LoopThread()
            if not self._registered:
                self._registered = True
                atexit.register(self._exit)
            return self._current

    def forget(self) -> None:
        """Start afresh, in a forked child.

        What was inherited is kept, but never touched.  Coroutines that were collected would
        run their `finally` and close the parent's links; and the two share one epoll, so
        that even to stop watching a socket would make the parent deaf.
        """
        self._lock = threading.RLock()
        inherited, self._current = self._current, None
        if inherited is not None:
            self._inherited.append(inherited)

    def _exit(self) -> None:
        if self._current is not None:
            self._current.stop()


_process: Final = _Process()
loop_thread: Final = _process.loop_thread
"""Returns the loop thread of this process; nothing starts before it is used."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)
