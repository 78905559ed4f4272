"""Authorization servers that are not ours, run for real on loopback, and handles to use them by.

The fixtures are in `fixtures.py`.  A test gets a server as new: no tokens, its own clock at the
real time, lifetimes and counts as at first.
"""

import base64
import json
import os
import selectors
import ssl
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote_plus

import httpx2

from tests.oauth.servers.wire import Tap

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For http:// only: loading the CA store takes 60 ms."""


class Process:
    """A server as a child process, which says one line when it is ready and ends with our stdin."""

    def __init__(self, command: Sequence[str], config: object, *, within: float = 60) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(config).encode() + b"\n")
            self.ready: dict[str, Any] = json.loads(self._first_line(time.monotonic() + within))
        except BaseException:
            self.end(grace=0)
            raise

    def _first_line(self, deadline: float) -> bytes:
        out = self._process.stdout
        assert out is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                got = b""
                if selector.select(max(0, deadline - time.monotonic())):
                    got = os.read(out.fileno(), 65536)
                if not got:
                    raise RuntimeError(f"the server did not start:\n{self._last_words()}")
                line += got
        return line

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(grace=30)

    def end(self, *, grace: float) -> int:
        """Let it end, or after `grace` seconds make it end, and return its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(grace)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdout.close()
            self._errors.close()
        return self._process.returncode


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client that a server knows.  A public one has no secret."""

    id: str
    secret: str | None

    def basic(self) -> str:
        """The value of the Authorization header, both parts encoded as RFC 6749 2.3.1 says."""
        pair = f"{quote_plus(self.id)}:{quote_plus(self.secret or '')}"
        return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True, kw_only=True)
class AuthorizationServer(ABC):
    """A running server: where it is, who may come, and how to arrange what happens there."""

    url: str
    control: str = field(repr=False)
    clients: Mapping[str, Client] = field(repr=False)

    @property
    @abstractmethod
    def issuer(self) -> str:
        """What it is called in its own metadata."""

    @property
    @abstractmethod
    def token_endpoint(self) -> str:
        """Where it issues tokens."""

    @property
    def token_path(self) -> str:
        return "/" + self.token_endpoint.split("/", 3)[3]

    def client(self, name: str) -> Client:
        return self.clients[name]

    def behind(self, tap: Tap) -> Self:
        """The same server, as it is reached through a tap."""
        return replace(self, url=tap.url)

    async def grant(self, client: str, **details: object) -> str:
        """What a user's consent would leave behind: a fresh grant's refresh token.

        `scope` is a string; for `oidc` also `resource`, and `jkt` to bind it to a DPoP key.
        """
        details.setdefault("scope", "read")
        answer = await self.tell("grant", client=client, **details)
        return str(answer["refresh_token"])

    async def alive(self, token: str) -> bool:
        """Whether the server would still accept an access or refresh token.

        A JWT is alive until it expires: the server keeps none.
        """
        return bool(await self.tell("alive", token=token))

    async def revoke(self, token: str) -> None:
        """End the grant that a token belongs to, as its user or an administrator may."""
        await self.tell("revoke", token=token)

    async def posts(self, grant_type: str | None = None) -> int:
        """How many requests the token endpoint got, those that it refused included."""
        seen: list[str] = await self.tell("posts")
        return sum(grant_type in (None, each) for each in seen)

    async def lifetime(self, **seconds: float) -> None:
        """Set what is issued from now on to live so long.

        Names are `access`; for `oidc` also `refresh` and `device`.
        """
        await self.tell("configure", lifetimes=seconds)

    async def advance(self, seconds: float) -> None:
        """Let time pass at the server, or set its clock wrong; its Date header says so."""
        await self.tell("advance", seconds=seconds)

    async def fail(
        self,
        times: int = 1,
        *,
        status: int = 503,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        grant_type: str | None = None,
    ) -> None:
        """Refuse the next token requests before they are looked at."""
        await self.tell(
            "fail",
            times=times,
            status=status,
            body=body,
            headers={"Content-Type": "application/json", **(headers or {})},
            grant_type=grant_type,
        )

    async def tell(self, command: str, **details: object) -> Any:
        async with http_client() as client:
            answer = await client.post(f"{self.control}/{command}", json=details)
        return _result(command, answer)

    def reset(self) -> None:
        """Forget all tokens, counts and settings."""
        with httpx2.Client(trust_env=False, verify=NO_TLS, timeout=60) as client:
            _result("reset", client.post(f"{self.control}/reset", json={}))


def http_client(**options: Any) -> httpx2.AsyncClient:
    """A client that the machine's settings don't touch, patient with a slow machine."""
    options = {"verify": NO_TLS, "timeout": 60, **options}
    return httpx2.AsyncClient(trust_env=False, **options)


def _result(command: str, answer: httpx2.Response) -> Any:
    if answer.status_code != 200:
        raise RuntimeError(f"{command}: {answer.text}")
    return answer.json()


@dataclass(frozen=True, kw_only=True)
class Oidc(AuthorizationServer):
    """oidc-provider: strict rotation, device flow, DPoP, client certificates.

    Clients by name.  For client credentials: `basic`, `post`, `reserved` (a trying id and secret),
    `jwt` (private_key_jwt with one of `keys`).  For refresh tokens: `rotating`, `rotating-post`,
    `rotating-public`, and `keeping`, whose refresh token stays.  For devices: `device`,
    `device-public`.  For DPoP: `dpop`, `dpop-nonce` (which must use the server's nonces),
    `dpop-public` (whose refresh tokens are bound too).  With a certificate: `mtls` (it registered
    `certificates["client"]`), `mtls-ca` (it registered that one's name), `mtls-bound` (a secret,
    and tokens bound to whatever certificate).
    """

    secure_url: str
    ca: Path
    certificates: Mapping[str, Path] = field(repr=False)
    keys: Mapping[str, str] = field(repr=False)

    JWT_RESOURCE = "https://api.example/jwt"
    OPAQUE_RESOURCE = "https://api.example/opaque"

    @property
    def issuer(self) -> str:
        return self.url

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/token"

    @property
    def device_endpoint(self) -> str:
        return f"{self.url}/device/auth"

    @property
    def secure(self) -> "Oidc":
        """The same server over https."""
        return replace(self, url=self.secure_url)

    def tls(self, certificate: str | None = None) -> ssl.SSLContext:
        """A context that trusts the server; `certificate` is "client" or "other"."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate is not None:
            context.load_cert_chain(self.certificates[certificate])
        return context

    async def approve(self, user_code: str) -> None:
        """Do what the user does who enters the code and agrees."""
        await self.tell("approve", user_code=user_code)

    async def deny(self, user_code: str) -> None:
        await self.tell("deny", user_code=user_code)

    async def interval(self, seconds: float) -> None:
        """Have device authorizations name an interval; by itself oidc-provider names none."""
        await self.tell("configure", interval=seconds)

    async def complaints(self) -> list[str]:
        """Why requests were refused, in words that the answers hide."""
        return list(await self.tell("complaints"))


@dataclass(frozen=True, kw_only=True)
class Toolkit(AuthorizationServer):
    """django-oauth-toolkit: rotation, reuse protection, and a grace period if a test sets one.

    Clients by name: `service` and `reserved` (an id and a secret that try the encoding) for client
    credentials, `rotating` for refresh tokens.
    """

    @property
    def issuer(self) -> str:
        return f"{self.url}/o"

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/o/token/"

    async def grace(self, seconds: float) -> None:
        """How long a used refresh token may be repeated; 0 at first."""
        await self.tell("configure", grace=seconds)
