"""What the signs of a picture mean; only those that are in it."""

from collections.abc import Iterator
from typing import Final

from dromos.timeline.packing import text_width
from dromos.timeline.shapes import Box, Label, Line, Path, Shape

__all__ = ["draw_legend"]

HEIGHT: Final = 18.0
SIGN, AFTER = 18.0, 20.0

WORDS: Final = {
    "link": "link, open and serving",
    "handover": "hand-over, nothing interrupted",
    "lost": "link lost",
    "unanswered": "our close unanswered",
    "gap": "no link is open",
    "token": "token, faint once replaced",
    "refresh": "refresh",
    "failed": "attempt failed",
    "wait": "wait before the next",
    "mark": "noted while recording",
    "trouble": "trouble",
    "received": "received",
    "sent": "sent",
}


def draw_legend(
    signs: frozenset[str], *, left: float, right: float, top: float
) -> tuple[list[Shape], float]:
    """Return the legend of some signs, and how high it is."""
    shapes: list[Shape] = []
    x, y = left, top + HEIGHT / 2
    for sign, text in WORDS.items():
        if sign not in signs:
            continue
        width = SIGN + text_width(text, 11)
        if x > left and x + width > right:
            x, y = left, y + HEIGHT
        shapes += _sign(sign, x, y)
        shapes.append(Label(x=x + SIGN, y=y + 4, text=text, style="soft"))
        x += width + AFTER
    return shapes, (y - top + HEIGHT / 2 if shapes else 0.0)


def _sign(sign: str, x: float, y: float) -> Iterator[Shape]:
    match sign:
        case "link" | "gap" | "token":
            yield Box(x=x, y=y - 5, width=12, height=10, style=sign, radius=2.0)
        case "received":
            yield Box(x=x, y=y - 5, width=12, height=10, style="flow")
            yield Line(x1=x, y1=y - 5, x2=x + 12, y2=y - 5, style="edge")
        case "lost" | "unanswered":
            yield Box(x=x + 5, y=y - 6, width=3, height=12, style="end")
        case "handover":
            yield Path(data=f"M{x + 6:.1f} {y - 7:.1f}v14", style="handover")
            yield Path(data=f"M{x + 2:.1f} {y:.1f}l4 -4l4 4l-4 4z", style="ring")
        case "refresh":
            yield Path(
                data=f"M{x + 2:.1f} {y:.1f}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z", style="refresh"
            )
        case "failed":
            yield Path(data=f"M{x + 2:.1f} {y - 3.5:.1f}l7 7m0 -7l-7 7", style="cross")
        case "mark" | "trouble":
            yield Path(data=f"M{x + 2:.1f} {y - 4:.1f}h8l-4 7z", style="note")
        case _:
            yield Line(x1=x, y1=y, x2=x + 13, y2=y, style=sign)
