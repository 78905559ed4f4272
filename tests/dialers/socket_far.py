"""The contract's far side for a real dialer: frames over a real connection."""

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress

from tests.dialers.loopback import BINARY, CLOSE, PING, PONG, TEXT, Peer, frame

from dromos.dialers._frames import met, parse_close
from dromos.errors import ConnectionClosed
from dromos.model import Message


class SocketFar:
    """A well-behaved far side on a `Peer`."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.answer_close = True
        self._received: asyncio.Queue[Message] = asyncio.Queue()
        self._closed: asyncio.Future[ConnectionClosed] = asyncio.get_running_loop().create_future()
        self._sent_close: tuple[int, str] | None = None

    async def serve(self) -> None:
        """Read until the connection ends, and answer what has to be answered."""
        end = ConnectionClosed(code=1006)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload, _ = await self.peer.read_frame()
                if opcode == CLOSE and (self.answer_close or self._sent_close is not None):
                    end = self._on_close(payload)
                    break
                self._take(opcode, payload)
        if not self._closed.done():
            self._closed.set_result(end)

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._received.put_nowait(payload.decode())
        elif opcode == BINARY:
            self._received.put_nowait(payload)
        elif opcode == PING:
            self.pings.append(payload)
            self.peer.write(frame(PONG, payload))
        elif opcode == PONG:
            self.pongs.append(payload)

    def _on_close(self, payload: bytes) -> ConnectionClosed:
        code, reason = parse_close(payload)
        if self._sent_close is not None:
            code, reason, by_peer = met(self._sent_close, code, reason)
            return ConnectionClosed(code=code, reason=reason, by_peer=by_peer)
        self.peer.write(frame(CLOSE, payload))
        return ConnectionClosed(code=code, reason=reason)

    async def receive(self) -> Message:
        return await self._received.get()

    async def wait_closed(self) -> ConnectionClosed:
        return await self._closed

    def send(self, message: Message, *, fragments: int = 1) -> None:
        payload = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        size = max(1, -(-len(payload) // fragments))
        for index in range(fragments):
            self.peer.write(
                frame(
                    opcode if index == 0 else 0,
                    payload[index * size : (index + 1) * size],
                    fin=index == fragments - 1,
                )
            )

    def ping(self, payload: bytes = b"") -> None:
        self.peer.write(frame(PING, payload))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._sent_close = (1000 if code == 1005 else code), reason
        payload = b"" if code == 1005 else struct.pack("!H", code) + reason.encode()
        self.peer.write(frame(CLOSE, payload))

    def drop(self) -> None:
        self.peer.drop()

    def stop_reading(self) -> None:
        self.peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        self.peer.reader._limit = 0  # type: ignore[attr-defined]

    def start_reading(self) -> None:
        self.peer.writer.transport.resume_reading()  # type: ignore[attr-defined]


class Far:
    """Serves connections for the contract, one `SocketFar` each."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[SocketFar] = asyncio.Queue()
        self.first_action: Callable[[SocketFar], None] | None = None
        self.hanging = False

    async def serve(self, peer: Peer) -> None:
        if self.hanging:
            await peer.read_request()
            await peer.ended()
            return
        await peer.accept()
        far = SocketFar(peer)
        if self.first_action is not None:
            self.first_action(far)
        self.queue.put_nowait(far)
        await far.serve()
