"""Many sessions whose tokens run out at about the same time, in one process.

    python -m benchmarks.renewals_worker '{"links": …, "lifetime": …, "url": …}'

prints one line of JSON: what a renewal takes, its hand-over included, and how the
requests for tokens are spread.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.lap import computed
from benchmarks.worker import run_on
from dromos import AuthStrategy, Bridge, Token
from dromos.interfaces import Send

__all__ = ["measure"]


class Provider:
    """Gives tokens that live so long, and notes when it was asked."""

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.refreshed: list[tuple[str, float]] = []
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight = 0
        self.current: dict[str, Token] = {}

    async def get_token(self, connection_id: str) -> Token:
        if connection_id not in self.current:
            self.current[connection_id] = self._issue(0)
        return self.current[connection_id]

    async def refresh_connection(self, connection_id: str) -> Token:
        self.in_flight[connection_id] += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight[connection_id])
        self.refreshed.append((connection_id, time.monotonic()))
        await asyncio.sleep(0.02)  # a token server that is not far
        self.in_flight[connection_id] -= 1
        self.current[connection_id] = self._issue(len(self.refreshed))
        return self.current[connection_id]

    def _issue(self, number: int) -> Token:
        return Token(
            credentials={"access_token": f"t-{number}"},
            strategy=AuthStrategy("oauth2"),
            expires_at=time.time() + self.lifetime,
            lifetime=self.lifetime,
        )


class Handler:
    """Counts links, and those that took over."""

    def __init__(self, counted: Counter[str]) -> None:
        self.counted = counted

    def on_connect(self, send: Send) -> None:
        self.counted["connected"] += 1

    def on_handover(self, send: Send) -> None:
        self.counted["handed over"] += 1

    def on_message(self, message: str | bytes) -> None:
        pass

    def on_disconnect(self, error: Exception | None) -> None:
        self.counted["lost"] += 1


async def _until(condition: Callable[[], bool]) -> None:
    """Look twenty times a second: whoever told us each time would be measured as well."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def measure(order: dict[str, Any]) -> None:
    """Open, wait for each session's first renewal, and report."""
    links, provider = order["links"], Provider(order["lifetime"])
    counted: Counter[str] = Counter()
    bridge = Bridge(provider)
    sessions = [
        asyncio.create_task(bridge.maintain_websocket(f"c-{n}", order["url"], Handler(counted)))
        for n in range(links)
    ]
    await _until(lambda: counted["connected"] == links)
    handed, cpu, began = counted["handed over"], computed(), time.monotonic()
    await _until(
        lambda: (
            len({name for name, _ in provider.refreshed}) == links
            or time.monotonic() - began > 2 * order["lifetime"]
        )
    )
    await asyncio.sleep(0.5)
    took = computed() - cpu
    seconds = Counter(int(at) for _, at in provider.refreshed)
    result = {
        "links": links,
        "renewals": counted["handed over"] - handed,
        "cpu": took / max(1, counted["handed over"] - handed) * 1e6,
        "busiest_second": max(seconds.values(), default=0) / max(1, len(provider.refreshed)),
        "seconds": len(seconds),
        "in_flight_for_one": provider.most_in_flight,
        "lost": counted["lost"],
        "running": sum(not session.done() for session in sessions),
    }
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    run_on("asyncio", measure(json.loads(sys.argv[1])))
