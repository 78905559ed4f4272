"""The one HTTP seam: a request value goes out, an answer value comes back.

Nothing is raised for what the network does, so that no exception of a library,
with headers in its frames, can travel to a log.
"""

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from dromos.oauth._checks import is_loopback

if TYPE_CHECKING:
    import httpx2

__all__ = ["Answer", "HttpxTransport", "NoAnswer", "Outcome", "Request", "Transport"]

UNTRUSTED: Final = "untrusted_certificate"
"""The code of a failure that is about the server's certificate."""

WRONG_URL: Final = "wrong_url"
"""The code of a failure that is about the URL itself: no request can be made of it."""

LARGEST_BODY: Final = 2**20
"""Bytes of a body that are read, after decompression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.  Its `repr` shows neither headers nor body.

    Attributes:
        method: In capitals.
        url: Absolute.
        headers: Name and value pairs.
        body: Sent as it is.
        deadline: Seconds from now until the whole answer has to be here.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back.  Its `repr` shows neither headers nor body.

    Attributes:
        status: The HTTP status.
        headers: With names in lower case.
        body: Decompressed.
        started: Unix time when the request began.
        at: Unix time when the headers arrived.
        flaw: Why the body is not whole; None if it is.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    started: float
    at: float
    flaw: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """No answer came.

    Attributes:
        reason: For a person; holds nothing secret.
        sent: False if the request certainly never left: trying again repeats nothing.
        started: Unix time when the request began.
        code: A word for the cause where it matters, else None.
    """

    reason: str
    sent: bool
    started: float
    code: str | None = None

    def cause(self) -> Exception | None:
        """Return what an error about this should name as its cause, or None.

        A new one: the real one's traceback leads through frames that hold the headers.
        """
        if self.code != UNTRUSTED:
            return None
        return ssl.SSLCertVerificationError(1, self.reason)


Outcome: TypeAlias = Answer | NoAnswer


class Transport(Protocol):
    """Sends one request.  Follows no redirect, keeps no cookie, retries nothing."""

    async def send(self, request: Request, /) -> Outcome:
        """Send a request and return what came of it, within its deadline."""
        ...


class HttpxTransport:
    """The default `Transport`, on httpx2, which is imported by the first request.

    It keeps no connection: token requests are minutes apart, and a POST on a
    connection that the server had just dropped would have an unknown outcome.
    So it is tied to no event loop, and there is nothing to close.
    """

    __slots__ = ("_connect_timeout", "_proxy", "_ssl", "_wall")

    def __init__(
        self,
        *,
        ssl: ssl.SSLContext | None,
        proxy: str | None,
        connect_timeout: float,
        wall: Callable[[], float] = time.time,  # noqa: TID251  # the seam to the outer world
    ) -> None:
        self._ssl = ssl
        self._proxy = proxy
        self._connect_timeout = connect_timeout
        self._wall = wall

    async def send(self, request: Request, /) -> Outcome:
        """Send a request and return what came of it, within its deadline."""
        quiet = _QUIET.set(True)
        try:
            return await self._send(request)
        except asyncio.CancelledError as error:
            error.__context__ = None
            # The frames of the HTTP library hold the request, and a proxy's password.
            raise error.with_traceback(None)  # noqa: B904
        finally:
            _QUIET.reset(quiet)

    async def _send(self, request: Request) -> Outcome:
        import httpx2

        _silence_httpcore()
        started = self._wall()
        head: Answer | None = None
        body = bytearray()
        sent, flaw, broken, code = True, None, None, None
        try:
            async with asyncio.timeout(request.deadline):
                async with contextlib.aclosing(self._open(request)) as transport:
                    response = await transport.handle_async_request(self._built(request))
                    head = _head(response, started=started, at=self._wall())
                    flaw = await _read(response, into=body)
        except TimeoutError:
            broken = f"it took over {request.deadline:g} s"
        except httpx2.TimeoutException as error:
            sent = not isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout)
            broken = "it took too long" if sent else f"no connection in {self._connect_timeout:g} s"
        except (httpx2.ConnectError, httpx2.ProxyError, httpx2.UnsupportedProtocol) as error:
            sent = False
            broken, code = _why_unconnected(error)
        except httpx2.DecodingError:
            flaw = "its body is not compressed as it says"
        except (httpx2.InvalidURL, UnicodeError):
            sent, broken, code = False, "the URL, or the proxy's, can't be used", WRONG_URL
        except Exception as error:  # whatever it is, its frames hold the headers
            broken = f"the exchange broke off ({type(error).__name__})"
        # A refusal is told by its status; a success is none without the whole body.
        if head is None or (broken and 200 <= head.status < 300):
            reason = broken or "nothing came back"
            return NoAnswer(reason=reason, sent=sent, started=started, code=code)
        return dataclasses.replace(head, body=bytes(body), flaw=flaw or broken)

    def _open(self, request: Request) -> "httpx2.AsyncHTTPTransport":
        # A transport rather than a client: no redirects, no cookies, no environment, no log line.
        import httpx2

        url = urlsplit(request.url)
        return httpx2.AsyncHTTPTransport(
            verify=self._context(is_secure=url.scheme == "https"),
            trust_env=False,
            proxy=None if is_loopback(url.hostname or "") else self._proxy,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    def _context(self, *, is_secure: bool) -> ssl.SSLContext:
        if self._ssl is not None:
            return self._ssl
        return _default_context() if is_secure else _empty_context()

    def _built(self, request: Request) -> "httpx2.Request":
        import httpx2

        # `timeout` bounds each step; the deadline around them bounds the whole.
        limits = httpx2.Timeout(request.deadline, connect=self._connect_timeout)
        return httpx2.Request(
            request.method,
            request.url,
            headers=list(request.headers),
            content=request.body,
            extensions={"timeout": limits.as_dict()},
        )


def _head(response: "httpx2.Response", *, started: float, at: float) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=headers, body=b"", started=started, at=at)


async def _read(response: "httpx2.Response", *, into: bytearray) -> str | None:
    """Read a body as far as it may go, and say what was wrong with it."""
    async with contextlib.aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            into += chunk
            if len(into) > LARGEST_BODY:
                into.clear()
                return "it was over 1 MiB"
    return None


def _why_unconnected(error: Exception) -> tuple[str, str | None]:
    """Say why no connection came about, and give a certificate's failure a code."""
    cause: BaseException | None = error
    told = "no connection could be made"
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted: {cause.verify_message}",
                UNTRUSTED,
            )
        if isinstance(cause, socket.gaierror):
            told = "its host has no address"
        elif isinstance(cause, OSError) and (cause.errno or 0) > 0:
            # Its own text repeats the address, which may be a proxy's.
            told = f"no connection could be made: {os.strerror(cause.errno or 0)}"
        cause = cause.__cause__ or cause.__context__
    return told, None


@functools.cache
def _default_context() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


@functools.cache
def _empty_context() -> ssl.SSLContext:
    # For http:// only: loading the CA store takes 60 ms, and trusting nobody is safe.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


_QUIET: contextvars.ContextVar[bool] = contextvars.ContextVar("dromos_quiet", default=False)


def _not_ours(_: logging.LogRecord) -> bool:
    return not _QUIET.get()


@functools.cache
def _silence_httpcore() -> None:
    """Drop what httpcore2 logs at DEBUG about our requests, and nobody else's.

    It shows response headers, and offers no logger to replace.  Levels belong
    to the application, so they stay as they are.
    """
    for part in ("connection", "http11", "http2", "proxy", "socks"):
        logging.getLogger(f"httpcore2.{part}").addFilter(_not_ours)
