"""Speaks to one gateway: adds what each request needs, and names what was asked."""

import functools
import inspect
import platform
import ssl as ssl_module
import uuid
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from dromos.errors import TokenError
from dromos.oauth._answers import Asked
from dromos.oauth._checks import base_url as checked_url
from dromos.oauth._checks import bearer_problem, header_fields, proxy_url
from dromos.oauth._http import HttpxTransport, Outcome, Request, Transport

__all__ = ["Bearer", "Caller"]

Bearer: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""What the gateway, or a proxy before it, knows us by: a token, or what returns one."""

_SHORTEST_SECRET: Final = 6  # a shorter one would cut ordinary words out of messages


class Caller:
    """Sends requests to one gateway.  Its arguments are those of `OAuthClient`."""

    __slots__ = ("_bearer", "_fields", "_transport", "_url", "_user_agent", "origin")

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
        base = checked_url(base_url)
        fields = dict(header_fields(headers))
        if bearer is not None and "authorization" in fields:
            raise ValueError("headers must not set Authorization beside bearer")
        if bearer is not None and not callable(bearer):
            problem = bearer_problem(bearer)
            if problem:
                raise (ValueError if isinstance(bearer, str) else TypeError)(f"bearer {problem}")
        if ssl is not None and not isinstance(ssl, ssl_module.SSLContext):
            raise TypeError(f"ssl must be an ssl.SSLContext or None, not {type(ssl).__name__}")
        if proxy is not None:
            proxy = proxy_url(proxy)
        if user_agent is not None and not isinstance(user_agent, str):
            raise TypeError(f"user_agent must be a str or None, not {type(user_agent).__name__}")
        if user_agent is not None and not (user_agent.isascii() and user_agent.isprintable()):
            raise ValueError("user_agent must be printable ASCII")
        if not (base.is_secure or base.is_loopback):
            if not allow_insecure_transport:
                raise ValueError(
                    "base_url must be https, or tokens would travel in the clear; "
                    "allow_insecure_transport=True allows it"
                )
            warnings.warn(
                f"tokens from {base.origin} travel in the clear", RuntimeWarning, stacklevel=3
            )
        self.origin = base.origin
        self._url = base.url
        self._fields = tuple(fields.items())
        self._bearer = bearer
        self._user_agent = user_agent
        self._transport: Transport = transport or HttpxTransport(
            secure=base.is_secure,
            ssl=ssl,
            proxy=None if base.is_loopback else proxy,
            connect_timeout=connect_timeout,
        )

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
        return await self._transport.send(request)

    async def _headers(self, body: bytes) -> tuple[tuple[str, str], ...]:
        # In a frame of its own, which is gone before anything can fail.
        fields = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": self._user_agent or _default_user_agent(),
            "x-request-id": str(uuid.uuid4()),
            **dict(self._fields),
        }
        if body:
            fields["content-type"] = "application/json"
        if self._bearer is not None:
            fields["authorization"] = f"Bearer {await self._bearer_now()}"
        return tuple(fields.items())

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
        ours = [value for _, value in self._fields]
        if isinstance(self._bearer, str):
            ours.append(self._bearer)
        return Asked(
            step=step,
            subject=subject,
            connection_id=connection_id,
            origin=self.origin,
            secrets=tuple(value for value in ours if len(value) >= _SHORTEST_SECRET),
        )


@functools.cache
def _default_user_agent() -> str:
    from importlib import metadata  # 20 ms that only who asks a gateway has to pay

    try:
        version = metadata.version("dromos")
    except metadata.PackageNotFoundError:  # run from a checkout
        version = "0"
    return f"dromos/{version} python/{platform.python_version()}"
