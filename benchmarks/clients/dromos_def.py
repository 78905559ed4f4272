"""A handler of ours with a plain `on_message`."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from benchmarks.clients import Where
from benchmarks.far import text
from benchmarks.lap import Laps
from dromos import Bridge
from dromos.dialers import PicowsDialer
from dromos.interfaces import Send
from dromos.oauth import StaticToken


def bridge_for(where: Where) -> Bridge:
    """Return a bridge with every option at its default, but for whom to trust."""
    return Bridge(StaticToken("a-token"), dialer=PicowsDialer(ssl=where.tls))


class Receiver:
    """Takes so many messages."""

    left = 0

    def __init__(self) -> None:
        self.greeted = asyncio.get_running_loop().create_future()

    def on_connect(self, send: Send) -> None:
        self.send = send
        self.greeted.set_result(None)

    def on_message(self, message: str | bytes) -> None:
        self.left -= 1
        if not self.left:
            self.all.set_result(None)

    def on_disconnect(self, error: Exception | None) -> None:
        pass

    def expect(self, count: int) -> asyncio.Future[None]:
        self.left = count
        self.all = asyncio.get_running_loop().create_future()
        return self.all


Handled = TypeVar("Handled", bound=Receiver)


@asynccontextmanager
async def session(where: Where, handler: Handled) -> AsyncIterator[Handled]:
    """Run a session, and wait until its link is open."""
    bridge = bridge_for(where)
    running = asyncio.create_task(bridge.maintain_websocket("c", where.url, handler))
    await asyncio.wait([running, handler.greeted], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        await running
    yield handler
    await bridge.close()
    await running


async def receive(where: Where, laps: Laps, make: type[Receiver] = Receiver) -> None:
    async with session(where, make()) as handler:
        for count in laps:
            with laps.lap():
                everything = handler.expect(count)
                handler.send(f"!{count}")
                await everything


async def send(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async with session(where, Receiver()) as handler:
        for count in laps:
            with laps.lap():
                done = handler.expect(1)
                send = handler.send
                await send(f"!{count}")
                for _ in range(count):
                    await send(message)
                await done


class Echoer(Receiver):
    """Sends the next one when one has come back."""

    def begin(self, count: int, message: str, trips: list[float]) -> asyncio.Future[None]:
        everything = self.expect(count)
        self.trips, self.message, self.at = trips, message, time.perf_counter()
        self.send(message)
        return everything

    def on_message(self, message: str | bytes) -> None:
        now = time.perf_counter()
        self.trips.append(now - self.at)
        self.at = now
        self.left -= 1
        if self.left:
            self.send(self.message)
        else:
            self.all.set_result(None)


async def echo(where: Where, laps: Laps, size: int, make: type[Echoer] = Echoer) -> None:
    async with session(where, make()) as handler:
        for count in laps:
            with laps.lap():
                await handler.begin(count, text(size), laps.trips)
