"""A token provider as the cache sees it, whichever methods it has."""

import inspect
from typing import Final, cast

from dromos.errors import TokenError
from dromos.interfaces import TokenProvider, TokenSource
from dromos.model import Token

__all__ = ["LONGEST_WAIT", "Source", "checked"]

LONGEST_WAIT: Final = 180.0
"""Seconds that a session waits for a flight: the longest floor, a reading, and a refresh
that hangs.  The refresh itself is never cut, because nobody would know what came of it."""


class Source:
    """Asks a provider, and knows which of the optional attributes it has.

    Attributes:
        can_read: Whether the provider tells its current token without issuing one.
        always_read: Whether each dial reads.
        longest_wait: Seconds that a session waits for it.
    """

    __slots__ = ("_per_connection", "_provider", "always_read", "can_read", "longest_wait")

    def __init__(self, provider: TokenProvider | TokenSource) -> None:
        self._provider = provider
        self.can_read = hasattr(provider, "refresh_connection")
        self._per_connection = bool(getattr(provider, "per_connection", True))
        self.always_read = bool(getattr(provider, "always_read", False))
        self.longest_wait = float(getattr(provider, "longest_wait", LONGEST_WAIT))

    def key(self, connection_id: str) -> str:
        """Return what the connections that share a token have in common."""
        return connection_id if self._per_connection else ""

    async def read(self, connection_id: str) -> Token | None:
        """Return the current token; None if the provider knows that it has none."""
        look = getattr(self._provider, "current_token", None)
        if look is None:
            return checked(await self._provider.get_token(connection_id), step="token")
        current = await look(connection_id)
        return None if current is None else checked(current, step="token")

    async def issue(self, connection_id: str) -> Token:
        """Have a token issued."""
        if not self.can_read:
            return checked(await self._provider.get_token(connection_id), step="token")
        provider = cast("TokenProvider", self._provider)
        return checked(await provider.refresh_connection(connection_id), step="refresh")

    def challenge(self, connection_id: str, claims: str) -> None:
        """Tell the provider what the next token has to be issued with, if it can hear it."""
        hear = getattr(self._provider, "claims_challenged", None)
        if hear is not None:
            hear(connection_id, claims)

    async def credentials_mark(self, connection_id: str) -> bytes | None:
        """Return what tells the credentials in use from others; None if nothing does."""
        tell = getattr(self._provider, "credentials_mark", None)
        if tell is None:
            return None
        mark = tell(connection_id)
        return cast("bytes | None", await mark if inspect.isawaitable(mark) else mark)


def checked(token: object, *, step: str) -> Token:
    """Return what a provider returned, if it is a token.

    Raises:
        TokenError: If it is none; it says what it is, and not what is in it.
    """
    if isinstance(token, Token):
        return token
    kind = type(token).__name__
    del token  # whatever it is, it may be secret
    raise TokenError(
        f"the token provider returned {kind} instead of a Token",
        step=step,
        malformed=True,
    )
