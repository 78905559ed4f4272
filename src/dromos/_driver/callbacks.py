"""The handler's methods, found and checked once."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, cast

from dromos._calls import is_async
from dromos.errors import BridgeError
from dromos.interfaces import Handler
from dromos.model import Message

__all__ = ["Callback", "Callbacks", "heard_from", "stray", "stray_cancellation"]

Callback: TypeAlias = Callable[..., Awaitable[Any] | Any]

REQUIRED: Final = ("on_connect", "on_message", "on_disconnect")


class Callbacks:
    """A handler's methods.

    Those that are called a few times in months are looked up when they are: what binds a
    method to its handler is an object of its own.

    Attributes:
        name: The handler's class, for messages to the person on call.
        on_message: Bound once.
        on_token_refresh: None where the handler has none.
        is_async: Whether `on_message` is known to be `async def`.
        tap: Sees each message before its turn, and takes it away if it returns True.
        on_untapped: Both in one call, for a message whose turn is at once.
        is_brimming: Whether a queue of the handler's holds more than it should, although
            it was told that there would be no more.
        awaits: Whether an answer is still to come on the link with this number.
        queued: How many messages wait in a queue of the handler's.  These five are None
            for all handlers but a `Connection`.
    """

    __slots__ = (
        "_handler",
        "awaits",
        "is_async",
        "is_brimming",
        "name",
        "on_message",
        "on_token_refresh",
        "on_untapped",
        "queued",
        "tap",
    )

    def __init__(self, handler: object) -> None:
        """Find the methods.

        Raises:
            TypeError: If `handler` is a class, or lacks one of the three methods.
        """
        if isinstance(handler, type):
            raise TypeError(
                f"handler must be an object, not the class {handler.__name__}; "
                f"pass {handler.__name__}()"
            )
        missing = [name for name in REQUIRED if not callable(getattr(handler, name, None))]
        if missing:
            raise TypeError(
                f"handler must have the methods {', '.join(REQUIRED)}; "
                f"{type(handler).__name__} lacks {', '.join(missing)}"
            )
        self.name = type(handler).__name__
        _optional(handler, "on_handover")  # checked before it is due
        self._handler = cast("Handler", handler)
        self.on_message: Callback = self._handler.on_message
        self.on_token_refresh = _optional(handler, "on_token_refresh")
        self.is_async = is_async(self.on_message)
        self.tap: Callable[[Message], bool] | None = None
        self.on_untapped: Callback = self.on_message
        self.is_brimming: Callable[[], bool] | None = None
        self.awaits: Callable[[int], bool] | None = None
        self.queued: Callable[[], int] | None = None

    @property
    def on_connect(self) -> Callback:
        """The handler's."""
        return self._handler.on_connect

    @property
    def on_disconnect(self) -> Callback:
        """The handler's."""
        return self._handler.on_disconnect

    @property
    def on_handover(self) -> Callback:
        """The handler's; `on_connect` where it has none of its own."""
        return _optional(self._handler, "on_handover") or self.on_connect

    def methods(self) -> dict[str, Callback]:
        """The handler's methods by their full names, for whoever looks at stacks."""
        names = (*REQUIRED, "on_handover", "on_token_refresh")
        found = {name: getattr(self, name) for name in names}
        return {f"{self.name}.{name}": each for name, each in found.items() if each is not None}


def _optional(handler: object, name: str) -> Callback | None:
    method: Callback | None = getattr(handler, name, None)
    if method is None:
        return None
    if not callable(method):
        raise TypeError(f"handler's {name} must be a method, not {type(method).__name__}")
    return method


@contextmanager
def stray_cancellation(who: str) -> Generator[None]:
    """Turn a `CancelledError` that nobody asked for into an error that is heard.

    A handler that awaits a task of its own, and that task was cancelled, raises
    `CancelledError` although ours was not: it would end our task without a word.

    Raises:
        BridgeError: In place of such a `CancelledError`.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        raise stray(error, who)  # noqa: B904 - its cause is set


def stray(error: asyncio.CancelledError, who: str) -> BridgeError:
    """Return what stands for a `CancelledError` that nobody asked for.

    Raises:
        asyncio.CancelledError: The same, if it was asked for.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    return _from_within(error, who)


def heard_from(error: BaseException, who: str) -> Exception:
    """Return what a callback raised while no task of ours ran, for those who are told of it."""
    return error if isinstance(error, Exception) else _from_within(error, who)


def _from_within(error: BaseException, who: str) -> BridgeError:
    heard = BridgeError(f"{who} was cancelled from within")
    heard.__cause__ = error
    return heard
