"""Measures how long a handler's callbacks take, for whoever asks for it."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from dromos._calls import is_async
from dromos.interfaces import Handler

__all__ = ["CALLBACKS", "timed"]

CALLBACKS: Final = (
    "on_connect",
    "on_handover",
    "on_message",
    "on_disconnect",
    "on_token_refresh",
)
"""A handler's methods; two of them may be left out."""


def timed(
    handler: Handler, observe: Callable[[str, float], None], *, now: Callable[[], float]
) -> Handler:
    """Return a handler that does the same, and tells how long each callback took.

    It has the methods that the handler has, and each is `def` or `async def` as it is there.
    What an `async def` awaits counts, and so does a callback that raises or is cancelled.

    Args:
        handler: Any handler.  Attributes that its methods set are its own still.
        observe: Called with a method's name and seconds.
        now: Seconds by a fine clock.

    Raises:
        TypeError: If `handler` is a class.
    """
    if isinstance(handler, type):
        name = handler.__name__
        raise TypeError(f"handler must be an object, not the class {name}; pass {name}()")
    methods = {name: getattr(handler, name, None) for name in CALLBACKS}
    members = {
        name: staticmethod(_timed(method, functools.partial(observe, name), now))
        for name, method in methods.items()
        if callable(method)
    }
    # Of the same name: events and logs call a callback by its handler's class.
    return cast("Handler", type(type(handler).__name__, (), members)())


def _timed(
    method: Callable[..., Any], observe: Callable[[float], None], now: Callable[[], float]
) -> Callable[..., Any]:
    async def finish(result: Awaitable[Any], began: float) -> Any:
        try:
            return await result
        finally:
            observe(now() - began)

    async def call_async(*arguments: Any) -> Any:
        return await finish(method(*arguments), now())

    def call(*arguments: Any) -> Any:
        began, is_over = now(), True
        try:
            result = method(*arguments)
            if result is not None and inspect.isawaitable(result):
                is_over = False
                return finish(result, began)
            return result
        finally:
            if is_over:
                observe(now() - began)

    # The watchdog finds the user's code behind it, by `__wrapped__`.
    return functools.update_wrapper(call_async if is_async(method) else call, method, updated=())
