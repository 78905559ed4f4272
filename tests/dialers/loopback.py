"""A WebSocket server on loopback that does exactly what a test says, right or wrong."""

import asyncio
import base64
import hashlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a server's frame: not masked."""
    first = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if len(payload) < 126:
        return first + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return first + b"\x7e" + struct.pack("!H", len(payload)) + payload
    return first + b"\x7f" + struct.pack("!Q", len(payload)) + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def upgrade(request: bytes, *more: str) -> bytes:
    """Return a good answer to an upgrade request."""
    key = _header(request, b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept.decode()}",
        *more,
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _header(request: bytes, name: bytes) -> bytes:
    for line in request.split(b"\r\n"):
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return b""


class Peer:
    """The server's end of one TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request = b""

    async def read_request(self) -> bytes:
        self.request = await self.reader.readuntil(b"\r\n\r\n")
        return self.request

    async def accept(self, *headers: str) -> None:
        await self.read_request()
        self.write(upgrade(self.request, *headers))

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_frame(self) -> tuple[int, bytes, int]:
        """Return opcode, payload and first byte of a client's frame."""
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        assert second & 0x80, "a client's frame must be masked (RFC 6455, 5.1)"
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(length)
        repeated = (mask * (length // 4 + 1))[:length]
        plain = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
        return first & 0x0F, plain.to_bytes(length, "big"), first

    def drop(self) -> None:
        """Reset the connection."""
        transport = self.writer.transport
        with suppress(OSError):
            transport.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
        transport.abort()

    async def ended(self) -> bytes:
        """Wait until the client has ended the connection; return what it still sent."""
        try:
            return await self.reader.read()
        except OSError:
            return b""


Serve: TypeAlias = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each connection with a function; yield the port.  Its errors fail the test."""
    peers: list[Peer] = []
    tasks: list[asyncio.Task[None]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(Peer(reader, writer))
        tasks.append(asyncio.create_task(run(peers[-1], writer)))

    async def run(peer: Peer, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(Exception):
                await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for peer in peers:
            peer.writer.transport.abort()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        failures = [e for e in results if isinstance(e, Exception)]
        if failures:
            raise failures[0]
