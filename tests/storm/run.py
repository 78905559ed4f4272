"""A far side drops thousands of real links at once and lets few in at a time; and a model of it.

python -m tests.storm.run --clients 2000
"""

import argparse
import asyncio
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.many.process import allow_descriptors
from tests.storm.model import Outcome, Storm, play
from tests.storm.plot import draw
from tests.storm.policies import CONTENDERS, Contender
from tests.storm.real import Field
from tests.storm.table import Results, Row, document, lines, row

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = ROOT / "docs" / "scale.md"
PICTURE: Final = ROOT / "docs" / "storm.svg"
IDEAL: Final = 25.0
"""Seconds that the real far side takes to let everybody in, if nobody wastes its time."""

PATIENCE: Final = 4.0
"""Times that, after which we stop looking."""

SEEDS: Final = 9
MILLION: Final = Storm(clients=1_000_000, admitted=5_000, horizon=600)


def modelled(storm: Storm, contender: Contender, real: Row) -> Outcome:
    """Return the outcome whose end is in the middle of those of several seeds.

    The real clients share a process, which begins only so many attempts in a second.
    """
    if not contender.grouped:
        storm = replace(storm, capacity=real.peak)
    outcomes = [play(replace(storm, seed=seed), contender) for seed in range(SEEDS)]
    ends = [outcome.when(0.99) or storm.horizon for outcome in outcomes]
    return outcomes[ends.index(statistics.median_low(ends))]


def measured(storm: Storm, *, queues: bool) -> list[Row]:
    """Let the storm loose on each contender, one after the other."""
    rows: list[Row] = []
    for contender in CONTENDERS:
        _tell(
            f"{storm.clients:,} real links, {'queued' if queues else 'refused'}: {contender.name}"
        )
        outcome = asyncio.run(Field(storm, contender, queues=queues).play())
        rows.append(row(contender.name, storm, outcome))
    return rows


def run(clients: int, million: Storm) -> Results:
    """Play all storms."""
    storm = Storm(clients=clients, admitted=clients / IDEAL, horizon=IDEAL * PATIENCE)
    real = measured(storm, queues=False)
    queued = measured(storm, queues=True)
    _tell(f"the model, {clients:,} and {million.clients:,} links")
    return Results(
        real=(storm, real),
        queued=queued,
        modelled=[
            row(each.name, storm, modelled(storm, each, was))
            for each, was in zip(CONTENDERS, real, strict=True)
        ],
        million=(million, [row(each.name, million, play(million, each)) for each in CONTENDERS]),
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Play all storms, publish them, and exit with 1 on a bad verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--million", type=int, default=MILLION.clients, help="links in the model")
    parser.add_argument("--save", type=Path, help="write what was found, as JSON")
    parser.add_argument("--publish", type=Path, help="publish what was saved, and play nothing")
    asked = parser.parse_args()
    if asked.publish is not None:
        results = Results.load(asked.publish)
    else:
        allow_descriptors(asked.clients + 1000)
        share = asked.million / MILLION.clients
        million = replace(MILLION, clients=asked.million, admitted=MILLION.admitted * share)
        results = run(asked.clients, million)
    if asked.save is not None:
        results.save(asked.save)
    DOCUMENT.write_text(document(DOCUMENT.read_text(), results))
    draw(results, PICTURE)
    told = list(lines(results))
    print("\n".join(told))
    sys.exit(told[-1].startswith("FAILED"))


if __name__ == "__main__":
    main()
