"""The scenes between network namespaces, which are pytest's, as lines of a table."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

__all__ = ["Scene", "scenes"]

ROOT: Final = Path(__file__).parents[2]
NAMESPACES: Final = "tests/chaos/test_namespaces.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One of them.

    Attributes:
        name: Its sentence.
        outcome: What pytest says of it.
        seconds: How long it took.
        why: Why it was skipped or failed, in its first line; empty otherwise.
    """

    name: str
    outcome: Literal["passed", "skipped", "failed"]
    seconds: float
    why: str = ""

    def __str__(self) -> str:
        mark = {"passed": "+", "skipped": ".", "failed": "!"}[self.outcome]
        line = f"{mark} {self.seconds:4.1f}  {self.name}"
        return f"{line}: {self.outcome}: {self.why}" if self.why else line


def scenes(file: str = NAMESPACES) -> list[Scene]:
    """Play them, and return what came of each; one that failed if pytest itself did."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *(f"--junitxml={report}", file),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
        found = [_scene(case) for case in cases]
    if done.returncode and not any(scene.outcome == "failed" for scene in found):
        said = (done.stdout + done.stderr).strip().splitlines()[-1:]
        found.append(Scene(name=file, outcome="failed", seconds=0.0, why="".join(said)))
    return found


def _scene(case: ElementTree.Element) -> Scene:
    told = {child.tag: child.get("message", "") for child in case}
    why = next((told[tag] for tag in ("failure", "error", "skipped") if tag in told), "")
    name = case.get("name", "").removeprefix("test_").replace("_", " ")
    return Scene(
        name=name,
        outcome="failed" if told.keys() & {"failure", "error"} else "skipped" if told else "passed",
        seconds=float(case.get("time", 0)),
        why="".join(why.splitlines()[:1]),
    )
