"""The tables as a picture: ratios of processor time, job by job, and memory of idle links."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw"]


def draw(report: dict[str, Any], path: Path) -> None:
    """Write an SVG of what a report holds.

    Args:
        report: What `--json` writes.
        path: Where to.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pictures = [_ratios(report["messages"]["table"])] if "messages" in report else []
    pictures += [_memory(report["idle"])] if report.get("idle") else []
    if not pictures:
        return
    figure, axes = pyplot.subplots(
        len(pictures), 1, figsize=(9, 1.5 + sum(len(bars) for _, bars in pictures) * 0.2)
    )
    for axis, (title, bars) in zip([axes] if len(pictures) == 1 else axes, pictures, strict=True):
        axis.barh(
            range(len(bars)),
            [value for _, value, _ in bars],
            color=["#c60" if ours else "#79b" for *_, ours in bars],
        )
        axis.set_yticks(range(len(bars)), [name for name, *_ in bars], fontsize=7)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


Bars = tuple[str, list[tuple[str, float, bool]]]


def _ratios(table: Sequence[dict[str, Any]]) -> Bars:
    bars = [
        (f"{row['job']}: {row['client']}", row["ratio"], row["client"].startswith("dromos"))
        for row in table
        if row["ratio"] < 20  # one bar must not make all others invisible
    ]
    return "processor time for each message, as a multiple of picows' own", bars


def _memory(rows: Sequence[dict[str, Any]]) -> Bars:
    bars = [
        (
            f"{row['links']} {'TLS' if row['tls'] else 'plain'} {row['loop']}: {row['client']}",
            row["memory"],
            row["client"].startswith("dromos"),
        )
        for row in rows
        if row["links"] > 1
    ]
    return "resident memory of one idle link, in KiB", bars
