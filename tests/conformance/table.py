"""Shows a run: a table by engine and group, the versions, the exceptions, and the verdict."""

import platform
from collections import Counter
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from itertools import chain
from typing import Final

import dromos
from tests.conformance.cases import ENGINES, GROUPS, LARGE, Engine, group_of
from tests.conformance.judge import PASSED, Judgement, behaviour, judge
from tests.conformance.run import Report

__all__ = ["CASES", "document", "holds", "judgements", "published", "shown"]

CASES: Final = 517
"""How many there are in a full run: a server that offers fewer would be easy to satisfy."""

_HEADINGS: Final = (
    *("dialer", "group", "cases", "ok", "non-strict", "informational", "exceptions", "failed"),
)

_START: Final = "<!-- last run -->\n"
_END: Final = "<!-- end -->\n"


def holds(report: Report, *, full: bool) -> bool:
    """Whether everything is as published."""
    complete = not full or len(report.cases) == CASES
    return complete and all(one.holds for one in judgements(report).values())


def judgements(report: Report) -> dict[str, Judgement]:
    """Return what is to be said of each engine, by name."""
    return {
        engine.name: judge(engine, engine.cases(report.cases), report.results.get(engine.name, {}))
        for engine in ENGINES
    }


def document(text: str, report: Report, *, today: date) -> str:
    """Return the document that a full run is published in, with this run in it."""
    before, rest = text.split(_START)
    _, after = rest.split(_END)
    lines = "\n".join(shown(report, full=True, today=today))
    return f"{before}{_START}\n{lines}\n\n{_END}{after}"


def shown(report: Report, *, full: bool, today: date) -> list[str]:
    """Return the lines that show a run, of which the last one is the verdict."""
    return [
        *_versions(report, full=full, today=today),
        "",
        *_aligned(_HEADINGS, _rows(report)),
        "",
        *_limits(),
        "",
        *published(),
        "",
        _second_chances(report),
        "",
        *_complaints(report),
        _verdict(report, full=full),
    ]


def published() -> list[str]:
    """Return the exceptions, a line each."""
    listed = [
        f"Exception: {case} with {engine.name}: {why}."
        for engine in ENGINES
        for case, why in engine.exceptions.items()
    ]
    return [*listed, "There are no other exceptions."]


def _versions(report: Report, *, full: bool, today: date) -> list[str]:
    far = report.versions
    return [
        f"{'A full' if full else 'A reduced'} run on {today.isoformat()}, "
        f"of {len(report.cases)} cases.",
        f"Near side: dromos {dromos.__version__}, picows {version('picows')}, websockets "
        f"{version('websockets')}, CPython {platform.python_version()}, {platform.system()}.",
        f"Far side: autobahntestsuite {far['autobahntestsuite']}, autobahn {far['autobahn']}, "
        f"CPython {far['CPython']}.",
    ]


def _rows(report: Report) -> list[list[str]]:
    return list(chain.from_iterable(_rows_of(engine, report) for engine in ENGINES))


def _rows_of(engine: Engine, report: Report) -> list[list[str]]:
    cases = engine.cases(report.cases)
    rows = [
        _row(
            engine,
            f"{group} {GROUPS[group]}",
            [one for one in cases if group_of(one) == group],
            report,
        )
        for group in sorted(engine.groups)
    ]
    return [*rows, _row(engine, "all", cases, report)]


def _row(engine: Engine, name: str, cases: Sequence[str], report: Report) -> list[str]:
    results = report.results.get(engine.name, {})
    found = Counter(behaviour(results.get(case)) for case in cases)
    judgement = judge(engine, cases, results)
    numbers = [
        len(cases),
        *(found[word] for word in PASSED),
        len(judgement.excepted),
        len(judgement.failed),
    ]
    return [engine.name, name, *map(str, numbers)]


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in Markdown that can be read as it is."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    rules = ["-" * width if at < 2 else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    lines = [headings, rules, *rows]
    return ["| " + " | ".join(_padded(line, widths)) + " |" for line in lines]


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if at < 2 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def _limits() -> list[str]:
    raised = ", ".join(f"{name}={value:,}" for name, value in LARGE.items())
    return [f"Options are the defaults, except in group 9, whose messages are larger: {raised}."]


def _second_chances(report: Report) -> str:
    if not report.again:
        return "No case had to be played twice."
    return f"Passed only when played again, alone: {', '.join(report.again)}."


def _complaints(report: Report) -> list[str]:
    """Return what is wrong, a line each."""
    wrong: list[str] = []
    for name, one in judgements(report).items():
        wrong += [f"Failed: {case} with {name}: {what}." for case, what in one.failed.items()]
        wrong += [f"Passed, though it is an exception: {case} with {name}." for case in one.spared]
    return [*wrong, ""] if wrong else []


def _verdict(report: Report, *, full: bool) -> str:
    every = judgements(report).values()
    played = sum(len(engine.cases(report.cases)) for engine in ENGINES)
    excepted = sum(len(one.excepted) for one in every)
    wrong = sum(len(one.failed) + len(one.spared) for one in every)
    if full and len(report.cases) != CASES:
        return f"Verdict: not conformant: {len(report.cases)} cases were offered, not {CASES}."
    if not holds(report, full=full):
        return f"Verdict: not conformant: {wrong} of {played} results are not as published."
    passed = f"{played - excepted} of {played} results pass"
    return f"Verdict: conformant: {passed}, and {excepted} failed as published."
