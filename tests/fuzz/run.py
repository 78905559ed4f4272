"""Runs every target for a while, and prints what came of it as a table.

python -m tests.fuzz.run --examples 20000
"""

import argparse
import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.targets import TARGETS


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


def main() -> None:
    """Search, and exit with 1 if something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=5000, help="for each target (5000)")
    asked = parser.parse_args()
    failed = []
    for name, function in TARGETS.items():
        began = time.monotonic()
        found = search(function, asked.examples)
        print(
            f"{name:<28}{asked.examples:>9,} examples{time.monotonic() - began:>8.0f} s"
            f"   {'ok' if found is None else 'FAILED'}",
            flush=True,
        )
        if found is not None:
            print(f"    {found}")
            failed.append(name)
    print(f"FAILED: {', '.join(failed)}" if failed else f"PASSED: {len(TARGETS)} targets")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
