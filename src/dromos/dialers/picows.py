"""A dialer on picows, the default engine."""

from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from picows import (
    WSHandshakeError,
    WSInvalidHeaderError,
    WSUpgradeRequest,
    WSUpgradeResponse,
    ws_connect,  # pyright: ignore[reportUnknownVariableType]
)

from dromos.dialers._choice import COMPILED
from dromos.dialers._dialer import Attempt, Route, SocketDialer
from dromos.dialers._engine import EngineLog
from dromos.dialers._link import LINGER, PicowsLink
from dromos.dialers._refusal import refused
from dromos.dialers._request import Request
from dromos.errors import HandshakeError
from dromos.interfaces import Limits, LinkListener

__all__ = ["PicowsDialer"]

_READ_BUFFER: Final = 2048  # picows' least; it grows when it is full.  Its default is 16 KiB


class PicowsDialer(SocketDialer[PicowsLink]):
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

    Attributes:
        compiled: Whether its links receive with the compiled listener, where one was built
            for the installed picows. The variable `DROMOS_NO_EXTENSIONS` has Python do it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument can't be used. No message shows a header's value
            or a password.
    """

    compiled: ClassVar[bool] = COMPILED

    def _attempt(
        self, request: Request, listener: LinkListener, limits: Limits
    ) -> Attempt[PicowsLink]:
        return _Attempt(self._route, request, listener, limits)


class _Attempt(Attempt[PicowsLink]):
    """One try to open a link with picows."""

    def __init__(
        self, route: Route, request: Request, listener: LinkListener, limits: Limits
    ) -> None:
        super().__init__(route, request, listener, limits)
        self._log = EngineLog()
        self._headers = list(request.headers)

    async def open(self) -> PicowsLink:
        """Return the link.  Call `discard` if this raises."""
        # In no variable: this frame lasts as long as the dial, and stacks may show variables.
        _, link = await ws_connect(self._make_link, **await self._options())
        # picows keeps the list for as long as the link; it holds the credentials.
        self._headers.clear()
        if not isinstance(link, PicowsLink):
            # picows makes no listener if the connection ends before the answer, and keeps to
            # itself how: with TLS 1.3 a server refuses our certificate only after the handshake.
            hint = ", perhaps for want of a certificate of ours" if self._request.secure else ""
            origin = self._request.origin
            raise HandshakeError(f"{origin} hung up before it answered the upgrade{hint}")
        return link

    async def _options(self) -> dict[str, Any]:
        """Return what picows is called with."""
        request, route = self._request, self._route
        if request.subprotocols:
            self._headers.append(("Sec-WebSocket-Protocol", ", ".join(request.subprotocols)))
        url, rest = await self._target()
        if request.secure:
            # picows' default would let a dead peer hold a closing link for 30 s.
            rest["ssl_shutdown_timeout"] = LINGER
        return {
            "url": url,
            "ssl_context": route.context() if request.secure else None,
            "websocket_handshake_timeout": None,
            "logger_name": self._log,
            "enable_auto_ping": False,
            "enable_auto_pong": False,  # PicowsLink answers, and checks reserved bits before
            "max_frame_size": self._limits.message_size,
            "extra_headers": self._headers,
            "max_redirects": 0,
            "proxy": route.proxy,
            "read_buffer_init_size": _READ_BUFFER,
            "socket_factory": self._make_socket,
            **rest,
        }

    def refusal(self, error: Exception) -> HandshakeError | None:
        """Return the error for an answer that is no upgrade; None for anything else."""
        if isinstance(error, WSHandshakeError):
            name = error.name if isinstance(error, WSInvalidHeaderError) else None
            head, body = error.raw_header or b"", error.raw_body or b""
            return refused(self._request, head, body, bad_header=name)
        return super().refusal(error)

    async def _target(self) -> tuple[str, dict[str, Any]]:
        """Return the URL and options for picows."""
        request = self._request
        address = await self._address_for_proxy()
        if address is None:
            return request.url, {}
        parts = urlsplit(request.url)
        self._headers.append(("Host", parts.netloc))
        url = parts._replace(netloc=f"{address}:{request.port}").geturl()
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
        clean = self._request.redactor.reason
        return PicowsLink(self._listener, self._limits, self._log, clean)
