"""A token in an environment variable, read before each dial."""

import hashlib
import hmac
import os
import re
import secrets
from typing import Final

from dromos.errors import TokenError
from dromos.model import AuthStrategy, Token
from dromos.oauth.static import checked_strategy, not_refreshable, shape_of
from dromos.redaction import unseen

__all__ = ["EnvToken"]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_KEY: Final = secrets.token_bytes(32)


class EnvToken:
    """The token in an environment variable, for every connection.

    The variable is read anew before each dial, since the process may set it.
    If the token is a JWT, its `exp` is read as a hint for scheduling.

    Args:
        name: The variable's.
        strategy: How to present the token.  None (default): as an OAuth 2.0 bearer token.
        credential: The name under which the strategy looks for it, for `header` and the
            like.  None (default): the one that the strategy reads.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `name` can't be a variable's, or the strategy takes more than one
            credential and none is named.
    """

    per_connection = False
    always_read = True
    _name = "?"  # for a repr amid the constructor

    @unseen
    def __init__(
        self, name: str, *, strategy: AuthStrategy | None = None, credential: str | None = None
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if not _NAME.fullmatch(name):
            # Not shown: it may be the token itself, given by mistake.
            raise ValueError("name must be of letters, digits and _, as variables' names are")
        self._name = name
        self._shape: Final = shape_of(checked_strategy(strategy), credential)
        self._given: bytes | None = None

    def __repr__(self) -> str:
        return f"EnvToken({self._name!r})"

    async def get_token(self, connection_id: str, /) -> Token:
        """Return the token that the variable holds now.

        Raises:
            TokenError: If the variable is missing or empty, or holds no token.
        """
        self._given = self._mark()
        return self._read("token")

    async def refresh_connection(self, connection_id: str, /) -> Token:
        """Return the variable's token if it has changed since `get_token` read it.

        Raises:
            TokenError: If the variable holds no token; with the code
                `refresh_not_supported` if it holds the same one.
        """
        if self._mark() == self._given:
            raise not_refreshable(f"environment variable {self._name} holds the same token still")
        self._given = self._mark()
        return self._read("refresh")

    async def credentials_mark(self, connection_id: str, /) -> bytes:
        """Return what changes whenever the variable does, and tells nothing of it."""
        return self._mark()

    def _mark(self) -> bytes:
        value = os.environ.get(self._name)
        told = b"" if value is None else b"=" + value.encode(errors="surrogateescape")
        return hmac.digest(_KEY, told, hashlib.sha256)

    def _read(self, step: str) -> Token:
        if self._name not in os.environ:
            raise self._error("is not set", step)
        made = self._shape.read(os.environ[self._name])
        if isinstance(made, Token):
            return made
        raise self._error(made, step)

    def _error(self, problem: str, step: str) -> TokenError:
        # `malformed` makes it bounded: permanent at first, a few tries once it has worked.
        return TokenError(f"environment variable {self._name} {problem}", step=step, malformed=True)
