"""A short search of every target; `make fuzz` is the long one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import run
from tests.fuzz.run import search, table
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_a_stranger_sends_is_read_or_refused(name: str) -> None:
    assert search(TARGETS[name], 150) is None


NAMED = {
    "gateway answers",
    "token answers",
    "dates and times",
    "close reasons",
    "refused upgrades",
    "command lines",
    "timelines",
}


@given(st.integers())
def quiet(number: int) -> None:
    assert isinstance(number, int)


@given(st.integers())
def loud(number: int) -> None:
    assert number < 100


def test_the_table_has_all_that_strangers_send_and_ends_with_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "TARGETS", {"integers": quiet})

    integers, frames, verdict = table(2, 20)

    assert NAMED <= set(TARGETS)
    assert integers.startswith("integers ")
    assert frames.startswith("frames through the dialers ")
    assert "PASSED: 2 targets" == verdict


def test_what_is_found_is_shown_and_named_in_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TARGETS", {"integers": loud})
    monkeypatch.setattr(run, "FRAMES", "tests/no_such_file.py")

    _, number, _, frames, verdict = table(500, 20)

    assert "number=100" in number
    assert "no_such_file" in frames
    assert "FAILED: integers, frames through the dialers" == verdict
