"""Strategies: how a token is presented in the upgrade request.

Each is a function from handshake to handshake, in a file of its own.  What the
gateway's configuration may name is limited: a header or a parameter, never the
target.
"""

from collections.abc import Callable
from typing import Final

from dromos.auth.basic_auth import basic_auth
from dromos.auth.header import header
from dromos.auth.oauth2 import oauth2
from dromos.auth.query_param import query_param
from dromos.errors import BridgeError, PermanentError
from dromos.interfaces import AuthFunction
from dromos.model import Handshake, Token

__all__ = ["apply", "register"]

_strategies: Final[dict[str, AuthFunction]] = {
    "oauth2": oauth2,
    "header": header,
    "query_param": query_param,
    "basic_auth": basic_auth,
}


def register(name: str, function: AuthFunction) -> None:
    """Add a strategy, or replace one of the same name, for the whole process.

    Args:
        name: The strategy's type, as the gateway sends it.
        function: Takes the handshake, the token and Unix time, and returns the
            handshake with the token presented in it.  It should raise
            `PermanentError` if the token or its configuration lacks something.

    Raises:
        TypeError: If `name` is not a `str` or `function` can't be called.
        ValueError: If `name` is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not name:
        raise ValueError("name must not be empty")
    if not callable(function):
        raise TypeError(f"function must be callable, not {type(function).__name__}")
    _strategies[name] = function


def apply(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Return a handshake with a token presented as its strategy says.

    Args:
        handshake: What would be sent without authentication.
        token: What to present.
        now: Unix time, for strategies that sign.

    Raises:
        PermanentError: If the strategy is unknown, or the token or its
            configuration lacks something: trying again would repeat it.
    """
    function = _strategies.get(token.strategy.type)
    if function is None:
        kind = token.strategy.type[:64]
        shown = kind if kind.isascii() and kind.isprintable() else ascii(kind)
        raise PermanentError(f"unsupported auth strategy type: {shown}")
    return _applied(function, handshake, token, now)


def _applied(
    function: Callable[[Handshake, Token, float], object],
    handshake: Handshake,
    token: Token,
    now: float,
) -> Handshake:
    try:
        made = function(handshake, token, now)
    except BridgeError:
        raise
    except Exception as error:
        # Go's library holds every strategy error for permanent, and rightly: the input stays.
        raise PermanentError(
            f"the auth strategy {token.strategy.type!r} failed ({type(error).__name__})"
        ) from error
    if not isinstance(made, Handshake):
        raise PermanentError(
            f"the auth strategy {token.strategy.type!r} returned {type(made).__name__} "
            f"instead of a Handshake"
        )
    return made
