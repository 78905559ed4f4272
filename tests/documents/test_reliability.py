"""Every command that docs/reliability.md names can be given."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

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
