"""A run is judged strictly: by the published exceptions, no more and no fewer."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import ENGINES, FULL, GROUPS, REDUCED, group_of
from tests.conformance.judge import behaviour, judge
from tests.conformance.run import Report
from tests.conformance.table import CASES, document, holds, published, shown

PICOWS = next(engine for engine in ENGINES if engine.name == "picows")
OK = {"behavior": "OK", "behaviorClose": "OK"}
FAILED = {"behavior": "FAILED", "behaviorClose": "WRONG CODE"}
VERSIONS = {"CPython": "2.7.18", "autobahn": "0.10.9", "autobahntestsuite": "25.10.1"}
TODAY = date(2026, 11, 24)
PUBLISHED = Path(__file__).parents[2] / "docs" / "conformance.md"


def a_report(**results: Any) -> Report:
    cases = ["1.1.1", "7.1.2", "12.1.1"]
    report = Report(cases=cases, versions=VERSIONS)
    report.results = {
        engine.name: {
            case: FAILED if case in engine.exceptions else OK for case in engine.cases(cases)
        }
        for engine in ENGINES
    } | results
    return report


def test_a_case_fails_by_its_frames_or_by_its_closing() -> None:
    assert "OK" == behaviour(OK)
    assert "NON-STRICT" == behaviour({"behavior": "NON-STRICT", "behaviorClose": "OK"})
    assert "UNCLEAN" == behaviour({"behavior": "OK", "behaviorClose": "UNCLEAN"})
    assert "FAILED" == behaviour({"behavior": "FAILED", "behaviorClose": "OK"})
    assert "UNIMPLEMENTED" == behaviour({"behavior": "UNIMPLEMENTED", "behaviorClose": "OK"})
    assert "NOT PLAYED" == behaviour(None)


def test_an_exception_that_fails_is_as_published() -> None:
    found = judge(PICOWS, ["1.1.1", "7.1.2"], {"1.1.1": OK, "7.1.2": FAILED})

    assert found.holds
    assert ["7.1.2"] == found.excepted


def test_an_exception_that_passes_fails_the_run() -> None:
    found = judge(PICOWS, ["7.1.2"], {"7.1.2": OK})

    assert not found.holds
    assert ["7.1.2"] == found.spared


@pytest.mark.parametrize("results", [{"1.1.1": FAILED}, {}])
def test_a_case_that_is_not_listed_must_be_played_and_pass(results: Any) -> None:
    found = judge(PICOWS, ["1.1.1"], results)

    assert not found.holds
    assert ["1.1.1"] == list(found.failed)


def test_the_last_line_is_the_verdict() -> None:
    good = a_report()
    bad = a_report(picows={"1.1.1": FAILED, "7.1.2": OK})

    assert holds(good, full=False)
    assert not holds(bad, full=False)
    assert (
        "Verdict: conformant: 4 of 5 results pass, and 1 failed as published."
        == shown(good, full=False, today=TODAY)[-1]
    )
    assert (
        "Verdict: not conformant: 2 of 5 results are not as published."
        == shown(bad, full=False, today=TODAY)[-1]
    )


def test_a_full_run_of_fewer_cases_does_not_hold() -> None:
    report = a_report()

    assert not holds(report, full=True)
    assert (
        f"Verdict: not conformant: 3 cases were offered, not {CASES}."
        == shown(report, full=True, today=TODAY)[-1]
    )


def test_a_document_keeps_all_but_the_last_run() -> None:
    first = "before\n<!-- last run -->\n<!-- end -->\nafter\n"

    once = document(first, a_report(), today=TODAY)
    again = document(once, a_report(), today=TODAY)

    assert once == again
    assert once.startswith("before\n<!-- last run -->\n\nA full run on 2026-11-24, of 3 cases.\n")
    assert once.endswith(f"not {CASES}.\n\n<!-- end -->\nafter\n")


def test_what_is_wrong_is_named() -> None:
    lines = shown(a_report(picows={"7.1.2": OK}), full=False, today=TODAY)

    assert "Failed: 1.1.1 with picows: NOT PLAYED." in lines
    assert "Passed, though it is an exception: 7.1.2 with picows." in lines


def test_a_reduced_run_has_cases_of_every_group() -> None:
    assert set(GROUPS) == {group_of(pattern) for pattern in REDUCED}
    assert ("*",) == FULL


def test_the_published_table_is_of_these_rules_and_holds() -> None:
    lines = PUBLISHED.read_text().splitlines()

    assert [line for line in lines if line in published()] == published()
    assert any(line.startswith("Verdict: conformant: ") for line in lines)
