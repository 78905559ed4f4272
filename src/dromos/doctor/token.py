"""The fifth step: whether the source gives a token, of what kind, and for how long."""

import time
from typing import Any

from dromos._outlook import is_hopeless
from dromos.doctor.finding import Finding, failed, passed, skipped, warned
from dromos.doctor.subject import Found, Subject
from dromos.errors import BridgeError, InteractionRequired, PermanentError, TokenError
from dromos.model import Token
from dromos.oauth._source import checked

__all__ = ["obtain"]

SKEW = 5.0
"""Seconds by which two clocks may differ before somebody should know."""

REMOTE = "is the source of tokens up, and reachable?"
LOCAL = "look on this machine first: at the variable, the file or the program that is named"
EMPTY = "it answers, and with no token that can be used: look at what answers there"
BROKEN = "look into the source itself: it returns a Token, or raises TokenError or OSError"
STATUSES = {
    400: "the source does not take the question: look at --connection-id",
    401: "the source does not accept us: look at its key or client secret",
    403: "the source does not allow it: is the connection active?",
    404: "the source does not know this connection: look at --connection-id",
    409: "a person has to give consent or log in again",
    405: "what answers is hardly the source of tokens: look at --gateway",
    426: "what answers is hardly the source of tokens: look at --gateway",
    429: "the source limits how often it is asked: wait, and ask less",
}


async def obtain(subject: Subject, found: Found) -> Finding:
    """Ask the source for a token, as a bridge does first.

    None is refreshed at a gateway for this: two refreshes at once would destroy the
    connection there, and another process may be about to do it.
    """
    if subject.source is None:
        return skipped("token", "no source of tokens is named")
    try:
        token = await subject.source.get_token(subject.connection_id)
    except BridgeError as error:
        return _refused(error)
    except OSError as error:  # a TimeoutError is one
        is_local = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
        return failed("token", f"no token: {error}", LOCAL if is_local else REMOTE)
    except Exception as error:
        kind = type(error).__name__
        return failed("token", f"no token: the token source raised {kind}: {error}", BROKEN)
    try:
        checked(token, step="token")
    except TokenError as error:
        return failed("token", f"no token: {error}", BROKEN)
    finding = _judged(token)
    if finding.outcome != "fail":
        found.token = token
    return finding


def _refused(error: BridgeError) -> Finding:
    status = getattr(error, "status", None)
    hopeless = isinstance(error, PermanentError) or (
        isinstance(error, TokenError) and is_hopeless(error)
    )
    return failed("token", f"no token: {error}", _advice(error), hopeless=hopeless, status=status)


def _advice(error: BridgeError) -> str:
    if isinstance(error, InteractionRequired):
        return STATUSES[409]
    if not isinstance(error, TokenError):
        return REMOTE
    if error.malformed and (error.status or error.origin):
        return EMPTY
    # A source that asks nobody, and one that came to no request, know neither status nor server.
    return STATUSES.get(error.status or 0, LOCAL if error.malformed else REMOTE)


def _judged(token: Token) -> Finding:
    left = None if token.expires_at is None else token.expires_at - time.time()
    skew = token.clock_skew
    facts: dict[str, Any] = {
        "strategy": token.strategy.type,
        "expires_in": None if left is None else round(left, 1),
        "lifetime": token.lifetime,
        "clock_skew": None if skew is None else round(skew, 1),
    }
    said = f"strategy {token.strategy.type}, {_lifetime(token, left)}{_skew(skew)}"
    if left is not None and left <= 0:
        advice = "a bridge has it refreshed when it starts; `dromos token --fresh` does so now"
        return failed("token", said, advice, **facts)
    if skew is not None and abs(skew) >= SKEW:
        return warned("token", said, "set the clocks: expiry is told by them", **facts)
    return passed("token", said, **facts)


def _lifetime(token: Token, left: float | None) -> str:
    if left is None:
        return "with no expiry that the source tells"
    issued = "" if token.lifetime is None else f" of {token.lifetime:.0f} s"
    return f"{left:.0f} s{issued} left" if left > 0 else f"expired {-left:.0f} s ago"


def _skew(skew: float | None) -> str:
    if skew is None:
        return ""
    if abs(skew) < 1:
        return ", clocks agree"
    return f", the source's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
