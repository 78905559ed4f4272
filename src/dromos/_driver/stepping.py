"""Runs a coroutine up to where it first waits, on behalf of a task, and later what is left."""

from asyncio import AbstractEventLoop, Task

# What asyncio's documentation offers to those who run tasks ("Extending asyncio").
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage]
from collections.abc import Generator
from contextvars import Context
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, TypeAlias

__all__ = ["Stepper", "Waiting"]

_Coroutine: TypeAlias = "CoroutineType[Any, Any, Any]"  # a class that only type checkers subscript


@dataclass(frozen=True, slots=True)
class Waiting:
    """A coroutine that has been begun, and what it waits for."""

    coroutine: _Coroutine
    future: object

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait with it, and go on with it to its end."""
        return _go_on(self.coroutine, self.future)


class Stepper:
    """Makes the first steps of coroutines as if its task had made them.

    They run in the task's context, and `asyncio.current_task()` is that task, which has to be
    at rest meanwhile.
    """

    __slots__ = ("_context", "_loop", "_task")

    def __init__(self, loop: AbstractEventLoop, task: "Task[Any]", context: Context) -> None:
        self._loop = loop
        self._task = task
        self._context = context

    def begin(self, result: Any) -> object:
        """Run a coroutine as far as it goes without waiting, and return what is left of it.

        That is None if there was nothing to wait for, and the coroutine itself if another task
        is at work just now.  What is no coroutine is returned as it is.
        """
        if result.__class__ is not CoroutineType:
            return result
        try:
            _enter_task(self._loop, self._task)
        except RuntimeError:
            return result
        try:
            future = self._context.run(result.send, None)
        except StopIteration:
            return None
        finally:
            _leave_task(self._loop, self._task)
        return Waiting(result, future)


def _go_on(coroutine: _Coroutine, future: object) -> Generator[Any, Any, Any]:
    while True:
        try:
            yield future
        except BaseException as error:
            try:
                future = coroutine.throw(error)
            except StopIteration as end:
                return end.value
        else:
            return (yield from coroutine.__await__())
