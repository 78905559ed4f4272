"""A tap on the wire between a client and a server: it counts, and makes go wrong what may."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit

import h11


@dataclass(kw_only=True)
class Exchange:
    """A request as it passed, and the status of its answer once there is one."""

    method: str
    target: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: int | None = None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def form(self) -> dict[str, str]:
        """The body's fields; empty if it is no form."""
        if "x-www-form-urlencoded" not in self.headers.get("content-type", ""):
            return {}
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    def matches(
        self, *, method: str | None = None, path: str | None = None, grant_type: str | None = None
    ) -> bool:
        return (
            method in (None, self.method)
            and path in (None, self.path)
            and (grant_type is None or grant_type == self.form.get("grant_type"))
        )


@dataclass
class Held:
    """An answer that waits.  `arrived` is set as soon as the server has given it."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        self._released.set()

    async def wait(self) -> None:
        self.arrived.set()
        await self._released.wait()


@dataclass(kw_only=True)
class _Rule:
    """What happens to the next `times` requests that match."""

    kind: Literal["cut", "lose", "answer", "hold"]
    matches: Callable[[Exchange], bool]
    times: int
    answer: bytes = b""
    held: Held = field(default_factory=Held)


@dataclass
class Tap:
    """Stands between a client and a plain HTTP server; its `url` takes the server's place.

    Bytes pass as they are, the Host header included.  The methods `lose`, `hold`, `answer` and
    `cut` each take hold of the next `times` requests that match `path` and `grant_type`.
    """

    upstream: str
    url: str = ""
    seen: list[Exchange] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def count(
        self, *, method: str | None = None, path: str | None = None, grant_type: str | None = None
    ) -> int:
        """How many requests came from the client, whatever became of them."""
        return sum(e.matches(method=method, path=path, grant_type=grant_type) for e in self.seen)

    def lose(
        self, *, times: int = 1, path: str | None = None, grant_type: str | None = None
    ) -> None:
        """Let the server act, then reset the connection in place of its answer."""
        self._add("lose", times, path, grant_type)

    def cut(
        self, *, times: int = 1, path: str | None = None, grant_type: str | None = None
    ) -> None:
        """Reset the connection before the server hears of the request."""
        self._add("cut", times, path, grant_type)

    def hold(self, *, path: str | None = None, grant_type: str | None = None) -> Held:
        """Let the server act, and keep its answer back until it is released."""
        return self._add("hold", 1, path, grant_type).held

    def answer(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        times: int = 1,
        path: str | None = None,
        grant_type: str | None = None,
    ) -> None:
        """Answer in the server's place; it never hears of the request."""
        fields = {"Content-Length": str(len(body)), **(headers or {})}
        lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in fields.items())]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._add("answer", times, path, grant_type).answer = head + body

    def _add(
        self,
        kind: Literal["cut", "lose", "answer", "hold"],
        times: int,
        path: str | None,
        grant_type: str | None,
    ) -> _Rule:
        rule = _Rule(
            kind=kind,
            matches=lambda exchange: exchange.matches(path=path, grant_type=grant_type),
            times=times,
        )
        self._rules.append(rule)
        return rule

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, h11.RemoteProtocolError):
            try:
                await self._serve(reader, writer)
            finally:
                self._tasks.discard(task)
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        more = True
        pending = b""
        while more and (request := await _read_request(reader, pending)):
            raw, pending, exchange = request
            self.seen.append(exchange)
            rule = self._rule(exchange)
            if rule is not None and rule.kind == "cut":
                _reset(writer)
                return
            if rule is not None and rule.kind == "answer":
                exchange.status = int(rule.answer.split(maxsplit=2)[1])
                answer = rule.answer
            else:
                answer, more, exchange.status = await self._forward(raw, exchange.method)
            if rule is not None and rule.kind == "lose":
                _reset(writer)
                return
            if rule is not None and rule.kind == "hold":
                await rule.held.wait()
            writer.write(answer)
            await writer.drain()

    def _rule(self, exchange: Exchange) -> _Rule | None:
        for rule in self._rules:
            if rule.times and rule.matches(exchange):
                rule.times -= 1
                return rule
        return None

    async def _forward(self, request: bytes, method: str) -> tuple[bytes, bool, int]:
        """Return the answer, whether the server would take another request, and the status."""
        upstream = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(upstream.hostname, upstream.port)
        try:
            writer.write(request)
            await writer.drain()
            return await _read_answer(reader, method)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _read_request(
    reader: asyncio.StreamReader, pending: bytes
) -> tuple[bytes, bytes, Exchange] | None:
    """Return a request as it came, what came after it, and what it says; None at the end."""
    parser = h11.Connection(h11.SERVER)
    raw, body = pending, b""
    head: h11.Request | None = None
    if pending:
        parser.receive_data(pending)
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(65536)
            raw += data
            parser.receive_data(data)
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            rest = parser.trailing_data[0]
            headers = {name.decode().lower(): value.decode() for name, value in head.headers}
            exchange = Exchange(
                method=head.method.decode(), target=head.target.decode(), headers=headers, body=body
            )
            return raw[: len(raw) - len(rest)], rest, exchange
        else:
            return None


async def _read_answer(reader: asyncio.StreamReader, method: str) -> tuple[bytes, bool, int]:
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "any")]))
    parser.send(h11.EndOfMessage())
    raw, status = b"", 0
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(65536)
            raw += data
            parser.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage):
            return raw, parser.their_state is h11.DONE, status
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("the server closed without an answer")


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
