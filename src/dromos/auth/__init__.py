"""Strategies: how a token is presented in the upgrade request.

Each is a function from handshake to handshake, in a file of its own.  What the
gateway's configuration may name is limited: a header, a parameter, a cookie, a
subprotocol or a message, never the target.
"""

from pathlib import PurePath
from typing import Final

from dromos._calls import is_async
from dromos.auth._checks import problem
from dromos.auth._claims import claims_in
from dromos.auth._values import shown
from dromos.auth.api_key import api_key
from dromos.auth.aws_sigv4 import aws_sigv4
from dromos.auth.basic_auth import basic_auth
from dromos.auth.cookie import cookie
from dromos.auth.dpop import dpop, learn_nonce
from dromos.auth.first_message import first_message
from dromos.auth.header import header
from dromos.auth.headers import headers
from dromos.auth.hmac_payload import hmac_payload
from dromos.auth.oauth2 import oauth2
from dromos.auth.query_param import query_param
from dromos.auth.subprotocol import subprotocol
from dromos.errors import BridgeError, HandshakeError, PermanentError
from dromos.interfaces import AuthFunction
from dromos.model import Handshake, Token

__all__ = [
    "api_key",
    "apply",
    "asks_again",
    "aws_sigv4",
    "basic_auth",
    "claims_in",
    "cookie",
    "dpop",
    "first_message",
    "header",
    "headers",
    "hmac_payload",
    "oauth2",
    "query_param",
    "register",
    "subprotocol",
]

_strategies: Final[dict[str, AuthFunction]] = {
    "api_key": api_key,
    "aws_sigv4": aws_sigv4,
    "basic_auth": basic_auth,
    "cookie": cookie,
    "dpop": dpop,
    "first_message": first_message,
    "header": header,
    "headers": headers,
    "hmac": hmac_payload,  # so the Go library's white paper calls it
    "hmac_payload": hmac_payload,
    "oauth2": oauth2,
    "query_param": query_param,
    "subprotocol": subprotocol,
}


def register(name: str, function: AuthFunction) -> None:
    """Add a strategy, or replace one of the same name, for the whole process.

    What it returns is checked each time: it may present the token, but not change
    the scheme, host or port, nor set a header of the protocol.  It may call the
    functions of this package, one after the other.

    Args:
        name: The strategy's type, as the gateway sends it.
        function: Takes the handshake, the token and Unix time, and returns the
            handshake with the token presented in it.  It should raise
            `PermanentError` if the token or its configuration lacks something;
            of what it raises, only that error itself is kept, without cause or
            traceback, since their texts and variables may hold the token.

    Raises:
        TypeError: If `name` is not a `str`, or `function` can't be called or is async.
        ValueError: If `name` is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not name:
        raise ValueError("name must not be empty")
    if not callable(function):
        raise TypeError(f"function must be callable, not {type(function).__name__}")
    if is_async(function):
        raise TypeError("function must not be async: what it needs is in the token")
    _strategies[name] = function


def apply(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Return a handshake with a token presented as its strategy says.

    Args:
        handshake: What would be sent without authentication.
        token: What to present.
        now: Unix time, for strategies that sign.

    Raises:
        PermanentError: If the strategy is unknown, the token or its configuration
            lacks something, or the strategy did what none may do: trying again
            would repeat it.
    """
    made = _applied(handshake, token, now)
    if isinstance(made, Handshake):
        return made
    # Raised here, where every variable hides what it holds: in the frames that it
    # came from, and in its cause, a token may stand in the clear.
    raise made


def asks_again(handshake: Handshake, token: Token, error: HandshakeError) -> bool:
    """Whether a refusal only said what to present besides, so that another try may do at once.

    That is a step of the protocol, and no failure.

    Args:
        handshake: What was refused.
        token: What it presented.
        error: The refusal.
    """
    if token.strategy.type != "dpop":
        return False
    return learn_nonce(handshake.url, error.status, error.headers)


def _applied(handshake: Handshake, token: Token, now: float) -> Handshake | BridgeError:
    function = _strategies.get(token.strategy.type)
    if function is None:
        return PermanentError(f"unsupported auth strategy type: {shown(token.strategy.type)}")
    about = f"the auth strategy {token.strategy.type[:64]!a}"
    try:
        made = function(handshake, token, now)
    except BridgeError as error:
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    except Exception as error:
        # Go's library holds every strategy error for permanent, and rightly: the input stays.
        return PermanentError(f"{about} failed ({type(error).__name__}{_place(error)})")
    wrong = problem(handshake, made)
    return PermanentError(f"{about} {wrong}") if wrong else made


def _place(error: Exception) -> str:
    """Say where in the strategy an error came up: all that is left of its traceback."""
    ours = error.__traceback__
    frame = ours.tb_next if ours else None
    if frame is None:
        return ""
    return f" at {PurePath(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"
