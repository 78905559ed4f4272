"""Random frame streams in random pieces: our links agree with the parser of `websockets`.

What is compared: the messages delivered, and the code the link ends with.
What is not: `streams.comparable` says where comparing a stream ends, and why.
And on the wire, of several errors in one read picows names the last that its
parser finds, because it looks one frame ahead (Autobahn 7.1.2); what
`on_closed` reports is the first all the same.

    FUZZ_STREAMS=100000 FUZZ_SEED=7 pytest tests/dialers/test_fuzz.py

Both dialers are played over real connections; picows also without, so that a run is
the same each time, piece by piece.
"""

import asyncio
import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from tests.dialers.loopback import Peer, serving, upgrade
from tests.dialers.recorder import Recorder
from tests.dialers.streams import LIMIT, Outcome, comparable, expected, pieces, random_stream

from dromos.dialers.picows import PicowsDialer
from dromos.dialers.websockets import WebsocketsDialer
from dromos.interfaces import Limits
from dromos.model import Handshake

STREAMS = int(os.environ.get("FUZZ_STREAMS", "3000"))
SEED = os.environ.get("FUZZ_SEED", "dromos")
ON_LOOPBACK = max(1, STREAMS // 5)

EVERY_END = {1000, 1002, 1005, 1006, 1007, 1009}
"""The codes that streams end with, if there are `ENOUGH` of them."""

ENOUGH = 300


class Wire(asyncio.Transport):
    """A transport that a test feeds by hand, piece by piece, so that every run is the same."""

    def __init__(self, protocol: Any, sock: socket.socket) -> None:
        super().__init__({"socket": _Socket(sock.fileno()), "ssl_object": object()})
        self._protocol = protocol
        self._sock = sock
        self.written = b""
        self.reading = True
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.lose)

    abort = close

    def lose(self) -> None:
        self.closing = True
        if self._protocol is not None:
            protocol, self._protocol = self._protocol, None
            protocol.connection_lost(None)
            self._sock.close()

    def feed(self, data: bytes) -> None:
        """Give the protocol what a read would, in as many calls as its buffer needs."""
        while data and self.reading and not self.closing:
            buffer = self._protocol.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self._protocol.buffer_updated(size)
            data = data[size:]


class _Socket:
    """As much of a socket as picows and the link ask for; it has no TCP below it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def setsockopt(self, *_: object) -> None: ...

    def getsockopt(self, *_: object) -> int:
        raise_for = _[2:]
        if raise_for:
            raise OSError("not a TCP socket")
        return 0


class WiredDialer(PicowsDialer):
    """Dials with picows as ever, over a `Wire`."""

    async def _connect(self, host: str, port: int) -> socket.socket:
        near, far = socket.socketpair()
        far.close()
        return near


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch) -> list[Wire]:
    made: list[Wire] = []

    async def create_connection(
        _: Any, factory: Callable[[], Any], *__: Any, sock: socket.socket, **___: Any
    ) -> tuple[Any, Any]:
        protocol = factory()
        wire = Wire(protocol, sock)
        made.append(wire)
        protocol.connection_made(wire)
        asyncio.get_running_loop().call_soon(lambda: wire.feed(upgrade(wire.written)))
        return wire, protocol

    monkeypatch.setattr("picows.proxy._is_connected", lambda _: True)
    monkeypatch.setattr("aiofastnet.create_connection", create_connection)
    return made


async def play(dialer: WiredDialer, wires: list[Wire], parts: list[bytes]) -> Outcome:
    recorder = Recorder()
    await dialer.dial(Handshake(url="ws://127.0.0.1/"), recorder, Limits(message_size=LIMIT))
    wire = wires.pop()
    for part in parts:
        wire.feed(part)
        await asyncio.sleep(0)
    if not wire.closing and wire.reading:
        wire.lose()
    code, _, _ = await recorder.closed()
    return Outcome(recorder.messages, code)


async def test_our_links_agree_with_websockets_on_random_streams(wires: list[Wire]) -> None:
    dialer = WiredDialer()
    seen: set[int] = set()
    for number in range(STREAMS):
        rng = random.Random(f"{SEED}:{number}")
        data, rest = comparable(random_stream(rng))
        parts = pieces(rng, data)
        theirs, ours = expected(data), await play(dialer, wires, parts)
        assert theirs == ours, f"FUZZ_SEED={SEED}, stream {number}: {[p.hex() for p in parts]}"
        seen.add(ours.code)
        if rest:
            # What is not compared must still do no harm: an error, or the end.
            whole = await play(dialer, wires, pieces(rng, data + rest))
            assert theirs.messages == whole.messages[: len(theirs.messages)]
    if STREAMS >= ENOUGH:
        assert EVERY_END <= seen, "the streams are too tame"


@pytest.mark.parametrize("engine", [PicowsDialer, WebsocketsDialer])
async def test_and_so_they_do_over_real_connections(engine: Any) -> None:
    streams: dict[int, list[bytes]] = {}
    seen: set[int] = set()

    async def serve(peer: Peer) -> None:
        number = int((await peer.read_request()).split(b" ")[1][1:])
        peer.write(upgrade(peer.request))
        for part in streams[number]:
            peer.write(part)
            await asyncio.sleep(0)
        with suppress(OSError):  # the client may be gone by now
            peer.writer.write_eof()
        await peer.ended()

    dialer = engine()
    async with serving(serve) as port:
        for number in range(ON_LOOPBACK):
            rng = random.Random(f"{SEED}:loopback:{number}")
            data, _ = comparable(random_stream(rng))
            streams[number] = pieces(rng, data)
            recorder = Recorder()
            handshake = Handshake(url=f"ws://127.0.0.1:{port}/{number}")
            await dialer.dial(handshake, recorder, Limits(message_size=LIMIT))
            code, _, _ = await recorder.closed()
            ours = Outcome(recorder.messages, code)
            assert expected(data) == ours, f"FUZZ_SEED={SEED}, loopback {number}: {data.hex()}"
            seen.add(code)
    if ON_LOOPBACK >= ENOUGH:
        assert EVERY_END <= seen, "the streams are too tame"
