"""Blocks of shell, typed into a real shell: `dromos` is ours, and the world is on loopback."""

import asyncio
import os
import re
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dromos.testing import FarSide
from tests.documents.pages import Block, Page
from tests.documents.world import SOURCE, free_port, play, world
from tests.oauth.token_server import TokenServer

pytestmark = pytest.mark.slow  # processes, as a user would start them

AGENT = Page("tutorial.md").blocks("python")[1].text
CLOSES = AGENT.replace('await send("hello from agent")', "send.close()")
ENDS_WITHIN = 60.0  # seconds; a contended machine is slow


@dataclass(frozen=True, slots=True)
class Shell:
    """A shell in a folder, where `dromos` is the command of these sources."""

    folder: Path

    @asynccontextmanager
    async def typed(self, text: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Have a shell run these lines in a process group of their own, which ends with the test.

        The commands of this interpreter come first, and then what the machine has.
        """
        commands = self.folder / "bin"
        commands.mkdir(exist_ok=True)
        dromos = commands / "dromos"
        dromos.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -u -m dromos "$@"\n')
        dromos.chmod(0o755)
        path = os.pathsep.join([str(commands), os.environ["PATH"]])
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", text),
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": SOURCE, "PATH": path, **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()

    async def run(self, text: str, **variables: str) -> tuple[int | None, str, str]:
        """Return the status that these lines end with, and what they printed."""
        async with self.typed(text, **variables) as process:
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "agent.py").write_text(AGENT)
    return Shell(tmp_path)


def only(page: str) -> Block:
    """The one block of shell in a page."""
    (block,) = Page(page).blocks("sh")
    return block


async def test_tokens_says_what_a_token_is_and_not_the_token(shell: Shell):
    async with TokenServer(lifetime=1800) as issuer:
        block = only("tokens.md").with_addresses({"https://login.example.com": issuer.url})
        status, out, err = await shell.run(block, SECRET="s3cret-of-agent-7")

    assert (0, "") == (status, err)
    asked = b64encode(b"agent-7:s3cret-of-agent-7").decode()
    assert f"Basic {asked}" == issuer.requests[-1].headers["Authorization"]
    told = dict(re.split(r" {2,}", line, maxsplit=1) for line in out.splitlines())
    assert {"strategy", "credentials", "scopes", "lifetime", "clock skew"} == told.keys()
    assert "oauth2" == told["strategy"]
    assert told["lifetime"].startswith("1800 s as issued; ")
    assert "at-1" not in out
    assert "s3cret" not in out


async def test_configuration_is_checked_and_run(shell: Shell):
    page = Page("reference/configuration.md")
    (file,) = page.blocks("toml")
    async with TokenServer() as issuer, FarSide() as far:
        port = free_port()
        here = {
            "https://login.example.com": issuer.url,
            "wss://external.system.com/ws": far.url,
            "8080": str(port),
        }
        (shell.folder / "dromos.toml").write_text(file.with_addresses(here))
        check, run = only(page.path).text.splitlines()
        checked = await shell.run(check, CLIENT_SECRET="s")
        async with shell.typed(f"exec {run}", CLIENT_SECRET="s") as process:
            await far.wait_for(lambda: sum(bool(link.received) for link in far.links) == 2)
            process.send_signal(signal.SIGTERM)
            out, _ = await process.communicate()

    assert (0, "dromos.toml: fine; it names 2 connections\n", "") == checked
    assert 0 == process.returncode
    assert 2 == out.decode().count("disconnected: None")
    assert [["hello from agent"]] * 2 == [link.received for link in far.links]


@pytest.mark.parametrize(
    ("known", "agent", "status"),
    [
        ("your-connection-id", CLOSES, 0),
        ("somebody-else", CLOSES, 78),
        ("your-connection-id", "raise RuntimeError('a slip')", 1),
    ],
    ids=["closed", "unknown", "a slip"],
)
async def test_exit_codes_are_what_the_shell_is_told(
    shell: Shell, known: str, agent: str, status: int
):
    async with world() as around:
        (shell.folder / "dromos.toml").write_text(
            f'[tokens]\ngateway = "{around.gateway.url}"\n'
            f'[[connections]]\nid = "{known}"\nurl = "{around.far.url}"\n'
        )
        (shell.folder / "agent.py").write_text(agent)
        ended, out, _ = await shell.run(only("reference/exit-codes.md").text)

    assert (0, str(status)) == (ended, out.splitlines()[-1])


async def test_what_was_recorded_is_drawn(shell: Shell):
    page = Page("howto/logging.md")
    (records,) = [block for block in page.blocks("python") if "write_events" in block.text]
    async with world() as around:
        await play(records, around.addresses, shell.folder)
        ended = await shell.run(only(page.path).text)

    assert (0, "", "") == ended
    (told,) = ElementTree.parse(shell.folder / "run.svg").getroot().iterfind("{*}desc")
    assert re.match(r"your-connection-id: .* 1 link, no gap", told.text or ""), told.text


async def test_the_command_line_carries_lines_there_and_back(shell: Shell):
    async with world() as around:
        block = only("reference/command-line.md").with_addresses(around.addresses)
        async with shell.typed(block, TOKEN=around.token) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hello\n")
            said = await process.stdout.readline()
            process.stdin.close()
            await process.communicate()
        (link,) = around.far.links
        await link.wait_closed()

    assert (0, b"hello\n") == (process.returncode, said)
    assert (["hello"], 1000, around.token) == (link.received, link.close_code, link.token)


async def test_a_scrape_prints_lines_of_the_form_on_the_page(shell: Shell):
    pytest.importorskip("prometheus_client", reason='needs "dromos[prometheus]"')
    (block,) = [each for each in Page("performance.md").blocks("sh") if "scrape" in each.text]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.scrape", "--sessions", "1000", "--scrapes", "3"),
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=asyncio.subprocess.PIPE,
    )
    printed = (await process.communicate())[0].decode()

    assert "make scrape\n" == block.text
    assert form(printed) == form(block.prints or "")


def form(printed: str) -> list[str]:
    """Lines without their figures, nor what those decide: which verdict it was."""
    text = re.sub(r"PASSED: within|FAILED: over", "VERDICT", printed)
    return re.sub(r" *\b[\d,.]+\b", " N", text).splitlines()
