"""websockets: `connect`, `recv` and `send`, with its defaults; the far side does not compress."""

import time

from websockets.asyncio.client import connect

from benchmarks.clients import Where
from benchmarks.far import text
from benchmarks.lap import Laps


async def receive(where: Where, laps: Laps) -> None:
    async with connect(where.url, ssl=where.tls) as link:
        for count in laps:
            with laps.lap():
                await link.send(f"!{count}")
                for _ in range(count):
                    await link.recv()


async def send(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async with connect(where.url, ssl=where.tls) as link:
        for count in laps:
            with laps.lap():
                await link.send(f"!{count}")
                for _ in range(count):
                    await link.send(message)
                await link.recv()


async def echo(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async with connect(where.url, ssl=where.tls) as link:
        for count in laps:
            with laps.lap():
                at = time.perf_counter()
                for _ in range(count):
                    await link.send(message)
                    await link.recv()
                    now = time.perf_counter()
                    laps.trips.append(now - at)
                    at = now
