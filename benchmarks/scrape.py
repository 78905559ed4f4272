"""What a Prometheus scrape of many sessions costs: `make scrape`.

Real sessions of one bridge, on links in memory, each with a token and messages on its link.
What the kernel knows of a link is asked of a socket as it is for links on sockets: of one for
all of them, since so many descriptors are more than most machines allow.
The figure to look at is the processor time of one scrape, which a busy machine does not spoil;
beside it stands what the snapshots of the same sessions would have cost.
It exits with 1 when that is over the bar.
"""

import argparse
import asyncio
import gc
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from dromos import Bridge, Send, Token
from dromos.dialers import _kernel
from dromos.interfaces import WireBytes
from dromos.model import Message
from dromos.telemetry.prometheus import PrometheusMetrics
from dromos.testing.clock import EPOCH, on_loop_time
from dromos.testing.memory import MemoryDialer
from dromos.testing.virtual import VirtualLoop

WITHIN = 0.1
"""Seconds of processor time that a scrape may take: issue 7."""


class Agent:
    """Says hello, and is answered."""

    async def on_connect(self, send: Send) -> None:
        await send("hello")

    def on_message(self, message: Message) -> None:
        pass

    def on_disconnect(self, error: Exception | None) -> None:
        pass


class Tokens:
    """Gives each connection a token of an hour."""

    async def get_token(self, connection_id: str, /) -> Token:
        at = EPOCH + asyncio.get_running_loop().time() + 3600
        return Token({"access_token": connection_id}, expires_at=at, lifetime=3600)


class Wired(MemoryDialer):
    """Opens links in memory that ask a socket how many bytes they have carried."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._socket = sock

    async def dial(self, *about: Any) -> Any:
        link: Any = await super().dial(*about)
        link.wire_bytes = self._told
        return link

    def _told(self) -> WireBytes | None:
        return _kernel.wire_bytes(self._socket)


@contextmanager
def connected() -> Iterator[socket.socket]:
    """Yield one end of a TCP connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
        server.accept()[0],
    ):
        yield near


async def measure(sock: socket.socket, sessions: int, endpoints: int, scrapes: int) -> float:
    """Print what a scrape costs, and return the median in seconds."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry=registry)
    bridge = on_loop_time(
        Bridge(
            Tokens(),
            on_event=metrics.on_event,
            dialer=Wired(sock),
            max_concurrent_dials=sessions,
        ),
        seed=1,
    )
    metrics.watch(bridge)
    tasks = [
        asyncio.ensure_future(
            bridge.maintain_websocket(
                f"c-{number}", f"wss://far-{number % endpoints}.example/ws", Agent()
            )
        )
        for number in range(sessions)
    ]
    await asyncio.sleep(60)
    seen = bridge.census()
    assert {"open": sessions} == dict(seen.states)
    assert seen.received >= sessions
    # What began this many sessions is not what is measured.
    gc.collect()
    size = len(generate_latest(registry))
    cost = timed(lambda: generate_latest(registry), scrapes)
    print(f"{sessions:,} sessions on {endpoints} endpoints, {size / 1000:.0f} kB a scrape")
    print(f"scrape     {describe(cost)}")
    print(f"census     {describe(timed(bridge.census, scrapes))}")
    print(f"snapshots  {describe(timed(bridge.snapshots, max(3, scrapes // 4)))}")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return statistics.median(cost)


def timed(work: Callable[[], object], times: int) -> list[float]:
    """Return how much processor time each call took."""
    took = []
    for _ in range(times):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return took


def describe(took: list[float]) -> str:
    """Return median and worst in milliseconds."""
    return f"{statistics.median(took) * 1000:6.1f} ms, at worst {max(took) * 1000:.1f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, say whether it is quick enough, and return the exit status."""
    parser = argparse.ArgumentParser(description="Processor time of a scrape")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--scrapes", type=int, default=20)
    parser.add_argument("--within", type=float, default=WITHIN, help="seconds (default 0.1)")
    options = parser.parse_args(arguments)
    chosen = options.sessions, options.endpoints, options.scrapes
    with connected() as sock, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        median = runner.run(measure(sock, *chosen))
    passed = median < options.within
    print(f"{'PASSED: within' if passed else 'FAILED: over'} {options.within * 1000:g} ms")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
