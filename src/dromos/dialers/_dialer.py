"""What every dialer over real sockets does alike: options, one time limit, no secret in errors."""

import asyncio
import socket
import ssl as ssl_module
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType]

from dromos.dialers._refusal import cause, failed
from dromos.dialers._request import Request, check_headers, check_subprotocols
from dromos.dialers.resolver import Resolver
from dromos.errors import HandshakeError, PermanentError
from dromos.interfaces import Limits, LinkListener
from dromos.model import Handshake, Seconds, seconds
from dromos.redaction import unseen

__all__ = ["Attempt", "Route", "SocketDialer"]

_PROXIES: Final = ("http", "https", "socks4", "socks5")
_CLOSING_TURNS: Final = 10


class Openable(Protocol):
    """A link that reports its end only when told that `dial` returns it."""

    def opened(self) -> None: ...


LinkT = TypeVar("LinkT", bound=Openable)


class Route:
    """How a dialer gets to a far side; one for all its attempts."""

    def __init__(
        self,
        *,
        proxy: str | None,
        resolver: Resolver,
        connect: Callable[[str, int], Awaitable[socket.socket]],
        ssl: ssl_module.SSLContext | None,
    ) -> None:
        self.proxy = proxy
        self.resolver = resolver
        self.connect = connect
        self._ssl = ssl

    def context(self) -> ssl_module.SSLContext:
        """Return the TLS context."""
        if self._ssl is None:
            self._ssl = ssl_module.create_default_context()
        return self._ssl


class Attempt(ABC, Generic[LinkT]):
    """One try to open a link, which knows what to clean up after itself."""

    def __init__(
        self, route: Route, request: Request, listener: LinkListener, limits: Limits
    ) -> None:
        self._route = route
        self._request = request
        self._listener = listener
        self._limits = limits
        self._socket: socket.socket | None = None

    @abstractmethod
    async def open(self) -> LinkT:
        """Return the link.  Call `discard` if this raises."""

    def refusal(self, error: Exception) -> HandshakeError | None:
        """Return the error for an answer that is no upgrade; None for anything else."""
        return error.with_traceback(None) if isinstance(error, HandshakeError) else None

    async def discard(self) -> None:
        """Close the socket.

        An engine may leave it open when it is cancelled, and does not say which
        transport it is in.  Shut down, it reads as ended, whichever transport that
        is, and its transport closes it.
        """
        sock = self._socket
        if sock is None or sock.fileno() < 0:
            return
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        for _ in range(_CLOSING_TURNS):
            await asyncio.sleep(0)
            if sock.fileno() < 0:
                return
        sock.close()

    async def _make_socket(self, target: Any) -> socket.socket:
        """Connect to a target with host and port: the far side, or the proxy."""
        self._socket = await self._route.connect(target.host, target.port)
        return self._socket

    async def _address_for_proxy(self) -> str | None:
        """Return the far side's address if the proxy does not take its name.

        SOCKS4 takes addresses only, and python-socks would look the name up on the
        loop's default executor.
        """
        request = self._request
        if request.is_literal or not (self._route.proxy or "").startswith("socks4:"):
            return None
        found = await self._route.resolver.resolve(request.host, request.port)
        addresses = [str(info[4][0]) for info in found if info[0] == socket.AF_INET]
        if not addresses:
            raise OSError("SOCKS4 needs an IPv4 address, and the name has none")
        return addresses[0]


class SocketDialer(ABC, Generic[LinkT]):
    """Opens links on one engine.  One serves any number of links, loops and threads."""

    _open_timeout = 0.0  # for a repr amid the constructor

    @unseen
    def __init__(
        self,
        *,
        ssl: ssl_module.SSLContext | None = None,
        proxy: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        subprotocols: Iterable[str] = (),
        origin: str | None = None,
        user_agent: str | None = "",
        open_timeout: Seconds = 15.0,
        happy_eyeballs_delay: Seconds = 0.25,
    ) -> None:
        if ssl is not None and not isinstance(ssl, ssl_module.SSLContext):
            raise TypeError(f"ssl must be an ssl.SSLContext or None, not {type(ssl).__name__}")
        self._proxy = _check_proxy(proxy)
        self._headers = _own_headers(headers, origin=origin, user_agent=user_agent)
        self._subprotocols = check_subprotocols(subprotocols)
        self._open_timeout = seconds("open_timeout", open_timeout, above=0.0)
        self._delay = seconds("happy_eyeballs_delay", happy_eyeballs_delay, above=0.0)
        self._resolver = Resolver()
        self._route = Route(
            proxy=self._proxy, resolver=self._resolver, connect=self._connect, ssl=ssl
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(open_timeout={self._open_timeout:g})"

    async def dial(self, handshake: Handshake, listener: LinkListener, limits: Limits) -> LinkT:
        """Open a link, within `open_timeout`.

        Messages may reach `listener.on_message` before this returns; `on_closed`
        is not called before.  When this is cancelled, at whatever stage, nothing stays open.

        Raises:
            HandshakeError: If the link did not open.
            PermanentError: If the URL or a header can't be sent at all.
        """
        request = self._request(handshake)
        attempt = self._attempt(request, listener, limits)
        failure: HandshakeError | None = None
        because: BaseException | None = None
        link: LinkT | None = None
        budget = asyncio.timeout(self._open_timeout)
        try:
            async with budget:
                link = await attempt.open()
        except asyncio.CancelledError as error:
            await attempt.discard()
            # The frames of an engine hold the request.
            raise error.with_traceback(None)  # noqa: B904
        except Exception as error:
            failure = attempt.refusal(error)
            if failure is None and budget.expired():
                failure = HandshakeError(
                    f"dialling {request.origin} took over {self._open_timeout:g} s"
                )
            elif failure is None:
                # Python 3.11.7 lets a TypeError out of start_tls: an attempt fails with
                # whatever it fails with.
                failure = failed(error, request, proxied=self._proxy is not None)
                because = cause(error, request)
        if failure is not None or link is None:
            await attempt.discard()
            assert failure is not None
            # Raised here and not above: there the foreign error would be its context.
            raise failure from because
        link.opened()
        return link

    @abstractmethod
    def _attempt(
        self, request: Request, listener: LinkListener, limits: Limits
    ) -> Attempt[LinkT]: ...

    def _request(self, handshake: Handshake) -> Request:
        problem = ""
        try:
            return Request.of(
                handshake,
                headers=self._headers,
                subprotocols=self._subprotocols,
                proxy=self._proxy,
            )
        except (TypeError, ValueError) as error:
            problem = str(error)
        raise PermanentError(f"the upgrade request can't be sent: {problem}")

    async def _connect(self, host: str, port: int) -> socket.socket:
        addresses = await self._resolver.resolve(host, port)
        return await start_connection(addresses, happy_eyeballs_delay=self._delay, interleave=1)


@cache
def _default_user_agent() -> str:
    """Return `dromos/VERSION`."""
    try:
        return f"dromos/{metadata.version('dromos')}"
    except metadata.PackageNotFoundError:
        return "dromos"


def _check_proxy(proxy: str | None) -> str | None:
    """Return the proxy's URL.  No message shows any of it: it may hold a password."""
    if proxy is None:
        return None
    if not isinstance(proxy, str):
        raise TypeError(f"proxy must be a str or None, not {type(proxy).__name__}")
    if not proxy.startswith(tuple(f"{scheme}://" for scheme in _PROXIES)):
        raise ValueError(f"proxy must begin with one of {', '.join(f'{s}://' for s in _PROXIES)}")
    parts = urlsplit("")
    with suppress(ValueError):
        if proxy.isprintable() and not set(proxy) & set(" #") and urlsplit(proxy).port != 0:
            parts = urlsplit(proxy)
    if not parts.hostname:
        raise ValueError("proxy must be a URL with a host")
    if parts.port is None and parts.scheme.startswith("socks"):
        # RFC 1928, 3; picows would take 80.
        return parts._replace(netloc=f"{parts.netloc}:1080").geturl()
    return proxy


def _own_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
    *,
    origin: str | None,
    user_agent: str | None,
) -> tuple[tuple[str, str], ...]:
    pairs: Any = headers.items() if isinstance(headers, Mapping) else headers or ()  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    checked = check_headers("headers", pairs)
    present = {name.lower() for name, _ in checked}
    more: list[tuple[str, str]] = []
    if user_agent is not None and "user-agent" not in present:
        more += check_headers("user_agent", [("User-Agent", user_agent or _default_user_agent())])
    if origin is not None:
        if "origin" in present:
            raise ValueError("origin is given twice: as an argument and in headers")
        more += check_headers("origin", [("Origin", origin)])
    return (*checked, *more)
