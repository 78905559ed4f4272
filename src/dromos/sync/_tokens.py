"""Token providers with plain methods, called on a daemon thread that nothing waits for."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, cast

from dromos._calls import is_async
from dromos.interfaces import TokenProvider, TokenSource
from dromos.model import Token
from dromos.sync._mailbox import Lane

__all__ = ["PlainTokenProvider", "PlainTokenSource", "Tokens", "close_provider", "unblocking"]

_HINTS: Final = frozenset({"per_connection", "always_read", "longest_wait"})


class PlainTokenSource(Protocol):
    """A `dromos.TokenSource` whose method blocks."""

    def get_token(self, connection_id: str, /) -> Token:
        """Return a token: a new one, unless the source knows that it need not."""
        ...


class PlainTokenProvider(Protocol):
    """A `dromos.TokenProvider` whose methods block."""

    def get_token(self, connection_id: str, /) -> Token:
        """Return the current token, which may be about to expire."""
        ...

    def refresh_connection(self, connection_id: str, /) -> Token:
        """Have a new token issued, and return it."""
        ...


Tokens: TypeAlias = TokenProvider | TokenSource | PlainTokenProvider | PlainTokenSource
"""What a bridge for threads takes."""


class _ThreadedSource:
    """A source whose plain methods are called on a thread, one at a time.

    It does not keep the provider alive; whoever uses it does.
    """

    def __init__(self, provider: object) -> None:
        self._provider = _weakly(provider)
        self._lane = Lane("dromos-tokens")

    def __getattr__(self, name: str) -> object:
        if name in _HINTS:
            return getattr(self._provider(), name)
        raise AttributeError(name)

    async def get_token(self, connection_id: str, /) -> Token:
        return cast("Token", await self._ask("get_token", connection_id))

    async def credentials_mark(self, connection_id: str, /) -> bytes | None:
        if not hasattr(self._provider(), "credentials_mark"):
            return None
        return cast("bytes | None", await self._ask("credentials_mark", connection_id))

    async def _ask(self, name: str, connection_id: str) -> object:
        method = getattr(self._provider(), name)
        if is_async(method):
            return await method(connection_id)
        return await self._lane.call(method, connection_id)


class _ThreadedTokens(_ThreadedSource):
    """A provider whose plain methods are called on a thread, one at a time."""

    async def refresh_connection(self, connection_id: str, /) -> Token:
        return cast("Token", await self._ask("refresh_connection", connection_id))


class _Wrapped:
    """One wrapper for each provider, as long as that lives: its bridges share thread and cache."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh, in a forked child: there the threads are gone."""
        self._lock = threading.RLock()
        self._found: dict[int, tuple[weakref.ref[object], _ThreadedSource]] = {}

    def find(self, provider: object) -> _ThreadedSource:
        key = id(provider)
        with self._lock:
            if key in self._found:
                return self._found[key][1]
            can_refresh = hasattr(provider, "refresh_connection")
            wrapper = (_ThreadedTokens if can_refresh else _ThreadedSource)(provider)
            try:
                reference = weakref.ref(provider, lambda _: self._found.pop(key, None))
            except TypeError:
                return wrapper  # Nobody would tell when to forget it: it is not shared.
            self._found[key] = reference, wrapper
            return wrapper


_wrapped: Final = _Wrapped()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_wrapped.forget)


def unblocking(provider: object) -> TokenProvider | TokenSource:
    """Return a provider that never blocks the loop; it does not keep this one alive.

    What is no provider is returned as it is, to be complained of by others.
    """
    names = ("get_token", "refresh_connection")
    methods = [getattr(provider, name) for name in names if hasattr(provider, name)]
    is_source = hasattr(provider, "get_token") and all(map(callable, methods))
    if isinstance(provider, type) or not is_source or all(map(is_async, methods)):
        return cast("TokenProvider | TokenSource", provider)
    return _wrapped.find(provider)


async def close_provider(provider: object) -> None:
    """Call the provider's `aclose` or `close`, if it has one.

    Raises:
        Exception: Whatever that raised.
    """
    close: Callable[[], Any] | None = getattr(provider, "aclose", None)
    close = close or getattr(provider, "close", None)
    if close is None:
        return
    if is_async(close):
        await close()
        return
    lane = Lane("dromos-tokens")
    try:
        await lane.call(close)
    finally:
        lane.close()


def _weakly(provider: object) -> Callable[[], object]:
    try:
        return weakref.ref(provider)
    except TypeError:
        return lambda: provider
