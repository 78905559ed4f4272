"""Runs the whole matrix, prints it, and ends with the verdict: `python -m tests.chaos`.

Arguments restrict it to the faults, the states and the dialers whose names contain them:
`python -m tests.chaos silent idle picows`; "" stands for all.
"""

import asyncio
import logging
import sys
import time

from tests.chaos.cell import Outcome
from tests.chaos.leaks import descriptors
from tests.chaos.matrix import Key, broken, every_cell, play
from tests.chaos.rows import STATES

WIDTH = 10

LEGEND = """\
+ recovered   = ended, as its verdict says   - closed by us   ! broken   . no such thing
next link, old link: a hand-over is under way, and that one of the two is hit.
Seconds are from the fault to the end of it, backoff and timeouts included.
"""


def table(outcomes: dict[Key, Outcome], dialer: str) -> list[str]:
    """The matrix of one dialer: a mark and the seconds it took, for each cell."""
    names = list(dict.fromkeys(name for each, name, _ in outcomes if each == dialer))
    lines = [f"{dialer:<15}" + "".join(f"{state:>{WIDTH}}" for state in STATES)]
    for name in names:
        line = f"{name:<15}"
        for state in STATES:
            outcome = outcomes.get((dialer, name, state))
            shown = "." if outcome is None else f"{outcome.mark} {outcome.seconds:4.1f}"
            line += f"{shown:>{WIDTH}}"
        lines.append(line)
    return lines


def main() -> None:
    """Run, print, and exit with 1 if a cell has failed."""
    faults, states, dialers = [*sys.argv[1:], "", "", ""][:3]
    places = [
        (dialer, row, state)
        for dialer, row, state in every_cell()
        if faults in row.name and states in state and dialers in dialer
    ]
    logging.getLogger("dromos").setLevel(logging.ERROR)  # that tokens live seconds is meant so
    before, began = descriptors(), time.monotonic()
    outcomes = asyncio.run(play(places, quick=False))
    left = max(0, descriptors() - before)
    for dialer in dict.fromkeys(dialer for dialer, _, _ in places):
        print("\n".join(table(outcomes, dialer)), end="\n\n")
    print(LEGEND)
    failures = list(broken(outcomes))
    for failure in failures:
        print(failure)
    took = time.monotonic() - began
    print(
        f"chaos: {len(outcomes) - len(failures)} of {len(outcomes)} cells held in {took:.0f} s, "
        f"{left} file descriptors left: {'FAILED' if failures or left else 'passed'}"
    )
    sys.exit(1 if failures or left else 0)


if __name__ == "__main__":
    main()
