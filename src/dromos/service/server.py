"""The health port: an HTTP server that a slow or a hostile client can't hold up."""

import asyncio
import contextlib
import logging
import time
from typing import Final, Self

import h11

from dromos._http_server import HttpConnection, Reply, stop_listening
from dromos._options import port_number
from dromos.bridge import Bridge
from dromos.model import Seconds, seconds
from dromos.service.health import Health

__all__ = ["HealthServer"]

LONGEST_HEAD: Final = 8192
"""Bytes of a request's line and header fields: what other servers allow as well."""

MOST_CONNECTIONS: Final = 64
"""Clients at once.  When there are more, the one that has taken longest is let go, so that
a crowd of slow ones never keeps out a probe."""

LINGER: Final = 1.0
"""Seconds for a client to close after our answer; closing first may cost it the answer
(RFC 9112, 9.6)."""

_log: Final = logging.getLogger("dromos")


class HealthServer:
    """Serves `/livez`, `/readyz`, `/metrics` and `/sessions` of a bridge.

        async with HealthServer(bridge, port=8080):
            ...

    `dromos.run` has one built in.  This is for programs that own their event loop.
    """

    def __init__(
        self,
        bridge: Bridge,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        request_timeout: Seconds = 5.0,
    ) -> None:
        """Check every argument, and open nothing.

        Args:
            bridge: The bridge to tell about.
            host: The address to listen on.  Default `"127.0.0.1"`; Kubernetes probes need
                `"0.0.0.0"` or `"::"`.
            port: The port to listen on.  Default 8080; 0 takes any that is free.
            request_timeout: Seconds for a client to send its request and take its answer.
                Default 5.

        Raises:
            TypeError: If an argument has the wrong type; the message names it.
            ValueError: If an argument has a value that can't work; the message names it.
        """
        if not isinstance(bridge, Bridge):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"bridge must be a Bridge, not {type(bridge).__name__}")
        if not isinstance(host, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"host must be a str, not {type(host).__name__}")
        self._health = Health(bridge)
        self._host = host
        self._port = port_number("port", port)
        self._within = seconds("request_timeout", request_timeout, above=0)
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def port(self) -> int:
        """The port it listens on; what was asked for, while it does not."""
        return self._port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: If the address can't be listened on.
        """
        self._server = await asyncio.start_server(
            self._accept, self._host, self._port, limit=LONGEST_HEAD
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more, and let every client go."""
        server, self._server = self._server, None
        if server is None:
            return
        await stop_listening(server)
        clients = list(self._clients)
        for client in clients:
            self._let_go(client)
        if clients:
            await asyncio.wait(clients)
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._server is None else "listening"
        return f"<HealthServer {state} on {self._host} port {self._port}>"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # closed between its accept(2) and now
            writer.transport.abort()
            return
        if len(self._clients) >= MOST_CONNECTIONS:
            self._let_go(next(iter(self._clients)))
        client = asyncio.get_running_loop().create_task(
            self._serve(reader, writer), name="dromos-health-client"
        )
        self._clients[client] = writer
        client.add_done_callback(self._forget)

    def _let_go(self, client: asyncio.Task[None]) -> None:
        self._clients.pop(client).transport.abort()
        client.cancel()

    def _forget(self, client: asyncio.Task[None]) -> None:
        self._clients.pop(client, None)
        if not client.cancelled() and (error := client.exception()) is not None:
            _log.error("the health port failed", exc_info=error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close: a probe has no second one."""
        http = HttpConnection(reader, writer, longest_head=LONGEST_HEAD, longest_body=0)
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._within):
                    answer = await self._answer(http)
                    if answer is not None:
                        writer.write(answer)
                        await self._see_off(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, http: HttpConnection) -> bytes | None:
        try:
            request = await http.read_request(time.time)
            if request is None:
                return None
            reply = self._health.answer(request)
            if request.method == "HEAD":
                reply = Reply(status=reply.status, headers=reply.headers)
            return http.encode(reply)
        except h11.RemoteProtocolError as error:
            # An answer may be refused too, where the request left no way to make one.
            with contextlib.suppress(h11.LocalProtocolError):
                return http.encode(_refusal(error))
        return None

    async def _see_off(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wait until all is written, and a moment for the client to close."""
        writer.transport.set_write_buffer_limits(0)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(LINGER):
            while await reader.read(LONGEST_HEAD):
                pass


def _refusal(error: h11.RemoteProtocolError) -> Reply:
    """Say no to what is no request, without repeating what it was."""
    return Reply(status=error.error_status_hint, headers=(("Connection", "close"),))
