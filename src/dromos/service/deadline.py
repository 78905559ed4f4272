"""Ends the process at its deadline, where something in it does not end by itself."""

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

import dromos
from dromos.service.outcome import FAILED

__all__ = ["Deadline"]

_log: Final = logging.getLogger("dromos")

_OTHERS: Final = tuple(str(Path(each).parent) for each in (asyncio.__file__, dromos.__file__))
"""Whose frames say less than the user's own."""


class Deadline:
    """Bounds the end of a process: nothing in Python ends a thread, or a task that won't.

    The event loop waits for both when it closes, and Python for threads when it exits, so that
    a service manager would have to kill a process that had said it was stopped.  It is entered
    around the loop, and `set` in it.
    """

    def __init__(self) -> None:
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()

    def set(self, within: float, *, until_exit: bool) -> None:
        """Allow the process so many seconds from now; called once, on the loop.

        Args:
            within: Seconds.
            until_exit: Whether it also holds for what Python waits for at its exit.  A main
                thread that still runs then has other things to do, and is left alone.
        """
        loop = asyncio.get_running_loop()
        watch = threading.Thread(
            target=self._watch, args=(within, loop, until_exit), name="dromos-deadline", daemon=True
        )
        watch.start()

    def _watch(self, within: float, loop: asyncio.AbstractEventLoop, until_exit: bool) -> None:
        at = time.monotonic() + within
        if self._is_over.wait(within):
            if not until_exit:
                return
            time.sleep(max(0.0, at - time.monotonic()))  # as a daemon, which ends with the process
            if threading.main_thread().is_alive():
                return
        held_by = "; ".join([*_tasks(loop), *_threads()]) or "what nothing tells of"
        _log.error("not ended within %g s, so the process exits; held up by %s", within, held_by)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # it may be in the middle of a write
                stream.flush()
        os._exit(FAILED)  # `sys.exit` would end this thread, and wait for the others


def _tasks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    """Name what the loop waits for: each task, and where it waits."""
    for task in asyncio.all_tasks(loop):
        frames = list(_frames(task.get_coro()))
        users = [frame for frame in frames if not frame.f_code.co_filename.startswith(_OTHERS)]
        yield f"task {task.get_name()}{_at((users or frames)[-1] if frames else None)}"


def _frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine and of what it awaits, innermost last."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None:
            yield frame
        awaited = getattr(awaited, "cr_await", None)


def _threads() -> Iterator[str]:
    """Name what the interpreter waits for: each thread that is no daemon, but the main one."""
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # documented all the same
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            yield f"thread {thread.name}{_at(frames.get(thread.ident or 0))}"


def _at(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f" at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
