"""Shows the sessions of a running process: `dromos watch`."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import click

from dromos.cli.flags import NumberRange
from dromos.cli.told import leave, say, told
from dromos.cli.watch_ask import Port, Unreachable, address
from dromos.cli.watch_sessions import Round, with_rates
from dromos.demo.words import escape

__all__ = ["pause", "watch"]

PLAIN_LIMIT: Final = 1000
SHARE: Final = 20.0
"""A round that took long is followed by a pause so many times as long: the process that is
asked has something else to do."""

Show = Callable[[Round | None, str], None]


@click.command()
@click.argument("port", metavar="[HOST:PORT|URL]", default="127.0.0.1:8080")
@click.option("--once", is_flag=True, help="Show them once.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object each time.")
@click.option("--plain", is_flag=True, help="Print plain lines, as into a pipe.")
@click.option(
    "--interval",
    type=NumberRange(0.2, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two times.",
)
@click.option("--limit", type=click.IntRange(1), help="Rows.  Default: what fits; 1000 in a pipe.")
def watch(
    port: str, once: bool, as_json: bool, plain: bool, interval: float, limit: int | None
) -> None:
    """Show the sessions of a running process, over its health port: a live table.

    Those with trouble come first.  The port is that of `dromos run` or `dromos.run`; default
    127.0.0.1:8080.  When the process goes away it is waited for.

    Exit status: 0 shown, 1 if it can't be reached in the beginning, 2 wrong usage.
    """
    try:
        url = address(port)
    except ValueError as error:
        raise click.UsageError(escape(str(error))) from error
    try:
        with told(), Port(url) as asked:
            if as_json:
                _follow(asked, _print_json, interval, once=once)
            elif plain or not sys.stdout.isatty():
                _follow(asked, _plain_into(limit or PLAIN_LIMIT), interval, once=once)
            else:
                _live(asked, limit, interval, once=once)
    except Unreachable as error:
        # Told out here: a live table has a screen of its own, which is gone with it.
        leave(str(error))


def _follow(port: Port, show: Show, interval: float, *, once: bool) -> None:
    """Ask and show, over and over; a process that was there may be away for a while.

    Raises:
        Unreachable: If it was not there in the beginning.
    """
    before: Round | None = None
    while True:
        began = time.monotonic()
        try:
            answer: Round | None = with_rates(port.ask(), before)
        except Unreachable as error:
            if before is None:
                raise
            answer = None
            show(None, f"{error}; still asking")
        else:
            show(answer, "")
            before = answer
        if once:
            return
        time.sleep(pause(interval, took=time.monotonic() - began, answered=answer is not None))


def pause(interval: float, *, took: float, answered: bool) -> float:
    """Return the seconds until it is asked again; no answer costs it nothing."""
    return max(interval - took, SHARE * took if answered and took > interval / SHARE else 0.0)


def _live(port: Port, limit: int | None, interval: float, *, once: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from dromos.cli.watch_table import table

    console = Console()
    last: Round | None = None
    with Live(console=console, auto_refresh=False, screen=not once) as live:

        def show(answer: Round | None, notice: str) -> None:
            nonlocal last
            last = answer or last
            assert last is not None, "nothing is shown before the first answer"
            fits = max(1, console.height - 4)
            live.update(table(last, limit=limit or fits, notice=escape(notice)), refresh=True)

        _follow(port, show, interval, once=once)


def _plain_into(limit: int) -> Show:
    from dromos.cli.watch_table import plain

    is_first = True

    def show(answer: Round | None, notice: str) -> None:
        nonlocal is_first
        if answer is None:
            say(notice)
            return
        if not is_first:
            click.echo()
        is_first = False
        click.echo("\n".join(plain(answer, limit=limit)))

    return show


def _print_json(answer: Round | None, notice: str) -> None:
    if answer is None:
        click.echo(json.dumps({"unreachable": notice}))
        return
    click.echo(json.dumps({**asdict(answer), "by_state": answer.by_state()}))
