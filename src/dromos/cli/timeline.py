"""Draws a recording: `dromos timeline`."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import click

from dromos.cli.told import leave, say
from dromos.timeline.fold import Story, fold
from dromos.timeline.palette import Theme
from dromos.timeline.picture import LEAST_WIDTH, MOST_PANELS, draw
from dromos.timeline.read import Problems, entries
from dromos.timeline.svg import to_svg
from dromos.timeline.track import Track

__all__ = ["timeline"]


@click.command()
@click.argument("recording", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--output", "-o", metavar="FILE", default="-", help="Where to.  Default: stdout.")
@click.option("--connection", multiple=True, metavar="ID", help="Only this connection's sessions.")
@click.option("--session", multiple=True, type=int, metavar="N", help="Only sessions so numbered.")
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
    title: str,
    theme: Theme,
    width: int,
) -> None:
    """Draw what happened in RECORDING as SVG: links, tokens, gaps, faults, messages.

    RECORDING is a file of JSON lines: what `dromos demo --record` or
    `dromos.telemetry.json_lines` writes, or the JSON log of `dromos run`.  "-" reads standard
    input.  Lines about something else are passed over; what can't be read is named on standard
    error with its line.

    Exit status: 0 drawn, 1 nothing in it could be drawn, 2 wrong usage.
    """
    story = _read(recording)
    chosen = [
        track
        for track in story.tracks
        if (not connection or track.connection in connection)
        and (not session or track.session in session)
    ]
    if not chosen:
        leave(f"{recording} has no such session; it has {_some(story.tracks)}")
    for track in chosen[MOST_PANELS:][:1]:
        say(
            f"{len(chosen)} sessions are too many for one picture: drawn are the first "
            f"{MOST_PANELS}, before {track.connection!r}; --connection and --session choose"
        )
    picture = draw(chosen[:MOST_PANELS], story.marks, title=title, width=width)
    _write(output, to_svg(picture, theme=theme))


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
