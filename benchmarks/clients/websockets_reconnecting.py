"""websockets' own answer to lost links: `async for link in connect(...)`, and `async for` in it."""

from websockets.asyncio.client import connect

from benchmarks.clients import Where, iterating
from benchmarks.lap import Laps

__all__ = ["echo", "receive", "send"]


async def receive(where: Where, laps: Laps) -> None:
    async for link in connect(where.url, ssl=where.tls):
        await iterating.receive(link, laps)
        return


async def send(where: Where, laps: Laps, size: int) -> None:
    async for link in connect(where.url, ssl=where.tls):
        await iterating.send(link, laps, size)
        return


async def echo(where: Where, laps: Laps, size: int) -> None:
    async for link in connect(where.url, ssl=where.tls):
        await iterating.echo(link, laps, size)
        return
