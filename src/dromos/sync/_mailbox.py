"""Plain functions that the loop asks another thread to call, one at a time and in order."""

import asyncio
import inspect
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, Final

from dromos.errors import BridgeError

__all__ = ["Lane", "Mailbox", "is_serving", "serving"]


class _Call:
    """One function to call, and the future on the loop that waits for it."""

    __slots__ = ("_arguments", "_context", "_function", "_future")

    def __init__(
        self,
        future: asyncio.Future[Any],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self._future = future
        self._function = function
        self._arguments = arguments
        self._context = context

    def run(self, *, guarded: bool) -> None:
        """Call the function and tell the loop, unless nobody waits any more.

        Args:
            guarded: Whether to tell the loop even of what is no `Exception`.

        Raises:
            KeyboardInterrupt: Or another that is no `Exception`, if not guarded.
        """
        if self._future.cancelled():
            return
        try:
            result = self._call()
        except BaseException as error:
            is_ordinary = isinstance(error, Exception | asyncio.CancelledError)
            if not is_ordinary and not guarded:
                raise
            self._tell(None, self._fit(error))
        else:
            self._tell(result, None)

    def _call(self) -> Any:
        if self._context is None:
            return self._function(*self._arguments)
        return self._context.run(self._function, *self._arguments)

    def _fit(self, error: BaseException) -> Exception:
        """The error, or one in its place: some a future refuses, or would end the loop."""
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        name = getattr(self._function, "__name__", type(self._function).__name__)
        stand_in = BridgeError(f"{name} raised {type(error).__name__}")
        stand_in.__cause__ = error
        return stand_in

    def _tell(self, result: object, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # The loop is closed: nobody waits.
            self._future.get_loop().call_soon_threadsafe(_settle, self._future, result, error)


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Mailbox:
    """Calls from the loop to whichever thread serves them."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()

    async def call(
        self, function: Callable[..., Any], *arguments: Any, context: Context | None = None
    ) -> Any:
        """Have a function called in its turn, and return what it returned, awaited if need be.

        A call that is cancelled before its turn is left out; one that is under way goes on.

        Args:
            function: What to call.
            *arguments: With what.
            context: In which context.  None (default) is that of the thread.

        Raises:
            Exception: Whatever the function raised.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(future, function, arguments, context))
        result: object = await future
        return await result if inspect.isawaitable(result) else result

    def serve(self, *, guarded: bool) -> None:
        """Call what there is to call, until the mailbox is closed.

        Args:
            guarded: Whether the loop is told if a function raises what is no
                `Exception`, such as SystemExit, rather than this thread.

        Raises:
            KeyboardInterrupt: Or another that is no `Exception`.
        """
        while (call := self._calls.get()) is not None:
            call.run(guarded=guarded)
            del call  # What was called may go while we wait.

    def close(self) -> None:
        """Let `serve` return after the calls that wait.  Idempotent; any thread may do it."""
        self._calls.put(None)


class Lane:
    """A mailbox with a daemon thread of its own, which starts with the first call.

    Args:
        name: Of the thread.
        owners: On whose behalf it calls; see `is_serving`.
    """

    def __init__(self, name: str, *owners: object) -> None:
        self._mailbox = Mailbox()
        self._name = name
        self._owners = tuple(map(weakref.ref, owners))
        self._started = False
        # The thread holds the mailbox only: a lane that nobody closed ends with its owner.
        weakref.finalize(self, self._mailbox.close).atexit = False

    def start(self) -> None:
        """Start the thread before it has to call anything.  Idempotent.

        Raises:
            RuntimeError: If there is no thread to be had.
        """
        if self._started:
            return
        work = threading.Thread(
            target=_work, args=(self._mailbox, self._owners), name=self._name, daemon=True
        )
        work.start()
        self._started = True

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have a function called on the thread, in our context; see `Mailbox.call`."""
        self.start()
        return await self._mailbox.call(function, *arguments, context=copy_context())

    def close(self) -> None:
        """End the thread after the calls that wait."""
        self._mailbox.close()

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """Return an async function that calls this one on the thread."""

        async def call(*arguments: Any) -> Any:
            return await self.call(function, *arguments)

        return call


def _work(mailbox: Mailbox, owners: tuple[weakref.ref[Any], ...]) -> None:
    with serving(*owners):
        mailbox.serve(guarded=True)


# ---------------------------------------------------------------- on whose behalf


class _Serving(threading.local):
    """The owners on whose behalf this thread calls functions, innermost last."""

    def __init__(self) -> None:
        self.owners: list[weakref.ref[Any]] = []


_here: Final = _Serving()


@contextmanager
def serving(*owners: "weakref.ref[Any]") -> Generator[None]:
    """Note that this thread calls functions on behalf of these owners."""
    _here.owners.extend(owners)
    try:
        yield
    finally:
        del _here.owners[len(_here.owners) - len(owners) :]


def is_serving(owner: object) -> bool:
    """Whether this thread calls functions on behalf of an owner, whose end would wait for it."""
    return any(reference() is owner for reference in _here.owners)
