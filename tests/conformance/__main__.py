"""`make conformance`: every case, the table, and docs/conformance.md."""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Final

from tests.conformance.cases import FULL, REDUCED
from tests.conformance.environment import CACHE, Unavailable, environment
from tests.conformance.run import run
from tests.conformance.table import document, holds, shown

ROOT: Final = Path(__file__).parents[2]
DOCUMENT: Final = ROOT / "docs" / "conformance.md"
FUZZER: Final = "tests/dialers/test_fuzz.py"
WITHIN: Final = 2 * 60 * 60.0
FUZZ_WITHIN: Final = 30 * 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--reduced", action="store_true", help="play what CI plays; write nothing")
    full = not parser.parse_args().reduced
    try:
        python = environment()
    except Unavailable as error:
        return _fuzz_instead(error)
    reports = CACHE / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    report = asyncio.run(
        run(python, FULL if full else REDUCED, reports, within=WITHIN, tell=_progress)
    )
    today = date.today()
    if full:
        DOCUMENT.write_text(document(DOCUMENT.read_text(), report, today=today))
    print(f"It took {report.seconds:.0f} s.")
    print(f"What the server wrote of each case: {reports.relative_to(ROOT)}/index.html\n")
    print("\n".join(shown(report, full=full, today=today)))
    return 0 if holds(report, full=full) else 1


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fuzz_instead(reason: Unavailable) -> int:
    """Do without Autobahn: compare our links with the parser of `websockets`."""
    print(f"{reason}. Fuzzing instead.", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=0", FUZZER]
    streams = {"FUZZ_STREAMS": os.environ.get("FUZZ_STREAMS", "20000")}
    try:
        code = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **streams}, timeout=FUZZ_WITHIN, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        code = 1
    found = "found deviations" if code else "found no deviation"
    print(f"Verdict: Autobahn was not run; the differential fuzzer {found}.")
    return code


if __name__ == "__main__":
    sys.exit(main())
