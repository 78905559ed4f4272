"""The example at the top of the README is the specification's, and it runs."""

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from dromos.testing import FarSide, Gateway

README = Path(__file__).parent.parent.parent / "README.md"


def example(number: int = 0) -> str:
    """A Python block."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[number]


async def test_the_first_example_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """B26: the original's example does not compile.

    Only the addresses are changed: those of the specification are nobody's.
    """
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("your-connection-id", lifetime=3600)
        source = example()
        assert "http://localhost:8081" in source
        assert "wss://external.system.com/ws" in source
        source = source.replace("http://localhost:8081", gateway.url)
        source = source.replace("wss://external.system.com/ws", far.url)
        tree = ast.parse(source)
        last = tree.body.pop()
        assert "asyncio.run(main())" == ast.unparse(last)
        names: dict[str, Any] = {}
        exec(compile(tree, str(README), "exec"), names)
        task = asyncio.get_running_loop().create_task(names["main"]())

        link = await far.wait_for_link(1)
        async with asyncio.timeout(10):
            await far.wait_for(lambda: link.received == ["hello from agent"])
        link.send("welcome")
        async with asyncio.timeout(10):
            # print has no event to wait for
            while "received welcome" not in (out := capsys.readouterr().out):  # noqa: ASYNC110
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        out += capsys.readouterr().out

    assert "disconnected None" in out


def test_the_example_that_needs_no_gateway_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example(1), str(README), "exec"), {})

    out = capsys.readouterr().out
    assert "disconnected: link closed by the far side" in out
    assert "received back again" in out
    assert out.endswith("disconnected: None\n")


def test_every_python_example_is_run_here() -> None:
    assert 2 == README.read_text().count("```python")
