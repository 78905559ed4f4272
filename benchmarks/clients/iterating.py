"""The jobs on an object that is sent on and iterated, as two of the clients offer it."""

import time
from typing import Any, Protocol

from benchmarks.far import text
from benchmarks.lap import Laps

__all__ = ["Iterated", "echo", "receive", "send"]


class Iterated(Protocol):
    """Something to send on and to iterate."""

    async def send(self, message: Any, /) -> None: ...

    async def recv(self) -> Any: ...

    def __aiter__(self) -> Any: ...


async def receive(link: Iterated, laps: Laps) -> None:
    for count in laps:
        left = count
        with laps.lap():
            await link.send(f"!{count}")
            async for _ in link:
                left -= 1
                if not left:
                    break


async def send(link: Iterated, laps: Laps, size: int) -> None:
    message = text(size)
    for count in laps:
        with laps.lap():
            await link.send(f"!{count}")
            for _ in range(count):
                await link.send(message)
            await link.recv()


async def echo(link: Iterated, laps: Laps, size: int) -> None:
    message = text(size)
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
