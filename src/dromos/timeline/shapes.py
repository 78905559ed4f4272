"""What a picture is made of, before anybody writes it down."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Box", "Label", "Line", "Path", "Picture", "Shape"]

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle; `told` is shown to whoever points at it, and the paper as far as it is faint."""

    x: float
    y: float
    width: float
    height: float
    style: str
    radius: float = 0.0
    opacity: float = 1.0
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    style: str
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Any line, or the area in it; `data` as in SVG."""

    data: str
    style: str
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text."""

    x: float
    y: float
    text: str
    style: str
    anchor: Anchor = "start"


Shape: TypeAlias = Box | Line | Path | Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A whole picture, with what it shows in words, for whoever can't see it."""

    width: float
    height: float
    title: str
    description: str
    shapes: tuple[Shape, ...]
