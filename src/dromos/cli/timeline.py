"""Draws a recording: `dromos timeline`."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

import click

from dromos.cli.told import leave, say
from dromos.demo.words import escape
from dromos.timeline.fold import Story, fold
from dromos.timeline.palette import Theme
from dromos.timeline.picture import LEAST_WIDTH, MOST_PANELS, draw
from dromos.timeline.read import Problems, entries
from dromos.timeline.svg import to_svg
from dromos.timeline.track import Mark, Track, span

__all__ = ["timeline"]

LAST: Final = -1

NEAR: Final = 1.0
"""Seconds that a mark may lie before or after what is drawn."""


def _run(text: str) -> int:
    """Return the number of a run, or `LAST`."""
    if text == "last":
        return LAST
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"{escape(text)!r}: a run is a number from 1 on, or last")
    return int(text)


@click.command()
@click.argument("recording", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--output", "-o", metavar="FILE", default="-", help="Where to.  Default: stdout.")
@click.option("--connection", multiple=True, metavar="ID", help="Only this connection's sessions.")
@click.option("--session", multiple=True, type=int, metavar="N", help="Only sessions so numbered.")
@click.option("--run", multiple=True, type=_run, metavar="N|last", help="Only this run.")
@click.option("--title", default="", metavar="TEXT", help="What stands above it.")
@click.option(
    "--theme",
    type=click.Choice(["auto", "light", "dark"]),
    default="auto",
    show_default=True,
    help="Colours; auto follows whoever looks.",
)
@click.option(
    "--width",
    type=click.IntRange(LEAST_WIDTH, 4000),
    default=960,
    show_default=True,
    help="Pixels.",
)
def timeline(
    recording: str,
    output: str,
    connection: Sequence[str],
    session: Sequence[int],
    run: Sequence[int],
    title: str,
    theme: Theme,
    width: int,
) -> None:
    """Draw what happened in RECORDING as SVG: links, tokens, gaps, faults, messages.

    RECORDING is a file of JSON lines: what `dromos demo --record` or
    `dromos.telemetry.json_lines` writes, or the JSON log of `dromos run`.  "-" reads standard
    input.  Lines about something else are passed over; what can't be read is named on standard
    error with its line.

    A recording is added to.  Each time that sessions are numbered anew another run begins, and
    --run chooses among them; default: all.

    Exit status: 0 drawn, 1 nothing in it could be drawn, 2 wrong usage.
    """
    story = _read(recording)
    runs = {story.runs if each == LAST else each for each in run}
    for absent in sorted(each for each in runs if each > story.runs)[:1]:
        leave(f"{recording} has no run {absent}; it has {story.runs}")
    chosen = [
        track
        for track in story.tracks
        if (not connection or track.connection in connection)
        and (not session or track.session in session)
        and (not runs or track.run in runs)
    ]
    if not chosen:
        leave(f"{recording} has no such session; it has {_some(story.tracks)}")
    for track in chosen[MOST_PANELS:][:1]:
        say(
            f"{len(chosen)} sessions are too many for one picture: drawn are the first "
            f"{MOST_PANELS}, before {track.connection!r}; --connection, --session and --run choose"
        )
    drawn = chosen[:MOST_PANELS]
    if not runs and (many := len({track.run for track in drawn})) > 1:
        say(f"{many} runs are in one picture; --run last draws the newest only")
    marks = story.marks if len(drawn) == len(story.tracks) else _within(drawn, story.marks)
    picture = draw(drawn, marks, title=title, width=width)
    _write(output, to_svg(picture, theme=theme))


def _within(tracks: Sequence[Track], marks: Sequence[Mark]) -> list[Mark]:
    """Return the marks of the time that is drawn: not those of other runs."""
    start, end = span(tracks, marks)
    return [mark for mark in marks if start - NEAR <= mark.at <= end + NEAR]


def _read(recording: str) -> Story:
    problems = Problems()
    with ExitStack() as stack:
        try:
            stream: IO[bytes] = (
                sys.stdin.buffer
                if recording == "-"
                else stack.enter_context(Path(recording).open("rb"))
            )
            story = fold(entries(stream, recording, problems), problems.note)
        except OSError as error:
            leave(f"{recording} can't be read: {error.strerror}")
    for problem in problems:
        say(problem)
    if not story.tracks:
        seen = f"; its {problems.others} other lines are about something else"
        leave(f"{recording} has no event of a bridge{seen if problems.others else ''}")
    return story


def _write(output: str, text: str) -> None:
    if output == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        leave(f"{output} can't be written: {error.strerror}")


def _some(tracks: Sequence[Track]) -> str:
    names = [f"session {track.session} of {track.connection!r}" for track in tracks[:5]]
    return ", ".join(names) + (" and others" if len(tracks) > len(names) else "")
