"""The rows of a session's panel, each drawn by itself from what is known of the session."""

from dataclasses import dataclass

from dromos.timeline.shapes import Shape

__all__ = ["Row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row that was drawn: its name, how high it is, and its shapes.

    Attributes:
        name: What stands before it.
        height: How high it is; 0 for a row that has nothing to show.
        shapes: As they lie on the page.
        signs: What of the legend it needs.
    """

    name: str = ""
    height: float = 0.0
    shapes: tuple[Shape, ...] = ()
    signs: frozenset[str] = frozenset()
