"""The example of docs/scale.md runs, and what it says of the code is so."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from dromos import Bridge
from dromos._core.session import TURN_LASTS
from dromos._streams import FAILURES_KEPT
from dromos.testing import FarSide, Gateway
from tests.storm.table import END, START

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
TEXT = PAGE.read_text()


async def test_the_example_runs_and_ends_when_nothing_runs_any_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        for number in range(3):
            gateway.add(f"c-{number}", lifetime=3600)
        far.refuse(next=None, status=410)
        source = source.replace("http://localhost:8081", gateway.url)
        source = source.replace("wss://external.system.com/ws", far.url).replace("5000", "3")
        tree = ast.parse(source)
        assert "asyncio.run(main())" == ast.unparse(tree.body.pop())
        names: dict[str, Any] = {}
        exec(compile(tree, str(PAGE), "exec"), names)
        await names["main"]()

    told = capsys.readouterr().out
    assert {"c-0", "c-1", "c-2"} == set(re.findall(r"(c-\d) has failed: ", told))


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    parameters = inspect.signature(Bridge.supervise).parameters
    assert f"supervise(attempt_rate={parameters['attempt_rate'].default:g})" in TEXT
    assert f"Up to {FAILURES_KEPT:,} failures wait" in TEXT
    assert 1.0 == TURN_LASTS
    assert "A turn is good for a second." in TEXT
    dials = inspect.signature(Bridge).parameters["max_concurrent_dials"].default
    assert f"`max_concurrent_dials` ({dials})" in TEXT


def test_the_storm_that_is_published_has_passed() -> None:
    published = TEXT.partition(START)[2].partition(END)[0]

    assert "PASSED" in published.strip().splitlines()[-1]
