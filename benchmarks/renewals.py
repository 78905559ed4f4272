"""A wave of renewals: sessions that began together, whose tokens run out together."""

import sys
from typing import Any

from benchmarks.rounds import do
from benchmarks.server import Server

__all__ = ["measure", "show"]


def measure(where: Server, *, links: int, lifetime: float) -> dict[str, Any]:
    """Return what was seen of one wave.

    Args:
        where: The server.
        links: How many sessions, of one bridge.
        lifetime: Seconds that each token lives.
    """
    order = {"links": links, "lifetime": lifetime, "url": where.url("/echo", tls=False)}
    return order | do([sys.executable, "-m", "benchmarks.renewals_worker"], order)


def show(seen: dict[str, Any]) -> str:
    """Return it as lines."""
    return "\n".join(
        [
            f"renewal of {seen['links']} sessions, tokens of {seen['lifetime']:g} s",
            f"  microseconds for each, its hand-over included  {seen['cpu']:>10.0f}",
            f"  requests were spread over so many seconds      {seen['seconds']:>10}",
            f"  share of them in the busiest second            {seen['busiest_second']:>10.0%}",
            f"  requests in flight for one connection, at most {seen['in_flight_for_one']:>10}",
            f"  links lost meanwhile                           {seen['lost']:>10}",
        ]
    )
