"""The bare idiom beside a bridge: the same two bad days, on loopback, in half a minute.

    python examples/bare_idiom.py

The bare idiom is `async for socket in websockets.connect(...)`, with the token in a header.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dromos import Bridge, Handler
from dromos.oauth import OAuthClient
from dromos.testing import FarSide, FaultProxy, Gateway

LIFETIME = 4.0
RATE = 500
HANDSHAKE = 0.1
"""Seconds that a token lives, numbers a second from the far side, seconds for a handshake."""

Client = Callable[[str, Gateway, Callable[[Any], None]], Awaitable[str]]


async def bare(url: str, gateway: Gateway, take: Callable[[Any], None]) -> str:
    """Reconnect as the documentation of `websockets` shows it."""
    headers = {"Authorization": f"Bearer {gateway.access_token('c-1')}"}
    try:
        async for socket in connect(url, additional_headers=headers):
            with suppress(ConnectionClosed):
                async for message in socket:
                    take(message)
    except InvalidStatus as error:
        return f"stopped: HTTP {error.response.status_code}"
    return "stopped"


async def bridged(url: str, gateway: Gateway, take: Callable[[Any], None]) -> str:
    """Keep the connection with a bridge."""

    class Agent(Handler):
        def on_message(self, message: str | bytes) -> None:
            take(message)

    async with OAuthClient(gateway.url) as oauth, Bridge(oauth) as bridge:
        await bridge.maintain_websocket("c-1", url, Agent())
    return "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a client on a bad day."""

    dials: int
    sent: int
    missed: int
    ended: str


async def live(client: Client, far: FarSide, url: str, gateway: Gateway, time: float) -> Outcome:
    """Run a client for some seconds, and count what it missed of what was sent meanwhile."""
    seen: set[int] = set()
    running = asyncio.get_running_loop().create_task(
        client(url, gateway, lambda message: seen.add(int(message)))
    )
    await asyncio.sleep(time)
    sent = set(range(min(seen, default=1), far.published + 1))
    await asyncio.sleep(0.2)  # for what is on its way
    ended = running.result() if running.done() else "still running"
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return Outcome(dials=len(far.attempts), sent=len(sent), missed=len(sent - seen), ended=ended)


async def a_far_side_that_closes_at_once(client: Client, time: float) -> Outcome:
    """It accepts every link, and closes it with 1011: a deployment that went wrong."""
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("c-1", lifetime=3600)
        far.accept_then_close(1011, "a bad deployment", next=None)
        return await live(client, far, far.url, gateway, time)


async def a_token_that_expires(client: Client, time: float) -> Outcome:
    """It closes a link when the token that it was opened with expires; a handshake takes 0.1 s."""
    async with (
        Gateway() as gateway,
        FarSide(gateway=gateway, close_on_expiry=True, rate=RATE) as far,
        FaultProxy(far.url) as network,
    ):
        gateway.add("c-1", lifetime=LIFETIME)
        network.delay_handshake(HANDSHAKE, next=None)
        return await live(client, far, network.url, gateway, time)


async def main(time: float = 5.0) -> None:
    """Print what became of each client in each scene."""
    print(f"a far side that accepts and closes (1011), for {time:g} s")
    for name, client in (("bare idiom", bare), ("dromos", bridged)):
        outcome = await a_far_side_that_closes_at_once(client, time)
        print(f"  {name:<12} {outcome.dials} dials, {outcome.ended}")
    print(f"tokens of {LIFETIME:g} s, {RATE} numbers a second, for {2 * time:g} s")
    for name, client in (("bare idiom", bare), ("dromos", bridged)):
        outcome = await a_token_that_expires(client, 2 * time)
        print(
            f"  {name:<12} {outcome.missed} of {outcome.sent} numbers missed, "
            f"{outcome.dials} dials, {outcome.ended}"
        )


if __name__ == "__main__":
    asyncio.run(main(*map(float, sys.argv[1:2])))
