"""Our `Connection`: `async for message in connection`, and its own `send`."""

import time

from benchmarks.clients import Where
from benchmarks.clients.dromos_def import bridge_for
from benchmarks.far import text
from benchmarks.lap import Laps


async def receive(where: Where, laps: Laps) -> None:
    async with bridge_for(where).connect("c", where.url) as connection:
        for count in laps:
            await connection.wait_open()
            left = count
            with laps.lap():
                await connection.send(f"!{count}")
                async for _ in connection:
                    left -= 1
                    if not left:
                        break


async def send(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async with bridge_for(where).connect("c", where.url) as connection:
        await connection.wait_open()
        for count in laps:
            with laps.lap():
                await connection.send(f"!{count}")
                for _ in range(count):
                    await connection.send(message)
                await connection.recv()


async def echo(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    async with bridge_for(where).connect("c", where.url) as connection:
        await connection.wait_open()
        for count in laps:
            left = count
            with laps.lap():
                at = time.perf_counter()
                await connection.send(message)
                async for _ in connection:
                    now = time.perf_counter()
                    laps.trips.append(now - at)
                    at = now
                    left -= 1
                    if not left:
                        break
                    await connection.send(message)
