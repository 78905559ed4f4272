"""A handler of ours with an `async def on_message`."""

import time

from benchmarks.clients import Where, dromos_def
from benchmarks.lap import Laps

__all__ = ["echo", "receive", "send"]


class Receiver(dromos_def.Receiver):
    """Takes so many messages, each in its turn."""

    async def on_message(self, message: str | bytes) -> None:  # type: ignore[override]
        self.left -= 1
        if not self.left:
            self.all.set_result(None)


async def receive(where: Where, laps: Laps) -> None:
    await dromos_def.receive(where, laps, Receiver)


class Echoer(dromos_def.Echoer):
    """Sends the next one when one has come back."""

    async def on_message(self, message: str | bytes) -> None:  # type: ignore[override]
        now = time.perf_counter()
        self.trips.append(now - self.at)
        self.at = now
        self.left -= 1
        if self.left:
            await self.send(self.message)
        else:
            self.all.set_result(None)


async def echo(where: Where, laps: Laps, size: int) -> None:
    await dromos_def.echo(where, laps, size, Echoer)


send = dromos_def.send  # how messages are received changes nothing in it
