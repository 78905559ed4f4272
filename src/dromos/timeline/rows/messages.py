"""Messages a second: what came as an area, what was sent as a line."""

from collections.abc import Sequence

from dromos.timeline.axis import Axis
from dromos.timeline.rates import Rate, nice, rates
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Label, Line, Path, Shape
from dromos.timeline.track import Track
from dromos.timeline.words import rate

__all__ = ["draw_messages"]

HEIGHT = 52.0
VISIBLE = 1.0
"""Pixels: a line that never leaves the bottom by so much is left out."""

FINEST = 2.5
"""Pixels that one rate takes at least."""


def draw_messages(track: Track, axis: Axis, top: float) -> Row:
    """Return the row of messages a second."""
    samples, most = track.samples, max(1, int(axis.width / FINEST))
    received = rates(samples.at, samples.received, most=most)
    sent = rates(samples.at, samples.sent, most=most)
    if not received:
        return Row()
    highest = max(each.value for each in (*received, *sent))
    scale, foot = nice(highest), top + HEIGHT
    has_sent = any(each.value * HEIGHT / scale >= VISIBLE for each in sent)
    shapes: list[Shape] = [
        Line(x1=axis.left, y1=top, x2=axis.right, y2=top, style="grid"),
        Line(x1=axis.left, y1=foot, x2=axis.right, y2=foot, style="grid"),
        Label(x=axis.left - 6, y=top + 8, text=rate(scale), style="soft", anchor="end"),
        Label(x=axis.left - 6, y=foot, text="0", style="soft", anchor="end"),
    ]
    outline = _outline(received, axis, foot, HEIGHT / scale)
    first, last = axis.x(received[0].since), axis.x(received[-1].until)
    told = f"received: at most {rate(max(each.value for each in received))} a second"
    shapes += [
        Path(data=f"M{first:.1f} {foot:.1f}L{outline[1:]}L{last:.1f} {foot:.1f}z", style="flow"),
        Path(data=outline, style="edge", told=told),
    ]
    if has_sent:
        most_sent = f"sent: at most {rate(max(each.value for each in sent))} a second"
        data = _outline(sent, axis, foot, HEIGHT / scale)
        shapes.append(Path(data=data, style="sent", told=most_sent))
    return Row(
        name="messages/s",
        height=HEIGHT,
        shapes=tuple(shapes),
        signs=frozenset({"received", *(["sent"] if has_sent else [])}),
    )


def _outline(rates: Sequence[Rate], axis: Axis, foot: float, scale: float) -> str:
    """Return steps, as wide as what was counted over, and with no point that changes nothing."""
    points: list[str] = []
    before = ""
    for each in rates:
        height = f"{foot - each.value * scale:.1f}"
        if height == before:
            points[-1] = f"{axis.x(each.until):.1f} {height}"
        else:
            points += [f"{axis.x(each.since):.1f} {height}", f"{axis.x(each.until):.1f} {height}"]
        before = height
    return "M" + "L".join(points)
