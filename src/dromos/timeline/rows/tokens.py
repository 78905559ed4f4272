"""The tokens of a session: how long each is good for, and when another was asked for."""

from collections.abc import Iterator

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Bar, Dot, dense, gathered, lanes, text_width
from dromos.timeline.rows import Row
from dromos.timeline.shapes import Box, Label, Path, Shape
from dromos.timeline.track import TokenSpan, Track
from dromos.timeline.words import duration

__all__ = ["draw_tokens"]

BAR, SPACE, MOST = 14.0, 5.0, 2
BOLD = 11.2
"""As wide as bold letters of 10.5 are."""
LEAST = 1.5
APART = 10.0


def draw_tokens(track: Track, axis: Axis, top: float) -> Row:
    """Return the row of tokens."""
    tokens = track.tokens
    if not tokens:
        return Row()
    spans = [(axis.x(token.obtained), axis.x(_end(token, axis))) for token in tokens]
    lane_of = lanes(spans, most=min(MOST, len(tokens)))
    used = max(lane_of) + 1
    shapes: list[Shape] = []
    for lane in range(used):
        y = top + lane * (BAR + SPACE)
        mine = [token for token, chosen in zip(tokens, lane_of, strict=True) if chosen == lane]
        shapes += _lane(mine, track, axis, y)
    height = used * (BAR + SPACE) - SPACE
    shapes += _refreshes(track, axis, top + height / 2)
    signs = ["token", *["refresh"] * bool(track.refreshes)]
    return Row(name="tokens", height=height, shapes=tuple(shapes), signs=frozenset(signs))


def _end(token: TokenSpan, axis: Axis) -> float:
    return axis.end if token.expires is None else max(token.obtained, token.expires)


def _lane(tokens: list[TokenSpan], track: Track, axis: Axis, y: float) -> Iterator[Shape]:
    bars = (bar for token in tokens for bar in _bars(token, axis))
    for bar in dense(bars):
        told = bar.told if bar.count == 1 else f"{bar.count} tokens"
        yield Box(
            x=bar.left,
            y=y,
            width=max(LEAST, bar.right - bar.left),
            height=BAR,
            style=bar.style,
            radius=2.0,
            told=told,
        )
    for token in tokens:
        left, right = axis.x(token.obtained), axis.x(_used_until(token, axis))
        for text in (f"token {token.generation}", f"{token.generation}"):
            if text_width(text, BOLD) + 12 <= right - left:
                yield Label(x=left + 6, y=y + BAR - 3.5, text=text, style="bar ontoken")
                break


def _used_until(token: TokenSpan, axis: Axis) -> float:
    end = _end(token, axis)
    return end if token.replaced is None else min(end, token.replaced)


def _bars(token: TokenSpan, axis: Axis) -> Iterator[Bar]:
    """Yield how long a token was the newest, and how long it would have been good."""
    until, end = _used_until(token, axis), _end(token, axis)
    good = "for ever" if token.expires is None else f"for {duration(end - token.obtained)}"
    told = f"token {token.generation}: obtained at {axis.told(token.obtained)}, good {good}"
    yield Bar(axis.x(token.obtained), axis.x(until), "token", told)
    if axis.x(end) - axis.x(until) >= 1.0:
        yield Bar(axis.x(until), axis.x(end), "stale", told)


def _refreshes(track: Track, axis: Axis, y: float) -> Iterator[Shape]:
    asked = (
        Dot(axis.x(at), "", f"a new token was asked for at {axis.told(at)}")
        for at in track.refreshes
    )
    for dot in gathered(asked, apart=APART):
        told = dot.told if dot.count == 1 else f"{dot.count} refreshes"
        yield Path(
            data=f"M{dot.x - 3.5:.1f} {y:.1f}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
            style="refresh",
            told=told,
        )
