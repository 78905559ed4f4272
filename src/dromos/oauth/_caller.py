"""Speaks to one gateway: adds what each request needs, and names what was asked."""

import inspect
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from dromos.errors import TokenError
from dromos.oauth._answers import Asked
from dromos.oauth._checks import base_url as checked_url
from dromos.oauth._checks import bearer_problem
from dromos.oauth._http import Outcome, Request, Transport
from dromos.oauth._wire import Wire

__all__ = ["Bearer", "Caller"]

Bearer: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""What the gateway, or a proxy before it, knows us by: a token, or what returns one."""

_SHORTEST_SECRET: Final = 6  # a shorter one would cut ordinary words out of messages


class Caller:
    """Sends requests to one gateway.  Its arguments are those of `OAuthClient`."""

    __slots__ = ("_bearer", "_url", "_wire", "origin")

    def __init__(
        self,
        base_url: object,
        *,
        headers: Mapping[str, str] | None,
        bearer: Bearer | None,
        ssl: ssl_module.SSLContext | None,
        proxy: str | None,
        connect_timeout: float,
        allow_insecure_transport: bool,
        user_agent: str | None,
        transport: Transport | None,
    ) -> None:
        self.origin = ""  # for a repr amid the constructor
        base = checked_url(base_url)
        wire = Wire(
            headers=headers,
            ssl=ssl,
            proxy=proxy,
            connect_timeout=connect_timeout,
            allow_insecure_transport=allow_insecure_transport,
            user_agent=user_agent,
            transport=transport,
        )
        if bearer is not None and "authorization" in dict(wire.fields):
            raise ValueError("headers must not set Authorization beside bearer")
        if bearer is not None and not callable(bearer):
            problem = bearer_problem(bearer)
            if problem:
                raise (ValueError if isinstance(bearer, str) else TypeError)(f"bearer {problem}")
        wire.may_send_secrets("base_url", base, stacklevel=4)
        self.origin = base.origin
        self._url = base.url
        self._wire = wire
        self._bearer = bearer

    def __repr__(self) -> str:
        return f"Caller({self.origin!r})"

    async def send(self, method: str, path: str, *, deadline: float, body: bytes = b"") -> Outcome:
        """Send one request.

        Raises:
            TokenError: If a `bearer` callable gave something that no token can be.
        """
        request = Request(
            method=method,
            url=self._url + path,
            headers=await self._headers(body),
            body=body,
            deadline=deadline,
        )
        return await self._wire.transport.send(request)

    async def _headers(self, body: bytes) -> tuple[tuple[str, str], ...]:
        # In a frame of its own, and after the one thing that can fail.
        bearer = {} if self._bearer is None else await self._authorization()
        fields = self._wire.headers() | bearer
        if body:
            fields["content-type"] = "application/json"
        return tuple(fields.items())

    async def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {await self._bearer_now()}"}

    async def _bearer_now(self) -> str:
        bearer = self._bearer
        if not callable(bearer):
            return bearer or ""
        given = bearer()
        if inspect.isawaitable(given):
            given = await given
        problem = bearer_problem(given)
        if problem is None:
            return given
        del given
        raise TokenError(
            f"what the bearer callable returned for {self.origin} {problem}",
            malformed=True,
            source="gateway",
            origin=self.origin,
        )

    def asked(self, step: str, subject: str, connection_id: str | None = None) -> Asked:
        """Name a question, for messages about its answer."""
        ours = [*self._wire.secrets]
        if isinstance(self._bearer, str):
            ours.append(self._bearer)
        return Asked(
            step=step,
            subject=subject,
            connection_id=connection_id,
            origin=self.origin,
            secrets=tuple(value for value in ours if len(value) >= _SHORTEST_SECRET),
        )
