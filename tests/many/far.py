"""A far side for thousands of links, in a process of its own, that does as standard input says.

It is as small as it can be, so that what is measured is the near side: it answers the
upgrade, PING and CLOSE, and everything else it ignores.

    python -m tests.many.far 127.0.0.1 127.0.0.2 --port 0

A line of JSON is one order, and is answered with a line.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import resource
import socket
import struct
import sys
from typing import Any, Final

from tests.many.admission import Admission

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
RESET: Final = struct.pack("ii", 1, 0)
PING, CLOSE = 0x9, 0x8
REFUSALS: Final = {
    status: f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    for status in (410, 503)
}


class FarLink(asyncio.Protocol):
    """One connection."""

    def __init__(self, far: "Far") -> None:
        self.far = far
        self.path = ""
        self.heard = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.far.links.discard(self)

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if not self.path:
            head, found, rest = bytes(self.heard).partition(b"\r\n\r\n")
            if found:
                self.heard = bytearray(rest)
                self._answer(head)
        while self.path and self._take_frame():
            pass

    def send(self, text: bytes) -> None:
        """Send a short text message."""
        self._write(0x1, text)

    def drop(self) -> None:
        """End the connection with RST."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def _answer(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        path = lines[0].split(b" ")[1].decode()
        status = self.far.judge(path)
        if status != 101:
            self.transport.write(REFUSALS[status])
            self.transport.close()
            return
        key = {name.lower(): value for name, value in fields.items()}[b"sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.path = path
        self.far.links.add(self)

    def _take_frame(self) -> bool:
        """Take one frame of up to 125 bytes: agents here send no longer ones."""
        heard = self.heard
        if len(heard) < 6 or len(heard) < (size := 6 + (heard[1] & 0x7F)):
            return False
        opcode, mask = heard[0] & 0xF, heard[2:6]
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(heard[6:size]))
        del heard[:size]
        if opcode == PING:
            self._write(0xA, payload)
        elif opcode == CLOSE:
            self._write(CLOSE, payload)
            self.transport.close()
        return True

    def _write(self, opcode: int, payload: bytes) -> None:
        self.transport.write(bytes((0x80 | opcode, len(payload))) + payload)


class Far:
    """The far side: its links, and whom it lets in."""

    def __init__(self, hosts: list[str], port: int) -> None:
        self.links: set[FarLink] = set()
        self.upgrades = 0
        self.refused = 0
        self.admission: Admission | None = None
        self.queues = False
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        for host in hosts:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind((host, port))
            listener.listen(4096)
            port = listener.getsockname()[1]
            self._listeners.append(listener)
            self._loop.add_reader(listener, self._accept, listener)
        self.port = port

    def judge(self, path: str) -> int:
        """Return the status that an upgrade is answered with."""
        self.upgrades += 1
        if path.startswith("/gone"):
            return 410
        if self.admission is None or self.queues or self.admission.admits(self._loop.time()):
            return 101
        self.refused += 1
        return 503

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do as an order says, and answer."""
        match order:
            case {"drop": True, **rest}:
                rate = rest.get("admit")
                self.admission = None if rate is None else Admission(rate)
                self.queues = rest.get("queues", False)
                for listener in self._listeners:
                    listener.listen(rest.get("backlog", 4096))
                dropped = len(self.links)
                for link in list(self.links):
                    link.drop()
                return {"dropped": dropped}
            case {"send": text, **rest}:
                wanted = rest.get("path", "/")
                chosen = [link for link in self.links if link.path.startswith(wanted)]
                for link in chosen:
                    link.send(text.encode())
                return {"sent": len(chosen)}
            case _:
                counts = {"open": len(self.links), "upgrades": self.upgrades}
                return counts | {"refused": self.refused}

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(100):
            if self.queues and self.admission and not self.admission.admits(self._loop.time()):
                # Whoever is not accepted waits in the kernel's queue, or before it.
                self._loop.remove_reader(listener)
                pause = 1 / self.admission.rate
                self._loop.call_later(
                    pause, self._loop.add_reader, listener, self._accept, listener
                )
                return
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            serving = self._loop.connect_accepted_socket(lambda: FarLink(self), sock)
            self._loop.create_task(serving).add_done_callback(_say_what_failed)


def _say_what_failed(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        print(repr(task.exception()), file=sys.stderr)


async def main(hosts: list[str], port: int) -> None:
    """Serve until standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    far = Far(hosts, port)
    print(json.dumps({"port": far.port}), flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        print(json.dumps(far.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("hosts", nargs="+")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    asyncio.run(main(asked.hosts, asked.port))
