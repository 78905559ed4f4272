"""Simulates seeds, as many at once as there are cores, and prints what came of them as a table.

python -m tests.simulation.run --seeds 100      that many worlds
python -m tests.simulation.run --seed 7         one of them, with its smallest failing schedule
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields

from tests.simulation.world import Plan, Report, draw, simulate, smallest

SHOWN = (
    ("dials", "dials"),
    ("Connected", "gaps that ended"),
    ("HandedOver", "hand-overs"),
    ("RefreshStarted", "refresh cycles"),
    ("SuspendDetected", "suspends noticed"),
    ("limited", "dials told to wait (429)"),
    ("401", "dials refused with 401"),
    ("consents withdrawn", "sessions that need a person"),
)


def seeds_for(days: float) -> range:
    """The first seeds, which together simulate so many session-days."""
    seed = 0
    while days > 0:
        days -= draw(seed).session_days
        seed += 1
    return range(seed)


def reports(seeds: Iterable[int]) -> Iterator[Report]:
    """Play the seeds, on every core, and yield what came of each, in order."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        yield from pool.map(_play, seeds)


def _play(seed: int) -> Report:
    return simulate(draw(seed))


def table(found: list[Report], took: float) -> Iterator[str]:
    """Yield lines; the last one is the verdict."""
    counts: Counter[str] = Counter()
    for report in found:
        counts.update(report.counts)
    days = sum(report.plan.session_days for report in found)
    yield f"{'worlds':<28}{len(found):>12,}"
    yield f"{'session-days':<28}{days:>12,.0f}"
    yield f"{'session-years':<28}{days / 365.25:>12,.1f}"
    for name, shown in SHOWN:
        yield f"{shown:<28}{counts[name]:>12,}"
    for name in sorted(counts):
        if name.startswith("fault: "):
            yield f"{name:<28}{counts[name]:>12,}"
    longest = max(report.longest for report in found)
    yield f"{'longest gap, outages included':<28}{longest / 60:>10,.0f} min"
    yield f"{'took':<28}{took:>11,.0f} s"
    bad = [report for report in found if report.violations]
    if bad:
        yield f"FAILED: seeds {', '.join(str(report.plan.seed) for report in bad)}"
    else:
        yield f"PASSED: {days:,.0f} session-days, and nothing was violated"


def replay(plan: Plan) -> Iterator[str]:
    """Yield the smallest schedule that still fails, and how to play it again."""
    plan = smallest(plan)
    for each in fields(plan)[:-1]:
        yield f"  {each.name} = {getattr(plan, each.name)}"
    for fault in plan.faults:
        yield f"  {fault}"
    for violation in simulate(plan).violations[:5]:
        yield f"  violates: {violation}"
    yield f"  replay: make simulate SEED={plan.seed}"


def main() -> None:
    """Run what the command line asks for, and exit with 1 if something was violated."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=60, help="how many worlds (60)")
    parser.add_argument("--seed", type=int, help="only this one")
    asked = parser.parse_args()
    began = time.monotonic()
    seeds = range(asked.seeds) if asked.seed is None else [asked.seed]
    found = list(reports(seeds))
    for report in found:
        if report.violations:
            print(f"seed {report.plan.seed}:")
            print("\n".join(replay(report.plan)))
    lines = list(table(found, time.monotonic() - began))
    print("\n".join(lines))
    sys.exit(lines[-1].startswith("FAILED"))


if __name__ == "__main__":
    main()
