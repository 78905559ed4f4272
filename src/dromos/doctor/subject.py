"""Whom an examination is about: an endpoint, the way to it, and the source of its tokens."""

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from dromos.dialers.picows import PicowsDialer
from dromos.dialers.resolver import AddressInfo, Resolver
from dromos.interfaces import Link, TokenProvider, TokenSource
from dromos.model import Token
from dromos.redaction import is_sensitive

__all__ = ["Found", "Subject"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Subject:
    """What is to be examined; not shown, since a URL and a source may hold secrets.

    Attributes:
        url: The endpoint, checked.
        source: Where tokens come from; None: what needs no token is examined.
        connection_id: For a source that knows several connections.
        headers: Sent with the upgrade request.
        subprotocols: Offered in it.
        proxy: The proxy's URL, or None.
        context: The TLS context that the dialer would use.
        ping_timeout: Seconds to wait for the answer to a ping.  Default 10.
        close_timeout: Seconds to wait for the answer to our CLOSE.  Default 5.
        environment: The process' variables: those about proxies are spoken of.
    """

    url: str
    source: TokenProvider | TokenSource | None
    connection_id: str
    headers: Sequence[tuple[str, str]] = ()
    subprotocols: Sequence[str] = ()
    proxy: str | None = None
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    ping_timeout: float = 10.0
    close_timeout: float = 5.0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def host(self) -> str:
        """The far side's host."""
        return urlsplit(self.url).hostname or ""

    @property
    def secure(self) -> bool:
        """Whether it is `wss://`."""
        return urlsplit(self.url).scheme == "wss"

    @property
    def port(self) -> int:
        """The far side's port."""
        return urlsplit(self.url).port or (443 if self.secure else 80)

    @property
    def first_hop(self) -> tuple[str, int]:
        """Where the TCP connection leads: to the proxy, if there is one."""
        if self.proxy is None:
            return self.host, self.port
        parts = urlsplit(self.proxy)
        usual = {"http": 80, "https": 443}.get(parts.scheme, 1080)
        return parts.hostname or "", parts.port or usual

    @property
    def has_secret(self) -> bool:
        """Whether a secret is in a header or in the URL, beside what a source may give."""
        names = [name for name, _ in (*self.headers, *parse_qsl(urlsplit(self.url).query))]
        return any(map(is_sensitive, names))

    def dialer(self) -> PicowsDialer:
        """Return the dialer that a bridge would use."""
        return PicowsDialer(
            ssl=self.context if self.secure else None,
            proxy=self.proxy,
            headers=self.headers,
            subprotocols=self.subprotocols,
        )


@dataclass(slots=True, kw_only=True, repr=False)
class Found:
    """What earlier steps have left for later ones.

    Attributes:
        resolver: As the dialer has one.
        addresses: Of the first hop.
        tcp: Connected to the far side, through the proxy if there is one.
        token: That was issued.
        link: That was opened.
    """

    resolver: Resolver = field(default_factory=Resolver)
    addresses: Sequence[AddressInfo] = ()
    tcp: socket.socket | None = None
    token: Token | None = None
    link: Link | None = None

    def discard(self) -> None:
        """Close what is still open."""
        if self.link is not None:
            self.link.abort()
        if self.tcp is not None:
            self.tcp.close()
            self.tcp = None
