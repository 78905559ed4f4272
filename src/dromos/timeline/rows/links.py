"""The links of a session, in lanes, so that one that takes over lies beside the one it relieves."""

from collections.abc import Iterator

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Bar, Dot, dense, gathered, lanes, text_width
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Box, Label, Path, Shape
from dromos.timeline.track import LinkSpan, Track
from dromos.timeline.words import duration

__all__ = ["draw_links"]

BAR, SPACE, MOST = 18.0, 6.0, 4
BOLD = 11.2
"""As wide as bold letters of 10.5 are."""
LEAST = 1.5
APART = 4.0
ROOMY = 12.0
"""Between two hand-overs, for their signs to be told apart."""

ENDS = {"lost": "lost", "unanswered": "did not answer our CLOSE"}
"""The ends that are marked, in words."""


def draw_links(track: Track, axis: Axis, top: float) -> Row:
    """Return the row of links."""
    links = sorted(track.links, key=_start)
    if not links:
        return Row()
    spans = [(axis.x(_start(link)), axis.x(_end(link, track))) for link in links]
    lane_of = dict(zip(map(id, links), lanes(spans, most=MOST), strict=True))
    used = max(lane_of.values()) + 1
    tops = [top + lane * (BAR + SPACE) for lane in range(used)]
    shapes: list[Shape] = []
    for lane in range(used):
        mine = [link for link in links if lane_of[id(link)] == lane]
        shapes += _lane(mine, track, axis, tops[lane])
    shapes += _handovers(track, axis, {link.number: tops[lane_of[id(link)]] for link in links})
    ends = {link.fate for link in links} & ENDS.keys()
    signs = ["link", *["handover"] * bool(track.handovers), *ends]
    return Row(
        name="links",
        height=used * (BAR + SPACE) - SPACE,
        shapes=tuple(shapes),
        signs=frozenset(signs),
    )


def _start(link: LinkSpan) -> float:
    return link.opened if link.dialled is None else min(link.dialled, link.opened)


def _end(link: LinkSpan, track: Track) -> float:
    return track.end if link.ended is None else link.ended


def _serving(link: LinkSpan, track: Track) -> tuple[float, float]:
    """Return from when to when a link served: at its very end if it never did."""
    end = _end(link, track)
    if link.served is None:
        return end, end
    return link.served, end if link.relieved is None else max(link.served, link.relieved)


def _lane(links: list[LinkSpan], track: Track, axis: Axis, top: float) -> Iterator[Shape]:
    for bar in dense(bar for link in links for bar in _bars(link, track, axis)):
        many = f"{bar.count} stretches of links" if bar.count > 1 else bar.told
        yield Box(
            x=bar.left,
            y=top,
            width=max(LEAST, bar.right - bar.left),
            height=BAR,
            style=bar.style,
            radius=2.0,
            told=many,
        )
    ends = (
        Dot(axis.x(link.ended), link.why, f"link {link.number} {ENDS[link.fate]}: {link.why}")
        for link in links
        if link.fate in ENDS and link.ended is not None
    )
    for dot in gathered(ends, apart=APART):
        told = dot.told if dot.count == 1 else f"{dot.count} links lost or unanswered"
        yield Box(x=dot.x - 3, y=top - 1, width=3, height=BAR + 2, style="end", told=told)
    for link in links:
        yield from _name(link, track, axis, top)


def _bars(link: LinkSpan, track: Track, axis: Axis) -> Iterator[Bar]:
    """Yield the stretches of a link: dialling, open, serving, and open again until released."""
    told = _told(link, track, axis)
    served, relieved = _serving(link, track)
    for since, until, style in (
        (_start(link), link.opened, "dial"),
        (link.opened, served, "held"),
        (served, relieved, "link"),
        (relieved, _end(link, track), "held"),
    ):
        left, right = axis.x(since), axis.x(until)
        if right > left and (style == "link" or right - left >= 1.0):
            yield Bar(left, right, style, told)


def _told(link: LinkSpan, track: Track, axis: Axis) -> str:
    ends = {
        "open": "still open",
        "released": "released by us",
        "unanswered": f"released by us without an answer ({link.why})",
        "lost": f"lost ({link.why})",
    }[link.fate]
    lived = duration(_end(link, track) - link.opened)
    return f"link {link.number}: opened at {axis.told(link.opened)}, {ends} after {lived}"


def _name(link: LinkSpan, track: Track, axis: Axis, top: float) -> Iterator[Shape]:
    since, until = _serving(link, track)
    left, right = axis.x(since), axis.x(until)
    for text in (f"link {link.number}", f"{link.number}"):
        if text_width(text, BOLD) + 10 <= right - left:
            middle = (left + right) / 2
            yield Label(x=middle, y=top + BAR - 5, text=text, style="bar onlink", anchor="middle")
            return


def _handovers(track: Track, axis: Axis, tops: dict[int, float]) -> Iterator[Shape]:
    pairs = {
        axis.x(at): (old, new) for at, old, new in track.handovers if {old, new} <= tops.keys()
    }
    dots = gathered(
        (
            Dot(x, "", f"link {new} took over from link {old}, nothing interrupted")
            for x, (old, new) in pairs.items()
        ),
        apart=APART,
    )
    places = [axis.left - ROOMY, *(dot.x for dot in dots), axis.right + ROOMY]
    for number, dot in enumerate(dots, 1):
        old, new = pairs[dot.x]
        low, high = sorted((tops[old], tops[new]))
        start, end = low + BAR, high
        if end <= start:
            continue
        middle = (start + end) / 2
        told = dot.told if dot.count == 1 else f"{dot.count} hand-overs"
        yield Path(data=f"M{dot.x:.1f} {start - 4:.1f}V{end + 4:.1f}", style="handover", told=told)
        if min(dot.x - places[number - 1], places[number + 1] - dot.x) >= ROOMY:
            ring = f"M{dot.x - 4:.1f} {middle:.1f}l4 -4l4 4l-4 4z"
            yield Path(data=ring, style="ring", told=told)
