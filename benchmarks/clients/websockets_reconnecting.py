"""websockets' own answer to lost links: `async for link in connect(...)`, and `async for` in it."""

import time

from websockets.asyncio.client import connect

from benchmarks.clients import Where
from benchmarks.far import text
from benchmarks.lap import Laps


async def receive(where: Where, laps: Laps) -> None:
    async for link in connect(where.url, ssl=where.tls):
        for count in laps:
            left = count
            with laps.lap():
                await link.send(f"!{count}")
                async for _ in link:
                    left -= 1
                    if not left:
                        break
        return


async def send(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async for link in connect(where.url, ssl=where.tls):
        for count in laps:
            with laps.lap():
                await link.send(f"!{count}")
                for _ in range(count):
                    await link.send(message)
                await link.recv()
        return


async def echo(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async for link in connect(where.url, ssl=where.tls):
        for count in laps:
            left = count
            with laps.lap():
                at = time.perf_counter()
                await link.send(message)
                async for _ in link:
                    now = time.perf_counter()
                    laps.trips.append(now - at)
                    at = now
                    left -= 1
                    if not left:
                        break
                    await link.send(message)
        return
