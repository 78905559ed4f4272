"""The fixtures for users' tests, used as a user would: in a project of its own, with pytest."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dromos
from dromos import Bridge
from dromos.oauth import OAuthClient
from dromos.testing import FarSide, Gateway
from dromos.testing.virtual import VirtualTime

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
SOURCE = str(Path(dromos.__file__).parents[1])


def blocks() -> list[str]:
    """The Python blocks of the document."""
    return [part.partition("```")[0] for part in DOCUMENT.read_text().split("```python\n")[1:]]


def run(folder: Path, *options: str) -> str:
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.stdout + done.stderr


def test_every_block_of_the_document_passes_as_a_test(tmp_path: Path):
    conftest, *tests = blocks()
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    for number, block in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(block)

    out = run(tmp_path)

    assert f"{len(tests)} passed" in out, out


def test_a_handler_during_an_outage_of_an_hour_is_a_test_of_ten_lines():
    (block,) = (block for block in blocks() if "3600" in block)
    names: dict[str, Any] = {}
    exec(compile(block, str(DOCUMENT), "exec"), names)
    (name,) = (name for name in names if name.startswith("test_"))

    # An hour by the wall clock would outlive the limit that every test has.
    names[name](VirtualTime())

    assert 10 == len(block[block.index("def test_") :].strip().splitlines())


def test_an_outage_takes_links_and_dials_and_then_no_more():
    virtual_time = VirtualTime()

    async def story() -> list[bool]:
        seen: list[bool] = []
        async with (
            virtual_time.bridge() as bridge,
            bridge.connect("c-1", "wss://far.example/ws") as connection,
        ):
            await connection.wait_open()
            outage = asyncio.create_task(virtual_time.outage(3600))
            await asyncio.sleep(1)
            seen.append(connection.link is None)
            await asyncio.sleep(3598)
            seen.append(connection.link is None)
            await outage
            await connection.wait_open()
            seen.append(len(virtual_time.far_side.dials) > 50)
        return seen

    assert [True, True, True] == virtual_time.run(story())


def test_the_gateway_and_the_far_side_are_awaited_from_any_loop():
    async def story(gateway: Gateway, far: FarSide) -> str:
        async with (
            OAuthClient(gateway.url) as oauth,
            Bridge(oauth) as bridge,
            bridge.connect("c-1", far.url) as connection,
        ):
            await connection.send("hello")
            link = await far.wait_for_link(1)
            await far.wait_for(lambda: link.received == ["hello"])
            await far.stop()
            await link.wait_closed()
            await far.start()
            await far.wait_for_link(2)
            await connection.send("again")
            return str(await connection.recv(timeout=20))

    with Gateway().threaded() as gateway, FarSide(gateway=gateway, echo=True).threaded() as far:
        gateway.add("c-1")
        found = asyncio.run(story(gateway, far))

    assert found in ("hello", "again")
