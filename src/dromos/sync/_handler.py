"""Handlers and callbacks of callers without an event loop, and what they send with."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias, cast, runtime_checkable

from dromos import connection as aio
from dromos import interfaces
from dromos._calls import is_async
from dromos.interfaces import Sendable
from dromos.model import Message, Token
from dromos.sync._loop import LoopThread

__all__ = [
    "Callback",
    "ConnectCallback",
    "DisconnectCallback",
    "Handler",
    "RefreshCallback",
    "Send",
    "adapt",
    "relay",
]

Callback: TypeAlias = Callable[..., Any]

Call: TypeAlias = Callable[..., Awaitable[Any]]
"""Has a function called on another thread: takes it and its arguments."""

SENDING: Final = ("on_connect", "on_handover", "on_token_refresh")
"""The methods whose last argument is a `send`."""


class Send:
    """What a plain method gets to send with, from any thread but the loop's.

    Attributes:
        link: The number of the link that this was made for.
        handover: Whether that link took over from one that was still open.
    """

    __slots__ = ("_loop", "_send", "handover", "link")

    def __init__(self, loop: LoopThread, send: interfaces.Send) -> None:
        self._loop = loop
        self._send = send
        self.link = send.link
        self.handover = send.handover

    def __call__(self, message: Sendable, /) -> None:
        """Write a message, and block while the write buffer is over its high-water mark.

        Raises:
            NotConnected: If no link is open.
            MessageTooBig: If the message is over `send_size_limit`.
            SendBufferFull: If it would take the write buffer over `send_buffer_limit`.
            RuntimeError: On the loop thread, and in a forked child.
        """

        async def write() -> None:
            await self._send(message)

        self._loop.run(write)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the session with a close frame; does not wait for the end.

        Args:
            code: 1000 (default), 1001, or 3000 to 4999.
            reason: Up to 123 bytes of UTF-8.

        Raises:
            ValueError: If `code` may not be sent (RFC 6455, 7.4), or `reason` is no text.
            TypeError: If `reason` is not a str.
            RuntimeError: On the loop thread, and in a forked child.
        """
        self._loop.call(functools.partial(self._send.close, code, reason))

    def __repr__(self) -> str:
        return f"<send of link {self.link}>"


ConnectCallback: TypeAlias = Callable[[Send], None] | aio.ConnectCallback
DisconnectCallback: TypeAlias = Callable[[Exception | None], None] | aio.DisconnectCallback
RefreshCallback: TypeAlias = Callable[[Token, Send], bool | None] | aio.RefreshCallback


@runtime_checkable
class Handler(Protocol):
    """What the agent does with a connection, in plain methods on one thread.

    `on_handover(send)` and `on_token_refresh(token, send)` are looked for, too, as in
    `dromos.Handler`.  A method that is `async def` runs on the loop thread, and gets
    the asynchronous `send` of that class.
    """

    def on_connect(self, send: Send, /) -> object:
        """A new link is open.  Runs again for each link, and replaces what it started."""

    def on_message(self, message: Message, /) -> object:
        """A message arrived: `str` for a text frame, `bytes` for a binary one."""

    def on_disconnect(self, error: Exception | None, /) -> object:
        """The last open link is gone; `error` is None when we closed it."""


def adapt(loop: LoopThread, call: Call, name: str, function: Callback) -> Callback:
    """Return a function for the loop that has this one called elsewhere.

    Args:
        loop: Where it will be awaited.
        call: What has functions called.
        name: Which of a handler's methods it is.
        function: What to call.  If it is `async def` it is returned as it is.
    """
    if is_async(function):
        return function
    if name not in SENDING:
        return functools.partial(call, function)

    async def with_send(*arguments: Any) -> Any:
        *others, send = arguments
        return await call(function, *others, Send(loop, send))

    return with_send


def relay(loop: LoopThread, call: Call, handler: object) -> interfaces.Handler:
    """Return a handler for the loop, whose plain methods are called elsewhere.

    It has the methods that the handler has, and its class has the same name, which
    goes into events.  What is no handler is left for others to complain of.
    """
    if isinstance(handler, type):
        return cast("interfaces.Handler", handler)
    names = ("on_connect", "on_message", "on_disconnect", "on_handover", "on_token_refresh")
    relayed = type(type(handler).__name__, (), {})()
    for name in names:
        method: object = getattr(handler, name, None)
        if callable(method):
            setattr(relayed, name, adapt(loop, call, name, method))
        elif method is not None:
            setattr(relayed, name, method)
    return cast("interfaces.Handler", relayed)
