"""Fetches one token, and says what it is."""

import asyncio
import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from dromos.cli.sources import misuse_if
from dromos.errors import BridgeError, TokenError
from dromos.interfaces import TokenProvider, TokenSource
from dromos.model import Token
from dromos.oauth._source import checked

__all__ = ["clear", "fetch", "fetch_now", "lines", "now", "summary"]


async def fetch(source: TokenProvider | TokenSource, connection_id: str, *, fresh: bool) -> Token:
    """Return a token of a source, and close the source.

    Args:
        source: Any.
        connection_id: For a source that knows several connections.
        fresh: Whether to have another one issued.

    Raises:
        BridgeError: If there is none; a `TokenError` for whatever a source of the user's raises.
    """
    try:
        async with contextlib.AsyncExitStack() as stack:
            close = getattr(source, "aclose", None)
            if close is not None:
                stack.push_async_callback(close)
            ask = cast("TokenProvider", source).refresh_connection if fresh else source.get_token
            return checked(await ask(connection_id), step="refresh" if fresh else "token")
    except BridgeError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise TokenError(f"the token source raised {kind}: {error}") from error


def summary(token: Token, *, now: float) -> dict[str, Any]:
    """Return what may be said of a token without telling it."""
    left = None if token.expires_at is None else token.expires_at - now
    return {
        "strategy": token.strategy.type,
        "config": dict(token.strategy.config),
        "credentials": sorted(token.credentials),
        "scopes": None if token.scopes is None else list(token.scopes),
        "lifetime": token.lifetime,
        "expires_at": None if token.expires_at is None else _date(token.expires_at),
        "expires_in": None if left is None else round(left, 1),
        "clock_skew": None if token.clock_skew is None else round(token.clock_skew, 1),
    }


def lines(told: dict[str, Any], *, reveal: bool) -> Iterator[str]:
    """Yield a summary as lines for a person.

    Args:
        told: The summary.
        reveal: Whether the credentials are printed beside it.
    """
    config = told["config"]
    settings = f" {json.dumps(config, sort_keys=True)}" if config else ""
    yield f"strategy     {told['strategy']}{settings}"
    hint = "" if reveal else " (not shown; --reveal prints them)"
    yield f"credentials  {', '.join(told['credentials'])}{hint}"
    scopes = told["scopes"]
    yield f"scopes       {'the source does not say' if scopes is None else ' '.join(scopes)}"
    yield f"lifetime     {_lifetime(told)}"
    yield f"clock skew   {_skew(told['clock_skew'])}"


def clear(token: Token) -> str:
    """Return the credentials in the clear: the token alone where there is nothing else."""
    held = dict(token.credentials)
    if list(held) == ["access_token"]:
        return str(held["access_token"])
    return json.dumps(held, sort_keys=True)


def _lifetime(told: dict[str, Any]) -> str:
    left, lifetime = told["expires_in"], told["lifetime"]
    if left is None:
        return "the source does not say: it is used until it is refused"
    issued = "" if lifetime is None else f"{lifetime:g} s as issued; "
    state = f"{left:g} s left" if left > 0 else f"EXPIRED {-left:g} s ago"
    return f"{issued}{state}, until {told['expires_at']}"


def _skew(skew: float | None) -> str:
    if skew is None:
        return "not seen: the source's answer had no date"
    if abs(skew) < 1:
        return "none seen: the server's clock and ours agree to a second"
    return f"the server's clock is {abs(skew):g} s {'ahead of' if skew > 0 else 'behind'} ours"


def _date(moment: float) -> str:
    try:
        date = datetime.datetime.fromtimestamp(moment, tz=datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{moment:g} s after 1970"
    return date.strftime("%Y-%m-%d %H:%M:%SZ")


def fetch_now(
    make: Callable[[], TokenProvider | TokenSource], connection_id: str, *, fresh: bool
) -> Token:
    """Return a token of a source that is made for it, from outside of a loop.

    Raises:
        Misuse: If the source's arguments are wrong.
        BridgeError: If there is no token.
    """
    with misuse_if(True):
        source = make()
        if fresh and not hasattr(source, "refresh_connection"):
            raise ValueError("--fresh has no sense here: each question has a token issued")
    return asyncio.run(fetch(source, connection_id, fresh=fresh))


def now() -> float:
    """Return Unix time."""
    return time.time()
