"""The command line: `make bench`, or `python -m benchmarks --help`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import callgrind, idle, renewals, startup, surroundings
from benchmarks.clients import CLIENTS, available
from benchmarks.jobs import JOBS
from benchmarks.plot import draw
from benchmarks.rounds import play
from benchmarks.server import Server, server
from benchmarks.table import rows, text

HOT_PATH: Final = ("receive 256 B", "send 256 B", "echo 256 B")
"""What instructions are counted for; callgrind is fifty times slower than life."""

SMOKE: Final = {
    "rounds": 1,
    "scale": 0.001,
    "jobs": ["receive 256 B", "echo 256 B, TLS"],
    "clients": ["picows", "dromos", "websockets"],
    "links": [3],
    "seconds": 0.1,
    "wave": 3,
    "lifetime": 2.0,
}
"""Whether everything still works, in a few seconds; its figures mean nothing."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write what was asked for, and return the report."""
    chosen = _parser().parse_args(arguments)
    if chosen.smoke:
        vars(chosen).update(SMOKE)
    around = surroundings.describe()
    report: dict[str, Any] = {"surroundings": around}
    print(surroundings.line(around), flush=True)
    with server() as where:
        for part in chosen.only:
            report[part], shown = PARTS[part](chosen, where)
            print(f"\n{shown}", flush=True)
            _write(chosen, report)
    return report


def _write(chosen: argparse.Namespace, report: dict[str, Any]) -> None:
    """Write what there is so far: a long run may be cut short."""
    for path in filter(None, (chosen.json, chosen.plot)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    if chosen.plot is not None:
        draw(report, chosen.plot)


# ---------------------------------------------------------------- the parts


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
    counted, note = _instructions(chosen, where)
    table = rows(samples, base)
    result = {
        "loop": chosen.loop,
        "samples": [asdict(sample) for sample in samples],
        "table": [asdict(row) for row in table],
        "instructions": [[*key, value] for key, value in counted.items()],
    }
    notes = f"best of {chosen.rounds} interleaved rounds, on {chosen.loop}; ratios to {base}"
    return result, f"{text(table, counted)}\n\n{notes}; instructions: {note}"


def _instructions(
    chosen: argparse.Namespace, where: Server
) -> tuple[dict[tuple[str, str], float], str]:
    if not chosen.callgrind:
        return {}, "skipped, for want of --callgrind"
    reason = callgrind.missing()
    if reason is not None:
        return {}, f"skipped, {reason}"
    hot = [JOBS[name] for name in chosen.jobs if name in HOT_PATH]
    return callgrind.count(where, hot, chosen.clients, _tell), "of callgrind, without the kernel's"


def _idle(chosen: argparse.Namespace, where: Server) -> tuple[Any, str]:
    taken = idle.measure(where, idle.cases(chosen.links), seconds=chosen.seconds, tell=_tell)
    return taken, idle.show(taken)


def _renewals(chosen: argparse.Namespace, where: Server) -> tuple[Any, str]:
    _tell(f"renewals: {chosen.wave} sessions")
    seen = renewals.measure(where, links=chosen.wave, lifetime=chosen.lifetime)
    return seen, renewals.show(seen)


def _startup(chosen: argparse.Namespace, where: Server) -> tuple[Any, str]:
    taken = startup.measure(chosen.rounds)
    return taken, startup.show(taken)


PARTS: Final[dict[str, Callable[[argparse.Namespace, Server], tuple[Any, str]]]] = {
    "messages": _messages,
    "idle": _idle,
    "renewals": _renewals,
    "startup": _startup,
}


# ---------------------------------------------------------------- the options


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _names(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """Return what reads names that are separated by semicolons, as some hold commas."""

    def read(given: str) -> list[str]:
        names = [name.strip() for name in given.split(";")]
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of: {'; '.join(allowed)}")
        return names

    return read


def _counts(given: str) -> list[int]:
    return [int(count) for count in given.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", type=_names(tuple(PARTS)), default=list(PARTS), help=f"of: {'; '.join(PARTS)}")
    add("--rounds", type=int, default=7, help="interleaved rounds (default 7)")
    add("--scale", type=float, default=1.0, help="times the usual number of messages (default 1)")
    add("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="default asyncio")
    add("--jobs", type=_names(tuple(JOBS)), default=list(JOBS), help=f"of: {'; '.join(JOBS)}")
    clients = available()
    add("--clients", type=_names(clients), default=clients, help="; ".join(clients))
    add("--callgrind", action="store_true", help="count instructions as well (minutes)")
    add("--links", type=_counts, default=[1, 100, 1000, 5000], help="idle ones, as 1,100,1000,5000")
    add("--seconds", type=float, default=20.0, help="to watch idle links for (default 20)")
    add("--wave", type=int, default=500, help="sessions that renew their tokens (default 500)")
    add("--lifetime", type=float, default=20.0, help="seconds of those tokens (default 20)")
    add("--json", type=Path, help="write everything here")
    add("--plot", type=Path, help="draw it here, as SVG")
    add("--smoke", action="store_true", help="only see whether everything works, in seconds")
    return parser


if __name__ == "__main__":
    main()
