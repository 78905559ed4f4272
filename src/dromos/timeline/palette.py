"""The looks: each style's colours by day and by night, as a style sheet."""

from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["Theme", "style_sheet"]

Theme = Literal["auto", "light", "dark"]

LIGHT: Final = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "soft": "#59636e",
    "grid": "#e4e8ed",
    "link": "#1a7f64",
    "link_soft": "#8ed1bd",
    "on_link": "#ffffff",
    "lost": "#cf222e",
    "gap": "#ffe3e0",
    "token": "#8250df",
    "token_soft": "#ddcffa",
    "on_token": "#ffffff",
    "wait": "#bf8700",
    "flow": "#0969da",
    "flow_soft": "#b6d8fb",
    "mark": "#9a6700",
}
DARK: Final = {
    "paper": "#0d1117",
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "grid": "#262c34",
    "link": "#3fb68b",
    "link_soft": "#1d5a48",
    "on_link": "#04130d",
    "lost": "#ff7b72",
    "gap": "#43191b",
    "token": "#a98bf5",
    "token_soft": "#3a2d63",
    "on_token": "#120a26",
    "wait": "#d29922",
    "flow": "#58a6ff",
    "flow_soft": "#173a63",
    "mark": "#e3b341",
}

SHAPES: Final = """\
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;
font-size:11px}
.title{font-size:17px;font-weight:600}.name{font-size:13px;font-weight:600}
.bar{font-size:10.5px;font-weight:600}
.grid,.handover,.cross,.edge,.wait,.sent,.stem{fill:none;stroke-width:1}
.cross,.handover{stroke-width:1.8}.sent{stroke-width:1.2}.edge{stroke-width:1.5}
.wait{stroke-width:1.5;stroke-dasharray:2 3}.stem{stroke-dasharray:1 3}
.dial{stroke-width:1;stroke-dasharray:2 2}
"""
"""What does not depend on the time of day."""

COLOURS: Final = """\
.paper{{fill:{paper}}}.ink,.title,.name{{fill:{ink}}}.soft{{fill:{soft}}}
.grid{{stroke:{grid}}}.gap{{fill:{gap}}}.gapword{{fill:{lost};font-weight:600}}
.link{{fill:{link}}}.held{{fill:{link_soft}}}.dial{{fill:{paper};stroke:{link}}}.onlink{{fill:{on_link}}}
.handover{{stroke:{ink}}}.ring{{fill:{paper};stroke:{ink};stroke-width:1.5px}}
.end{{fill:{lost}}}.cross{{stroke:{lost}}}.lostword{{fill:{lost}}}
.wait{{stroke:{wait}}}.note{{fill:{mark}}}.stem{{stroke:{mark}}}.markword{{fill:{ink};font-weight:600}}
.token{{fill:{token}}}.stale{{fill:{token_soft}}}.ontoken{{fill:{on_token}}}.refresh{{fill:{paper};stroke:{token};stroke-width:1.5px}}
.flow{{fill:{flow_soft}}}.edge{{stroke:{flow}}}.sent{{stroke:{ink}}}
"""


def style_sheet(theme: Theme) -> str:
    """Return the style sheet of a theme; `"auto"` follows whoever looks."""
    if theme == "dark":
        return SHAPES + _colours(DARK)
    if theme == "light":
        return SHAPES + _colours(LIGHT)
    return f"{SHAPES}{_colours(LIGHT)}@media(prefers-color-scheme:dark){{\n{_colours(DARK)}}}\n"


def _colours(palette: Mapping[str, str]) -> str:
    return COLOURS.format(**palette)
