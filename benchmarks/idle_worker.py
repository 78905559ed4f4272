"""Some idle links in one process: what they hold, and what keepalive takes.

    python -m benchmarks.idle_worker '{"client": …, "links": …, "tls": …, …}'

prints one line of JSON, all figures for each link.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.clients import Where
from benchmarks.lap import computed
from benchmarks.worker import run_on

__all__ = ["CLIENTS", "measure"]

AT_ONCE = 50
"""Dials under way."""

KEEPALIVE = 20.0
"""Seconds without data before a ping: the default of ours, of websockets, and what users of
aiohttp and picows set."""

Open = Callable[[Where, AsyncExitStack], Awaitable[Callable[[], Awaitable[None]]]]
"""Opens a link that stays open until the stack is left, and returns what asks for a message
and waits for it."""


def resident() -> float:
    """Return this process's resident memory in KiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


# ---------------------------------------------------------------- the clients


def dromos(bridges: int) -> Open:
    """Sessions of ours, with a handler each: of one bridge, or of a bridge each."""
    from benchmarks.clients.dromos_def import Receiver
    from dromos import Bridge
    from dromos.dialers import PicowsDialer
    from dromos.oauth import StaticToken

    tokens = StaticToken("a-token")
    made: list[Bridge] = []
    running: list[asyncio.Task[None]] = []
    dialer: PicowsDialer | None = None

    async def open_one(where: Where, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
        nonlocal dialer
        dialer = dialer or PicowsDialer(ssl=where.tls)
        if len(made) < bridges:
            made.append(Bridge(tokens, dialer=dialer))
        handler = Receiver()
        running.append(asyncio.create_task(made[-1].maintain_websocket("c", where.url, handler)))
        await handler.greeted
        del handler.greeted

        async def one() -> None:
            everything = handler.expect(1)
            handler.send("!1")
            await everything
            del handler.all

        return one

    return open_one


def picows() -> Open:
    """picows with its own pings."""
    from picows import WSMsgType, ws_connect

    from benchmarks.clients.picows_raw import Listener

    context: list[Any] = []

    async def open_one(where: Where, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
        context[:] = context or [where.tls]
        transport, listener = await ws_connect(
            Listener,
            where.url,
            ssl_context=context[0],
            enable_auto_ping=True,
            auto_ping_idle_timeout=KEEPALIVE,
        )
        assert isinstance(listener, Listener)
        stack.callback(transport.disconnect, graceful=False)

        async def one() -> None:
            everything = listener.expect(1)
            transport.send(WSMsgType.TEXT, "!1")
            await everything

        return one

    return open_one


def websockets() -> Open:
    """websockets with its defaults."""
    from websockets.asyncio.client import connect

    context: list[Any] = []

    async def open_one(where: Where, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
        context[:] = context or [where.tls]
        link = await stack.enter_async_context(
            connect(where.url, ssl=context[0], max_size=2**21, ping_interval=KEEPALIVE)
        )

        async def one() -> None:
            await link.send("!1")
            await link.recv()

        return one

    return open_one


def aiohttp() -> Open:
    """aiohttp with a heartbeat: one session for all."""
    from aiohttp import ClientSession, TCPConnector

    shared: list[Any] = []

    async def open_one(where: Where, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
        if not shared:
            session = ClientSession(connector=TCPConnector(limit=0))
            shared[:] = [await stack.enter_async_context(session), where.tls or True]
        link = await stack.enter_async_context(
            shared[0].ws_connect(where.url, ssl=shared[1], heartbeat=KEEPALIVE)
        )
        # Its heartbeat needs somebody who receives.
        ready: asyncio.Queue[Any] = asyncio.Queue()

        async def pump() -> None:
            async for message in link:
                ready.put_nowait(len(message.data))

        pumping = asyncio.create_task(pump())
        stack.callback(pumping.cancel)

        async def one() -> None:
            await link.send_str("!1")
            await ready.get()

        return one

    return open_one


CLIENTS: dict[str, Callable[[int], Open]] = {
    "picows": lambda _: picows(),
    "dromos": lambda _: dromos(1),
    "dromos, a bridge each": dromos,
    "websockets": lambda _: websockets(),
    "aiohttp": lambda _: aiohttp(),
}
"""By name; each is told how many links there will be."""


# ---------------------------------------------------------------- the measurement


async def measure(order: dict[str, Any]) -> None:
    """Open, wait, and ask each link for one big message."""
    where, links = Where(order["url"], order["trust"]), order["links"]
    open_one = CLIENTS[order["client"]](links)
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:
        first = await open_one(where, stack)  # brings imports, contexts, threads
        before, cpu, began = resident(), computed(), time.perf_counter()

        async def open_in_turn() -> Callable[[], Awaitable[None]]:
            async with gate:
                return await open_one(where, stack)

        asks = await asyncio.gather(*(open_in_turn() for _ in range(links)))
        dial_cpu, dial_wall = computed() - cpu, time.perf_counter() - began
        await asyncio.sleep(1.0)
        after = resident()
        cpu = computed()
        await asyncio.sleep(order["seconds"])
        idle_cpu = computed() - cpu
        result = {
            "memory": (after - before) / links,
            "idle": idle_cpu / links / order["seconds"] * 1e6,
            "dial": dial_cpu / links * 1e6,
            "dials": links / dial_wall,
        }
        if order["burst"]:
            for ask in (first, *asks):
                await ask()
            await asyncio.sleep(0.1)
            result["after_burst"] = (resident() - before) / links
        print(json.dumps(result), flush=True)
        os._exit(0)  # rather than say goodbye five thousand times


if __name__ == "__main__":
    run_on((given := json.loads(sys.argv[1]))["loop"], measure(given))
