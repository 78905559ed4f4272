"""The tutorial, done: its files, its commands and its processes, in a tenth of its time."""

import asyncio
import itertools
import json
import os
import re
import shlex
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.documents.pages import README, Page
from tests.documents.test_other_blocks import commands
from tests.documents.world import SOURCE, free_port, says

PAGE = Page("tutorial.md")
A_FILE = re.compile(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = A_FILE.findall(PAGE.text)
DROMOS = ("-m", "dromos")

pytestmark = pytest.mark.slow  # processes as a user starts them, whose tokens expire in real time


class Desk:
    """A folder with the tutorial's files, and what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {8081: free_port(), 8765: free_port(), 8080: free_port()}
        self.printed: list[str] = []
        for name, text in FILES:
            (folder / name).write_text(self.here(text))

    def here(self, text: str) -> str:
        """The same on ports that are free, with times that a test can wait for."""
        for written, free in self.ports.items():
            text = text.replace(str(written), str(free))
        text = text.replace("lifetime=60", "lifetime=6").replace("sleep(5)", "sleep(1)")
        return text.replace("sleep(45)", "sleep(5)")

    async def start(self, *arguments: str, to: Path | None = None) -> asyncio.subprocess.Process:
        log = None if to is None else to.open("wb")
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-u", *arguments),
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": SOURCE},
                stdout=asyncio.subprocess.PIPE,
                stderr=log or asyncio.subprocess.STDOUT,
            )
        finally:
            if log is not None:
                log.close()

    async def has_opened(self, port: int) -> None:
        """Wait until somebody listens on what the page calls this port."""
        async with asyncio.timeout(60):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.ports[port])
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(0.05)  # nothing tells of a port that opens

    async def ask(self, path: str) -> tuple[int, str]:
        """What the health port answers."""

        def fetch() -> tuple[int, str]:
            url = f"http://127.0.0.1:{self.ports[8080]}{path}"
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as refusal:
                with refusal:
                    return refusal.code, refusal.read().decode()

        return await asyncio.to_thread(fetch)

    async def until(self, what: str, is_so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until the one session looks so; nothing tells of it from another process."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(60):
                while True:
                    with suppress(urllib.error.URLError, ConnectionError):
                        sessions = json.loads((await self.ask("/sessions"))[1])["sessions"]
                        if sessions and is_so(seen := sessions[0]):
                            return seen
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it never came to be that {what}: {seen}") from None


@asynccontextmanager
async def ended(process: asyncio.subprocess.Process) -> AsyncIterator[asyncio.subprocess.Process]:
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def answers() -> dict[str, str]:
    """What the page says that each path answers."""
    blocks = PAGE.blocks("sh", "text")
    told: dict[str, str] = {}
    for question, answer in itertools.pairwise(blocks):
        if question.text.startswith("curl ") and answer.language == "text":
            url = shlex.split(question.text)[1]
            told["/" + url.split("/", 3)[3]] = answer.text
    return told


def test_the_files_are_those_that_the_commands_name():
    assert ["world.py", "agent.py", "dromos.toml"] == [name for name, _ in FILES]
    assert {"/livez", "/readyz", "/metrics"} == set(answers())


def test_the_readme_shows_the_same_files_and_commands():
    """So what is played here holds for who has read nothing else."""
    service = README.text.partition("\n## As a service\n")[2].partition("\n| Command | Does |")[0]
    typed = [
        words for block in README.blocks("sh") if block.text in service for words in commands(block)
    ]
    here = [words for block in PAGE.blocks("sh") for words in commands(block)]

    assert FILES == A_FILE.findall(service)
    assert ["dromos", "run", "agent:Agent", "--config", "dromos.toml"] in typed
    assert [] == [words for words in typed if words not in here]


async def test_the_tutorial_goes_as_it_says(tmp_path: Path):
    desk = Desk(tmp_path)
    recording = tmp_path / "run.jsonl"
    world = await desk.start("world.py")
    async with ended(world):
        await desk.has_opened(8765)
        command = [*DROMOS, "run", "agent:Agent", "--config", "dromos.toml"]
        agent = await desk.start(*command, to=tmp_path / "agent.log")
        async with ended(agent):
            await desk.until("it is open", lambda s: s["state"] == "open")
            for path, told in answers().items():
                status, said = await desk.ask(path)
                assert (200, True) == (status, says(told, said)), f"{path} answers {said}"
            watch = await desk.start(*DROMOS, "watch", "--once", f"127.0.0.1:{desk.ports[8080]}")
            table = (await watch.communicate())[0].decode()
            assert 0 == watch.returncode
            assert "agent-7" in table
            assert "<html" in (await desk.ask("/"))[1]

            await desk.until("a hand-over", lambda s: s["counters"]["handovers"])
            # The far side goes away, and the process is well.
            await desk.until("it is away", lambda s: s["state"] in ("waiting", "dialing"))
            assert 200 == (await desk.ask("/livez"))[0]
            assert 200 == (await desk.ask("/readyz"))[0]
            await desk.until("it is back", lambda s: s["counters"]["gaps"] and s["state"] == "open")

            agent.send_signal(signal.SIGTERM)
            printed = (await agent.communicate())[0].decode()

    assert 0 == agent.returncode, printed
    lines = printed.splitlines()
    assert "received hello from agent" in lines
    assert "disconnected: None" == lines[-1]
    # The far side closes links with 4401 when their token has expired: none was open so long.
    events = [json.loads(line) for line in recording.read_text().splitlines()]
    gaps = [event for event in events if event.get("event") == "bridge.disconnected"]
    assert gaps
    assert not any(event.get("code") == 4401 for event in events)
    timeline = await desk.start(*DROMOS, "timeline", "run.jsonl", "-o", "run.svg")
    assert (b"", None) == await timeline.communicate()
    assert "messages/s" in (tmp_path / "run.svg").read_text()
    assert "svg" in ElementTree.parse(tmp_path / "run.svg").getroot().tag


async def test_an_unknown_id_ends_it_with_78(tmp_path: Path):
    desk = Desk(tmp_path)
    config = tmp_path / "dromos.toml"
    config.write_text(config.read_text().replace("agent-7", "somebody-else"))
    async with ended(await desk.start("world.py")):
        await desk.has_opened(8081)
        agent = await desk.start(*DROMOS, "run", "agent:Agent", "--config", "dromos.toml")
        said = (await agent.communicate())[0].decode()

    assert 78 == agent.returncode, said
    assert "somebody-else" in said
