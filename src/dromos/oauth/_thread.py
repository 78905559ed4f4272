"""Blocking calls into other people's code: on a thread of ours, and with errors of ours.

The loop's default executor is not used: a call there can't be given up,
`asyncio.run` waits for it at the end, and a handful of slow ones block
everything else that uses it.
"""

import asyncio
import os
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, NamedTuple, TypeVar, cast

from dromos.errors import BridgeError, TokenError
from dromos.oauth._text import clean

__all__ = ["MOST_GIVEN_UP", "OneThread", "in_place_of", "kinds", "late", "shown", "untrusted"]

T = TypeVar("T")

MOST_GIVEN_UP: Final = 4
"""Calls of one source that may hang at a time; it is then not called until one ends."""

_SHORTEST_WAIT: Final = 0.001


class _Outcome(NamedTuple):
    """What came of a call.

    A value for both ends: an exception that is put into a future which nobody
    asks any more is logged, with whatever its text holds.
    """

    result: Any
    error: Exception | None

    def __repr__(self) -> str:
        return "_Outcome(...)"


class _Call:
    """One call, and the future that waits for it in its own loop."""

    __slots__ = ("_context", "_function", "due", "future", "what")

    def __init__(self, function: Callable[[], object], what: str) -> None:
        self._function = function
        self._context = copy_context()
        self.what = what
        self.due = 0.0
        self.future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()

    def run(self) -> None:
        try:
            outcome = _Outcome(self._context.run(self._function), None)
        except BaseException as error:
            outcome = _Outcome(None, _fit(error, self.what))
        self.tell(outcome)

    def tell(self, outcome: _Outcome) -> None:
        with suppress(RuntimeError):  # The loop is closed: nobody waits.
            self.future.get_loop().call_soon_threadsafe(_settle, self.future, outcome)


def _settle(future: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def _fit(error: BaseException, what: str) -> Exception:
    """The error, or one in its place: some would end the loop, or pass for a cancellation."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return TokenError(f"{what} raised {type(error).__name__}", malformed=True)


class OneThread:
    """Makes one source's blocking calls, one at a time and in order, on a daemon thread.

    The thread starts with a call and ends when none waits, so there is nothing to
    close, and nothing ever waits for it.  A call that takes too long is given up
    with its thread: it goes on, but whatever it returns is dropped, and the next
    call gets another thread.  May be used from any number of loops and threads.

    Args:
        name: Of the thread.
        deadline: Seconds that one call may take, its turn in the queue not counted.
    """

    def __init__(self, name: str, *, deadline: float) -> None:
        self._name = name
        self._deadline = deadline
        self._forget()
        _all.add(self)

    def __repr__(self) -> str:
        return f"OneThread({self._name!r})"

    def _forget(self) -> None:
        """Start afresh, in a forked child: there the thread is gone."""
        self._lock = threading.Lock()
        self._queue: deque[_Call] = deque()
        self._running: _Call | None = None
        self._worker: object = None  # names the thread that may take calls
        self._given_up = 0

    async def call(self, function: Callable[[], T], *, what: str) -> T:
        """Have a function called in its turn, in a copy of our context, and return its result.

        A call that is cancelled before its turn is left out; one that is under way goes on.

        Args:
            function: What to call.
            what: Names it for messages.

        Raises:
            TokenError: If it takes too long, or too many earlier calls still hang: transient.
            Exception: Whatever the function raised.
        """
        call = _Call(function, what)
        self._add(call)
        try:
            while not call.future.done():
                await asyncio.wait([call.future], timeout=self._wait())
                self._give_up_if_late()
        finally:
            call.future.cancel()  # Of no effect unless we were cancelled.
        result, error = call.future.result()
        if error is None:
            return cast("T", result)
        try:
            raise error
        finally:
            del error  # Or it and this frame would keep each other.

    def _add(self, call: _Call) -> None:
        with self._lock:
            problem = self._problem()
            if problem is None:
                self._queue.append(call)
                return
        raise TokenError(f"{call.what} was not tried: {problem}")

    def _problem(self) -> str | None:
        """Say why no call can be made now, or see to it that there is a thread."""
        if self._worker is not None:
            return None
        if self._given_up >= MOST_GIVEN_UP:
            return f"{self._given_up} earlier calls still hang, each on a thread of its own"
        worker = object()
        thread = threading.Thread(target=self._work, args=(worker,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # There are too many, or the interpreter ends.
            return "there is no thread to be had"
        self._worker = worker
        return None

    def _work(self, worker: object) -> None:
        while (call := self._next(worker)) is not None:
            call.run()
            del call  # What was called may go.

    def _next(self, worker: object) -> _Call | None:
        with self._lock:
            if self._worker is not worker:
                self._given_up -= 1  # It came back after all.
                return None
            self._running = None
            while self._queue:
                call = self._queue.popleft()
                if not call.future.cancelled():
                    call.due = time.monotonic() + self._deadline
                    self._running = call
                    return call
            self._worker = None
            return None

    def _wait(self) -> float:
        """Seconds until the call under way, be it ours or one before it, is too late."""
        running = self._running
        if running is None:
            return self._deadline
        return max(_SHORTEST_WAIT, running.due - time.monotonic())

    def _give_up_if_late(self) -> None:
        # Whoever waits does it: the waiter of the call that hangs may be gone, with its loop.
        with self._lock:
            running = self._running
            if running is None or time.monotonic() < running.due:
                return
            self._running = self._worker = None
            self._given_up += 1
            problem = self._problem() if self._queue else None
            blocked = list(self._queue) if problem else []
            if problem:
                self._queue.clear()
        running.tell(_Outcome(None, late(running.what, self._deadline)))
        for call in blocked:
            error = TokenError(f"{call.what} was not tried: {problem}")
            call.tell(_Outcome(None, error))


_all: Final[weakref.WeakSet[OneThread]] = weakref.WeakSet()


def _forget_all() -> None:
    for one in list(_all):
        one._forget()  # pyright: ignore[reportPrivateUsage]  # this file's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def late(what: str, deadline: float) -> TokenError:
    """Return the error for a call that took too long: transient."""
    return TokenError(f"{what} took over {deadline:g} s")


# ---------------------------------------------------------------- their errors


def kinds(error: BaseException) -> frozenset[str]:
    """Return the names of an error's class and of all its bases: no library is imported."""
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def shown(error: BaseException) -> str:
    """Return an error's class and what of its text is no secret.

    Libraries put whole answers of servers into their errors, tokens included.
    """
    try:
        text = clean(str(error))
    except Exception:  # its __str__ is foreign code, too
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def in_place_of(error: Exception, about: str) -> BridgeError:
    """Return our error for a library's that has no row of its own; ours are returned as they are.

    It is returned, not raised, so that it has no context: the frames of the
    foreign one hold tokens and keys.

    Args:
        error: What the library raised.
        about: What failed, for the message.
    """
    if isinstance(error, BridgeError):
        return error.with_traceback(None)
    refused = untrusted(error)
    if refused is not None:
        return _distrust(refused, about)
    message = f"{about} failed: {shown(error)}"
    if isinstance(error, OSError):  # TimeoutError is one
        return TokenError(message)
    # As for a user's provider that raises what we do not know: bounded.
    return TokenError(message, malformed=True)


def untrusted(error: BaseException) -> str | None:
    """Say why a certificate was refused, if that is what is behind an error; else None."""
    for cause in _behind(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return str(getattr(cause, "verify_message", "") or "certificate verify failed")
    return None


def _distrust(reason: str, about: str) -> TokenError:
    error = TokenError(
        f"{about} failed: the certificate is not trusted: {reason}", code="untrusted_certificate"
    )
    # A new one: the real one's traceback leads through frames that hold secrets.
    error.__cause__ = ssl.SSLCertVerificationError(1, reason)
    return error


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it, where libraries note that."""
    seen: set[int] = set()
    left = [error]
    while left and len(seen) < 64:
        cause = left.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        # `reason` is urllib3's, `inner_exception` azure-core's; others keep it in `args`.
        noted = [
            cause.__cause__,
            cause.__context__,
            getattr(cause, "reason", None),
            getattr(cause, "inner_exception", None),
            *cause.args,
        ]
        left.extend(each for each in noted if isinstance(each, BaseException))
