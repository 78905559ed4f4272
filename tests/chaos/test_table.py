"""What `make chaos` prints, and whether its verdict can fail."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import verdict
from tests.chaos.cell import Outcome
from tests.chaos.matrix import second_tries
from tests.chaos.scenes import Scene, scenes

HELD = {("picows", "reset", "idle"): Outcome(mark="+", seconds=0.1)}
BROKEN = {("picows", "reset", "idle"): Outcome(mark="!", seconds=0.1, why="nobody was told")}
PASSED = Scene(name="a cut cable", outcome="passed", seconds=0.1)
SKIPPED = Scene(name="a hole", outcome="skipped", seconds=0.0, why="needs root")
FAILED = Scene(name="a flood", outcome="failed", seconds=0.1, why="it stood still")


def test_what_holds_passes() -> None:
    line = verdict(HELD, [PASSED, SKIPPED], files=0, objects=0)

    assert (
        "chaos: 1 of 1 cells held, 1 of 2 scenes between namespaces held, 1 were skipped, "
        "0 file descriptors left, 0 bridges, sessions and links left: passed" == line
    )


def test_what_holds_at_the_second_try_only_is_said_to() -> None:
    outcomes = {("picows", "reset", "idle"): Outcome(mark="+", seconds=1.0, first="TimeoutError")}

    assert ["played twice: picows: reset × idle: TimeoutError"] == list(second_tries(outcomes))
    assert "1 of 1 cells held, 1 of them only when played again, " in verdict(
        outcomes, [], files=0, objects=0
    )


@pytest.mark.parametrize(
    ("outcomes", "played", "left"),
    [
        (BROKEN, [PASSED], (0, 0)),
        (HELD, [PASSED, FAILED], (0, 0)),
        (HELD, [PASSED], (1, 0)),
        (HELD, [PASSED], (0, 1)),
    ],
)
def test_whatever_does_not_hold_fails(
    outcomes: dict[object, Outcome], played: list[Scene], left: tuple[int, int]
) -> None:
    files, objects = left

    line = verdict(outcomes, played, files=files, objects=objects)  # type: ignore[arg-type]

    assert line.endswith(": FAILED")


THREE = """
import pytest

def test_it_holds(): pass

@pytest.mark.parametrize("way", ["there"])
def test_it_breaks(way): assert "up" == "down"

@pytest.fixture
def none(): pytest.skip("it needs root")

def test_it_is_not_for_here(none): pass
"""


def test_pytests_results_become_lines(tmp_path: Path) -> None:
    file = tmp_path / "test_three.py"
    file.write_text(THREE)

    holds, breaks, skipped = scenes(str(file))

    assert ("it holds", "passed", "") == (holds.name, holds.outcome, holds.why)
    assert ("it breaks[there]", "failed") == (breaks.name, breaks.outcome)
    assert "AssertionError" in breaks.why
    assert "it is not for here: skipped: it needs root" in str(skipped)


def test_scenes_that_can_not_be_played_at_all_are_a_failure(tmp_path: Path) -> None:
    (lost,) = scenes(str(tmp_path / "test_nothing.py"))

    assert "failed" == lost.outcome
    assert lost.why
