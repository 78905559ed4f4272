"""A part of Autobahn's cases, every time: all the short ones, and some of the heavy."""

import asyncio
from datetime import date
from pathlib import Path

import pytest

from tests.conformance.cases import REDUCED
from tests.conformance.environment import INSTALL_WITHIN, Unavailable, environment
from tests.conformance.run import run
from tests.conformance.table import holds, shown

WITHIN = 300.0


@pytest.mark.slow  # Autobahn tells by the wall clock that nothing more comes
@pytest.mark.timeout(2 * INSTALL_WITHIN + WITHIN + 60)  # two: another run may be installing
async def test_whole_sessions_pass_what_autobahn_asks_but_for_the_published_exceptions(
    tmp_path: Path,
) -> None:
    try:
        python = await asyncio.to_thread(environment)
    except Unavailable as error:
        pytest.skip(f"{error}: the differential fuzzer remains")

    report = await run(python, REDUCED, tmp_path, within=WITHIN, tell=print)

    table = "\n".join(shown(report, full=False, today=date.today()))
    print(table)
    assert holds(report, full=False), table
