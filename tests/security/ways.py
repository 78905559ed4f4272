"""Every way in which the library asks somebody something, so that one test can try them all."""

import ssl
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from dromos.dialers import PicowsDialer, WebsocketsDialer
from dromos.errors import BridgeError
from dromos.interfaces import Dialer, Limits
from dromos.model import Handshake, Verdict
from dromos.oauth import OAuthClient
from dromos.oauth.client_credentials import ClientCredentials
from dromos.oauth.device_code import DeviceCode
from dromos.oauth.jwt_bearer import JWTBearer
from dromos.oauth.refresh_token import RefreshToken
from dromos.oauth.token_exchange import TokenExchange
from tests.dialers.recorder import Recorder

CANARY = "CANARY-5f3a-K"
"""In every secret that is sent."""

CLIENT: Any = {"client_id": "agent-7", "client_secret": f"{CANARY}-secret"}
"""An OAuth client."""


@dataclass(frozen=True)
class Way:
    """One question to a token server: what is asked there, and how."""

    name: str
    method: str
    path: str
    ask: Callable[..., Awaitable[object]] = field(repr=False)

    def __str__(self) -> str:
        return self.name


def _headers() -> dict[str, str]:
    return {"X-Api-Key": f"{CANARY}-key"}


def _common(timeout: float | None, more: dict[str, Any]) -> dict[str, Any]:
    return {"headers": _headers(), **({} if timeout is None else {"timeout": timeout}), **more}


def _gateway(url: str, timeout: float | None, more: dict[str, Any]) -> OAuthClient:
    limits = {} if timeout is None else {"token_timeout": timeout, "refresh_timeout": timeout}
    return OAuthClient(url, headers=_headers(), bearer=f"{CANARY}-bearer", **limits, **more)


async def _gateway_token(url: str, *, timeout: float | None = None, **more: Any) -> object:
    return await _gateway(url, timeout, more).get_token("c")


async def _gateway_refresh(url: str, *, timeout: float | None = None, **more: Any) -> object:
    return await _gateway(url, timeout, more).refresh_connection("c")


async def _credentials(url: str, *, timeout: float | None = None, **more: Any) -> object:
    options = _common(timeout, more)
    return await ClientCredentials(token_url=f"{url}/token", **CLIENT, **options).get_token()


async def _discovered(url: str, *, timeout: float | None = None, **more: Any) -> object:
    return await ClientCredentials(issuer=url, **CLIENT, **_common(timeout, more)).get_token()


async def _bearer(url: str, *, timeout: float | None = None, **more: Any) -> object:
    options = _common(timeout, more)
    return await JWTBearer(f"{CANARY}-a", token_url=f"{url}/token", **options).get_token()


async def _exchange(url: str, *, timeout: float | None = None, **more: Any) -> object:
    options = _common(timeout, more)
    provider = TokenExchange(
        f"{CANARY}-subject", actor_token=f"{CANARY}-actor", token_url=f"{url}/token", **options
    )
    return await provider.get_token()


async def _refreshed(url: str, *, timeout: float | None = None, **more: Any) -> object:
    options = _common(timeout, more)
    return await RefreshToken(
        f"{CANARY}-rt", token_url=f"{url}/token", **CLIENT, **options
    ).get_token()


async def _device(url: str, *, timeout: float | None = None, **more: Any) -> object:
    provider = DeviceCode(
        lambda prompt: None,
        token_url=f"{url}/token",
        device_authorization_url=f"{url}/device",
        **CLIENT,
        **_common(timeout, more),
    )
    return await provider.get_token()


METADATA_PATH = "/.well-known/oauth-authorization-server"

GATEWAY = [
    Way("gateway token", "GET", "/v1/token/c", _gateway_token),
    Way("gateway refresh", "POST", "/v1/refresh/c", _gateway_refresh),
]
GRANTS = [
    Way("client credentials", "POST", "/token", _credentials),
    Way("JWT bearer", "POST", "/token", _bearer),
    Way("token exchange", "POST", "/token", _exchange),
    Way("refresh token", "POST", "/token", _refreshed),
    Way("device code", "POST", "/device", _device),
]
DISCOVERY = Way("discovery", "GET", METADATA_PATH, _discovered)
WAYS = [*GATEWAY, *GRANTS, DISCOVERY]

DIALERS: list[Callable[..., Dialer]] = [PicowsDialer, WebsocketsDialer]


def secret_handshake(url: str) -> Handshake:
    """An upgrade request with a secret in each place that may hold one."""
    return Handshake(
        url=f"{url}/?key={CANARY}-query",
        headers=(
            ("Authorization", f"Bearer {CANARY}-at"),
            ("X-Api-Key", f"{CANARY}-key"),
            ("Cookie", f"s={CANARY}-cookie"),
        ),
        subprotocols=("chat", f"{CANARY}-protocol"),
    )


async def dial(dialer: Dialer, url: str) -> None:
    link = await dialer.dial(secret_handshake(url), Recorder(), Limits())
    link.abort()


def everything(error: BaseException) -> str:
    """All that a log, a reader or an error tracker may show of an error, locals included.

    Of the locals only ours count: a test's own hold the canary by intention.
    """
    told = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None:
            continue
        told += [str(one), repr(one), repr(vars(one))]
        frames = traceback.TracebackException(
            type(one), one, one.__traceback__, capture_locals=True
        ).stack
        told += [repr(f.locals) for f in frames if "/tests/" not in f.filename]
        waiting += [one.__cause__, one.__context__]
    return "\n".join(told)


def is_clean(error: BridgeError) -> bool:
    """Whether an error's text is one printable line, and no part of it shows a secret."""
    return str(error).isprintable() and CANARY not in everything(error)


def trusting(*authorities: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        authority.configure_trust(context)
    return context


def by_status(status: int, *, gateway: bool) -> Verdict:
    """What a refusal without a code means at a server of tokens, by the tables of the design."""
    if gateway:
        table = {
            400: Verdict.PERMANENT,
            401: Verdict.TRANSIENT,
            409: Verdict.INTERACTION,
        }
    else:
        table = {400: Verdict.PERMANENT, 401: Verdict.BOUNDED, 409: Verdict.PERMANENT}
    return table.get(status, Verdict.TRANSIENT)


__all__ = [
    "CANARY",
    "CLIENT",
    "DIALERS",
    "DISCOVERY",
    "GATEWAY",
    "GRANTS",
    "METADATA_PATH",
    "WAYS",
    "Way",
    "by_status",
    "dial",
    "everything",
    "is_clean",
    "secret_handshake",
    "trusting",
]
