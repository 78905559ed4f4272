"""A soak as a picture: what was open, what was used, and when something went wrong."""

from collections.abc import Sequence
from typing import Protocol
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 120, 90, 30, 40


class Sampled(Protocol):
    """One moment."""

    @property
    def at(self) -> float: ...
    @property
    def rss_mib(self) -> float: ...
    @property
    def descriptors(self) -> int: ...
    @property
    def open(self) -> int: ...


def chart(samples: Sequence[Sampled], faults: Sequence[tuple[float, str]], bridges: int) -> str:
    """Return an SVG of three curves over the same time, with a mark for each fault."""
    length = samples[-1].at or 1.0
    rows = [
        (f"sessions open (of {bridges})", [float(sample.open) for sample in samples]),
        ("memory (MiB)", [sample.rss_mib for sample in samples]),
        ("descriptors", [float(sample.descriptors) for sample in samples]),
    ]
    height = TOP + len(rows) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 20}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="#444">'
    ]
    for row, (name, values) in enumerate(rows):
        top = TOP + row * (HEIGHT + GAP)
        parts += _curve(name, [sample.at for sample in samples], values, top, length)
    for at, what in faults:
        x = LEFT + WIDTH * min(1.0, at / length)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - GAP}" stroke="#c33" '
            f'stroke-opacity="0.25"><title>{at:.0f} s: {escape(what)}</title></line>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _curve(
    name: str, times: Sequence[float], values: Sequence[float], top: float, length: float
) -> list[str]:
    most = max(values) or 1.0
    points = " ".join(
        f"{LEFT + WIDTH * at / length:.1f},{top + HEIGHT * (1 - value / most):.1f}"
        for at, value in zip(times, values, strict=True)
    )
    return [
        f'<text x="{LEFT}" y="{top - 6}">{escape(name)}</text>',
        f'<text x="{LEFT - 8}" y="{top + 10}" text-anchor="end">{most:,.0f}</text>',
        f'<text x="{LEFT - 8}" y="{top + HEIGHT}" text-anchor="end">0</text>',
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>',
        f'<polyline points="{points}" fill="none" stroke="#257" stroke-width="1.5"/>',
    ]
