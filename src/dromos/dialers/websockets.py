"""A dialer on `websockets`, whose parser needs no compiler and which can compress."""

import asyncio
import dataclasses
import socket
import ssl as ssl_module
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from dromos.dialers._dialer import Attempt, Route, SocketDialer
from dromos.dialers._request import Request
from dromos.interfaces import Limits, LinkListener
from dromos.model import Seconds
from dromos.redaction import unseen

if TYPE_CHECKING:
    from websockets.extensions import ClientExtensionFactory, Extension

    from dromos.dialers._protocol_link import ProtocolLink
    from dromos.dialers._upgrade import Upgrade

__all__ = ["WebsocketsDialer"]


class WebsocketsDialer(SocketDialer["ProtocolLink"]):
    """Opens links with `websockets` (`pip install "dromos[websockets]"`), on the loop's own TLS.

    Slower than picows by itself, and the one that can compress.  Of `websockets` it
    uses what does no I/O: the handshake, the frames and permessage-deflate.

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
        compression: "deflate" (default) offers permessage-deflate (RFC 7692), which
            the far side may decline. It takes up to 64 KiB a link more. None offers none.

    Raises:
        ImportError: If `websockets` is not installed.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument can't be used. No message shows a header's value
            or a password.
    """

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
        compression: Literal["deflate"] | None = "deflate",
    ) -> None:
        super().__init__(
            ssl=ssl,
            proxy=proxy,
            headers=headers,
            subprotocols=subprotocols,
            origin=origin,
            user_agent=user_agent,
            open_timeout=open_timeout,
            happy_eyeballs_delay=happy_eyeballs_delay,
        )
        if compression not in ("deflate", None):
            raise ValueError(f'compression must be "deflate" or None, not {compression!r}')
        self._offers = _offers(compression)

    def _attempt(
        self, request: Request, listener: LinkListener, limits: Limits
    ) -> Attempt["ProtocolLink"]:
        return _Attempt(self._route, request, listener, limits, self._offers)


def _offers(compression: str | None) -> "tuple[ClientExtensionFactory, ...]":
    """Return the extensions to offer, if `websockets` is there."""
    try:
        from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "websockets":
            raise
        raise ImportError(
            'WebsocketsDialer needs websockets: pip install "dromos[websockets]"'
        ) from error
    if compression is None:
        return ()
    # What `websockets` offers itself: it saves half of the encoder's memory.
    return (ClientPerMessageDeflateFactory(compress_settings={"memLevel": 5}),)


class _Attempt(Attempt["ProtocolLink"]):
    """One try to open a link with `websockets`."""

    def __init__(
        self,
        route: Route,
        request: Request,
        listener: LinkListener,
        limits: Limits,
        offers: "Sequence[ClientExtensionFactory]",
    ) -> None:
        super().__init__(route, request, listener, limits)
        self._offers = offers
        self._upgrade: Upgrade | None = None

    async def open(self) -> "ProtocolLink":
        """Return the link.  Call `discard` if this raises."""
        if self._route.proxy is None:
            await self._start(await self._make_socket(self._request))
        else:
            await self._start_through_proxy(self._route.proxy)
        assert self._upgrade is not None
        return await self._upgrade.outcome

    async def discard(self) -> None:
        """Close the socket, and let the listener of a link that is not returned hear nothing."""
        outcome = None if self._upgrade is None else self._upgrade.outcome
        # An outcome is still to come where TCP or TLS was not through: nobody will ask for it.
        if outcome is not None and not outcome.cancel() and not outcome.cancelled():
            # Asked for, the exception is not reported as lost.
            lost = outcome.exception()
            if lost is None:
                outcome.result().abort()
        await super().discard()

    async def _start(self, sock: socket.socket) -> None:
        """Speak over a socket that leads to the far side."""
        tls = self._tls() if self._request.secure else {}
        await asyncio.get_running_loop().create_connection(self._make_upgrade, sock=sock, **tls)

    async def _start_through_proxy(self, proxy: str) -> None:
        """Speak through a proxy, which picows talks to: this engine's core has no proxies."""
        from picows.common import WSHost
        from picows.proxy import ConnectedTransport, connect_through_optional_proxy
        from picows.url import parse_url

        loop = asyncio.get_running_loop()
        target = parse_url(self._request.url)
        address = await self._address_for_proxy()
        if address is not None:
            target = dataclasses.replace(target, host=WSHost(address))
        way = parse_url(proxy, check_scheme=False)
        create: Any = loop.create_connection
        reached = await connect_through_optional_proxy(
            loop, target, way, self._make_socket, None, None, {}, create
        )
        if isinstance(reached, ConnectedTransport):
            await self._start_in(reached.transport)
        else:
            assert reached.sock is not None
            await self._start(reached.sock)

    async def _start_in(self, tunnel: asyncio.Transport) -> None:
        """Speak over a transport that leads to the far side."""
        upgrade = self._make_upgrade()
        if self._request.secure:
            options = self._tls()
            context = options.pop("ssl")
            loop = asyncio.get_running_loop()
            encrypted = await loop.start_tls(tunnel, upgrade, context, **options)
            assert encrypted is not None
            upgrade.connection_made(encrypted)
        else:
            tunnel.set_protocol(upgrade)
            upgrade.connection_made(tunnel)

    def _tls(self) -> dict[str, Any]:
        from dromos.dialers._protocol_link import LINGER

        return {
            "ssl": self._route.context(),
            "server_hostname": self._request.host,
            # The default would let a dead peer hold a closing link for 30 s.
            "ssl_shutdown_timeout": LINGER,
        }

    def _make_upgrade(self) -> "Upgrade":
        from dromos.dialers._upgrade import Upgrade

        self._upgrade = Upgrade(self._request, self._offers, self._make_link)
        return self._upgrade

    def _make_link(self, extensions: "Sequence[Extension]") -> "ProtocolLink":
        from dromos.dialers._protocol_link import ProtocolLink

        assert self._socket is not None
        clean = self._request.redactor.reason
        return ProtocolLink(self._listener, self._limits, self._socket, extensions, clean)
