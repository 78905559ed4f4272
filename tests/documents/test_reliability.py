"""Every command that docs/reliability.md names can be given, and its one figure holds."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dromos.testing.virtual import VirtualTime

ROOT = Path(__file__).parents[2]
COMMANDS = re.findall(r"`((?:make|pytest) [^`]+)`", (ROOT / "docs" / "reliability.md").read_text())


def test_the_proofs_have_their_commands() -> None:
    wanted = {"conformance", "chaos", "simulate", "fuzz", "soak"}

    assert wanted <= {command.split()[1] for command in COMMANDS}


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_a_command_leads_somewhere(command: str) -> None:
    tool, target, *_ = command.split()
    if tool == "make" and shutil.which("make") is None:
        pytest.skip("there is no `make` on this machine")
    if tool == "pytest":
        assert list((ROOT / target).glob("test_*.py"))
    else:
        dry = ["make", "--dry-run", "--old-file=.venv/test", *command.split()[1:]]
        assert (
            "python -m"
            in subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        )


@pytest.mark.parametrize("phase", range(0, 60, 4))
def test_a_machine_that_has_slept_replaces_its_link_within_35_seconds(phase: float) -> None:
    virtual_time = VirtualTime()
    far_side = virtual_time.far_side

    async def story() -> float:
        loop = asyncio.get_running_loop()
        async with (
            virtual_time.bridge(seed=phase) as bridge,
            bridge.connect("c-1", "wss://far.example/ws") as connection,
        ):
            await connection.wait_open()
            await asyncio.sleep(100 + phase)
            far_side.links[-1].far.go_silent()
            virtual_time.clock.step(8 * 3600)
            woken = loop.time()
            while len(far_side.links) < 2:  # noqa: ASYNC110 - virtual time, which costs nothing
                await asyncio.sleep(0.1)
            return loop.time() - woken

    assert virtual_time.run(story()) <= 35
