"""Tokens that a person allows on another device, by a short code: RFC 8628."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, Unpack

from dromos.errors import TokenError
from dromos.oauth._checks import server_url
from dromos.oauth._client import Client, ClientOptions, Pairs
from dromos.oauth._endpoint import (
    ANSWER_LOST,
    Asking,
    Issued,
    Sent,
    ask,
    post,
    told_of,
    unusable,
)
from dromos.oauth._expiry import duration
from dromos.oauth._flow import Ask, Flow, Pause
from dromos.oauth._http import Answer
from dromos.oauth.refresh_token import RefreshToken, Stores
from dromos.redaction import unseen

__all__ = ["DeviceCode", "DevicePrompt"]

_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
LONGEST_PROMPT: Final = 1800.0
"""Seconds: no person is waited for longer, whatever the server allows."""
_INTERVAL: Final = 5.0  # RFC 8628, 3.2
_SHORTEST_INTERVAL: Final = 1.0  # whatever the server allows
_SLOWER: Final = 5.0  # RFC 8628, 3.5
_LONGEST_INTERVAL: Final = 60.0
_ENDS: Final = frozenset({"access_denied", "expired_token", "invalid_grant"})
_PASSES: Final = frozenset({"server_error", "temporarily_unavailable", "internal_failure"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePrompt:
    """What to show a person who shall allow this.

    Attributes:
        url: Where to go.
        user_code: What to type there.
        complete_url: Where to go without having to type anything, or None.
        expires_in: Seconds until the code is worth nothing.
    """

    url: str
    user_code: str
    complete_url: str | None
    expires_in: float

    def __repr__(self) -> str:
        # Whoever reads a log must not be able to answer in the person's place.
        return f"DevicePrompt(url={self.url!r})"


Show: TypeAlias = Callable[[DevicePrompt], Awaitable[None] | None]
"""Shows a person where to go and what to type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    device_code: str
    prompt: DevicePrompt
    interval: float

    def __repr__(self) -> str:
        return "_Code(...)"


class DeviceCode(RefreshToken):
    """Tokens for a person who has a browser, though this process has none.

        def show(prompt):
            print(f"Go to {prompt.url} and type {prompt.user_code}")

        tokens = DeviceCode(
            show,
            store=FileStore("/var/lib/agent/grant.json"),
            issuer="https://login.example.com",
            client_id="agent-7",
        )

    The person is asked once; then the refresh token is used, as `RefreshToken` does.
    When that is refused, the session ends with `InteractionRequired`, and the next
    one asks the person again.

    Args:
        show: Called with a `DevicePrompt`; sync or async.
        store: As for `RefreshToken`.  Default None: in memory, so that each process asks.
        device_authorization_url: Where codes are given.  Default None: as the issuer's
            metadata say.
        **options: See `ClientOptions`.

    Raises:
        TypeError: If an argument is unknown, or has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
    """

    longest_wait = LONGEST_PROMPT + 60
    _forgets = True

    @unseen
    def __init__(
        self,
        show: Show,
        *,
        store: Stores | None = None,
        device_authorization_url: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(store=store, **options)
        if not callable(show):
            raise TypeError(f"show must be callable, not {type(show).__name__}")
        self._show = show
        if device_authorization_url is not None:
            url = server_url("device_authorization_url", device_authorization_url)
            self._client.wire.may_send_secrets("device_authorization_url", url, stacklevel=4)
            self._client.device_url = url
        elif self._client.issuer is None:
            raise ValueError("give device_authorization_url beside token_url, or issuer")

    async def credentials_mark(self, connection_id: str = "", /) -> bytes | None:
        """Return None: a person may say yes to what was refused before."""
        return None

    def _begin(self, client: Client) -> Flow[Issued | TokenError]:
        return (yield from authorized(client, self._show))


def authorized(client: Client, show: Show) -> Flow[Issued | TokenError]:
    """Get a code, show it, and ask whether the person has allowed it until there is an answer."""
    code = yield from _code(client)
    if isinstance(code, TokenError):
        return code
    # In a function of its own, so that the code is in no frame of ours that lasts.
    yield Ask(function=lambda: show(code.prompt))
    return (yield from _polled(client, code))


def _code(client: Client) -> Flow[_Code | TokenError]:
    def form(now: float) -> Pairs:
        return client.asked_for()

    asking = Asking(
        step="device",
        subject="the request for a device code",
        form=form,
        endpoint="device_authorization_endpoint",
    )
    outcome = yield from post(client, asking)
    return outcome if isinstance(outcome, TokenError) else _read(*outcome)


def _read(answer: Answer, sent: Sent) -> _Code | TokenError:
    told = told_of(answer) or {}
    # `verification_url` is what Google called it before the RFC.
    url = told.get("verification_uri") or told.get("verification_url")
    texts = [told.get("device_code"), told.get("user_code"), url]
    if answer.flaw or not all(isinstance(text, str) and text.isprintable() for text in texts):
        return unusable(answer, sent, answer.flaw or "it holds no code and place to type it")
    complete: object = told.get("verification_uri_complete")
    is_complete = isinstance(complete, str) and complete.isprintable()
    expires = min(duration(told.get("expires_in")) or LONGEST_PROMPT, LONGEST_PROMPT)
    return _Code(
        device_code=str(told["device_code"]),
        prompt=DevicePrompt(
            url=str(url),
            user_code=str(told["user_code"]),
            complete_url=str(complete) if is_complete else None,
            expires_in=expires,
        ),
        interval=_bounded(duration(told.get("interval")) or _INTERVAL),
    )


def _polled(client: Client, code: _Code) -> Flow[Issued | TokenError]:
    def form(now: float) -> Pairs:
        return [("grant_type", _GRANT), ("device_code", code.device_code)]

    asking = Asking(
        step="device",
        subject="the question whether a person allowed it",
        form=form,
        secrets=(code.prompt.user_code, code.prompt.complete_url or code.prompt.user_code),
    )
    interval, left = code.interval, code.prompt.expires_in
    wait = interval
    while left > wait:
        yield Pause(seconds=wait)
        left -= wait
        outcome = yield from ask(client, asking)
        if not isinstance(outcome, TokenError):
            return outcome
        if outcome.code == "slow_down":
            interval += _SLOWER  # "for this and all subsequent requests"
        elif outcome.code == "authorization_pending":
            pass
        elif _is_passing(outcome):
            # RFC 8628, 3.5: twice as long after a connection timeout.
            interval = max(interval, _bounded(interval * 2))
        else:
            return outcome
        wait = max(interval, outcome.retry_after or 0)
    return TokenError(
        "nobody allowed it while the device code was good",
        code="expired_token",
        step="device",
        origin=client.server,
    )


def _is_passing(error: TokenError) -> bool:
    """Whether the code is still good after this: the person may be typing it right now."""
    if error.status is None:
        return error.code in (None, ANSWER_LOST)
    if error.code in _PASSES:
        return True
    return error.code not in _ENDS and (error.status in (408, 425, 429) or error.status >= 500)


def _bounded(interval: float) -> float:
    return min(max(interval, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)
