# ruff: noqa: ASYNC240  # small files of a test
"""Numbers 1 to 3 of what must not happen: no secret shows, wherever somebody may look.

Each part of the library runs once through all of its ways to succeed and to fail, with a
secret of its own in each place that may hold one.  Then three tests judge what came of it.
"""

import asyncio
import contextlib
import dataclasses
import functools
import importlib
import json
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import dromos.sync
from dromos import (
    AuthStrategy,
    Bridge,
    Credentials,
    Handshake,
    Limits,
    Outbox,
    PermanentError,
    RetryPolicy,
    Token,
    auth,
    events,
)
from dromos._driver import Watchdog
from dromos._proof import ProofKey
from dromos.dialers import PicowsDialer, WebsocketsDialer
from dromos.errors import TokenError
from dromos.oauth import (
    AwsCredentials,
    AzureToken,
    CallableToken,
    ClientCredentials,
    ConnectionRequest,
    DeviceCode,
    DevicePrompt,
    EnvToken,
    FileStore,
    FileToken,
    GoogleToken,
    JWTBearer,
    MemoryStore,
    OAuthClient,
    RefreshToken,
    Secret,
    StaticToken,
    StoredGrant,
    TokenExchange,
)
from dromos.oauth.cache import Grant, Lease, Need, TokenCache, cache_for
from dromos.telemetry.logs import log_events
from tests.dialers.recorder import Recorder
from tests.oauth.playing import pem
from tests.security.canary import (
    Sweep,
    canary,
    hits,
    key_needles,
    needle,
    sweeping,
)
from tests.security.echoes import (
    FATES,
    REFUSALS,
    SUCCESSES,
    EchoFar,
    EchoProxy,
    EchoTokens,
    never,
)
from tests.security.rendered import Rendered

TAIL: Final = "+/%:&=\"'\\é"
"""What is spelled in another way in a URL, in JSON, in a form and in a `repr`."""


def new_key() -> str:
    made = pem(ec.generate_private_key(ec.SECP256R1()))
    key_needles("private key", made, ProofKey(made).to_jwk())
    return made


def new_jwk() -> str:
    jwk = ProofKey(new_key()).to_jwk()
    key_needles("JWK", new_key(), jwk)
    return jwk


def new_rsa() -> str:
    made = pem(rsa.generate_private_key(65537, 2048))
    key_needles("RSA key", made)
    return made


AUTHORITY: Final = trustme.CA()
KEY: Final = new_key()
RSA: Final = new_rsa()
JWK: Final = new_jwk()
DPOP: Final = new_jwk()


# --- Token endpoints ------------------------------------------------------------------------------

Source = Callable[..., Any]


patience = 3.0
"""Seconds for whatever is asked: who never answers has to be given up on, and nobody else."""


@contextmanager
def patient() -> Generator[None]:
    """Make what waits for as long as it is left to wait, however slow the machine is."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys.modules[__name__], "patience", 600.0)
        yield


def common() -> dict[str, Any]:
    return {
        "headers": {
            "X-Api-Key": canary("API key header"),
            "Cookie": f"a={canary('cookie header')}; b=1",
            "X-Login": f"Token {canary('part of a header')}",
        },
        "timeout": patience,
        "scope": "one two",
    }


def secretive(**more: Any) -> dict[str, Any]:
    return {"client_id": "agent-7", "client_secret": canary("client secret", TAIL), **more}


def by_secret(url: str, **more: Any) -> Any:
    return ClientCredentials(token_url=f"{url}/token", **secretive(), **common(), **more)


def by_post(url: str, **more: Any) -> Any:
    made = canary("client secret", TAIL)
    secret = Secret(made)
    options = secretive(client_secret=lambda: secret, client_auth="post")
    extra = {"password": canary("extra field")}
    return ClientCredentials(token_url=f"{url}/token", extra=extra, **options, **common(), **more)


def by_discovery(url: str, **more: Any) -> Any:
    return ClientCredentials(issuer=url, **secretive(), **common(), **more)


def by_key(url: str, **more: Any) -> Any:
    options = {"client_id": "agent-7", "private_key": KEY, "key_id": "k"}
    return ClientCredentials(token_url=f"{url}/token", **options, **common(), **more)


def by_late_key(url: str, **more: Any) -> Any:
    options = {"client_id": "agent-7", "private_key": lambda: Secret(JWK)}
    return ClientCredentials(issuer=url, **options, **common(), **more)


def bound(url: str, **more: Any) -> Any:
    options = secretive(dpop=DPOP)
    return ClientCredentials(token_url=f"{url}/token", **options, **common(), **more)


def refreshed(url: str, **more: Any) -> Any:
    token = canary("refresh token")
    return RefreshToken(token, token_url=f"{url}/token", **secretive(), **common(), **more)


def refreshed_and_bound(url: str, **more: Any) -> Any:
    token = Secret(canary("refresh token"))
    options = {"client_id": "agent-7", "dpop": True}
    return RefreshToken(token, token_url=f"{url}/token", **options, **common(), **more)


def by_device(url: str, **more: Any) -> Any:
    def show(prompt: Any) -> None:
        spoken = prompt.user_code  # a local of the user's
        assert spoken

    ends = {"token_url": f"{url}/token", "device_authorization_url": f"{url}/device"}
    return DeviceCode(show, **ends, **secretive(), **common(), **more)


def asserted(url: str, **more: Any) -> Any:
    assertion = canary("assertion")
    return JWTBearer(lambda: assertion, token_url=f"{url}/token", **common(), **more)


def signed(url: str, **more: Any) -> Any:
    claims = {"iss": "account", "note": canary("claim")}
    options = {"signing_key": JWK, "claims": claims}
    return JWTBearer(token_url=f"{url}/token", **options, **common(), **more)


def exchanged(url: str, **more: Any) -> Any:
    actor = canary("actor token")

    async def act() -> str:
        return actor

    options = {"actor_token": act, "token_url": f"{url}/token"}
    return TokenExchange(canary("subject token"), **options, **common(), **more)


SOURCES: Final[list[Source]] = [
    by_secret,
    by_post,
    by_discovery,
    by_key,
    by_late_key,
    bound,
    refreshed,
    refreshed_and_bound,
    by_device,
    asserted,
    signed,
    exchanged,
]


async def ask(sweep: Sweep, source: Any) -> Any:
    """Have a token issued twice, and look at the source before and after."""
    token = await source.get_token("c")
    await source.credentials_mark("c")
    if hasattr(source, "refresh_connection"):
        sweep.saw(await source.refresh_connection("c"))
    sweep.saw(source)
    return token


async def endpoints(sweep: Sweep) -> None:
    with EchoTokens().threaded() as server:
        asked: list[Awaitable[Any]] = []
        for make in SOURCES:
            # Each kind of secret by itself for every source; of the rest a half, in turns.
            rest = [mood for mood in (*SUCCESSES, *REFUSALS) if "code" not in mood]
            moods = [mood for mood in REFUSALS if "code" in mood]
            moods += ["good", "bound", "other-issuer", *rest[SOURCES.index(make) % 2 :: 2]]
            asked += [ask(sweep, make(f"{server.url}/{mood}")) for mood in moods]
        asked.append(ask(sweep, by_device(f"{server.url}/tattle")))
        await sweep.all_of(*asked)
        sweep.arrived += server.arrived


# --- The gateway ----------------------------------------------------------------------------------


def gateway_of(url: str, **more: Any) -> OAuthClient:
    token = canary("bearer")

    async def bearer() -> str:
        return token

    options = {
        "headers": common()["headers"],
        "token_timeout": patience,
        "refresh_timeout": patience,
    }
    given = bearer if "." in url[-3:] else canary("bearer")
    return OAuthClient(url, bearer=given, **options, **more)


async def gateway(sweep: Sweep) -> None:
    async def every(client: OAuthClient) -> None:
        request = {"user_id": "u", "provider_name": "p", "return_url": "https://agent.example/"}
        await sweep.of(client.get_token("c"))
        await sweep.of(client.refresh_connection("c"))
        await sweep.of(client.check_connection("c"))
        await sweep.of(client.request_connection(**request))
        with contextlib.suppress(TokenError):
            await client.providers()  # a plain mapping of what the gateway lists
        sweep.saw(client)

    async def waiting(client: OAuthClient) -> None:
        await client.wait_for_active("c", interval=0.01, timeout=0.2)

    with EchoTokens().threaded() as server:
        clients = [gateway_of(f"{server.url}/{mood}") for mood in (*SUCCESSES, *REFUSALS)]
        await sweep.all_of(
            *map(every, clients),
            *(waiting(gateway_of(f"{server.url}/{mood}")) for mood in ("good", "aside", "code.1")),
        )
        sweep.arrived += server.arrived


# --- What is read, called or borrowed -------------------------------------------------------------


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        held = canary("local of the user's")
        raise error from (ValueError("vault is away") if held else None)

    return fail


class Lender:
    """Somebody's credentials, for google-auth, azure-core and botocore."""

    def __init__(self, error: Exception | None = None, token: Any = None) -> None:
        self.token = token if error is None else None
        self.expiry = None
        self.refresh_token = canary("refresh token at Google")
        self.error = error

    def refresh(self, request: Any) -> None:
        held = canary("local of google-auth")
        if self.error is not None:
            raise self.error from ValueError(held)

    def get_token(self, *scopes: str, **options: Any) -> Any:
        self.refresh(None)
        return SimpleNamespace(token=self.token, expires_on=1e10)

    def get_frozen_credentials(self) -> Any:
        self.refresh(None)
        return SimpleNamespace(access_key=self.token, secret_key=self.token, token=self.token)


class AzureError(Exception):
    """As azure-core's."""


class GoogleAuthError(Exception):
    """As google-auth's."""


class ClientError(Exception):
    """As botocore's."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.response = {"Error": {"Code": said}, "ResponseMetadata": {"HTTPStatusCode": 403}}


def lenders() -> Iterator[Any]:
    def said() -> str:
        return canary("what a library says")

    for made in (
        lambda: Lender(token=canary("borrowed token")),
        lambda: Lender(token=canary("broken token", "\n")),
        lambda: Lender(AzureError(f"failed for {said()}")),
        lambda: Lender(GoogleAuthError(f"failed for {said()}", {"error": said()})),
        lambda: Lender(ClientError(said())),
        lambda: Lender(OSError(5, said(), said())),
        lambda: Lender(RuntimeError(f"{{'access_token': {said()!r}}}")),
    ):
        yield GoogleToken(made())
        yield AzureToken(made(), "scope")
        yield AwsCredentials(made(), service="execute-api", region="eu-central-1")


def google_user(url: str) -> Any:
    from google.oauth2.credentials import Credentials as User

    secrets = {"refresh_token": canary("Google's refresh token")}
    secrets |= {"client_secret": canary("Google's client secret"), "client_id": "a"}
    return GoogleToken(User(None, token_uri=f"{url}/token", **secrets))


def google_service(url: str) -> Any:
    from google.oauth2.service_account import Credentials as Service

    told = {"private_key": RSA, "client_email": "a@b.example", "token_uri": f"{url}/token"}
    return GoogleToken(Service.from_service_account_info(told, scopes=["a"]))


def boto() -> Any:
    from botocore.credentials import Credentials

    access = canary("AWS access key"), canary("AWS secret key"), canary("AWS session token")
    return AwsCredentials(Credentials(*access), service="execute-api", region="eu-central-1")


async def fetched(sweep: Sweep) -> None:
    bad = (canary("token", "\n\nX: 1"), canary("token", "é"), canary("token", " x"), "")
    oauth, header = AuthStrategy("oauth2"), AuthStrategy("header", {"header_name": "X-K"})
    odd = [
        *(lambda one=one: one for one in bad),
        lambda: {"password": canary("password")},
        lambda: [canary("list")],
        lambda: Token({"access_token": canary("token")}),
        lambda: canary("token"),
        raising(OSError("vault is away")),
        raising(KeyError("vault")),
    ]

    async def later() -> str:
        return canary("token")

    sources: list[Any] = [CallableToken(one) for one in [*odd, later]]
    sources += [CallableToken(lambda: bad[0], strategy=header), *lenders(), boto()]
    sources += [
        StaticToken(Secret(canary("token"))),
        StaticToken({"api_key": bad[3] or "k"}, strategy=header),
    ]
    with (
        EchoTokens().threaded() as server,
        pytest.MonkeyPatch.context() as patched,
        TemporaryDirectory() as folder,
    ):
        for number, text in enumerate([*bad, canary("good token")]):
            patched.setenv(f"CANARY_{number}", text)
            path = Path(folder, f"token-{number}")
            path.write_text(text)
            sources += [EnvToken(f"CANARY_{number}", strategy=oauth), FileToken(path)]
        Path(folder, "binary").write_bytes(b"\xff\xfe" + canary("binary").encode())
        sources += [FileToken(Path(folder, "binary")), FileToken(folder), EnvToken("CANARY_NONE")]
        sources += [FileToken(Path(folder, "token-4"), strategy=header)]
        for mood in ("good", "described", "code", "aside", "page", "drop", "garbage", "redirect"):
            sources += [google_user(f"{server.url}/{mood}"), google_service(f"{server.url}/{mood}")]
        await sweep.all_of(*(asked_of(sweep, source) for source in sources))
        sweep.arrived += server.arrived + 1


async def asked_of(sweep: Sweep, source: Any) -> None:
    await sweep.of(source.get_token("c"))
    for name in ("refresh_connection", "credentials_mark"):
        if hasattr(source, name):
            await sweep.of(getattr(source, name)("c"))
    sweep.saw(source)


# --- Networks that fail ---------------------------------------------------------------------------


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    return context


def client_context(folder: str) -> ssl.SSLContext:
    """Trusts nobody, and holds a certificate whose key is a secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    issued = AUTHORITY.issue_cert("agent.example")
    needle("TLS key", issued.private_key_pem.bytes())
    path = Path(folder, "client.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    context.load_cert_chain(path)
    return context


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def network(sweep: Sweep) -> None:
    nobody = f"http://127.0.0.1:{closed_port()}/x"
    with (
        EchoTokens(tls=server_context()).threaded() as secure,
        EchoTokens().threaded() as plain,
        EchoProxy().threaded() as proxy,
        TemporaryDirectory() as folder,
    ):
        login = f"{canary('proxy user')}:{canary('proxy password')}"
        way = f"{login}@127.0.0.1:{proxy.port}"
        urls = [
            (nobody, {}),
            (f"{secure.url}/good", {}),
            (f"{secure.url}/good", {"ssl": client_context(folder)}),
            (f"{plain.url.replace('http', 'https')}/good", {}),
            *((f"https://{mood}.example", {"proxy": f"http://{way}"}) for mood in PROXY_MOODS),
            ("https://x.example/good", {"proxy": f"https://{way}"}),
            ("http://x.example/good", {"proxy": f"http://{way}", "allow_insecure_transport": True}),
        ]
        asked = [ask(sweep, make(url, **more)) for url, more in urls for make in SOURCES]
        asked += [gateway_of(url, **more).get_token("c") for url, more in urls]
        asked += [gateway_of(url, **more).refresh_connection("c") for url, more in urls]
        await sweep.all_of(*asked)
        sweep.arrived += proxy.arrived


# --- Sessions: every strategy, every engine, every fate -------------------------------------------


def tokens() -> Iterator[StaticToken]:
    def of(kind: str, config: dict[str, Any] | None = None, **held: Any) -> StaticToken:
        return StaticToken(held, strategy=AuthStrategy(kind, config or {}))

    def key() -> str:
        return canary("credential")

    yield of("oauth2", access_token=canary("access token"))
    yield of("header", {"header_name": "X-Key"}, api_key=canary("API key"))
    yield of("headers", {"headers": {"X-One": "k={a}; l={b}", "X-Two": "{b}"}}, a=key(), b=key())
    yield of("api_key", api_key=canary("API key"))
    yield of("basic_auth", username=canary("user name"), password=canary("password", ":%é"))
    yield of("cookie", {"cookie_name": "sid"}, session=canary("cookie"))
    yield of("query_param", {"param_name": "key"}, api_key=canary("query parameter", TAIL[:-1]))
    yield of("hmac_payload", {"header_name": "X-Signature"}, api_secret=canary("HMAC secret", TAIL))
    aws = {
        "access_key": key(),
        "secret_key": key(),
        "session_token": canary("session token", "/+="),
    }
    yield of("aws_sigv4", {"service": "execute-api"}, **aws)
    yield of("aws_sigv4", {"service": "execute-api", "presign": True}, **aws)
    yield of("subprotocol", access_token=canary("subprotocol"))
    yield of("subprotocol", {"encoding": "base64url", "protocol": ""}, access_token=key() + TAIL)
    yield of("first_message", access_token=canary("first message", TAIL))
    yield of("first_message", {"template": "AUTH {a}"}, a=canary("first message"))
    yield of("dpop", access_token=canary("bound token"), dpop_key=DPOP)
    yield of("dpop", access_token=canary("bound token"), dpop_key=canary("no key at all"))


class Numbers:
    """Metrics; what they are told is looked at."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep

    def inc_connections(self) -> None: ...

    def inc_disconnects(self) -> None: ...

    def inc_token_refreshes(self) -> None: ...

    def set_connection_status(self, status: float, /) -> None:
        assert 0 <= status <= 1


class Words:
    """A structured logger; each field is looked at."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep

    def info(self, msg: str, /, **fields: Any) -> None:
        self.sweep.fields(msg, fields)

    def error(self, msg: str, /, *, error: BaseException | None, **fields: Any) -> None:
        self.sweep.fields(msg, {**fields, "error": error})


def bridge_of(sweep: Sweep, source: Any, **options: Any) -> Bridge:
    options.setdefault("retry_policy", RetryPolicy(max_attempts=1, min_backoff=0))
    options.setdefault("logger", logging.getLogger("agent") if sweep.turn() else Words(sweep))
    options = {"metrics": Numbers(sweep), "on_event": sweep.happened, "close_timeout": 1} | options
    return Bridge(source, **options)


class Agent:
    """Sends something, and ends with the first link that does."""

    def __init__(self, sweep: Sweep, *, stays: bool) -> None:
        self.sweep = sweep
        self.stays = stays
        self.send: Any = None

    async def on_connect(self, send: Any) -> None:
        self.send = send
        await send("hello")
        if not self.stays:
            send.close()

    async def on_message(self, message: Any) -> None:
        pass

    async def on_disconnect(self, error: Exception | None) -> None:
        if error is not None:
            self.sweep.failed(error)
        self.send.close()


def dialer_of(kind: Callable[..., Any], **more: Any) -> Any:
    headers = {
        "X-Tenant": canary("dialer header"),
        "Cookie": f"c={canary('dialer cookie')}",
        "Proxy-Authorization": f"Basic {canary('proxy authorization')}",
    }
    return kind(
        headers=headers,
        subprotocols=["chat", canary("dialer subprotocol")],
        open_timeout=patience,
        **more,
    )


async def session(
    sweep: Sweep, source: Any, url: Any, *, stays: bool = True, **options: Any
) -> None:
    """Run one session to its end."""
    rendered = Rendered()

    def happened(event: events.BridgeEvent) -> None:
        sweep.happened(event)
        rendered.hear(event)

    bridge = bridge_of(sweep, source, **{"on_event": happened, **options})
    running = bridge.maintain_websocket("c", url, Agent(sweep, stays=stays))
    async with asyncio.timeout(10):
        await sweep.of(running)
    sweep.fields("what was rendered", {"text": rendered.text(bridge)})
    sweep.rendered += rendered.events
    sweep.saw(bridge)


async def engine(sweep: Sweep, kind: Callable[..., Any]) -> None:
    with EchoFar().threaded() as far, EchoFar(ssl=server_context()).threaded() as secure:
        dialer = dialer_of(kind)
        sweep.saw(dialer)

        def to(url: str, fate: str) -> str:
            return f"{url}/{fate}/path?k={canary('query', '%2F')}&{canary('bare query')}"

        running = []
        for number, source in enumerate(tokens()):
            for fate in FATES if number % 6 == 0 else FATES[number % 3 :: 3]:
                stays = fate != "open"
                running.append(
                    session(sweep, source, to(far.url, fate), stays=stays, dialer=dialer)
                )
            running.append(session(sweep, source, to(far.url, "told"), dialer=dialer))
        source = next(tokens())
        nowhere = (far.url.replace("ws:", "wss:"), f"ws://127.0.0.1:{closed_port()}")
        running += [
            session(sweep, source, to(url, "open"), dialer=dialer)
            for url in (secure.url, *nowhere, "wss://no.invalid")
        ]
        await sweep.all_of(*running)
        sweep.arrived += far.arrived


async def picows(sweep: Sweep) -> None:
    await engine(sweep, PicowsDialer)


async def websockets(sweep: Sweep) -> None:
    await engine(sweep, WebsocketsDialer)


PROXY_MOODS: Final = ("s407", "s401", "s403", "s503", "s302", "garbage", "reason")


async def proxies(sweep: Sweep) -> None:
    with EchoProxy().threaded() as proxy:
        login = f"{canary('proxy user')}:{canary('proxy password', '%2B')}"
        running = []
        for kind in (PicowsDialer, WebsocketsDialer):
            for scheme, mood in [
                *(("http", mood) for mood in PROXY_MOODS),
                *(("https", "x"), ("socks4", "x"), ("socks5", "x")),
            ]:
                dialer = dialer_of(kind, proxy=f"{scheme}://{login}@127.0.0.1:{proxy.port}")
                sweep.saw(dialer)
                url = f"wss://{mood}.localhost/?k={canary('query')}"
                running.append(session(sweep, next(tokens()), url, dialer=dialer))
        await sweep.all_of(*running)
        sweep.arrived += proxy.arrived


# --- Long lives: hand-overs, renewals, handlers that fail -----------------------------------------


class Issuing:
    """A source of short tokens."""

    def __init__(self, lifetime: float | None = None) -> None:
        self.lifetime = lifetime

    async def get_token(self, connection_id: str, /) -> Token:
        expires = None if self.lifetime is None else time.time() + self.lifetime
        return Token({"access_token": canary("access token")}, expires_at=expires)


class Busy(Agent):
    """Sends tokens itself, and fails wherever it can."""

    def __init__(self, sweep: Sweep, *, fails: tuple[str, ...] = (), links: int = 2) -> None:
        super().__init__(sweep, stays=True)
        self.fails = fails
        self.links = links
        self.seen = 0

    async def on_connect(self, send: Any) -> None:
        self.sweep.saw(send)
        self.sweep.contexts()
        held = canary("local of a handler")
        self.send = send
        self.seen += 1
        await send(json.dumps({"hello": canary("message")}))
        if self.seen >= self.links:
            send.close()
        self.fail("on_connect")
        assert held

    def fail(self, name: str) -> None:
        if name in self.fails and self.seen < self.links:
            held = canary("local of a handler that fails")
            raise ExceptionGroup("it fails", [RuntimeError(name), ValueError(bool(held))])

    async def on_message(self, message: Any) -> None:
        self.fail("on_message")

    async def on_disconnect(self, error: Exception | None) -> None:
        if error is not None:
            self.sweep.failed(error)
        self.fail("on_disconnect")


class Renewing(Busy):
    """Renews in band, and ends when that has worked."""

    async def on_token_refresh(self, token: Token, send: Any) -> bool:
        self.sweep.saw(token)
        await send(json.dumps({"token": token.access_token}))
        self.fail("on_token_refresh")
        return True


async def living(sweep: Sweep, far: EchoFar, handler: Any, fate: str, **options: Any) -> None:
    policy = RetryPolicy(max_attempts=3, min_backoff=0, max_backoff=0.2)
    kinds = {"renewal": ("handover", "keep"), "handler_errors": ("log", "raise")}
    assert all(options.get(name, each[0]) in each for name, each in kinds.items())
    url = options.pop("endpoint", f"{far.url}/{fate}?k={canary('query')}")
    source = options.pop("source", None) or Issuing(1.5)
    bridge = bridge_of(sweep, source, retry_policy=policy, refresh_buffer=0.3, **options)
    async with asyncio.timeout(8):
        await sweep.of(bridge.maintain_websocket("c", url, handler))
    sweep.saw(bridge)


async def conversing(sweep: Sweep, far: EchoFar, fate: str, **options: Any) -> None:
    """A connection as an object, in all of its ways."""
    url = f"{far.url}/{fate}?k={canary('query')}"
    bridge = bridge_of(sweep, Issuing(), outbox=Outbox(max_messages=3), **options)
    with contextlib.suppress(PermanentError, TimeoutError):
        async with asyncio.timeout(8), bridge.connect("c", url) as connection:
            events = connection.events()
            await sweep.of(connection.send(canary("message before")))
            await sweep.of(connection.wait_open(1))
            sweep.saw(connection, connection.snapshot(), events)
            await sweep.of(connection.renew())
            request = json.dumps({"id": 1, "secret": canary("request")})
            await sweep.of(connection.request(request, correlate=raising_key, timeout=0.1))
            await sweep.of(connection.request(request, correlate=len, timeout=0.1))
            await sweep.of(connection.send(canary("long message") * 2**17))
            far.drop_all()
            for _ in range(5):
                await sweep.of(connection.send(canary("message without a link")))
            sweep.saw(connection.snapshot())
            await sweep.of(connection.drain(0.3))
            sweep.saw(connection, connection.snapshot())
    if connection.error is not None:
        sweep.failed(connection.error)
    await sweep.of(bridge.close())


async def groups(sweep: Sweep) -> None:
    with EchoFar().threaded() as far:
        await grouping(sweep, far)
        sweep.arrived += far.arrived


async def grouping(sweep: Sweep, far: EchoFar) -> None:
    """A group whose sessions come to different ends, and whose failures nobody takes in time."""

    async def left_alone() -> None:
        async with bridge.supervise() as group:
            for fate in ("open", "403", "closed-4401"):
                group.start(fate, f"{far.url}/{fate}?k={canary('query')}", Busy(sweep))
            sweep.saw(group, *group.sessions())
            sweep.caught(group.start, "open", f"{far.url}/?k={canary('query')}", Busy(sweep))
            sweep.caught(group.start, "c", f"ftp://far.example/?k={canary('query')}", Busy(sweep))
            failure = await anext(group.failures())
            sweep.saw(failure.endpoint, failure.connection_id, group.failures(), group)
            sweep.shows(failure)  # a copy takes along what the error hands back
            sweep.failed(failure.error)
            await asyncio.sleep(1)  # for the other one

    bridge = bridge_of(sweep, Issuing(), retry_policy=RetryPolicy(max_attempts=1, min_backoff=0))
    async with asyncio.timeout(8):
        await sweep.of(left_alone())
    await sweep.of(bridge.close())


def raising_key(message: Any) -> Any:
    held = message
    raise LookupError(f"no key among {len(held)}")


def blocking(sweep: Sweep, reported: threading.Event) -> Any:
    """A handler that blocks the loop, with a token in a local, until somebody says so."""

    class Blocking(Busy):
        def on_connect(self, send: Any) -> None:  # type: ignore[override]
            token = canary("local of a handler that blocks")
            assert reported.wait(5), token
            send.close()

    return Blocking(sweep)


async def lives(sweep: Sweep) -> None:
    reported = threading.Event()
    warned = logging.getLogger("dromos")
    watch = _Told(reported)
    warned.addHandler(watch)
    points = ("on_connect", "on_message", "on_disconnect", "on_token_refresh")

    def endpoint(token: Token) -> str:
        return f"{far.url}/open?t={token.access_token}"

    async def bad_endpoint(token: Token) -> str:
        return f"ftp://far.example/?t={token.access_token}"

    async def hung_endpoint(token: Token) -> str:
        held = token.access_token
        await never()
        return held

    with EchoFar().threaded() as far:
        fails = raising(RuntimeError("observer"))
        odd: dict[str, Any] = {"logger": None, "metrics": None}
        dog = Watchdog(blocked_after=0.05, pause=0.02)
        running = [
            living(sweep, far, Busy(sweep), "open"),
            living(sweep, far, Busy(sweep), "open", endpoint=endpoint),
            living(sweep, far, Busy(sweep), "open", endpoint=bad_endpoint),
            living(sweep, far, Busy(sweep), "open", endpoint=hung_endpoint, connect_timeout=0.2),
            living(sweep, far, Busy(sweep), "open", endpoint=raising(OSError("no endpoint"))),
            living(sweep, far, Busy(sweep, fails=points), "open"),
            living(sweep, far, Busy(sweep, fails=points[1:]), "open", handler_errors="raise"),
            living(sweep, far, Renewing(sweep), "told", source=Issuing(1.2)),
            living(sweep, far, Renewing(sweep, fails=points[3:]), "open"),
            living(sweep, far, Busy(sweep), "closed-4401", outbox=Outbox(), verdicts=fails),
            living(sweep, far, Busy(sweep), "open", **odd, on_event=fails, dedupe=fails),
            living(sweep, far, Busy(sweep), "open", **odd, source=SimpleNamespace(get_token=fails)),
            *(conversing(sweep, far, fate) for fate in ("open", "403", "closed-4401")),
            guarded(sweep, far, dog, reported),
        ]
        await asyncio.gather(*running)
        sweep.arrived += far.arrived
    warned.removeHandler(watch)


class _Told(logging.Handler):
    def __init__(self, reported: threading.Event) -> None:
        super().__init__()
        self.reported = reported

    def emit(self, record: logging.LogRecord) -> None:
        if "blocked the event loop" in record.getMessage():
            self.reported.set()


async def guarded(sweep: Sweep, far: EchoFar, dog: Watchdog, reported: threading.Event) -> None:
    bridge = bridge_of(sweep, Issuing())
    bridge._watchdog = dog
    async with asyncio.timeout(8):
        url = f"{far.url}/open?k={canary('query')}"
        await sweep.of(bridge.maintain_websocket("c", url, blocking(sweep, reported)))
    assert reported.is_set()


# --- What the user's functions do, and what constructors refuse -----------------------------------


class FailingStore(MemoryStore):
    """A store that is away."""

    async def load(self) -> StoredGrant | None:
        held = canary("local of a store")
        raise ConnectionError("the store is away") from (ValueError() if held else None)


class FullStore(MemoryStore):
    """A store that can be read only."""

    async def save(self, grant: StoredGrant, /) -> None:
        held = grant.refresh_token and grant.refresh_token.reveal()
        raise OSError(28, f"no space for {len(held or '')}")


class NoProvider:
    """Returns what is no token."""

    async def get_token(self, connection_id: str, /) -> Any:
        return [canary("token as a text")] if connection_id else None


async def callbacks(sweep: Sweep) -> None:
    away = OSError("vault is away")
    with EchoTokens().threaded() as server, TemporaryDirectory() as folder:
        url = f"{server.url}/good"
        ends = {"token_url": f"{url}/token"}
        wrong = (None, canary("bytes").encode(), canary("text", "\n\n") + "\ud800", "", 7)
        wrong = (*wrong, {"kty": "EC", "d": canary("JWK as a dict")})
        odd: list[Any] = [raising(away), *(lambda one=one: one for one in wrong)]
        sources: list[Any] = []
        for one in odd:
            sources += [
                ClientCredentials(client_id="a", client_secret=one, **ends, **common()),
                ClientCredentials(client_id="a", private_key=one, **ends, **common()),
                JWTBearer(one, **ends, **common()),
                TokenExchange(canary("subject"), actor_token=one, **ends, **common()),
                TokenExchange(one, actor_token=canary("actor"), **ends, **common()),
                OAuthClient(url, bearer=one, headers=common()["headers"]),
            ]
        kept = FileStore(Path(folder, "grant.json"))
        Path(folder, "broken.json").write_text(json.dumps({"refresh_token": canary("stranger")}))
        Path(folder, "open.json").touch(mode=0o644)
        stores = [
            *(MemoryStore(), FailingStore(), FullStore(), kept, FileStore(f"{folder}/broken.json")),
            *(FileStore(f"{folder}/open.json"), FileStore(f"{folder}/../{Path(folder).name}/x")),
        ]
        sources += [
            RefreshToken(canary("refresh token"), store=store, **secretive(), **ends, **common())
            for store in stores
        ]
        device = {"device_authorization_url": f"{url}/device", **ends}
        for show in (raising(away), lambda prompt: prompt.user_code, pretty_bad_show):
            sources.append(DeviceCode(show, **device, **secretive(), **common()))
        await sweep.all_of(*(asked_of(sweep, source) for source in sources))
        sources += [NoProvider()]
        sweep.saw(*stores, *[grant for store in (stores[0], kept) if (grant := await store.load())])
        policy = {"retry_policy": RetryPolicy(max_attempts=2, min_backoff=0)}
        await sweep.all_of(
            *(
                session(sweep, source, "ws://127.0.0.1:9/", stays=False, **policy)
                for source in sources[:12] + sources[-5:]
            )
        )
        sweep.arrived += server.arrived


async def pretty_bad_show(prompt: Any) -> None:
    code = prompt.user_code
    raise RuntimeError(f"can't show {len(code)} characters")


async def constructors(sweep: Sweep) -> None:
    def bad(place: str) -> str:
        return canary(place, "\r\nX-Evil: 1")

    login = f"{canary('proxy user')}:{canary('proxy password')}"
    ends = {"token_url": "https://login.example/token"}
    refused = sweep.refused
    for kind in (PicowsDialer, WebsocketsDialer):
        refused(kind, headers={"X-Key": bad("header")})
        refused(kind, headers={canary("name", " "): canary("value")})
        refused(kind, proxy=f"ftp://{login}@proxy.example")
        refused(kind, proxy=f"http://{login}@proxy.example:port")
        refused(kind, subprotocols=[bad("subprotocol")])
        refused(kind, headers={"X-Key": canary("header")}, open_timeout=-1)
        dialer = kind(headers={"X-Key": canary("header")}, proxy=f"http://{login}@127.0.0.1:9")
        shaken = Handshake(url="ws://127.0.0.1:9/", headers=(("X", bad("header")),))
        await sweep.of(dialer.dial(shaken, Recorder(), Limits()))
        shaken = Handshake(url=f"ftp://x/?k={canary('query')}", headers=(("X", canary("header")),))
        await sweep.of(dialer.dial(shaken, Recorder(), Limits()))
        sweep.saw(dialer, shaken)
    for options in (
        {"headers": {"X-Key": bad("header")}},
        {"headers": {"X-Key": canary("header")}, "timeout": -1},
        {"proxy": f"ftp://{login}@proxy.example"},
        {"proxy": f"http://{login}@proxy.example:port"},
        {"client_auth": canary("client_auth")},
        {"extra": {"client_secret": canary("secret")}},
        {"dpop": canary("DPoP key")},
        {"resource": ["", canary("resource")]},
        {"audience": "\udcff", "extra": {"password": canary("extra")}},
        {"extra": {"password": canary("extra", "\udcff")}},
        {"proxy": f"http://{login}@proxy..example"},
    ):
        refused(ClientCredentials, **secretive(), **ends, **options)
        refused(RefreshToken, canary("refresh token"), **secretive(), **ends, **options)
        refused(TokenExchange, canary("subject"), **ends, **options)
        refused(JWTBearer, canary("assertion"), **ends, **options)
        if options.keys() & {"headers", "proxy"} and "timeout" not in options:
            refused(OAuthClient, "https://gateway.example", bearer=canary("bearer"), **options)
    for url in ("http://gateway.example", f"https://{login}@gateway.example", "https://[x"):
        refused(OAuthClient, f"{url}/?k={canary('query')}", bearer=canary("bearer"))
        refused(ClientCredentials, token_url=f"{url}#{canary('fragment')}", **secretive())
    refused(OAuthClient, "https://gateway.example", bearer=bad("bearer"))
    refused(ClientCredentials, client_id="a", private_key=KEY[:200], **ends)
    refused(ClientCredentials, client_id="a", private_key=JWK[:-20], **ends)
    refused(ClientCredentials, client_id="a", private_key=KEY, algorithm="HS256", **ends)
    refused(ClientCredentials, client_id="a", client_secret="", private_key=KEY, **ends)
    refused(ClientCredentials, client_id="a", client_secret=canary("s").encode(), **ends)
    refused(RefreshToken, bad("refresh token"), client_id="a", **ends)
    refused(TokenExchange, bad("subject"), **ends)
    refused(JWTBearer, bad("assertion"), **ends)
    refused(JWTBearer, signing_key=KEY[:200], claims={"iss": "a"}, **ends)
    refused(JWTBearer, signing_key=KEY, signing_algorithm="none", claims={"iss": "a"}, **ends)
    for strategy in (None, AuthStrategy("header"), AuthStrategy("basic_auth")):
        refused(StaticToken, bad("token"), strategy=strategy)
    refused(StaticToken, {"access_token": bad("token")})
    refused(StaticToken, canary("token").encode())
    refused(EnvToken, canary("token", "!"))
    refused(CallableToken, canary("token"))
    refused(Secret, canary("secret").encode())
    refused(Credentials, {canary("name").encode(): canary("value")})
    refused(Token, canary("token"))
    for odd in ({1: canary("key"), "b": 2}, [canary("list")] * 3):
        made = Token({"access_token": canary("token"), "odd": odd})
        sweep.saw(made)
        await sweep.of(cached(made))
    refused(Token, {"access_token": canary("token")}, expires_at="soon")
    bridge = Bridge(Issuing())
    for url in (
        f"ftp://far.example/?k={canary('query')}",
        f"ws://far.example/?k={canary('query')}",
        f"wss://{login}@far.example/",
        f"wss://far.example/#{canary('fragment')}",
        f"wss://[far/?k={canary('query')}",
    ):
        refused(bridge.connect, "c", url)
        await sweep.of(bridge.maintain_websocket("c", url, Agent(sweep, stays=False)))
        made = auth.apply(Handshake(url="wss://far.example/"), Token({"access_token": "x"}), 0.0)
        sweep.saw(made)
    sweep.saw(bridge)
    for kind, held in STRATEGY_ERRORS:
        token = Token({name: canary(name, tail) for name, tail in held.items()}, AuthStrategy(kind))
        refused(auth.apply, Handshake(url="wss://far.example/"), token, 0.0)


async def cached(token: Token) -> Token:
    """Have a token pass the cache, which has to tell it from others."""

    async def give() -> Token:
        return token

    cache = cache_for(CallableToken(give), judge=lambda *_: dromos.Verdict.BOUNDED)
    return (await cache.obtain("c", need=Need.DIAL)).token


STRATEGY_ERRORS: Final = [
    ("oauth2", {"access_token": "\n"}),
    ("header", {"api_key": "\r"}),
    ("headers", {"a": ""}),
    ("basic_auth", {"username": "\0", "password": ""}),
    ("cookie", {"session": ";"}),
    ("query_param", {"api_key": ""}),
    ("hmac_payload", {"api_secret": ""}),
    ("aws_sigv4", {"access_key": " ", "secret_key": ""}),
    ("subprotocol", {"access_token": "/"}),
    ("first_message", {"access_token": "\0"}),
    ("dpop", {"access_token": "", "dpop_key": ""}),
    ("nobody's", {"x": ""}),
]


# --- Under way, and cut short ---------------------------------------------------------------------


async def hanging(sweep: Sweep) -> None:
    """Look at everybody's stack while everything waits, and at what a cancellation carries."""
    with EchoTokens().threaded() as server, EchoFar().threaded() as far:
        url = f"{server.url}/hang"
        with patient():
            working: list[Any] = [make(url, **{}).get_token("c") for make in SOURCES]
            client = gateway_of(url)
            dialers = [dialer_of(kind) for kind in (PicowsDialer, WebsocketsDialer)]
        working += [client.get_token("c"), client.refresh_connection("c")]
        for dialer in dialers:
            for source in tokens():
                there = f"{far.url}/hang?k={canary('query')}"
                bridge = bridge_of(sweep, source, dialer=dialer, connect_timeout=600)
                working.append(bridge.maintain_websocket("c", there, Agent(sweep, stays=True)))
        working.append(CallableToken(never_token).get_token("c"))
        running = [asyncio.ensure_future(one) for one in working]
        # Cut short from outside, by somebody who sees the whole traceback.
        login = f"{canary('proxy user')}:{canary('proxy password')}"
        way = {"proxy": f"http://{login}@127.0.0.1:{far.port}"}
        there = Handshake(url=f"{far.url}/hang?k={canary('query')}", headers=(("X", canary("h")),))
        waiting = [client.get_token("c"), client.refresh_connection("c")]
        waiting += [make(url).get_token("c") for make in SOURCES]
        waiting += [gateway_of("https://hang.example/hang", **way).get_token("c")]
        waiting += [make("https://hang.example/hang", **way).get_token("c") for make in SOURCES]
        for kind in (PicowsDialer, WebsocketsDialer):
            waiting.append(dialer_of(kind).dial(there, Recorder(), Limits()))
            bridge = bridge_of(sweep, next(tokens()), dialer=dialer_of(kind))
            waiting.append(bridge.maintain_websocket("c", there.url, Agent(sweep, stays=True)))
        outer = [asyncio.ensure_future(in_time(one)) for one in waiting]
        while server.hanging < len(SOURCES) + 3 or far.hanging < 2 * len(list(tokens())) - 2:
            await asyncio.sleep(0)
            done = [one for one in running if one.done() and one.exception()]
            assert len(done) < 5, done
        sweep.looked_at(asyncio.all_tasks())
        for one in running:
            one.cancel()
        await sweep.all_of(*running, at_once=100)
        for one in outer:
            with contextlib.suppress(Exception):
                await one
            # Out of its task an error comes with a new traceback, so look at this one.
            sweep.failed(one.exception() or RuntimeError("it was not cut short"))
        sweep.arrived += server.arrived + far.arrived


async def never_token() -> str:
    held = canary("local of a token function")
    await never()
    return held


async def in_time(awaitable: Awaitable[Any]) -> None:
    async with asyncio.timeout(0.3):
        await awaitable


# --- Threads and processes ------------------------------------------------------------------------


async def threads(sweep: Sweep) -> None:
    with EchoTokens().threaded() as server, EchoFar().threaded() as far:
        await asyncio.to_thread(in_threads, sweep, server, far)
        sweep.arrived += server.arrived + far.arrived


def in_threads(sweep: Sweep, server: EchoTokens, far: EchoFar) -> None:
    class Plain:
        def on_connect(self, send: Any) -> None:
            sweep.saw(send)
            send(canary("message"))
            send.close()

        def on_message(self, message: Any) -> None: ...

        def on_disconnect(self, error: Exception | None) -> None: ...

    policy = RetryPolicy(max_attempts=1, min_backoff=0)
    for mood, fate in (
        ("good", "open"),
        ("code.1", "open"),
        ("good", "401"),
        ("good", "closed-4401"),
    ):
        source = gateway_of(f"{server.url}/{mood}")
        url = f"{far.url}/{fate}?k={canary('query')}"
        with dromos.sync.Bridge(source, retry_policy=policy, on_event=sweep.happened) as bridge:
            sweep.caught(bridge.maintain_websocket, "c", url, Plain())
            sweep.saw(bridge)
        with dromos.sync.Bridge(source, retry_policy=policy) as bridge:
            sweep.caught(bridge.connect, "c", f"ftp://far.example/?k={canary('query')}")
            connection = bridge.connect("c", url)
            sweep.caught(talk, sweep, connection)
        sweep.caught(dromos.sync.run, source, "c", f"ws:far?k={canary('query')}", Plain())
        sweep.caught(dromos.sync.run, source, "c", url, Plain(), retry_policy=policy)


def talk(sweep: Sweep, connection: Any) -> None:
    with connection:
        sweep.saw(connection, connection.snapshot(), connection.events())
        sweep.caught(connection.send, canary("message"), timeout=0.3)
        sweep.caught(connection.recv, timeout=0.1)


async def processes(sweep: Sweep) -> None:
    with (
        EchoTokens().threaded() as server,
        EchoFar().threaded() as far,
        TemporaryDirectory() as folder,
    ):
        files = {"token": canary("token file"), "secret": canary("client secret", TAIL), "key": KEY}
        for name, text in files.items():
            Path(folder, name).write_text(text)
        env = {"CANARY_TOKEN": canary("variable"), "CANARY_SECRET": canary("client secret", TAIL)}
        by_env = ("--client-id", "a", "--client-secret-env", "CANARY_SECRET")
        by_file = ("--client-id", "a", "--client-secret-file", f"{folder}/secret")
        by_key = ("--client-id", "a", "--private-key-file", f"{folder}/key")
        header = ("-H", f"X-Key: {canary('header')}", "--subprotocol", canary("subprotocol"))

        def there(fate: str) -> str:
            return f"{far.url}/{fate}?k={canary('query')}"

        def at(mood: str) -> tuple[str, str]:
            return ("--token-url", f"{server.url}/{mood}/token")

        runs = [
            ("token", *at("good"), *by_env),
            ("token", *at("good"), *by_key, "--json"),
            ("token", *at("code.1"), *by_file),
            ("token", "--gateway", f"{server.url}/described", "--connection-id", "c"),
            ("connect", there("open"), "--token-env", "CANARY_TOKEN", *header, "-v"),
            ("connect", there("401"), "--token-file", f"{folder}/token", *header, "-v"),
            ("connect", there("closed-1008"), "--token-env", "CANARY_TOKEN", *header, "--stay"),
            ("connect", f"ftp://far/?k={canary('query')}", "--token-env", "CANARY_TOKEN"),
        ]
        said = await asyncio.gather(*(process(env, *run) for run in runs))
        for run, (status, text) in zip(runs, said, strict=True):
            print(run[0], status, text)
            assert status in (0, 1, 2, 78), text
            sweep.errors[f"exit {status}"] += 1
            sweep.objects["process"] += 1
        sweep.arrived += server.arrived + far.arrived


async def process(env: dict[str, str], *arguments: str) -> tuple[int | None, str]:
    source = str(Path(dromos.__file__).parents[1])
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-m", "dromos", *arguments),
        env=os.environ | env | {"PYTHONPATH": source},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        text, _ = await asyncio.wait_for(started.communicate(), 60)
    except TimeoutError:
        started.kill()
        raise
    return started.returncode, text.decode()


# --- Judging --------------------------------------------------------------------------------------

PARTS: Final[dict[str, Callable[[Sweep], Awaitable[None]]]] = {
    "endpoints": endpoints,
    "gateway": gateway,
    "fetched": fetched,
    "network": network,
    "picows": picows,
    "websockets": websockets,
    "proxies": proxies,
    "lives": lives,
    "groups": groups,
    "callbacks": callbacks,
    "constructors": constructors,
    "hanging": hanging,
    "threads": threads,
    "processes": processes,
}
"""What is run through, each within one event loop in debug mode."""


@contextmanager
def hurried() -> Generator[None]:
    """Wait for nobody longer than needed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dromos.oauth.refresh_token.LOST_ANSWER_PAUSE", 0.01)
        patched.setattr("dromos.oauth.device_code._SHORTEST_INTERVAL", 0.01)
        yield


@functools.cache
def swept(part: str) -> Sweep:
    """Run a part through all of its paths, once."""

    async def run(sweep: Sweep) -> None:
        # Every callback is logged with what it is called with.
        asyncio.get_running_loop().slow_callback_duration = -1.0
        await PARTS[part](sweep)

    with hurried(), sweeping() as sweep:
        asyncio.run(run(sweep), debug=True)
    return sweep


each_part = pytest.mark.parametrize("part", PARTS)


def unique(found: list[str]) -> str:
    """Each place once, for a reader."""
    return "\n".join(dict.fromkeys(line[:700] for line in found))


RENDERING: Final = ("picows", "websockets", "proxies", "callbacks")
"""Parts that run whole sessions, so that their events are rendered in every way."""


@each_part
def test_01_no_log_warning_or_output_tells_a_secret(part: str):
    sweep = swept(part)

    assert "" == unique(sweep.told)
    assert sweep.heard > 1000
    assert sweep.arrived or part == "constructors"


@each_part
def test_02_no_object_shows_a_secret(part: str):
    sweep = swept(part)

    assert "" == unique(sweep.shown)
    assert sweep.objects
    assert sweep.rendered or part not in RENDERING


# --- Every public name ----------------------------------------------------------------------------


def secret_token() -> Token:
    return Token({"access_token": canary("token")}, AuthStrategy("header", {"a": 1}), 1e10, 3600)


def secret_handshake() -> Handshake:
    return Handshake(
        url=f"wss://far.example/?k={canary('query')}",
        headers=(("Authorization", f"Bearer {canary('header')}"),),
        subprotocols=(canary("subprotocol"),),
        first_message=canary("first message"),
    )


def secret_grant() -> StoredGrant:
    return StoredGrant(
        refresh_token=Secret(canary("refresh token")),
        access_token=Secret(canary("access token")),
        dpop_key=Secret(DPOP),
    )


def final(kind: Any, *arguments: Any, **options: Any) -> Any:
    error = kind(*arguments, **options)
    error.unsent, error.unknown = (canary("unsent"),), (canary("unknown").encode(),)
    return error


REDACTED_HEADERS: Final = {"x-key": "<redacted>"}
ENDS: Final = {"token_url": "https://login.example/token"}

SAMPLES: Final[dict[str, Callable[[], Any]]] = {
    "AuthStrategy": lambda: AuthStrategy("header", {"header_name": "X-Key"}),
    "Bridge": lambda: Bridge(StaticToken(canary("token")), dialer=dialer_of(PicowsDialer)),
    "BridgeError": lambda: dromos.BridgeError("it failed"),
    "Connection": lambda: Bridge(Issuing()).connect("c", f"wss://far/?k={canary('query')}"),
    "ConnectionClosed": lambda: dromos.ConnectionClosed(code=1008, reason="bad token"),
    "Counters": dromos.Counters,
    "Credentials": lambda: Credentials({"api_key": canary("key"), "more": [canary("list")]}),
    "Group": lambda: Bridge(StaticToken(canary("token"))).supervise(),
    "Handshake": secret_handshake,
    "HandshakeError": lambda: dromos.HandshakeError("refused", headers=REDACTED_HEADERS),
    "InteractionRequired": lambda: final(dromos.InteractionRequired, "a person", code="x"),
    "Limits": Limits,
    "MessageTooBig": lambda: dromos.MessageTooBig(size=2, limit=1),
    "NotConnected": dromos.NotConnected,
    "Outbox": Outbox,
    "PermanentError": lambda: final(PermanentError, "it is over"),
    "ReceivePaused": lambda: dromos.ReceivePaused("paused"),
    "RetryPolicy": RetryPolicy,
    "SendBufferFull": lambda: dromos.SendBufferFull(size=1, buffered=2, limit=3),
    "Census": lambda: dromos.Census(at=0.0, states={"open": 1}),
    # It only refers to secrets.  A URL stands in it as it was written, though not in its repr.
    "Config": lambda: dromos.Config.from_env(
        environ={
            "DROMOS_ISSUER": "https://login.example.com",
            "DROMOS_CLIENT_ID": "c",
            "DROMOS_CLIENT_SECRET_ENV": "THE_SECRET",
            "THE_SECRET": canary("client secret"),
        }
    ),
    "Vitals": dromos.Vitals,
    "SessionFailure": lambda: dromos.SessionFailure(
        connection_id="c", session=1, endpoint="wss://far/", error=PermanentError("x"), at=0.0
    ),
    "Snapshot": lambda: dromos.Snapshot(state="open", since=0, last_error=PermanentError("x")),
    "WireBytes": lambda: dromos.WireBytes(received=1, sent=1),
    "Token": secret_token,
    "TokenError": lambda: TokenError("no token", code="invalid_grant"),
    "Verdict": lambda: dromos.Verdict.TRANSIENT,
    # dromos.oauth
    "AwsCredentials": boto,
    "AzureToken": lambda: AzureToken(Lender(token=canary("borrowed")), "scope"),
    "CallableToken": lambda: CallableToken(lambda: canary("token")),
    "ClientCredentials": lambda: by_secret("https://login.example"),
    "ConnectionRequest": lambda: ConnectionRequest(
        auth_url=f"https://login.example/?s={canary('state')}",
        connection_id="c",
        state=canary("state"),
    ),
    "DeviceCode": lambda: by_device("https://login.example"),
    "DevicePrompt": lambda: DevicePrompt(
        url="https://login.example/go",
        user_code=canary("user code"),
        complete_url=f"https://login.example/go?c={canary('user code')}",
        expires_in=60,
    ),
    "EnvToken": lambda: EnvToken("CANARY"),
    "FileStore": lambda: FileStore("canary-grant"),
    "FileToken": lambda: FileToken("canary"),
    "GoogleToken": lambda: GoogleToken(Lender(token=canary("borrowed"))),
    "JWTBearer": lambda: signed("https://login.example"),
    "MemoryStore": lambda: stored(MemoryStore()),
    "OAuthClient": lambda: OAuthClient(
        "https://gateway.example",
        bearer=canary("bearer"),
        headers={"X-Key": canary("header")},
        proxy=f"http://{canary('proxy user')}:{canary('proxy password')}@proxy.example",
    ),
    "RefreshToken": lambda: refreshed("https://login.example"),
    "Secret": lambda: Secret(canary("secret")),
    "StaticToken": lambda: StaticToken(canary("token")),
    "StoredGrant": secret_grant,
    "TokenExchange": lambda: exchanged("https://login.example"),
    # dromos.dialers
    "PicowsDialer": lambda: dialer_of(PicowsDialer, proxy=f"http://{canary('user')}:x@proxy"),
    "WebsocketsDialer": lambda: dialer_of(WebsocketsDialer, proxy=f"http://a:{canary('pw')}@p"),
    # dromos.oauth.cache
    "TokenCache": lambda: TokenCache(StaticToken(canary("token")), judge=lambda *_: None),
    "Grant": lambda: Grant(token=secret_token(), lease=LEASE),
    "Lease": lambda: LEASE,
}
"""One of each public class, with a secret wherever it may hold one."""

LEASE: Final = Lease(generation=1, expires_at=1.0, lifetime=1.0, expires_wall=1.0)

NOT_MADE: Final = {
    "Events": "made by a connection of threads, and looked at in the sweep",
    "PlainTokenProvider": "a protocol",
    "PlainTokenSource": "a protocol",
    "Dialer": "a protocol",
    "Handler": "a protocol",
    "Link": "a protocol; the engines' links are looked at in the sweep",
    "LinkListener": "a protocol",
    "Logger": "a protocol",
    "Metrics": "a protocol",
    "Need": "three words",
    "Send": "a protocol; what handlers get is looked at in the sweep",
    "TokenProvider": "a protocol",
    "TokenSource": "a protocol",
    "TokenStore": "a protocol",
    "ClientOptions": "a plain dict with types, which the user writes",
    "BridgeOptions": "a plain dict with types, which the user writes",
}
"""Public classes without objects of their own, each with the reason."""

PUBLIC: Final = (
    *("dromos", "dromos.errors", "dromos.model", "dromos.interfaces", "dromos.snapshot"),
    *("dromos.oauth", "dromos.oauth.cache", "dromos.auth", "dromos.dialers", "dromos.sync"),
)


def stored(store: MemoryStore) -> MemoryStore:
    asyncio.run(store.save(secret_grant()))
    return store


def public_classes() -> dict[str, type]:
    found: dict[str, type] = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            if isinstance(value, type):
                found[public] = value
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_02_no_public_object_shows_a_secret(name: str):
    sweep, sample = Sweep(), SAMPLES[name]()
    sweep.saw(sample)

    assert "" == unique(sweep.shown)
    if name in public_classes() and name not in ("Connection", "Bridge"):
        assert type(sample) is public_classes()[name]


@pytest.mark.parametrize("kind", [getattr(events, name) for name in events.__all__])
def test_02_no_event_shows_a_secret(kind: type):
    told = (canary("message"), canary("message").encode())
    plain = {str: "x"}
    values = {
        one.name: plain.get(one.type, 1) if one.repr else told for one in dataclasses.fields(kind)
    }
    if "error" in values:
        values["error"] = final(PermanentError, "it is over")
    sweep, event = Sweep(), kind(**values)
    if "error" in values:
        sweep.shows(event)  # a copy takes along what the error hands back
    else:
        sweep.saw(event)
    if kind is not events.BridgeEvent:
        log_events(Words(sweep))(event)
        rendered = Rendered()
        rendered.hear(event)
        sweep.fields("what was rendered", {"text": rendered.text(Bridge(Issuing()))})

    assert "" == unique(sweep.shown)


def test_02_every_public_class_is_looked_at():
    classes = public_classes()

    assert [] == sorted(set(classes) - set(SAMPLES) - set(NOT_MADE))
    assert not set(SAMPLES) & set(NOT_MADE)


def test_02_what_is_secret_can_be_had_by_asking():
    """The samples do hold secrets, so that there is something to show."""
    assert hits(secret_token().access_token)
    assert hits(secret_token().credentials["access_token"])
    assert hits(SAMPLES["Secret"]().reveal())
    assert hits(
        repr(vars(SAMPLES["DevicePrompt"]().__class__)) + SAMPLES["DevicePrompt"]().user_code
    )
    assert hits(repr(secret_handshake().headers))


@each_part
def test_03_no_error_carries_a_secret(part: str):
    sweep = swept(part)

    assert "" == unique(sweep.opened)
    assert sweep.errors
