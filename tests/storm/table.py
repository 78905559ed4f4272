"""The storm's results as a table, and the verdict."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.storm.model import Outcome, Storm

START: Final = "<!-- storm -->"
END: Final = "<!-- end of storm -->"

AGREES: Final = 2.0
"""Times by which the model may be off: chance alone moves the last hundredth by a third."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in one storm.

    Attributes:
        name: Of the contender.
        peak: Attempts in the worst second.
        each: Attempts of a client, on average.
        late: When 99 % were back, in multiples of the time that admitting them all takes;
            None if they never were.
        attempts: In each second.
    """

    name: str
    peak: int
    each: float
    late: float | None
    attempts: list[int]


def row(name: str, storm: Storm, outcome: Outcome) -> Row:
    """Return what a contender's outcome is, in terms of the storm."""
    back, ideal = outcome.when(0.99), storm.clients / storm.admitted
    return Row(
        name=name,
        peak=outcome.peak,
        each=outcome.attempts_each,
        late=None if back is None else back / ideal,
        attempts=outcome.attempts,
    )


@dataclass(frozen=True, kw_only=True)
class Results:
    """All storms of a run."""

    real: tuple[Storm, list[Row]]
    modelled: list[Row]
    queued: list[Row]
    million: tuple[Storm, list[Row]]

    def save(self, path: Path) -> None:
        """Write them, so that table and picture can be made again."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what `save` wrote."""
        told = json.loads(path.read_text())

        def rows(each: Iterable[Mapping[str, object]]) -> list[Row]:
            return [Row(**one) for one in each]  # type: ignore[arg-type]

        return cls(
            real=(Storm(**told["real"][0]), rows(told["real"][1])),
            modelled=rows(told["modelled"]),
            queued=rows(told["queued"]),
            million=(Storm(**told["million"][0]), rows(told["million"][1])),
        )


def lines(results: Results) -> Iterator[str]:
    """Yield the tables, and the verdict last."""
    storm, real = results.real
    yield f"{storm.clients:,} real links are dropped at once, {storm.admitted:g} let in a second:"
    yield ""
    yield from _aligned(
        ["the others get 503", "peak a second", "attempts each", "99 % back"], map(_cells, real)
    )
    yield ""
    yield from _aligned(
        ["the others wait in the kernel", "peak a second", "attempts each", "99 % back"],
        map(_cells, results.queued),
    )
    yield ""
    yield "The model of the first of these, and how many times what was measured it says (×);"
    yield "where clients take no turns it is told how many attempts their process could begin:"
    yield ""
    yield from _aligned(
        ["model", "peak a second", "attempts each", "×", "99 % back", "×"],
        (
            _compared(model, measured)
            for model, measured in zip(results.modelled, real, strict=True)
        ),
    )
    yield ""
    storm, million = results.million
    yield f"The model with {storm.clients:,} links, {storm.admitted:,g} let in a second:"
    yield ""
    yield from _aligned(
        ["model", "peak a second", "attempts each", "99 % back"], map(_cells, million)
    )
    yield ""
    yield _verdict(results)


def document(text: str, results: Results) -> str:
    """Return a document with these results in the place that it has for them."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n\n" + "\n".join(lines(results)) + f"\n\n{END}{after}"


def problems(results: Results) -> Iterator[str]:
    """Say what should not be."""
    storm, real = results.real
    full, group, _, _ = real
    if group.late is None:
        yield "a group was not back in time"
    if group.peak > 2 * storm.attempt_rate + 2:
        yield f"a group made {group.peak} attempts in a second"
    if full.late is None:
        yield "full jitter was not back in time"
    _, (all_full, all_group, all_added, _) = results.million
    if not all_group.each < all_full.each < all_added.each:
        yield "a group does not need the fewest attempts, and added jitter the most"
    for model, measured in zip(results.modelled, real, strict=True):
        yield from _disagreements(model, measured)


def _disagreements(model: Row, measured: Row) -> Iterator[str]:
    if not 1 / AGREES <= model.each / measured.each <= AGREES:
        yield f"the model of {model.name} is off by {model.each / measured.each:.2f} (attempts)"
    # Clients in step lose it in a process that is too slow for them all, and are saved by that.
    if model.late is None or measured.late is None:
        return
    if not 1 / AGREES <= model.late / measured.late <= AGREES:
        yield f"the model of {model.name} is off by {model.late / measured.late:.2f} (99 %)"


def _verdict(results: Results) -> str:
    bad = list(problems(results))
    if bad:
        return f"FAILED: {'; '.join(bad)}"
    return "PASSED: a group keeps to its rate and is back in time, and the model agrees"


def _cells(one: Row) -> list[str]:
    return [one.name, f"{one.peak:,}", f"{one.each:.2f}", _late(one.late)]


def _late(late: float | None) -> str:
    return "never" if late is None else f"{late:.2f} × the ideal"


def _compared(model: Row, real: Row) -> list[str]:
    name, peak, each, back = _cells(model)
    late = "–" if model.late is None or real.late is None else f"{model.late / real.late:.2f}"
    return [name, peak, each, f"{model.each / real.each:.2f}", back, late]


def _aligned(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a Markdown table that is one to the eye as well."""
    cells = [list(headings), *map(list, rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(headings))]

    def line(values: Sequence[str]) -> str:
        first, *rest = zip(values, widths, strict=True)
        return f"| {first[0]:<{first[1]}} | " + " | ".join(f"{v:>{w}}" for v, w in rest) + " |"

    yield line(cells[0])
    yield f"| {'-' * widths[0]} | " + " | ".join("-" * (w - 1) + ":" for w in widths[1:]) + " |"
    yield from map(line, cells[1:])
