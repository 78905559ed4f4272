"""The command line: `make bench`, or `python -m benchmarks --help`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import callgrind, startup, surroundings
from benchmarks.clients import CLIENTS
from benchmarks.jobs import JOBS
from benchmarks.rounds import play
from benchmarks.server import Server, server
from benchmarks.table import rows, text

PARTS: Final = ("messages", "startup")

HOT_PATH: Final = ("receive 256 B", "send 256 B", "echo 256 B")
"""What instructions are counted for; callgrind is fifty times slower than life."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    chosen = _parser().parse_args(arguments)
    around = surroundings.describe()
    report: dict[str, Any] = {"surroundings": around}
    print(surroundings.line(around), flush=True)
    with server() as where:
        for part in chosen.only:
            report[part], shown = _PARTS[part](chosen, where)
            print(f"\n{shown}", flush=True)
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")


def _messages(chosen: argparse.Namespace, where: Server) -> tuple[dict[str, Any], str]:
    jobs = [JOBS[name] for name in chosen.jobs]
    base = next(iter(CLIENTS))
    samples = list(
        play(
            where,
            jobs,
            chosen.clients,
            rounds=chosen.rounds,
            scale=chosen.scale,
            loop=chosen.loop,
            tell=_tell,
        )
    )
    counted: dict[tuple[str, str], float] = {}
    reason = callgrind.missing() if chosen.callgrind else "not asked for (--callgrind)"
    if reason is None:
        hot = [job for job in jobs if job.name in HOT_PATH]
        counted = callgrind.count(where, hot, chosen.clients, _tell)
    table = rows(samples, base)
    result = {
        "loop": chosen.loop,
        "samples": [asdict(sample) for sample in samples],
        "table": [asdict(row) for row in table],
        "instructions": [[*key, value] for key, value in counted.items()],
    }
    notes = f"best of {chosen.rounds} interleaved rounds, on {chosen.loop}; ratios to {base}"
    skipped = "" if reason is None else f"; instructions: skipped, {reason}"
    return result, f"{text(table, counted)}\n\n{notes}{skipped}"


def _startup(chosen: argparse.Namespace, where: Server) -> tuple[dict[str, Any], str]:
    taken = startup.measure(chosen.rounds)
    return taken, startup.show(taken)


_PARTS: Final = {"messages": _messages, "startup": _startup}


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _names(allowed: Sequence[str]) -> Any:
    """Return what reads names that are separated by semicolons, as some hold commas."""

    def read(given: str) -> list[str]:
        names = [name.strip() for name in given.split(";")]
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of: {'; '.join(allowed)}")
        return names

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=7, help="interleaved rounds (default 7)")
    add("--scale", type=float, default=1.0, help="times the usual number of messages (default 1)")
    add("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="default asyncio")
    add("--jobs", type=_names(tuple(JOBS)), default=list(JOBS), help=f"of: {'; '.join(JOBS)}")
    add("--clients", type=_names(tuple(CLIENTS)), default=list(CLIENTS), help="; ".join(CLIENTS))
    add("--only", type=_names(PARTS), default=list(PARTS), help=f"of: {'; '.join(PARTS)}")
    add("--callgrind", action="store_true", help="count instructions as well (minutes)")
    add("--json", type=Path, help="write everything here")
    return parser


if __name__ == "__main__":
    main()
