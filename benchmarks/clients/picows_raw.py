"""picows' core as it comes: the least that a program needs, with no library around it.

A listener reads the frame's type and decodes its text; who sends waits while the
transport says that its buffer is full.
"""

import asyncio
import time

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.clients import Where
from benchmarks.far import text
from benchmarks.lap import Laps


class Listener(WSListener):
    """Takes so many texts."""

    def __init__(self) -> None:
        self.left = 0
        self.all: asyncio.Future[None] | None = None
        self.drained: asyncio.Future[None] | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self.on_message(frame.get_payload_as_utf8_text())

    def on_message(self, message: str) -> None:
        self.left -= 1
        if not self.left and self.all is not None:
            self.all.set_result(None)

    def expect(self, count: int) -> asyncio.Future[None]:
        """Return what is done when so many have come."""
        self.left = count
        self.all = asyncio.get_running_loop().create_future()
        return self.all

    def pause_writing(self) -> None:
        self.drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self.drained is not None:
            self.drained.set_result(None)
            self.drained = None


async def _open(where: Where, make: type[Listener]) -> tuple[WSTransport, Listener]:
    transport, listener = await ws_connect(make, where.url, ssl_context=where.tls)
    assert isinstance(listener, make)
    return transport, listener


async def receive(where: Where, laps: Laps) -> None:
    transport, listener = await _open(where, Receiver)
    for count in laps:
        with laps.lap():
            everything = listener.expect(count)
            transport.send(WSMsgType.TEXT, f"!{count}")
            await everything
    transport.disconnect()


async def send(where: Where, laps: Laps, size: int) -> None:
    transport, listener = await _open(where, Listener)
    message = text(size)
    for count in laps:
        with laps.lap():
            done = listener.expect(1)
            transport.send(WSMsgType.TEXT, f"!{count}")
            for _ in range(count):
                transport.send(WSMsgType.TEXT, message)
                if listener.drained is not None:
                    await listener.drained
            await done
    transport.disconnect()


class Receiver(Listener):
    """The same without the call of a method of its own: as short as it gets."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            frame.get_payload_as_utf8_text()
            self.left -= 1
            if not self.left and self.all is not None:
                self.all.set_result(None)


class Echoer(Listener):
    """Sends the next one when one has come back."""

    def __init__(self) -> None:
        super().__init__()
        self.trips: list[float] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def begin(self, count: int, message: str, trips: list[float]) -> asyncio.Future[None]:
        everything = self.expect(count)
        self.trips, self.message, self.at = trips, message, time.perf_counter()
        self.transport.send(WSMsgType.TEXT, message)
        return everything

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            frame.get_payload_as_utf8_text()
            now = time.perf_counter()
            self.trips.append(now - self.at)
            self.at = now
            self.left -= 1
            if self.left:
                transport.send(WSMsgType.TEXT, self.message)
            elif self.all is not None:
                self.all.set_result(None)


async def echo(where: Where, laps: Laps, size: int) -> None:
    transport, listener = await _open(where, Echoer)
    assert isinstance(listener, Echoer)
    for count in laps:
        with laps.lap():
            await listener.begin(count, text(size), laps.trips)
    transport.disconnect()
