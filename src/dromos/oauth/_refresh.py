"""What came of a refresh, judged from the POST and the GET that followed it."""

import dataclasses
from typing import Final

from dromos.errors import TokenError
from dromos.model import Token
from dromos.oauth._answers import Reading
from dromos.oauth._http import Answer, Outcome

__all__ = ["choose", "needs_a_look"]

# Visible only where a broker is asked without a gateway before it.
_NO_REFRESH: Final = frozenset({"static_token", "no_refresh_token"})


def needs_a_look(posted: Outcome) -> bool:
    """Whether a GET can tell what this answer to a refresh leaves open.

    A success lacks the expiry; a 400 or 404 lacks its reason; and whether a
    token was issued before a 5xx, a timeout or a broken connection is unknown.
    503 comes from a proxy that let nothing through.
    """
    if not isinstance(posted, Answer):
        return posted.sent
    status = posted.status
    return 200 <= status < 300 or status in (400, 404, 408) or (status >= 500 and status != 503)


def choose(
    posted: Reading | TokenError,
    current: Reading | TokenError,
    *,
    before: bytes | None,
    started: float,
) -> Token | TokenError:
    """Return the token that holds after a refresh, or why there is none.

    Args:
        posted: What the POST gave.
        current: What the GET gave.
        before: The mark of the token that was current before; None if unknown.
        started: Unix time when the POST began.
    """
    if isinstance(current, TokenError):
        if isinstance(posted, TokenError):
            # The GET knows the reason of a bare 400 or 404; else the POST's own trouble counts.
            return current if posted.status in (400, 404) else posted
        # Without an expiry this token would be taken for one that lives for ever.
        return current if _expiry(posted, started) is None else _issued(posted, posted, started)

    if isinstance(posted, Reading):
        if posted.mark == current.mark:
            return _issued(current, posted, started)
        if current.mark == before and _expiry(posted, started) is not None:
            return _issued(posted, posted, started)  # the GET was answered from a stale copy
        return current.token

    if before is not None and current.mark != before:
        return _issued(current, current, started)  # it was issued, though nobody told us
    if posted.status == 404 and posted.code != "wrong_url":
        return current.token  # the connection was repaired between the two requests
    if posted.status == 404 or (
        posted.status == 400 and (posted.code in _NO_REFRESH or not current.refreshable)
    ):
        return _unsupported(posted)
    return posted


def _expiry(reading: Reading, started: float) -> float | None:
    """Return when a token that was just issued expires."""
    if reading.token.expires_at is not None or reading.lifetime is None:
        return reading.token.expires_at
    return started + reading.lifetime


def _issued(reading: Reading, told: Reading, started: float) -> Token:
    """Return a token just issued, with its expiry from wherever it was told."""
    expiry = _expiry(reading, started)
    lifetime = reading.token.lifetime
    return dataclasses.replace(
        reading.token,
        expires_at=_expiry(told, started) if expiry is None else expiry,
        lifetime=told.lifetime if lifetime is None else lifetime,
    )


def _unsupported(posted: TokenError) -> TokenError:
    return TokenError(
        "this connection can't be refreshed: its key is static, or the gateway holds no "
        "refresh token for it (some providers give one only once); its token stays in use",
        status=posted.status,
        code="refresh_not_supported",
        step="refresh",
        source=posted.source,
        origin=posted.origin,
    )
