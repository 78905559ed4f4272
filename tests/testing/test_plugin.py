"""The fixtures for users' tests, used as a user would: in a project of its own, with pytest."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dromos

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


def test_an_hour_of_outage_is_ten_lines_and_milliseconds(tmp_path: Path):
    story = next(block for block in blocks() if "3600" in block)
    test = story.partition("def test")[2]
    names: dict[str, object] = {}
    exec(compile(story, str(DOCUMENT), "exec"), names)
    from dromos.testing.virtual import VirtualTime

    began = time.process_time()
    next(value for name, value in names.items() if name.startswith("test"))(VirtualTime())  # type: ignore[operator]

    assert len(test.strip().splitlines()) <= 13
    assert time.process_time() - began < 5  # an hour would be 3600


def test_the_gateway_and_the_far_side_are_awaited_from_any_loop(tmp_path: Path):
    import asyncio

    from dromos import Bridge
    from dromos.oauth import OAuthClient
    from dromos.testing import FarSide, Gateway

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
