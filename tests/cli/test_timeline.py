"""`dromos timeline`: a recording in, an SVG out, and in between a word about what was broken."""

import gzip
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.timeline.support import RUN, line

from dromos.cli.commands import cli
from dromos.cli.timeline import MOST_PANELS
from dromos.telemetry.facts import NAMES

DOCS = Path(__file__).parents[2] / "docs"


def timeline(*arguments, given=None):
    return CliRunner().invoke(cli, ["timeline", *map(str, arguments)], input=given)


def recording(*lines):
    return b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines
    )


def names(svg):
    return [text.text for text in ET.fromstring(svg).iter() if text.get("class") == "name"]


def test_a_file_is_drawn_into_a_file(tmp_path):
    run, out = tmp_path / "run.jsonl", tmp_path / "out.svg"
    run.write_bytes(recording(*RUN))
    outcome = timeline(run, "-o", out, "--title", "a run", "--theme", "dark")

    assert (0, "") == (outcome.exit_code, outcome.output)
    assert "a run" in out.read_text()
    assert "prefers-color-scheme" not in out.read_text()


def test_standard_input_is_drawn_onto_standard_output():
    outcome = timeline("-", given=recording(*RUN))

    assert 0 == outcome.exit_code
    assert ET.fromstring(outcome.stdout).tag.endswith("svg")


def test_a_broken_line_is_named_and_the_rest_is_drawn(tmp_path):
    run = tmp_path / "run.jsonl"
    run.write_bytes(recording(RUN[0], b'{"event": "bridge.li', *RUN[1:])[:-40])
    outcome = timeline(run)

    assert 0 == outcome.exit_code
    assert f"{run}:2: passed over: it is not JSON, or was cut off" in outcome.stderr
    assert f"{run}:{len(RUN) + 1}: passed over" in outcome.stderr
    ET.fromstring(outcome.stdout)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "has no event of a bridge"),
        (b"\x00\x01\x02\xff" * 50, "-:1: passed over: it is not JSON"),
        (b'{"level": "info"}\n' * 3, "its 3 other lines are about something else"),
        (recording(line("entangled")), "-:1: passed over: this version does not know its event"),
        (recording(line("entangled")), "has no event of a bridge"),
        (gzip.compress(recording(*RUN)), "-: it is compressed; unpack it first, such as with zcat"),
        (gzip.compress(recording(*RUN))[:100], "-: it is compressed; unpack it first"),
        (recording({"event": "mark", "at": 1.0, "text": "x"}), "has no event of a bridge"),
    ],
)
def test_a_file_with_nothing_to_draw_is_an_error(given, said):
    outcome = timeline("-", given=given)

    assert (1, "") == (outcome.exit_code, outcome.stdout)
    assert said in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 7


def test_events_of_a_later_version_are_told_and_the_rest_is_drawn():
    given = recording(*RUN, *(line("entangled", at) for at in range(20)))
    outcome = timeline("-", given=given)

    assert 0 == outcome.exit_code
    assert f"-:{len(RUN) + 1}: passed over: this version does not know" in outcome.stderr
    assert "15 more: passed over: this version does not know its event" in outcome.stderr
    assert timeline("-", given=recording(*RUN)).stdout == outcome.stdout


def test_every_event_that_can_be_recorded_is_known():
    given = recording(
        *(line(name.removeprefix("bridge."), at) for at, name in enumerate(NAMES.values()))
    )
    outcome = timeline("-", given=given)

    assert (0, "") == (outcome.exit_code, outcome.stderr)


def test_sessions_are_chosen_by_connection_and_number():
    given = recording(
        *(line("session_started", connection=name, session=n) for name in "ab" for n in (1, 2, 3))
    )

    assert ["a  (session 2)", "a  (session 3)"] == names(
        timeline("-", "--connection", "a", "--session", 2, "--session", 3, given=given).stdout
    )
    outcome = timeline("-", "--connection", "c", given=given)
    assert 1 == outcome.exit_code
    assert "no such session; it has session 1 of 'a'" in outcome.stderr


RUNS = [
    *(line("session_started", 1000 * n, session=1) for n in range(9)),
    line("mark", 0, text="in the first"),
    line("session_started", 8001, session=2, connection="other"),
    line("mark", 8001, text="in the last"),
    line("flapped", 8009, session=2, connection="other"),
]


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        (("--run", "last"), ["c-1  (session 1)", "other  (session 2)"]),
        (("--run", "2", "--run", "1"), ["c-1  (run 1, session 1)", "c-1  (run 2, session 1)"]),
        (("--connection", "c-1"), [f"c-1  (run {n}, session 1)" for n in range(1, 10)]),
    ],
)
def test_a_run_of_a_file_that_spans_restarts_is_chosen(chosen, shown):
    outcome = timeline("-", *chosen, given=recording(*RUNS))

    assert 0 == outcome.exit_code
    assert shown == names(outcome.stdout)


def test_a_run_is_drawn_without_the_marks_of_the_others():
    svg = timeline("-", "--run", "last", given=recording(*RUNS)).stdout

    assert "in the last" in svg
    assert "in the first" not in svg


def test_a_file_with_several_runs_says_how_to_choose_one():
    many = timeline("-", given=recording(*RUNS))
    one = timeline("-", "--run", "last", given=recording(*RUNS))

    assert "9 runs are in one picture; --run last draws the newest only" in many.stderr
    assert "" == one.stderr


def test_a_run_that_there_is_not_is_told_with_how_many_there_are():
    outcome = timeline("-", "--run", "10", given=recording(*RUNS))

    assert 1 == outcome.exit_code
    assert "- has no run 10; it has 9" in outcome.stderr


@pytest.mark.parametrize("run", ["first", "0", "-1", "1.5", "²"])
def test_what_is_no_number_of_a_run_is_refused(run):
    outcome = timeline("-", "--run", run, given=recording(*RUNS))

    assert 2 == outcome.exit_code
    assert "a run is a number from 1 on, or last" in outcome.stderr


def test_thousands_of_sessions_are_cut_with_a_word_about_it():
    given = recording(*(line("session_started", session=n) for n in range(3000)))
    outcome = timeline("-", given=given)

    assert MOST_PANELS == len(names(outcome.stdout))
    assert "3000 sessions are too many for one picture" in outcome.stderr


@pytest.mark.parametrize("arguments", [("nowhere.jsonl",), ("-", "-o", "/nonexistent/x.svg")])
def test_files_that_can_not_be_opened_are_named(arguments):
    outcome = timeline(*arguments, given=recording(*RUN))

    assert 1 == outcome.exit_code
    assert "No such file or directory" in outcome.stderr


def test_what_a_recording_says_can_not_steer_the_terminal(tmp_path):
    run = tmp_path / "a\x1b[31m.jsonl"
    run.write_bytes(b"{\n")
    outcome = timeline(run)

    assert "\x1b" not in outcome.stderr


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pictures_in_the_documents_are_drawn_from_the_recording_beside_them(theme):
    title = "dromos demo: one session through tokens and failures"
    outcome = timeline(DOCS / "timeline.jsonl", "--theme", theme, "--title", title, "--width", 840)

    assert 0 == outcome.exit_code
    assert (DOCS / f"timeline-{theme}.svg").read_text() == outcome.stdout
