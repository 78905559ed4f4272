"""Runs the whole matrix and the scenes between network namespaces, and ends with the verdict.

Arguments restrict it to the faults, the states and the dialers of the matrix whose names
contain them: `python -m tests.chaos silent idle picows`; "" stands for all.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence

from tests.chaos.cell import Outcome
from tests.chaos.leaks import descriptors, survivors
from tests.chaos.matrix import Key, broken, every_cell, play, second_tries
from tests.chaos.rows import STATES
from tests.chaos.scenes import Scene, scenes

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


def verdict(
    outcomes: dict[Key, Outcome], played: Sequence[Scene], *, files: int, objects: int
) -> str:
    """The last line, which ends with what it comes to."""
    held = len(outcomes) - len(list(broken(outcomes)))
    skipped = [scene for scene in played if scene.outcome == "skipped"]
    passed = [scene for scene in played if scene.outcome == "passed"]
    parts = [f"{held} of {len(outcomes)} cells held"]
    if twice := len(list(second_tries(outcomes))):
        parts.append(f"{twice} of them only when played again")
    if played:
        parts.append(f"{len(passed)} of {len(played)} scenes between namespaces held")
    if skipped:
        parts.append(f"{len(skipped)} were skipped")
    parts += [f"{files} file descriptors left", f"{objects} bridges, sessions and links left"]
    failed = held < len(outcomes) or len(passed) + len(skipped) < len(played)
    return f"chaos: {', '.join(parts)}: {'FAILED' if failed or files or objects else 'passed'}"


def main() -> None:
    """Run, print, and exit with 1 if something has failed."""
    faults, states, dialers = [*sys.argv[1:], "", "", ""][:3]
    places = [
        (dialer, row, state)
        for dialer, row, state in every_cell()
        if faults in row.name and states in state and dialers in dialer
    ]
    logging.getLogger("dromos").setLevel(logging.ERROR)  # that tokens live seconds is meant so
    before, began = descriptors(), time.monotonic()
    outcomes = asyncio.run(play(places, quick=False))
    files, objects = max(0, descriptors() - before), len(survivors())
    for dialer in dict.fromkeys(dialer for dialer, _, _ in places):
        print("\n".join(table(outcomes, dialer)), end="\n\n")
    print(LEGEND)
    played = scenes() if faults == states == dialers == "" else []
    for scene in played:
        print(scene)
    for line in (*second_tries(outcomes), *broken(outcomes)):
        print(line)
    print(f"\nIt took {time.monotonic() - began:.0f} s.")
    last = verdict(outcomes, played, files=files, objects=objects)
    print(last)
    sys.exit(not last.endswith("passed"))


if __name__ == "__main__":
    main()
