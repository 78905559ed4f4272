"""aiohttp: `ws_connect`, with a heartbeat as all others have one."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.clients import Where
from benchmarks.far import text
from benchmarks.lap import Laps

HEARTBEAT = 20.0


@asynccontextmanager
async def link_to(where: Where) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(where.url, ssl=where.tls or True, heartbeat=HEARTBEAT) as link,
    ):
        yield link


async def receive(where: Where, laps: Laps) -> None:
    async with link_to(where) as link:
        for count in laps:
            left = count
            with laps.lap():
                await link.send_str(f"!{count}")
                async for message in link:
                    assert message.type is aiohttp.WSMsgType.TEXT
                    left -= 1
                    if not left:
                        break


async def send(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async with link_to(where) as link:
        for count in laps:
            with laps.lap():
                await link.send_str(f"!{count}")
                for _ in range(count):
                    await link.send_str(message)
                await link.receive()


async def echo(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async with link_to(where) as link:
        for count in laps:
            with laps.lap():
                at = time.perf_counter()
                for _ in range(count):
                    await link.send_str(message)
                    await link.receive()
                    now = time.perf_counter()
                    laps.trips.append(now - at)
                    at = now
