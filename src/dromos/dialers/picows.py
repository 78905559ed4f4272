"""A dialer on picows, the default engine."""

import asyncio
import socket
import ssl as ssl_module
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from typing import Any, Final
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType]
from picows import (
    WSHandshakeError,
    WSUpgradeRequest,
    WSUpgradeResponse,
    ws_connect,  # pyright: ignore[reportUnknownVariableType]
)

from dromos.dialers._engine import EngineLog
from dromos.dialers._link import LINGER, PicowsLink
from dromos.dialers._refusal import cause, failed, refused
from dromos.dialers._request import Request, check_headers, check_subprotocols
from dromos.dialers.resolver import Resolver
from dromos.errors import HandshakeError, PermanentError
from dromos.interfaces import Limits, LinkListener
from dromos.model import Handshake, Seconds, seconds

__all__ = ["PicowsDialer"]

_PROXIES: Final = ("http", "https", "socks4", "socks5")
_READ_BUFFER: Final = 4096  # picows' least; its default takes 12 KiB more for each idle link
_CLOSING_TURNS: Final = 10


@cache
def default_user_agent() -> str:
    """Return `dromos/VERSION`."""
    try:
        return f"dromos/{metadata.version('dromos')}"
    except metadata.PackageNotFoundError:
        return "dromos"


class PicowsDialer:
    """Opens links with picows: a WebSocket engine in Cython, on any event loop.

    One dialer serves any number of links, loops and threads.

    Args:
        ssl: The TLS context for `wss://`. None (default) makes one with
            `ssl.create_default_context()` when it is first needed.
        proxy: The URL of a forward proxy, `http://`, `https://`, `socks4://` or
            `socks5://`, with a user name and password if it wants them. None
            (default) connects directly; the environment is not looked at.
        headers: A mapping, or pairs of name and value, to send with each request.
            A header that the handshake sets itself replaces one of the same name.
        subprotocols: To offer, in order of preference, after those of the
            handshake (RFC 6455, 1.9). The far side may pick one or none.
        origin: The `Origin` header. None (default) sends none.
        user_agent: The `User-Agent` header. Default `dromos/VERSION`; None sends none.
        open_timeout: Seconds for DNS, TCP, TLS, proxy and upgrade together. Default 15.
        happy_eyeballs_delay: Seconds after which the next address is tried beside
            those before it (RFC 8305). Default 0.25.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument can't be used. No message shows a header's value
            or a password.
    """

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
        self._ssl = ssl
        self._proxy = _check_proxy(proxy)
        self._headers = _own_headers(headers, origin=origin, user_agent=user_agent)
        self._subprotocols = check_subprotocols(subprotocols)
        self._open_timeout = seconds("open_timeout", open_timeout, above=0.0)
        self._delay = seconds("happy_eyeballs_delay", happy_eyeballs_delay, above=0.0)
        self._resolver = Resolver()

    def __repr__(self) -> str:
        return f"PicowsDialer(open_timeout={self._open_timeout:g})"

    async def dial(
        self, handshake: Handshake, listener: LinkListener, limits: Limits
    ) -> PicowsLink:
        """Open a link, within `open_timeout`.

        Messages may reach `listener.on_message` before this returns; `on_closed`
        is not called before.  When this is cancelled, at whatever stage, nothing stays open.

        Raises:
            HandshakeError: If the link did not open.
            PermanentError: If the URL or a header can't be sent at all.
        """
        request = self._request(handshake)
        attempt = _Attempt(self, request, listener, limits)
        failure: HandshakeError | None = None
        because: BaseException | None = None
        link: PicowsLink | None = None
        budget = asyncio.timeout(self._open_timeout)
        try:
            async with budget:
                link = await attempt.open()
        except asyncio.CancelledError as error:
            await attempt.discard()
            # The frames of picows hold the request.
            raise error.with_traceback(None)  # noqa: B904
        except HandshakeError as error:
            failure = error.with_traceback(None)
        except WSHandshakeError as error:
            failure = refused(error, request)
        except Exception as error:
            if budget.expired():
                failure = HandshakeError(
                    f"dialling {request.origin} took over {self._open_timeout:g} s"
                )
            else:
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

    def _context(self) -> ssl_module.SSLContext:
        if self._ssl is None:
            self._ssl = ssl_module.create_default_context()
        return self._ssl

    async def _connect(self, host: str, port: int) -> socket.socket:
        addresses = await self._resolver.resolve(host, port)
        return await start_connection(addresses, happy_eyeballs_delay=self._delay, interleave=1)


class _Attempt:
    """One try to open a link, which knows what to clean up after itself."""

    def __init__(
        self, dialer: PicowsDialer, request: Request, listener: LinkListener, limits: Limits
    ) -> None:
        self._dialer = dialer
        self._request = request
        self._listener = listener
        self._limits = limits
        self._log = EngineLog()
        self._socket: socket.socket | None = None

    async def open(self) -> PicowsLink:
        """Return the link.  Call `discard` if this raises."""
        request, dialer = self._request, self._dialer
        headers = list(request.headers)
        if request.subprotocols:
            headers.append(("Sec-WebSocket-Protocol", ", ".join(request.subprotocols)))
        url, rest = await self._target(headers)
        if request.secure:
            # picows' default would let a dead peer hold a closing link for 30 s.
            rest["ssl_shutdown_timeout"] = LINGER
        logger: Any = self._log
        _, link = await ws_connect(
            self._make_link,
            url,
            ssl_context=dialer._context() if request.secure else None,  # pyright: ignore[reportPrivateUsage]
            websocket_handshake_timeout=None,
            logger_name=logger,
            enable_auto_ping=False,
            enable_auto_pong=False,  # PicowsLink answers, and checks reserved bits before
            max_frame_size=self._limits.message_size,
            extra_headers=headers,
            max_redirects=0,
            proxy=dialer._proxy,  # pyright: ignore[reportPrivateUsage]
            read_buffer_init_size=_READ_BUFFER,
            socket_factory=self._make_socket,
            **rest,
        )
        if not isinstance(link, PicowsLink):
            # picows makes no listener if the connection ends before the answer.
            raise HandshakeError(f"{request.origin} hung up before it answered the upgrade")
        return link

    async def discard(self) -> None:
        """Close the socket.

        picows does not close it when it is cancelled while it waits for the answer,
        and does not say which transport it is in.  Shut down, it reads as ended,
        whichever transport that is, and its transport closes it.
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
        """Connect to what picows asks for: the far side, or the proxy."""
        self._socket = await self._dialer._connect(target.host, target.port)  # pyright: ignore[reportPrivateUsage]
        return self._socket

    async def _target(self, headers: list[tuple[str, str]]) -> tuple[str, dict[str, Any]]:
        """Return the URL and options for picows.

        SOCKS4 takes addresses only, and python-socks would look the name up on the
        loop's default executor.
        """
        request, dialer = self._request, self._dialer
        proxy = dialer._proxy or ""  # pyright: ignore[reportPrivateUsage]
        if request.is_literal or not proxy.startswith("socks4:"):
            return request.url, {}
        found = await dialer._resolver.resolve(request.host, request.port)  # pyright: ignore[reportPrivateUsage]
        addresses = [str(info[4][0]) for info in found if info[0] == socket.AF_INET]
        if not addresses:
            raise OSError("SOCKS4 needs an IPv4 address, and the name has none")
        parts = urlsplit(request.url)
        headers.append(("Host", parts.netloc))
        url = parts._replace(netloc=f"{addresses[0]}:{request.port}").geturl()
        return url, {"server_hostname": request.host} if request.secure else {}

    def _make_link(self, _: WSUpgradeRequest, response: WSUpgradeResponse) -> PicowsLink:
        """Check what picows does not, and return its listener.

        A `TypeError` from here would make picows call it again without arguments.
        """
        where = self._request.origin
        chosen = response.headers.getall("Sec-WebSocket-Protocol", [])
        if len(chosen) > 1 or any(one not in self._request.subprotocols for one in chosen):
            # RFC 6455, 4.1: fail the connection.
            raise HandshakeError(f"{where} chose a subprotocol that was not offered", status=101)
        if "Sec-WebSocket-Extensions" in response.headers:
            raise HandshakeError(f"{where} uses an extension that was not offered", status=101)
        return PicowsLink(self._listener, self._limits, self._log)


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
        more += check_headers("user_agent", [("User-Agent", user_agent or default_user_agent())])
    if origin is not None:
        if "origin" in present:
            raise ValueError("origin is given twice: as an argument and in headers")
        more += check_headers("origin", [("Origin", origin)])
    return (*checked, *more)
