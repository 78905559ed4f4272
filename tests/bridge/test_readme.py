"""Every example of the README runs, and its links and commands are there."""

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from dromos import Bridge, Handler
from dromos.cli.commands import cli
from dromos.config.sources import load
from dromos.oauth import StaticToken
from dromos.testing import FarSide, Gateway
from tests.oauth.token_server import TokenServer

README = Path(__file__).parent.parent.parent / "README.md"


def example(number: int = 0) -> str:
    """A Python block."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[number]


def addressed(source: str, gateway: Gateway, far: FarSide) -> str:
    """The same with real addresses: those of the specification are nobody's."""
    assert "http://localhost:8081" in source
    assert "wss://external.system.com/ws" in source
    source = source.replace("http://localhost:8081", gateway.url)
    return source.replace("wss://external.system.com/ws", far.url)


class Agent(Handler):
    """Does nothing."""


# WORLD and AGENT are files of the tutorial, which tests/documents/test_tutorial.py plays.
FIRST, HANDLER, WORLD, AGENT, GROUP, SOURCE, THREADS, ALONE = range(8)

RUNS = "asyncio.run(main())"
RUNS_AS_PROGRAM = f"if __name__ == '__main__':\n    {RUNS}"


async def play(number: int, ends_with: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run an example until it has said hello and printed an answer, cancel it; what it printed."""
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("your-connection-id", lifetime=3600)
        tree = ast.parse(addressed(example(number), gateway, far))
        last = tree.body.pop()
        assert ends_with == ast.unparse(last)
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
        return out + capsys.readouterr().out


async def test_the_first_example_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the addresses are changed."""
    assert "received welcome\n" == await play(FIRST, RUNS, capsys)


async def test_the_specifications_example_runs_as_it_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """B26: the original's example does not compile."""
    assert "disconnected None" in await play(HANDLER, RUNS_AS_PROGRAM, capsys)


async def test_the_example_of_a_group_runs(capsys: pytest.CaptureFixture[str]) -> None:
    async with FarSide() as far:
        far.accept_then_close(1008, "not you")
        names: dict[str, Any] = {}
        exec(compile(example(GROUP), str(README), "exec"), names)
        async with asyncio.timeout(10), Bridge(StaticToken("any")) as bridge:
            await names["keep"](bridge, {"c-1": far.url}, Agent)

    assert capsys.readouterr().out.startswith("c-1 link closed by the far side (1008 not you)")


async def test_the_example_of_another_source_runs() -> None:
    async with TokenServer() as server:
        names: dict[str, Any] = {}
        source = example(SOURCE).replace("https://login.example.com", server.url)
        exec(compile(source, str(README), "exec"), names)

        assert "at-1" == (await names["tokens"].get_token()).access_token


async def test_the_example_for_threads_runs(capsys: pytest.CaptureFixture[str]) -> None:
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("your-connection-id", lifetime=3600)
        code = compile(addressed(example(THREADS), gateway, far), str(README), "exec")
        thread = asyncio.get_running_loop().create_task(asyncio.to_thread(exec, code, {}))
        link = await far.wait_for_link(1)
        await far.wait_for(lambda: link.received == ["hello from agent"])
        link.send("goodbye")
        async with asyncio.timeout(10):
            await thread

    assert "received goodbye\n" == capsys.readouterr().out


def test_the_example_that_needs_no_gateway_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example(ALONE), str(README), "exec"), {"__name__": "__main__"})

    out = capsys.readouterr().out
    assert "disconnected: link closed by the far side" in out
    assert "received back again" in out
    assert out.endswith("disconnected: None\n")


@pytest.mark.parametrize("number", [HANDLER, AGENT, ALONE])
def test_a_file_with_an_agent_can_be_imported_by_dromos_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever saves an example and names its class must not start, or wait for, its `main`."""
    (tmp_path / f"saved_{number}.py").write_text(example(number))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asyncio, "run", lambda _: pytest.fail("it runs as it is imported"))

    assert "Agent" == load(f"saved_{number}:Agent", "the agent").__name__


def test_every_python_example_is_run_here() -> None:
    assert ALONE + 1 == README.read_text().count("```python")


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"(?:\]\(|srcset=\"|src=\")([^)\"]+)", README.read_text())

    assert [] == [link for link in links if not (README.parent / link).exists()]


def test_every_page_of_the_documents_is_linked() -> None:
    """Who starts here has to find it; only the API's pages are nothing before they are built."""
    docs = README.parent / "docs"
    pages = {
        str(page.relative_to(docs)) for page in docs.rglob("*.md") if "_build" not in page.parts
    }
    built = {page for page in pages if page.startswith("reference/api/")}
    linked = set(re.findall(r"\]\(docs/([^)#]+\.md)", README.read_text()))

    assert built
    assert pages - built - {"index.md"} == linked


def test_the_commands_it_shows_are_those_there_are() -> None:
    shown = set(re.findall(r"^\| `dromos (\w+)", README.read_text(), re.MULTILINE))

    assert set(cli.commands) == shown
