"""Tokens from a function of the user's."""

import dataclasses
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from dromos._calls import is_async
from dromos.errors import TokenError
from dromos.model import AuthStrategy, Seconds, Token, seconds
from dromos.oauth._thread import OneThread
from dromos.oauth.static import Problem, checked_strategy, from_mapping, shape_of
from dromos.redaction import Secret, unseen

__all__ = ["CallableToken", "Yield"]

Yield: TypeAlias = str | Secret | Mapping[str, Any] | Token
"""What the function returns: a token as text, credentials by name, or a whole token."""

TokenFunction: TypeAlias = (
    Callable[[], Yield | Awaitable[Yield]] | Callable[[str], Yield | Awaitable[Yield]]
)


class CallableToken:
    """Tokens from a function; each call of it issues one, and the bridge says when.

    A plain function runs on a thread of its own, one call at a time, and may
    block; an `async` one runs in the bridge's loop and is never cut short by
    this source, since nobody would know what came of it.  What it raises ends
    the attempt as the verdict tables say; a `PermanentError` ends the session.

    Args:
        function: Takes nothing, and every connection gets the same token; or takes the
            connection id.  A parameter with a default is left alone.
        strategy: How to present a text or a mapping that it returns.  None (default): as
            an OAuth 2.0 bearer token.
        credential: The name under which the strategy looks for a text.  None (default):
            the one that the strategy reads.
        assume_lifetime: Seconds that a token lives from the moment it was asked for,
            where neither it nor a JWT's `exp` tells.  None (default): for ever.
        timeout: Seconds for one call of a plain function. Default 30.
        wall: The wall clock, as Unix time; for tests.

    Raises:
        TypeError: If an argument has the wrong type, or the function takes something else.
        ValueError: If its value can't be right; the message names the argument.
    """

    _name = "?"  # for a repr amid the constructor

    @unseen
    def __init__(
        self,
        function: TokenFunction,
        *,
        strategy: AuthStrategy | None = None,
        credential: str | None = None,
        assume_lifetime: Seconds | None = None,
        timeout: Seconds = 30,
        wall: Callable[[], float] = time.time,  # noqa: TID251  # the seam to the outer world
    ) -> None:
        self._strategy: Final = checked_strategy(strategy)
        # A strategy with several credentials takes a mapping; a text is refused when it comes.
        is_text = credential is not None or self._strategy.type in _TEXT_STRATEGIES
        self._shape: Final = shape_of(self._strategy, credential) if is_text else None
        self._lifetime: Final = (
            None
            if assume_lifetime is None
            else seconds("assume_lifetime", assume_lifetime, above=0)
        )
        self.per_connection: Final = _takes_id(function)
        self._function: Final = cast("Callable[..., object]", function)
        self._name = str(getattr(function, "__qualname__", type(function).__qualname__))
        self._is_async: Final = is_async(function)
        self._thread: Final = OneThread(
            "dromos-token-function", deadline=seconds("timeout", timeout, above=0)
        )
        self._wall: Final = wall

    def __repr__(self) -> str:
        return f"CallableToken({self._name})"

    async def get_token(self, connection_id: str, /) -> Token:
        """Return a token that the function issues now.

        Raises:
            TokenError: If it takes too long, or returns no usable token.
            Exception: Whatever the function raised.
        """
        started = self._wall()
        made = self._made(await self._call(connection_id))
        if not isinstance(made, Token):
            raise TokenError(f"{self._what()} {made}", malformed=True)
        if self._lifetime is None or made.expires_at is not None:
            return made
        return dataclasses.replace(
            made, expires_at=started + self._lifetime, lifetime=self._lifetime
        )

    async def _call(self, connection_id: str) -> object:
        call = self._function
        if self.per_connection:
            call = functools.partial(call, connection_id)
        given = call() if self._is_async else await self._thread.call(call, what=self._what())
        return await given if inspect.isawaitable(given) else given

    def _made(self, given: object) -> Token | Problem:
        if isinstance(given, Token):
            return given
        if isinstance(given, Mapping):
            made = from_mapping(cast("Mapping[str, Any]", given), self._strategy)
            return made if isinstance(made, Token) else Problem(f"returned a mapping that {made}")
        if not isinstance(given, str | Secret):
            return Problem(f"returned {type(given).__name__} instead of a token")
        if self._shape is None:
            return Problem(f"returned one text, but {self._strategy.type!r} takes several")
        made = self._shape.read(given)
        return made if isinstance(made, Token) else Problem(f"returned a text that {made}")

    def _what(self) -> str:
        return f"the token function {self._name}"


_TEXT_STRATEGIES: Final = frozenset({"oauth2", "header", "query_param", "hmac_payload"})


def _takes_id(function: object) -> bool:
    """Whether a function takes a connection id.

    Raises:
        TypeError: If it can be called neither with nothing nor with one argument.
    """
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"function must be a function, not {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise TypeError(
            "function must have a signature that can be read; a lambda around it has one"
        ) from None
    for arguments in ((), ("connection id",)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    raise TypeError("function must take nothing, or one argument: the connection id")
