"""Sessions as a table: for a terminal with colours, and in plain characters for a pipe."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dromos.cli.watch_sessions import Round, Watched, in_order
from dromos.demo.words import escape
from dromos.timeline.words import duration, rate

__all__ = ["headline", "plain", "table"]

COLUMNS: Final = (
    "connection",
    "state",
    "for",
    "link",
    "age",
    "latency",
    "token",
    "next",
    "in/s",
    "out/s",
    "last error",
)
TEXTS: Final = frozenset({"connection", "state", "last error"})
STYLES: Final = {"open": "green", "waiting": "red", "closed": "red"}
BEGINNINGS: Final = (
    (re.compile(r"^dialling \S+ through the proxy failed: "), "by proxy: "),
    (re.compile(r"^dialling \S+ (?:failed: )?"), ""),
    (re.compile(r"^wss?://\S+ refused the upgrade with "), ""),
    (re.compile(r"^wss?://\S+ "), ""),
    (re.compile(r"^link closed by (us|the far side) \((.*)\)"), r"\2, by \1"),
)
"""How the texts of our errors begin, and what is left of that: where it was, the row says."""

SOON: Final = 60.0
"""Seconds of a token's life that are worth a colour."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell, and how it looks."""

    text: str
    style: str = ""


def headline(told: Round) -> str:
    """Return the summary: how many sessions are in which state."""
    counts = ", ".join(f"{count:,} {state}" for state, count in told.by_state().items())
    standing = "draining" if told.draining else "ready" if told.ready else "not ready"
    noun = "session" if len(told.sessions) == 1 else "sessions"
    what = f"{len(told.sessions):,} {noun}" + (f": {counts}" if counts else "")
    return escape(f"{what}  ({standing}, dromos {told.version})")


def table(told: Round, *, limit: int, notice: str = "") -> RenderableType:
    """Return sessions as rich shows them.

    Args:
        told: The sessions.
        limit: How many are shown; those with trouble first.
        notice: What stands above them in red.
    """
    shown = in_order(told.sessions)[:limit]
    grid = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for name in COLUMNS:
        is_text = name in TEXTS
        grid.add_column(
            name,
            justify="left" if is_text else "right",
            no_wrap=True,
            overflow="ellipsis",
            ratio=2 if name == "last error" else None,
            min_width=8 if is_text else None,
        )
    for session in shown:
        grid.add_row(
            *(Text(cell.text, cell.style) for cell in _cells(session, told.now, is_narrow=True))
        )
    left = len(told.sessions) - len(shown)
    return Group(
        *([Text(notice, "bold red")] if notice else []),
        Text(headline(told), "bold"),
        grid,
        *([Text(f"… and {left:,} more", "dim")] if left > 0 else []),
    )


def plain(told: Round, *, limit: int) -> list[str]:
    """Return sessions as lines, with columns as wide as what is in them."""
    sessions = in_order(told.sessions)
    shown = [[cell.text for cell in _cells(each, told.now)] for each in sessions[:limit]]
    lines = [headline(told), *_aligned([list(COLUMNS), *shown])] if shown else [headline(told)]
    if len(sessions) > len(shown):
        lines.append(f"... and {len(sessions) - len(shown):,} more")
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if name in TEXTS else text.rjust(width)
            for name, text, width in zip(COLUMNS, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _cells(session: Watched, now: float, *, is_narrow: bool = False) -> list[Cell]:
    return [
        Cell(escape(session.connection)),
        Cell(escape(session.state), STYLES.get(session.state, "yellow")),
        Cell(_age(session.since, now)),
        Cell(_link(session)),
        Cell(_age(session.link_since, now)),
        Cell("" if session.latency is None else duration(session.latency)),
        _token(session.token_expires_at, now),
        Cell(_next(session.next_attempt_at, now), "yellow"),
        Cell(_rate(session.received_rate)),
        Cell(_rate(session.sent_rate)),
        _error(session, now, is_narrow=is_narrow),
    ]


def _error(session: Watched, now: float, *, is_narrow: bool) -> Cell:
    """Return what went wrong last: while a link is open that is the past, and its age comes first.

    Of one that lasts the cause comes first, and whatever else there is room for.
    """
    error = escape(" ".join(session.last_error.split()))
    if not error:
        return Cell("")
    if is_narrow:
        error = _cause(error)
    ago = "" if session.last_error_at is None else f"{_age(session.last_error_at, now)} ago"
    if session.state == "open":
        return Cell(f"{ago}: {error}" if ago else error, "dim")
    failed = f"{session.attempts} failed in a row" if session.attempts > 1 else ""
    more = ", ".join(filter(None, (ago, failed)))
    return Cell(f"{error} ({more})" if more else error)


def _cause(error: str) -> str:
    """Return an error of ours from its cause on: its end is what a narrow terminal cuts off."""
    for beginning, rest in BEGINNINGS:
        error, found = beginning.subn(rest, error, count=1)
        if found:
            break
    return error


def _age(since: float | None, now: float) -> str:
    return "" if since is None else duration(max(0.0, now - since))


def _rate(measured: float | None) -> str:
    # Two rounds are never exactly a second apart: a third digit tells only that.
    return "" if measured is None else rate(measured, digits=2)


def _link(session: Watched) -> str:
    if session.link is None:
        return ""
    following = "" if session.next_link is None else f" > {session.next_link}"
    return f"{session.link}{following}"


def _token(expires_at: float | None, now: float) -> Cell:
    if expires_at is None:
        return Cell("")
    left = expires_at - now
    if left <= 0:
        return Cell("expired", "red")
    return Cell(duration(left), "yellow" if left < SOON else "")


def _next(at: float | None, now: float) -> str:
    if at is None:
        return ""
    return f"in {duration(at - now)}" if at > now else "now"
