"""HTTP/1.1 as a server speaks it, one connection at a time: for the health port and the fakes."""

import asyncio
import contextlib
import http
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import h11

__all__ = ["Headers", "HttpConnection", "Reply", "Request", "stop_listening"]

Clock: TypeAlias = Callable[[], float]

LONGEST_HEAD: Final = 2**18
"""Bytes of a request's line and header fields."""


class Headers(Mapping[str, str]):
    """Header fields as they were received: order and case kept, looked up in any case.

    Attributes:
        pairs: Every field in order, repeated names included.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs: tuple[tuple[str, str], ...] = tuple(pairs)
        self._values: dict[str, str] = {}
        for name, value in self.pairs:
            self._values.setdefault(name.lower(), value)

    def __getitem__(self, name: str, /) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object, /) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def all(self, name: str) -> list[str]:
        """Return every value of a repeated header, in order."""
        return [value for key, value in self.pairs if key.lower() == name.lower()]

    def __repr__(self) -> str:
        return f"Headers({list(self.pairs)!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request as a server of this package received it.

    Attributes:
        method: Such as `"GET"`.
        target: The path with its query, as sent.
        headers: The header fields.
        body: The body.
        at: Unix time, by the server's clock.
    """

    method: str
    target: str
    headers: Headers
    body: bytes
    at: float

    @property
    def path(self) -> str:
        """The target without its query, percent-encoding kept; empty if it can't be told."""
        return _split(self.target)[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's names and values, decoded, in order."""
        return parse_qsl(_split(self.target)[1], keep_blank_values=True)


def _split(target: str) -> tuple[str, str]:
    """Return a target's path and its query."""
    if target.startswith("/"):
        # No URL, but a path from the root (RFC 9112, 3.2.1): `//livez` names no host.
        path, _, query = target.partition("?")
        return path, query
    try:
        parts = urlsplit(target)  # a whole URL, as for a proxy (RFC 9112, 3.2.2)
    except ValueError:
        return "", ""
    return parts.path, parts.query


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One HTTP answer.  `Content-Length` is added if no header frames the body."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


async def stop_listening(server: asyncio.Server) -> None:
    """Close the listening sockets, once each connection that they accepted has its protocol.

    asyncio takes three turns from accept(2) to there, and where the server is closed
    in between, its transport fails an assertion of its own and leaks the socket.
    """
    loop = asyncio.get_running_loop()
    for sock in server.sockets:
        with contextlib.suppress(NotImplementedError):  # Windows' proactor has no readers
            loop.remove_reader(sock.fileno())
    try:
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        server.close()


class HttpConnection:
    """One client's HTTP/1.1 connection, seen from the server."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        longest_head: int = LONGEST_HEAD,
        longest_body: int | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            reader: What the client sends.
            writer: What it is sent.
            longest_head: Bytes of a request's line and header fields.  Default 256 KiB.
            longest_body: Bytes of its body.  None (default) takes any.
        """
        self.reader = reader
        self.writer = writer
        # What a parser is given at once is not held against any limit.
        self._piece = min(2**16, longest_head)
        self._longest_body = longest_body
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=longest_head)

    async def read_request(self, clock: Clock) -> Request | None:
        """Return the next request, or None if the client has closed the connection.

        Raises:
            h11.RemoteProtocolError: If what came was not HTTP/1.1, or too long; its
                `error_status_hint` is the status to answer with.
        """
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self.writer.write(self._h11.send(go_on))
                self._h11.receive_data(await self.reader.read(self._piece))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if self._longest_body is not None and len(body) > self._longest_body:
                    raise h11.RemoteProtocolError("the body is too long", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body), clock())
            else:
                return None

    def encode(self, reply: Reply) -> bytes:
        """Return an answer's bytes; nothing is written."""
        headers = list(reply.headers)
        if not {"content-length", "transfer-encoding"} & {name.lower() for name, _ in headers}:
            headers.append(("Content-Length", str(len(reply.body))))
        response = h11.Response(
            status_code=reply.status, headers=headers, reason=_reason_phrase(reply.status).encode()
        )
        parts = [self._h11.send(response)]
        if reply.body:
            parts.append(self._h11.send(h11.Data(data=reply.body)))
        parts.append(self._h11.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)

    async def write_endless(self, reply: Reply) -> None:
        """Write an answer whose body never ends, as fast as the client reads it."""
        response = h11.Response(status_code=reply.status, headers=list(reply.headers))
        self.writer.write(self._h11.send(response) or b"")
        block = (reply.body or b" ") * (2**14 // len(reply.body or b" ") + 1)
        while not self.writer.is_closing():
            self.writer.write(self._h11.send(h11.Data(data=block)) or b"")
            await self.writer.drain()

    def next_cycle(self) -> bool:
        """Get ready for another request; False if this connection must be closed."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    def switch_protocols(self, headers: Iterable[tuple[str, str]]) -> bytes:
        """Answer 101, and return the bytes that came after the request."""
        accept = h11.InformationalResponse(
            status_code=101, headers=list(headers), reason=b"Switching Protocols"
        )
        self.writer.write(self._h11.send(accept) or b"")
        return self._h11.trailing_data[0]

    async def wait_closed_by_client(self) -> None:
        """Discard what the client sends, until it closes the connection."""
        while await self.reader.read(2**16):
            pass


def _request(head: h11.Request, body: bytes, at: float) -> Request:
    return Request(
        method=head.method.decode("ascii"),
        target=head.target.decode("latin-1"),
        headers=Headers(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in head.headers.raw_items()
        ),
        body=body,
        at=at,
    )


def _reason_phrase(status: int) -> str:
    """Return the usual words for a status, or nothing for an unknown one."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""
