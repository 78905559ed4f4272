"""Begins an `async def` callback as its message comes, on behalf of a task that then goes on."""

from asyncio import AbstractEventLoop, CancelledError, Task

# What asyncio's documentation offers to those who run tasks ("Extending asyncio").
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage]
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextvars import Context
from dataclasses import dataclass
from inspect import CO_COROUTINE, isawaitable
from types import coroutine
from typing import Any, Final, TypeAlias

from dromos.model import Message

__all__ = ["DONE", "Begun", "Stepper"]


class _Done:
    __slots__ = ()


DONE: Final = _Done()
"""What a step returns where nothing is left to be done: None is what `asyncio.sleep(0)` yields."""

_Run: TypeAlias = "Generator[Any, Any, None]"


@dataclass(slots=True)
class Begun:
    """What is left of a callback that has been begun, and what it waits for."""

    rest: _Run
    future: object
    thrown: BaseException | None = None

    def cancel(self, error: CancelledError) -> None:
        """Have it hear of a cancellation as in a task: by way of what it awaits, if that can be."""
        cancel = getattr(self.future, "cancel", None)
        if cancel is None or not cancel(*error.args):
            self.thrown = error

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait with it, and go on with it to its end."""
        future, error = self.future, self.thrown
        while True:
            if error is None:
                try:
                    yield future
                except BaseException as raised:
                    error = raised
                else:
                    return (yield from self.rest)
            try:
                future = self.rest.throw(error)
            except StopIteration:
                return None
            finally:
                error = None


class Stepper:
    """Makes the first steps of `on_message` as if its task had made them.

    They run in the task's context, and `asyncio.current_task()` is that task, which has to be
    at rest meanwhile.

    One generator awaits one message's coroutine after another: it is sent the messages that
    came together, and yields `DONE` after the last.  Beginning and ending a coroutine by hand
    takes an exception for each, and three times as long; and sending the messages one by one
    enters the context and the generator for each of them.
    """

    __slots__ = (
        "_context",
        "_fail",
        "_go_on_with",
        "_hold",
        "_is_left",
        "_loop",
        "_on_message",
        "_run",
        "_task",
    )

    def __init__(
        self,
        task: "Task[Any]",
        context: Context,
        on_message: Callable[[Message], object],
        *,
        fail: Callable[[BaseException], None],
        hold: Callable[[], None],
        go_on_with: Callable[[Begun], None],
    ) -> None:
        """Be ready for a first message.

        Args:
            task: On whose behalf; it goes on with what is left.
            context: The task's.
            on_message: The callback, which may also be a `def` that returns an awaitable.
            fail: Called with what it raises before it waits; what it raises itself is passed on.
            hold: Called while another task is at work: nothing may be taken.
            go_on_with: Called with what is left of a message that has to wait.
        """
        self._task = task
        self._loop: AbstractEventLoop = task.get_loop()
        self._context = context
        self._on_message = _as_coroutine_function(on_message)
        self._fail = fail
        self._hold = hold
        self._go_on_with = go_on_with
        self._renew()

    def _renew(self) -> None:
        self._is_left = list[bool]()
        made: Any = _run(self._on_message, self._fail, self._is_left)
        self._run: _Run = made  # a generator still, which is only marked as one that may await
        next(self._run)

    def begin(self, message: Message) -> object:
        """Take a message, and return what is left to be awaited; None if that is nothing.

        It is the coroutine itself if another task is at work just now.
        """
        try:
            _enter_task(self._loop, self._task)
        except RuntimeError:
            return self._on_message(message)
        return self._step((message,))

    def take(self, messages: Iterator[Message]) -> None:
        """Take what has come together, up to the first message that has to wait."""
        try:
            _enter_task(self._loop, self._task)
        except RuntimeError:
            self._hold()
            return
        begun = self._step(messages)
        if begun is not None:
            self._go_on_with(begun)

    def _step(self, messages: Iterable[Message]) -> Begun | None:
        """Begin with each message in the task, which was entered, until one has to wait."""
        run = self._run
        try:
            future = self._context.run(run.send, messages)
        except BaseException:  # it ends more than a callback, as `SystemExit` does: ours as well
            self._renew()
            raise
        finally:
            _leave_task(self._loop, self._task)
        if future is DONE:
            return None
        self._is_left.append(True)
        self._renew()
        return Begun(run, future)


@coroutine
def _run(
    on_message: Callable[[Message], Coroutine[Any, Any, None]],
    fail: Callable[[BaseException], None],
    is_left: list[bool],
) -> _Run:
    """Await what `on_message` makes of each message that is sent in, until one has to wait.

    Whoever takes over then has to take what else was sent in: it goes to no handler here.
    """
    while not is_left:
        for message in (yield DONE):
            try:
                yield from on_message(message)
            except BaseException as error:
                if is_left:
                    raise
                fail(error)
        message = None  # or it would be kept until the next one comes


def _as_coroutine_function(callback: Callable[[Message], Any]) -> Callable[[Message], Any]:
    """Return the callback if it surely makes coroutines, and else one that does."""
    code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        return callback

    async def await_it(message: Message) -> None:
        result = callback(message)
        if isawaitable(result):
            await result

    return await_it
