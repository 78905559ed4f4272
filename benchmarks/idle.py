"""What idle links hold and take, and what it takes to dial them."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.rounds import do
from benchmarks.server import Server

__all__ = ["BIG", "CLIENTS", "Case", "cases", "measure", "show"]

CLIENTS: Final = ("picows", "dromos", "dromos, a bridge each", "websockets", "aiohttp")

BIG: Final = 2**20 - 16
"""Bytes of the message that comes once, to see what stays behind: 1 MiB with its frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """So many links of one client.

    Attributes:
        burst: Whether each gets one big message at the end.  Not by the thousand: every
            client keeps a buffer of its size.
    """

    client: str
    links: int
    tls: bool
    loop: str
    burst: bool


def cases(links: Sequence[int]) -> list[Case]:
    """Return what to measure: of a few links or very many picows and ours, else all clients."""
    return [
        Case(client=client, links=count, tls=tls, loop=loop, burst=count <= 100)
        for count in links
        for tls in (False, True)
        for loop in (("asyncio", "uvloop") if count == 1000 else ("asyncio",))
        for client in (CLIENTS if 100 <= count <= 1000 else CLIENTS[:2])
    ]


def measure(
    where: Server, wanted: Sequence[Case], *, seconds: float, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return one row for each case, in a process each.

    Args:
        where: The server.
        wanted: The cases.
        seconds: How long the links are watched doing nothing.
        tell: Hears what comes next.
    """
    rows: list[dict[str, Any]] = []
    for case in wanted:
        what = "TLS" if case.tls else "plain"
        tell(f"idle: {case.links} links, {what}, {case.loop}, {case.client}")
        order = {
            "client": case.client,
            "links": case.links,
            "tls": case.tls,
            "loop": case.loop,
            "burst": case.burst,
            "seconds": seconds,
            "url": where.url(f"/source/{BIG}", tls=case.tls),
            "trust": where.trust,
        }
        rows.append(order | do([sys.executable, "-m", "benchmarks.idle_worker"], order))
    return rows


def show(rows: Sequence[dict[str, Any]]) -> str:
    """Return it as a table."""
    lines: list[str] = []
    heading = None
    for row in rows:
        now = (row["links"], row["tls"], row["loop"])
        if now != heading:
            heading = now
            what = "TLS" if row["tls"] else "plain"
            lines += [
                "",
                f"{row['links']} idle links, {what}, {row['loop']}  (for each link)",
                _HEAD,
            ]
        burst = f"{row['after_burst']:>14.0f}" if "after_burst" in row else " " * 14
        lines.append(
            f"{row['client']:<26}  {row['memory']:>10.1f}  {burst}  {row['idle']:>10.2f}"
            f"  {row['dial']:>10.0f}  {row['dials']:>10.0f}"
        )
    return "\n".join(lines[1:])


_HEAD: Final = (
    f"{'client':<26}  {'KiB':>10}  {'after 1 MiB':>14}  {'us CPU/s':>10}"
    f"  {'us CPU/dial':>10}  {'dials/s':>10}"
)
