"""Writes a picture down as SVG: well-formed whatever its texts hold, and with nothing to load."""

import re
from typing import Final, assert_never
from xml.sax.saxutils import escape, quoteattr

from dromos.timeline.palette import Theme, style_sheet
from dromos.timeline.shapes import Box, Label, Line, Path, Picture, Shape

__all__ = ["to_svg"]

# XML 1.0, 2.2: what is no character of a document, however it is written; and what turns
# the direction of a text around, so that it reads as another one.
_UNFIT: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    "|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def to_svg(picture: Picture, *, theme: Theme = "auto") -> str:
    """Return a picture as the text of an SVG file.

    Args:
        picture: The picture.
        theme: `"light"`, `"dark"`, or `"auto"` (default), which follows whoever looks.
    """
    width, height = _number(picture.width), _number(picture.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        f"<title>{_text(picture.title)}</title>",
        f"<desc>{_text(picture.description)}</desc>",
        f"<style>\n{style_sheet(theme)}</style>",
        *map(_written, picture.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _written(shape: Shape) -> str:
    match shape:
        case Box():
            more = f' rx="{_number(shape.radius)}"' if shape.radius else ""
            more += f' opacity="{shape.opacity:.2f}"' if shape.opacity < 1 else ""
            return _element(
                "rect",
                f'x="{_number(shape.x)}" y="{_number(shape.y)}" width="{_number(shape.width)}" '
                f'height="{_number(shape.height)}"{more}',
                shape.style,
                shape.told,
            )
        case Line():
            return _element(
                "path",
                f'd="M{_number(shape.x1)} {_number(shape.y1)}'
                f'L{_number(shape.x2)} {_number(shape.y2)}"',
                shape.style,
                shape.told,
            )
        case Path():
            return _element("path", f"d={quoteattr(shape.data)}", shape.style, shape.told)
        case Label():
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            place = f'x="{_number(shape.x)}" y="{_number(shape.y)}"'
            return f'<text class="{shape.style}" {place}{anchor}>{_text(shape.text)}</text>'
        case _:
            assert_never(shape)


def _element(name: str, attributes: str, style: str, told: str) -> str:
    start = f'<{name} class="{style}" {attributes}'
    return f"{start}><title>{_text(told)}</title></{name}>" if told else f"{start}/>"


def _text(text: str) -> str:
    return escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", text))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
