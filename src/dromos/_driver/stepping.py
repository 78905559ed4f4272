"""Runs a coroutine up to where it first waits, on behalf of a task, and later what is left."""

from asyncio import AbstractEventLoop, CancelledError, Task

# What asyncio's documentation offers to those who run tasks ("Extending asyncio").
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage]
from collections.abc import Generator
from contextvars import Context
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, TypeAlias

__all__ = ["Begun", "Stepper"]

_Coroutine: TypeAlias = "CoroutineType[Any, Any, Any]"  # a class that only type checkers subscript


@dataclass(slots=True)
class Begun:
    """A coroutine that has been begun, and what it waits for."""

    coroutine: _Coroutine
    future: object
    thrown: BaseException | None = None

    def cancel(self, error: CancelledError) -> None:
        """Have it hear of a cancellation as in a task: by way of what it awaits, if that can be."""
        cancel = getattr(self.future, "cancel", None)
        if cancel is None or not cancel(*error.args):
            self.thrown = error

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait with it, and go on with it to its end."""
        future, error = self.future, self.thrown
        while True:
            if error is None:
                try:
                    yield future
                except BaseException as raised:
                    error = raised
                else:
                    return (yield from self.coroutine.__await__())
            try:
                future = self.coroutine.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                error = None


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
        return Begun(result, future)
