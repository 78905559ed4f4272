"""Runs every target for a while, and prints what came of it as a table.

python -m tests.fuzz.run --examples 20000 --streams 100000
"""

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.targets import TARGETS

ROOT: Final = Path(__file__).parents[2]
FRAMES: Final = "tests/dialers/test_fuzz.py"
"""Compares both dialers' links with the parser of `websockets`."""


def search(function: Callable[[], None], examples: int) -> str | None:
    """Return what broke a property first, cut down to what matters; None if nothing did."""
    tried = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=(Phase.generate, Phase.shrink),
        derandomize=False,
    )(function)
    try:
        tried()
    except Exception as error:
        notes = "\n    ".join(getattr(error, "__notes__", ()))
        return f"{type(error).__name__}: {error}\n    {notes}"
    return None


def search_frames(streams: int) -> str | None:
    """Return where a dialer's link and the parser of `websockets` differ; None if nowhere."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--timeout=0", "-p", "no:cacheprovider", FRAMES],
        cwd=ROOT,
        env={**os.environ, "FUZZ_STREAMS": str(streams)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else None


def table(examples: int, streams: int) -> Iterator[str]:
    """Search everything, and yield a line for each target; the last one is the verdict."""
    searches: dict[str, tuple[int, str, Callable[[], str | None]]] = {
        name: (examples, "examples", lambda function=function: search(function, examples))  # type: ignore[misc]
        for name, function in TARGETS.items()
    }
    searches["frames through the dialers"] = (streams, "streams", lambda: search_frames(streams))
    failed: list[str] = []
    for name, (count, what, look) in searches.items():
        began = time.monotonic()
        found = look()
        took = time.monotonic() - began
        yield f"{name:<28}{count:>9,} {what:<9}{took:>7.0f} s   {'FAILED' if found else 'ok'}"
        if found is not None:
            yield f"    {found}"
            failed.append(name)
    yield f"FAILED: {', '.join(failed)}" if failed else f"PASSED: {len(searches)} targets"


def main() -> None:
    """Search, and exit with 1 if something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=5000, help="for each target (5000)")
    parser.add_argument("--streams", type=int, default=20000, help="of frames (20000)")
    asked = parser.parse_args()
    logging.getLogger("dromos").setLevel(logging.ERROR)  # it warns of what it is made to read
    line = ""
    for line in table(asked.examples, asked.streams):
        print(line, flush=True)
    sys.exit(line.startswith("FAILED"))


if __name__ == "__main__":
    main()
