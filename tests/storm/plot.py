"""A storm as a picture: attempts in each second, for each way to come back."""

from pathlib import Path
from typing import Any, Final

from tests.storm.table import Results, Row

COLOURS: Final = ("#1f77b4", "#2ca02c", "#d62728", "#9467bd")
SHOWN: Final = (60, 300)
"""Seconds of the real storm, and of the modelled one."""


def draw(results: Results, path: Path) -> None:
    """Write an SVG.

    Raises:
        ImportError: If matplotlib is missing: `make storm` has it.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "storm", "font.size": 9})
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    storm, real = results.real
    _panel(left, real, SHOWN[0], "-")
    _panel(left, results.modelled, SHOWN[0], ":", labelled=False)
    _bar(left, storm.admitted)
    left.set_title(f"{storm.clients:,} real links (dotted: the model)")
    left.set_ylabel("attempts a second")
    storm, million = results.million
    _panel(right, million, SHOWN[1], "-")
    _bar(right, storm.admitted)
    right.set_title(f"{storm.clients:,} links, the model")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _panel(axes: Any, rows: list[Row], seconds: int, style: str, *, labelled: bool = True) -> None:
    for row, colour in zip(rows, COLOURS, strict=True):
        values = [value or float("nan") for value in row.attempts[:seconds]]
        label = row.name if labelled else None
        axes.step(range(len(values)), values, style, where="post", color=colour, lw=1, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("seconds after the drop")


def _bar(axes: Any, admitted: float) -> None:
    axes.axhline(admitted, color="black", lw=0.7, ls="--", label="let in a second")
