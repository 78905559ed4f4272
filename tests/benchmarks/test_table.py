"""Tables of known samples, whose ratios can be worked out by hand."""

import math
from pathlib import Path

import pytest
from benchmarks.plot import draw
from benchmarks.table import Sample, rows, text
from benchmarks.worker import percentile


def sample(client: str, round: int, cpu: float, *, job: str = "receive", **shares: float) -> Sample:
    return Sample(
        job=job, client=client, round=round, cpu=cpu, wall=cpu * 2, percentiles=dict(shares)
    )


def test_a_ratio_is_of_the_best_to_the_best_and_not_of_one_round() -> None:
    table = rows(
        [
            sample("base", 1, 2.0),
            sample("ours", 1, 2.5),
            sample("base", 2, 4.0),
            sample("ours", 2, 2.2),
            sample("base", 3, 3.0),
            sample("ours", 3, 9.0),
        ],
        "base",
    )

    assert ["base", "ours"] == [row.client for row in table]
    assert [2.0, 2.2] == [row.best for row in table]
    assert [3.0, 2.5] == [row.median for row in table]
    assert [4.0, 4.4] == [row.wall for row in table]
    assert [1.0, 1.1] == [round(row.ratio, 9) for row in table]


def test_jobs_are_compared_each_for_itself() -> None:
    table = rows(
        [
            sample("base", 1, 2.0, job="send"),
            sample("ours", 1, 3.0, job="send"),
            sample("ours", 1, 8.0, job="echo"),
            sample("base", 1, 4.0, job="echo"),
        ],
        "base",
    )

    assert {("send", "base"): 1.0, ("send", "ours"): 1.5, ("echo", "ours"): 2.0} == {
        (row.job, row.client): row.ratio
        for row in table
        if (row.job, row.client) != ("echo", "base")
    }


def test_without_the_base_there_is_no_ratio() -> None:
    (row,) = rows([sample("ours", 1, 2.0)], "base")

    assert math.isnan(row.ratio)


def test_of_percentiles_the_least_of_all_rounds_is_shown() -> None:
    (row,) = rows(
        [sample("base", 1, 2.0, p50=9, p99=30), sample("base", 2, 2.0, p50=8, p99=40)], "base"
    )

    assert {"p50": 8, "p99": 30} == row.percentiles


def test_the_text_has_a_block_for_each_job_and_the_counted_instructions() -> None:
    table = rows(
        [sample("base", 1, 2.0), sample("ours", 1, 3.0), sample("base", 1, 1.0, job="echo", p50=7)],
        "base",
    )

    shown = text(table, {("receive", "ours"): 12345.0}).splitlines()

    assert ["receive", "client", "base", "ours", "", "echo", "client", "base"] == [
        line.split("  ")[0] for line in shown
    ]
    assert ["ours", "3.00", "3.00", "6.00", "1.50", "12,345"] == shown[3].split()
    assert shown[-1].endswith("p50 7.0")


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]

    assert (50.0, 90.0, 99.0) == tuple(percentile(values, share) for share in (0.5, 0.9, 0.99))
    assert 7.0 == percentile([7.0], 0.99)


def test_the_picture_leaves_out_nothing_but_what_would_hide_all_else(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="make bench installs it")
    table = [
        {"job": "send", "client": client, "ratio": ratio}
        for client, ratio in [("picows", 1.0), ("dromos", 1.1), ("slow", 99.0)]
    ]

    draw({"messages": {"table": table}}, tmp_path / "bench.svg")
    drawn = (tmp_path / "bench.svg").read_text()

    assert drawn.startswith("<?xml")
    assert "send: dromos" in drawn
    assert "send: slow" not in drawn
