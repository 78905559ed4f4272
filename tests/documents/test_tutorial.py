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
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.documents.pages import README, Page
from tests.documents.test_other_blocks import commands
from tests.documents.world import SOURCE, free_port, says
from tests.service.browser import dom, needs_chromium
from tests.service.test_page import Cells

PAGE = Page("tutorial.md")
A_FILE = re.compile(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = A_FILE.findall(PAGE.text)
DROMOS = ("-m", "dromos")
SVG = "{http://www.w3.org/2000/svg}"

pytestmark = pytest.mark.slow  # processes as a user starts them, whose tokens expire in real time


class Desk:
    """A folder with the tutorial's files, and what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {8081: free_port(), 8765: free_port(), 8080: free_port()}
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

    async def session(self) -> dict[str, Any]:
        """What the health port says of the one session, and when it said so."""
        told = json.loads((await self.ask("/sessions"))[1])
        return {**told["sessions"][0], "now": told["now"]} if told["sessions"] else {}

    async def until(self, what: str, is_so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until the one session looks so; nothing tells of it from another process."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(60):
                while True:
                    with suppress(urllib.error.URLError, ConnectionError):
                        seen = await self.session()
                        if seen and is_so(seen):
                            return seen
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it never came to be that {what}: {seen}") from None

    async def while_nothing_changes(self, look: Callable[[], Awaitable[str]]) -> tuple[Any, str]:
        """The session's state and link, and what is seen of it meanwhile."""
        while True:
            before, seen, after = await self.session(), await look(), await self.session()
            if known(before) == known(after):
                return known(before), seen

    async def watched(self) -> str:
        """What `dromos watch` shows."""
        port = f"127.0.0.1:{self.ports[8080]}"
        watch = await self.start(*DROMOS, "watch", "--once", port)
        table = (await watch.communicate())[0].decode()
        assert 0 == watch.returncode, table
        return table

    async def browsed(self) -> str:
        """What the page shows in a browser."""
        return await dom(f"http://127.0.0.1:{self.ports[8080]}/", self.folder / "profile")


def known(session: dict[str, Any]) -> tuple[str, str]:
    return session["state"], str(session["link"] or "")


def drawn(svg: Path, kind: str) -> list[str]:
    """What the shapes of a kind say when one points at them."""
    shapes = ElementTree.parse(svg).getroot().iterfind(f"{SVG}*[@class='{kind}']")
    return [title.text or "" for shape in shapes for title in shape.iterfind(f"{SVG}title")]


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
            now, table = await desk.while_nothing_changes(desk.watched)
            headline, names, row = table.splitlines()
            assert headline.startswith(f"1 session: 1 {now[0]} ")
            shown = dict(zip(re.split(r" {2,}", names), re.split(r" {2,}", row), strict=False))
            assert ("agent-7", *now) == (shown["connection"], shown["state"], shown["link"])

            await desk.until("a hand-over", lambda s: s["counters"]["handovers"])
            # The far side goes away, and the process is well.
            await desk.until("it is away", lambda s: s["state"] in ("waiting", "dialing"))
            assert 200 == (await desk.ask("/livez"))[0]
            assert 200 == (await desk.ask("/readyz"))[0]
            back = await desk.until("it is back", lambda s: s["counters"]["gaps"] and s["link"])

            agent.send_signal(signal.SIGTERM)
            printed = (await agent.communicate())[0].decode()

    assert 0 == agent.returncode, printed
    lines = printed.splitlines()
    assert "received hello from agent" in lines
    assert "disconnected: None" == lines[-1]
    # The far side closes links with 4401 when their token has expired: none was open so long.
    events = [json.loads(line) for line in recording.read_text().splitlines()]
    assert not any(event.get("code") == 4401 for event in events)
    happened = Counter(event["event"] for event in events)
    # The handler was told of each link, and of each time that there was none.
    assert 2 <= lines.count("received hello from agent") <= happened["bridge.link_opened"]
    assert sum(line.startswith("disconnected: ") for line in lines) == happened["bridge.connected"]
    gaps = happened["bridge.connected"] - 1
    assert gaps
    # The health port had counted the same, by then.
    earlier = [event for event in events if event["at"] <= back["now"]]
    before = Counter(event["event"] for event in earlier)
    links = [event["link"] for event in earlier if event["event"] == "bridge.link_opened"]
    assert (back["connection_id"], back["state"], back["link"]) == ("agent-7", "open", links[-1])
    assert back["counters"]["handovers"] == before["bridge.handed_over"]
    assert back["counters"]["gaps"] == before["bridge.connected"] - 1

    timeline = await desk.start(*DROMOS, "timeline", "run.jsonl", "-o", "run.svg")
    assert (b"", None) == await timeline.communicate()
    svg = tmp_path / "run.svg"
    opened = [event["link"] for event in events if event["event"] == "bridge.link_opened"]
    lanes = [int(told.split()[1].rstrip(":")) for told in drawn(svg, "link")]
    assert sorted(opened) == sorted(lanes)
    assert gaps == len(drawn(svg, "gap"))
    took_over = set(drawn(svg, "handover"))
    assert len(opened) - 1 - gaps == len(took_over) == happened["bridge.handed_over"]
    assert {
        f"link {event['new']} took over from link {event['old']}, nothing interrupted"
        for event in events
        if event["event"] == "bridge.handed_over"
    } == took_over
    assert happened["bridge.token_obtained"] >= len(drawn(svg, "refresh")) >= len(took_over)
    assert "messages/s" in svg.read_text()


@needs_chromium
async def test_the_page_in_a_browser_shows_the_same(tmp_path: Path):
    desk = Desk(tmp_path)
    async with ended(await desk.start("world.py")):
        await desk.has_opened(8765)
        command = [*DROMOS, "run", "agent:Agent", "--config", "dromos.toml"]
        async with ended(await desk.start(*command, to=tmp_path / "agent.log")):
            await desk.until("a hand-over", lambda s: s["counters"]["handovers"])
            now, html = await desk.while_nothing_changes(desk.browsed)
            url = f"ws://localhost:{desk.ports[8765]}"

    [row] = Cells(html).sessions
    assert (f"agent-7 {url}", *now) == (row[0], row[1], row[3])


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
