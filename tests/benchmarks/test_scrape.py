"""A scrape is measured with real sessions, and one that takes too long fails the command."""

import pytest

pytest.importorskip("prometheus_client", reason='needs "dromos[prometheus]"')

from benchmarks.scrape import main

FEW = ["--sessions", "20", "--endpoints", "2", "--scrapes", "2"]


@pytest.mark.parametrize(
    ("within", "status", "verdict"),
    [("60", 0, "PASSED: within 60000 ms"), ("0", 1, "FAILED: over 0 ms")],
)
def test_the_bar_decides_how_it_ends(
    within: str, status: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = main([*FEW, "--within", within])

    first, *_, last = capsys.readouterr().out.splitlines()
    assert status == ended
    assert first.startswith("20 sessions on 2 endpoints")
    assert last == verdict
