"""The server that all clients are measured against, in a process of its own.

It is built to be faster than any of them: what it sends was framed before, many
frames to a write, and what it receives is counted and forgotten.  A text that
begins with `!` and is due is an order: `!1000` asks for, or announces, so many
messages.  The path says the rest: `/source/256`, `/sink`, `/echo`.

    python -m benchmarks.far CERTIFICATES

prints one line of JSON, `{"plain": PORT, "tls": PORT}`, and ends with its standard input.
"""

import asyncio
import json
import socket
import ssl
import sys
import threading
from pathlib import Path

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

CHUNK = 256 * 1024
"""Bytes of one write, where one frame is not more."""

HIGH_WATER = 1024 * 1024


def frame(payload: bytes) -> bytes:
    """Return an unmasked text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes([0x81, size])
    elif size < 65536:
        head = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x81\x7f" + size.to_bytes(8, "big")
    return head + payload


def text(size: int) -> str:
    """Return a text of so many bytes: what agents send is ASCII JSON mostly."""
    return ('{"seq":1,"kind":"trade","price":101.25,"note":"' + "x" * size)[:size]


class _Counted(WSListener):
    """Takes orders, and counts what comes between them."""

    def __init__(self) -> None:
        self.left = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                transport.send(WSMsgType.TEXT, "done")
        elif frame.msg_type is WSMsgType.TEXT:
            self.left = int(frame.get_payload_as_utf8_text()[1:])
            self.ordered(transport)
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def ordered(self, transport: WSTransport) -> None:
        """Note an order."""


class Sink(_Counted):
    """Counts what was announced, and says when that is all.

    It reads a small buffer every two milliseconds.  So no write of the client's has to wake it
    up, and nearly all of them find the window closed, where the kernel adds them to one another:
    what is left is what the client itself takes.  Reading as fast as it can, it would be woken
    more often the slower the client is, which is several times as much.
    """

    PAUSE = 0.002
    BUFFER = 64 * 1024

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.wire = transport.underlying_transport
        sock = self.wire.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.BUFFER)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        super().on_ws_frame(transport, frame)
        if frame.last_in_buffer and self.left:
            self.wire.pause_reading()
            asyncio.get_running_loop().call_later(self.PAUSE, self.read_on)

    def read_on(self) -> None:
        """Go on reading, over TLS with what was decrypted before the pause.

        aiofastnet 1.2 looks at that only when the socket brings more: the end of a burst
        would wait for ever.
        """
        if self.wire.is_closing():
            return
        self.wire.resume_reading()
        take = getattr(self.wire, "_do_read", None)
        if take is not None:
            take()


class Source(_Counted):
    """Sends what was asked for, as fast as it is taken."""

    def __init__(self, size: int) -> None:
        super().__init__()
        one = frame(text(size).encode())
        self.each = len(one)
        self.fit = max(1, CHUNK // self.each)
        self.chunk = one * self.fit
        self.to_send = 0
        self.paused = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.wire = transport.underlying_transport
        self.wire.set_write_buffer_limits(high=HIGH_WATER)

    def ordered(self, transport: WSTransport) -> None:
        self.to_send, self.left = self.left, 0
        self.pump()

    def pump(self) -> None:
        while self.to_send and not self.paused:
            now = min(self.to_send, self.fit)
            self.to_send -= now
            full = now == self.fit
            self.wire.write(self.chunk if full else memoryview(self.chunk)[: now * self.each])

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.pump()


class Echo(WSListener):
    """Sends everything back."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
            transport.send(kind, frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


def listener(request: WSUpgradeRequest) -> WSListener | None:
    """Return what the path asks for."""
    match request.path.decode().split("/")[1:]:
        case ["source", size]:
            return Source(int(size))
        case ["sink"]:
            return Sink()
        case ["echo"]:
            return Echo()
        case _:
            return None


async def serve(certificates: Path) -> None:
    """Serve, plain and with TLS, until standard input ends."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem")
    plain, tls = [
        await ws_create_server(
            listener,
            "127.0.0.1",
            0,
            ssl=secure,
            backlog=1024,
            websocket_handshake_timeout=60,
            max_frame_size=16 * 1024 * 1024,
            read_buffer_init_size=4096,
        )
        for secure in (None, context)
    ]
    ports = {
        name: server.sockets[0].getsockname()[1]
        for name, server in (("plain", plain), ("tls", tls))
    }
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=wait, daemon=True).start()
    print(json.dumps(ports), flush=True)
    await over.wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
