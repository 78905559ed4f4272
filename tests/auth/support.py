"""What tests of strategies share: to apply one, and to see that a refusal shows nothing."""

import traceback
from typing import Any

import pytest

from dromos import auth
from dromos.errors import PermanentError
from dromos.model import AuthStrategy, Handshake, Token

URL = "wss://far.example/ws"
CANARY = "CANARY-5f3a"


def applied(
    kind: str,
    credentials: dict[str, Any],
    config: dict[str, Any] | None = None,
    *,
    url: str = URL,
    headers: tuple[tuple[str, str], ...] = (),
    now: float = 0.0,
) -> Handshake:
    token = Token(credentials, strategy=AuthStrategy(kind, config or {}))
    return auth.apply(Handshake(url=url, headers=headers), token, now)


def refused(kind: str, credentials: dict[str, Any], config: dict[str, Any] | None = None) -> str:
    """Return the message of a refusal, which shows no canary, wherever a crash reporter looks."""
    with pytest.raises(PermanentError) as caught:
        applied(kind, credentials, config)
    assert shows_nothing(caught.value)
    return str(caught.value)


def shows_nothing(error: BaseException) -> bool:
    """Whether an error is short, one line, alone, and without the canary."""
    assert "CANARY" not in laid_open(error)
    assert error.__context__ is None
    assert error.__cause__ is None
    return str(error).isprintable() and len(str(error)) < 400


def laid_open(error: BaseException) -> str:
    """Return all that a crash reporter would show of an error, from our first frame on."""
    trace = error.__traceback__
    while trace and not str(trace.tb_frame.f_globals["__name__"]).startswith("dromos."):
        trace = trace.tb_next
    assert trace is not None
    report = traceback.TracebackException(type(error), error, trace, capture_locals=True)
    return "".join([*report.format(), repr(error), str(error), repr(vars(error))])
