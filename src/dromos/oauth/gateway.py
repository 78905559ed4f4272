"""The client of the token gateway."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final, Self

from dromos.errors import InteractionRequired, TokenError
from dromos.model import Seconds, Token, seconds
from dromos.oauth._answers import Asked, Reading, fields, no_answer, read_token, refusal, unusable
from dromos.oauth._caller import Bearer, Caller
from dromos.oauth._checks import path_segment
from dromos.oauth._connecting import ConnectionRequest, connection_request, wanted
from dromos.oauth._http import Answer, Outcome, Transport
from dromos.oauth._refresh import choose, needs_a_look
from dromos.redaction import unseen

__all__ = ["ConnectionRequest", "OAuthClient"]

# Not active yet, and what heals on its own; None is no answer at all.
_WORTH_WAITING: Final = frozenset({None, 403, 408, 425, 429, 500, 502, 503, 504})
# One of these codes is about the gateway's own key, certificate or URL, not about the connection.
_NO_USE: Final = frozenset(
    {"invalid_api_key", "access_denied", "untrusted_certificate", "wrong_url"}
)


class OAuthClient:
    """Tokens from a token gateway: a `TokenProvider` for the bridge.

    It caches nothing and tries nothing twice: that is the bridge's part.  One
    client may serve one event loop after another.

        async with OAuthClient("http://localhost:8081") as oauth:
            token = await oauth.get_token("your-connection-id")

    Args:
        base_url: Of the gateway: `https://`, or plain `http://` for this machine.
        headers: Sent with each request, for a proxy in front of the gateway.
        bearer: Sent as `Authorization: Bearer ...`: a token, or a callable, sync
            or async, that returns one for each request.
        ssl: The TLS context, for a private CA or a client certificate.  Default:
            the system's trust, TLS 1.2 or newer.
        proxy: URL of an HTTP or SOCKS proxy; never used for this machine.  The
            environment's proxies are not used at all.
        connect_timeout: Seconds to connect. Default 10.
        token_timeout: Seconds for a whole GET. Default 10.
        refresh_timeout: Seconds for a whole POST. Default 35, because the gateway
            itself may wait 30 s for the provider.
        allow_insecure_transport: Allow `http://` to another machine, with a warning.
        user_agent: Default `dromos/<version> python/<version>`.
        transport: Sends the requests in place of httpx2; for tests.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
    """

    @unseen
    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        bearer: Bearer | None = None,
        ssl: SSLContext | None = None,
        proxy: str | None = None,
        connect_timeout: Seconds = 10,
        token_timeout: Seconds = 10,
        refresh_timeout: Seconds = 35,
        allow_insecure_transport: bool = False,
        user_agent: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._token_timeout = seconds("token_timeout", token_timeout, above=0)
        self._refresh_timeout = seconds("refresh_timeout", refresh_timeout, above=0)
        self._caller = Caller(
            base_url,
            headers=headers,
            bearer=bearer,
            ssl=ssl,
            proxy=proxy,
            connect_timeout=seconds("connect_timeout", connect_timeout, above=0),
            allow_insecure_transport=allow_insecure_transport,
            user_agent=user_agent,
            transport=transport,
        )
        # A mark for each connection's last token: enough to notice a change, not to use it.
        self._seen: dict[str, bytes] = {}

    def __repr__(self) -> str:
        # A traceback may show one that is half made.
        return f"OAuthClient({getattr(getattr(self, '_caller', None), 'origin', None)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Forget what was seen.  No network connection outlives its request."""
        self._seen.clear()

    async def get_token(self, connection_id: str) -> Token:
        """Return a connection's current token, expired or not: `GET /v1/token`.

        Raises:
            InteractionRequired: If the gateway answers 409: a person has to consent again.
            TokenError: If there is no usable token.
            ValueError: If the connection id can't be one.
        """
        outcome = await self._current(connection_id)
        if isinstance(outcome, Reading):
            return outcome.token
        raise outcome

    async def refresh_connection(self, connection_id: str) -> Token:
        """Have a new token issued, and return it: `POST /v1/refresh`, then `GET /v1/token`.

        Never call this twice at once for one connection: a provider that
        rotates refresh tokens takes the second call for theft, and the gateway
        then asks for a person.  The bridge sees to it.

        Raises:
            InteractionRequired: If a person has to consent again.
            TokenError: If there is no new token; with the code
                `refresh_not_supported` if there can't be one, which says
                nothing against the present token.
            ValueError: If the connection id can't be one.
        """
        path = f"/v1/refresh/{path_segment(connection_id)}"
        asked = self._caller.asked("refresh", f"the refresh of {connection_id!r}", connection_id)
        before = self._seen.get(connection_id)
        answer = await self._caller.send("POST", path, deadline=self._refresh_timeout)
        posted = _reading(answer, asked)
        if isinstance(posted, InteractionRequired):
            raise posted
        if isinstance(posted, TokenError) and not needs_a_look(answer):
            raise posted
        # The gateway's answer to a refresh has no expiry, strategy or credentials (nexus 1.4).
        current = await self._current(connection_id)
        if isinstance(current, InteractionRequired):
            raise current
        chosen = choose(posted, current, before=before, started=answer.started)
        if isinstance(chosen, TokenError):
            raise chosen
        return chosen

    async def _current(self, connection_id: str) -> Reading | TokenError | InteractionRequired:
        path = f"/v1/token/{path_segment(connection_id)}"
        asked = self._caller.asked(
            "token", f"the token request for {connection_id!r}", connection_id
        )
        outcome = _reading(
            await self._caller.send("GET", path, deadline=self._token_timeout), asked
        )
        if isinstance(outcome, Reading):
            self._seen[connection_id] = outcome.mark
        return outcome

    async def check_connection(self, connection_id: str) -> str:
        """Return `"active"`, `"pending"` or `"failed"`, as the gateway sees it.

        The reference gateway says `failed` of a connection that only waits for
        consent: `wait_for_active` knows better.

        Raises:
            TokenError: If the gateway gives no such answer.
            ValueError: If the connection id can't be one.
        """
        path = f"/v1/check-connection/{path_segment(connection_id)}"
        asked = self._caller.asked("check", f"the check of {connection_id!r}", connection_id)
        answer = await self._success("GET", path, asked, deadline=self._token_timeout)
        status = (fields(answer) or {}).get("status")
        if status not in ("active", "pending", "failed"):
            raise unusable(answer, asked, "it holds no status that we know")
        return str(status)

    async def wait_for_active(
        self, connection_id: str, *, interval: Seconds = 1.5, timeout: Seconds | None = None
    ) -> None:
        """Return once a person's consent has made a connection active.

        Args:
            connection_id: From `request_connection`.
            interval: Seconds between two looks. Default 1.5.
            timeout: Seconds after which to stop. Default None: never.

        Raises:
            InteractionRequired: If the consent has to be asked for anew.
            TimeoutError: If the connection is not active in time.
            TokenError: If waiting can't help, as for an unknown connection.
        """
        pause = seconds("interval", interval, above=0)
        limit = None if timeout is None else seconds("timeout", timeout)
        async with asyncio.timeout(limit):
            while not await self._is_active(connection_id):  # noqa: ASYNC110  # no event to wait for
                await asyncio.sleep(pause)

    async def _is_active(self, connection_id: str) -> bool:
        try:
            if await self.check_connection(connection_id) == "active":
                return True
            # "failed" may mean pending, and "pending" an ill gateway: the token tells (nexus 1.5).
            await self.get_token(connection_id)
        except TokenError as error:
            if error.malformed and error.step == "token":
                raise
            if error.status in _WORTH_WAITING and error.code not in _NO_USE:
                return False
            raise
        return True

    async def request_connection(
        self,
        *,
        user_id: str,
        provider_name: str | None = None,
        provider_id: str | None = None,
        scopes: Sequence[str] = (),
        return_url: str,
    ) -> ConnectionRequest:
        """Ask for a new connection, and return where a person gives consent.

        Args:
            user_id: The user's name in your system.
            provider_name: The provider as registered at the gateway; give this or
            provider_id: The provider's record there.
            scopes: What to ask for. Default: what the provider is registered with.
            return_url: Where the browser goes afterwards.

        Raises:
            TokenError: If the gateway refuses.  Its `status` is the broker's where
                the gateway tells that: it hides each of them in a 502.
            TypeError: If an argument has the wrong type.
            ValueError: If not exactly one provider is named, or a text is empty.
        """
        body = wanted(
            user_id=user_id,
            provider_name=provider_name,
            provider_id=provider_id,
            scopes=scopes,
            return_url=return_url,
        )
        asked = self._caller.asked("request", "the request for a connection")
        answer = await self._success(
            "POST",
            "/v1/request-connection",
            asked,
            deadline=self._refresh_timeout,
            body=json.dumps(body).encode(),
        )
        made = connection_request(answer, asked)
        if isinstance(made, TokenError):
            raise made
        return made

    async def providers(self) -> Mapping[str, Any]:
        """Return what the gateway is set up for: authentication type, then name, then facts.

        Raises:
            TokenError: If the gateway gives no such answer.
        """
        asked = self._caller.asked("providers", "the question for its providers")
        answer = await self._success("GET", "/v1/providers", asked, deadline=self._token_timeout)
        listed = fields(answer)
        if listed is None:
            raise unusable(answer, asked, "it is not a JSON object")
        return listed

    async def _success(
        self, method: str, path: str, asked: Asked, *, deadline: float, body: bytes = b""
    ) -> Answer:
        outcome = await self._caller.send(method, path, deadline=deadline, body=body)
        failure = _failure(outcome, asked)
        if failure is not None:
            raise failure
        assert isinstance(outcome, Answer)
        if outcome.flaw:
            raise unusable(outcome, asked, outcome.flaw)
        return outcome


def _failure(outcome: Outcome, asked: Asked) -> TokenError | InteractionRequired | None:
    if not isinstance(outcome, Answer):
        return no_answer(outcome, asked)
    return None if 200 <= outcome.status < 300 else refusal(outcome, asked)


def _reading(outcome: Outcome, asked: Asked) -> Reading | TokenError | InteractionRequired:
    failure = _failure(outcome, asked)
    if failure is not None:
        return failure
    assert isinstance(outcome, Answer)
    return read_token(outcome, asked)
