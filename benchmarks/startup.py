"""What an import takes on top of asyncio, in fresh interpreters that take turns."""

import json
import os
import statistics
import subprocess
import sys
from typing import Any, Final

__all__ = ["measure", "show"]

IMPORTS: Final = ("dromos", "picows", "websockets.asyncio.client", "aiohttp", "websocket")

_SCRIPT: Final = """
import asyncio, json, resource, sys, time
def computed():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
cpu, wall = computed(), time.perf_counter()
import {name}
wall, cpu = time.perf_counter() - wall, computed() - cpu
print(json.dumps([cpu * 1e3, wall * 1e3, "httpx2" in sys.modules]))
"""


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """Return milliseconds for each import, and whether it brought httpx2 along."""
    taken: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in IMPORTS}
    # pip compiles what it installs, and nothing what is imported from a clone: that would be
    # measured as the import, where the environment forbids to keep it.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(rounds + 1):
        for name in IMPORTS:
            script = _SCRIPT.format(name=name)
            command = [sys.executable, "-c", script]
            printed = subprocess.check_output(command, text=True, env=kept)
            taken[name].append(tuple(json.loads(printed)))
    return {
        name: {
            # Without the first: it may have compiled bytecode.
            "best": min(cpu for cpu, _, _ in each[1:]),
            "median": statistics.median(cpu for cpu, _, _ in each[1:]),
            "wall": min(wall for _, wall, _ in each[1:]),
            "httpx2": any(brought for _, _, brought in each),
        }
        for name, each in taken.items()
    }


def show(taken: dict[str, dict[str, Any]]) -> str:
    """Return it as a table."""
    lines = ["import, on top of asyncio  (milliseconds)"]
    lines.append(f"{'module':<26}  {'best':>9}  {'median':>9}  {'wall':>9}  httpx2 with it")
    for name, row in taken.items():
        brought = "yes" if row["httpx2"] else "no"
        figures = "  ".join(f"{row[column]:>9.1f}" for column in ("best", "median", "wall"))
        lines.append(f"{name:<26}  {figures}  {brought}")
    return "\n".join(lines)
