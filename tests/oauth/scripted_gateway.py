"""An HTTP server on loopback that answers as it is told, byte by byte where need be."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

import h11


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A plain answer."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


Raw: TypeAlias = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes whatever it likes, and the connection is closed after it."""


def json_reply(text: str, *, status: int = 200, **headers: str) -> Reply:
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Reply(
        status=status, body=text.encode(), headers=(("Content-Type", "application/json"), *fields)
    )


async def hang(writer: asyncio.StreamWriter) -> None:
    """Answer nothing until the client gives up."""
    await writer.wait_closed() if writer.is_closing() else await asyncio.Event().wait()


async def drop(writer: asyncio.StreamWriter) -> None:
    """Close without an answer."""


@dataclass
class ScriptedGateway:
    """Answers each method and path from a list; the last answer is repeated.

    With a TLS context it is `https://localhost`.
    """

    script: dict[tuple[str, str], list[Reply | Raw]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def on(self, method: str, path: str, *answers: Reply | Raw) -> None:
        self.script[method, path] = list(answers)

    def asked(self) -> list[str]:
        return [f"{seen.method} {seen.target}" for seen in self.seen]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{port}" if self.tls else f"http://127.0.0.1:{port}"
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
        async for connection, seen in _requests(reader):
            self.seen.append(seen)
            answers = self.script.get((seen.method, seen.target.partition("?")[0]))
            if answers is None:
                answer: Reply | Raw = Reply(
                    status=404,
                    body=b"404 page not found\n",
                    headers=(("Content-Type", "text/plain; charset=utf-8"),),
                )
            else:
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if not isinstance(answer, Reply):
                await answer(writer)
                return
            sent = connection.send(
                h11.Response(
                    status_code=answer.status,
                    headers=[*answer.headers, ("Content-Length", str(len(answer.body)))],
                )
            )
            sent += connection.send(h11.Data(data=answer.body))
            sent += connection.send(h11.EndOfMessage())
            writer.write(sent)
            await writer.drain()
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()


async def _requests(
    reader: asyncio.StreamReader,
) -> AsyncIterator[tuple[h11.Connection, Seen]]:
    connection = h11.Connection(h11.SERVER)
    head: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            yield (
                connection,
                Seen(
                    method=head.method.decode(),
                    target=head.target.decode(),
                    headers={n.decode().lower(): v.decode() for n, v in head.headers},
                    body=body,
                ),
            )
        else:
            return
