"""Our `Connection`: `async for message in connection`, and its own `send`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.clients import Where, iterating
from benchmarks.clients.dromos_def import bridge_for
from benchmarks.lap import Laps
from dromos import Connection

__all__ = ["echo", "receive", "send"]


@asynccontextmanager
async def connected(where: Where) -> AsyncGenerator[Connection]:
    async with bridge_for(where).connect("c", where.url) as connection:
        await connection.wait_open()
        yield connection


async def receive(where: Where, laps: Laps) -> None:
    async with connected(where) as connection:
        await iterating.receive(connection, laps)


async def send(where: Where, laps: Laps, size: int) -> None:
    async with connected(where) as connection:
        await iterating.send(connection, laps, size)


async def echo(where: Where, laps: Laps, size: int) -> None:
    async with connected(where) as connection:
        await iterating.echo(connection, laps, size)
