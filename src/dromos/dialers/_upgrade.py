"""Asks for a WebSocket with `websockets`' handshake, and says why if there is none."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions import ClientExtensionFactory, Extension
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from dromos.dialers._protocol_link import ProtocolLink
from dromos.dialers._refusal import parse_head, refused
from dromos.dialers._request import Request
from dromos.errors import HandshakeError

__all__ = ["Upgrade"]

LONGEST_HEAD: Final = 65536
"""Bytes of an answer's head; one that goes on is given up."""

_END_OF_HEAD: Final = b"\r\n\r\n"

# It would get handshake headers and payloads, so it is nobody's child and writes nothing.
_SILENT: Final = logging.Logger("dromos.silent")
_SILENT.disabled = True


class Upgrade(asyncio.Protocol):
    """A connection until it is a WebSocket; then its link takes the transport over.

    Attributes:
        outcome: The link, or the `HandshakeError` or `ssl.SSLError` that ended it.
    """

    def __init__(
        self,
        request: Request,
        offers: Sequence[ClientExtensionFactory],
        make_link: Callable[[Sequence[Extension]], ProtocolLink],
    ) -> None:
        self._request = request
        self._make_link = make_link
        self._head = bytearray()
        self._core = ClientProtocol(
            parse_uri(request.url),
            extensions=offers or None,
            subprotocols=[Subprotocol(one) for one in request.subprotocols] or None,
            logger=_SILENT,
        )
        self.outcome: asyncio.Future[ProtocolLink] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        asked = self._core.connect()
        for name, value in self._request.headers:
            asked.headers[name] = value
        self._core.send_request(asked)
        self._transport.writelines(self._core.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Wait for the whole head; the body of a refusal is not waited for."""
        if self.outcome.done():
            return
        searched = max(0, len(self._head) - len(_END_OF_HEAD))
        self._head += data
        end = self._head.find(_END_OF_HEAD, searched)
        if end >= 0:
            end += len(_END_OF_HEAD)
            self._answered(bytes(self._head[:end]), bytes(self._head[end:]))
        elif len(self._head) > LONGEST_HEAD:
            self._fail(refused(self._request, bytes(self._head), b""))

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that there was no answer."""
        where = self._request.origin
        if isinstance(exc, ssl.SSLError):
            # With TLS 1.3 a server refuses our certificate only after the handshake.
            self._fail(exc.with_traceback(None))
        else:
            self._fail(HandshakeError(f"{where} hung up before it answered the upgrade"))

    def _answered(self, head: bytes, rest: bytes) -> None:
        status, headers = parse_head(head)
        if status != 101:
            self._fail(refused(self._request, head, rest))
            return
        chosen = headers.get("sec-websocket-protocol")
        if chosen is not None and chosen not in self._request.subprotocols:
            # RFC 6455, 4.1: fail the connection.
            self._fail(self._broken("chose a subprotocol that was not offered"))
            return
        for name in ("Content-Length", "Transfer-Encoding"):
            # RFC 9110, 8.6: this answer has no body, and what follows it are frames.
            if name.lower() in headers:
                self._fail(refused(self._request, head, b"", bad_header=name))
                return
        self._core.receive_data(head)
        problem = self._core.handshake_exc
        if isinstance(problem, NegotiationError):
            self._fail(self._broken("uses an extension in a way that was not offered"))
        elif problem is not None:
            bad = problem.name if isinstance(problem, InvalidHeader) else None
            self._fail(refused(self._request, head, b"", bad_header=bad))
        else:
            self._open(rest)

    def _open(self, rest: bytes) -> None:
        link = self._make_link(self._core.extensions)
        self._transport.set_protocol(link)
        link.connection_made(self._transport)
        self.outcome.set_result(link)
        if rest:
            link.data_received(rest)

    def _broken(self, how: str) -> HandshakeError:
        return HandshakeError(f"{self._request.origin} {how}", status=101)

    def _fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
