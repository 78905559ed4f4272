"""A short search of every target; `make fuzz` is the long one."""

import click
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from dromos.cli.commands import cli
from tests.fuzz import lines, run
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
    "requests to the health port",
    "answers to watch",
    "proxies' answers",
}


def test_the_documents_know_how_many_they_are() -> None:
    told = (run.ROOT / "docs/reliability.md").read_text(encoding="utf-8")

    assert f": {len(TARGETS)} targets, " in told


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


@pytest.mark.parametrize("name", lines.COMMANDS)
def test_command_lines_reach_what_a_command_is_called_with(name: str) -> None:
    """Most words would end in wrong usage, which tells nothing of how values are read."""
    command = cli.commands[name]
    options = [each for each in command.params if isinstance(each, click.Option)]
    usual = {each.name: each.get_default(click.Context(command)) for each in options}

    def says_something(words: tuple[str, list[str]]) -> bool:
        values = lines.parsed(*words)
        if isinstance(values, str):
            return False
        said = [name for name in usual if values[name] not in (usual[name], None, ())]
        return len(said) >= min(3, len(options))

    quick = settings(database=None, max_examples=2000, phases=(Phase.generate,))
    found = find(lines.line(name), says_something, settings=quick)

    assert name == found[0]
