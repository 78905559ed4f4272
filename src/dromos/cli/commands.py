"""The commands and their options."""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from typing import IO, Any

import click

from dromos import __version__
from dromos.cli import config as options_command
from dromos.cli.check import check
from dromos.cli.connect import Settings, converse
from dromos.cli.doctor import doctor
from dromos.cli.flags import NumberRange, a_header
from dromos.cli.run import run_agent, service_options
from dromos.cli.sources import Tokens, source, token_options
from dromos.cli.timeline import timeline
from dromos.cli.token import clear, fetch_now, lines, now, summary
from dromos.cli.told import CLEAN, FAILED, told
from dromos.cli.watch import watch
from dromos.demo.words import escape

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="dromos %(version)s")
def cli() -> None:
    """Keep an authenticated WebSocket connection alive for months."""


@cli.command()
@click.argument("url")
@token_options
@click.option("--header", "-H", multiple=True, metavar="'NAME: VALUE'", help="Send a header.")
@click.option("--subprotocol", multiple=True, metavar="NAME", help="Offer a subprotocol.")
@click.option("--stay", is_flag=True, help="Go on receiving after the input has ended.")
@click.option(
    "--binary",
    type=click.Choice(["hex", "base64"]),
    default="hex",
    show_default=True,
    help="How binary messages are printed.",
)
@click.option("--quiet", "-q", is_flag=True, help="Only errors on standard error.")
@click.option("--verbose", "-v", is_flag=True, help="Everything on standard error.")
def connect(
    url: str,
    header: Sequence[str],
    subprotocol: Sequence[str],
    stay: bool,
    binary: str,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Bridge standard input and output to the far side at URL.

    Each line of the input is sent as a text message, once a link is open; each message
    received is printed on a line, a binary one as "<binary, N bytes> ...".  The end of the
    input, SIGINT and SIGTERM close the connection.

    The token comes from a gateway (--gateway with --connection-id), from a variable or a file,
    from an authorization server (--issuer with --client-id), or from a source of yours.

    Exit status: 0 closed, 2 wrong usage, 78 what trying again can't mend.
    """
    tokens = Tokens.of(options)
    settings = Settings(
        url=url,
        connection_id=tokens.connection_id or "dromos",
        headers=[a_header(text) for text in header],
        subprotocols=subprotocol,
        stay=stay,
        base64=binary == "base64",
        insecure=tokens.insecure,
        detail="quiet" if quiet else "verbose" if verbose else "usual",
    )
    with told():
        asyncio.run(converse(settings, lambda: source(tokens)))


@cli.command()
@token_options
@click.option("--fresh", is_flag=True, help="Have another one issued, even if one is good.")
@click.option("--reveal", is_flag=True, help="Print the token itself on standard output.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def token(fresh: bool, reveal: bool, as_json: bool, **options: Any) -> None:
    """Fetch one token, and say what it is: strategy, scopes, lifetime, clock skew.

    The token itself is not printed.  With --reveal it is all that standard output gets, and
    the rest goes to standard error; so "TOKEN=$(dromos token --reveal ...)" works.

    Exit status: 0 if there is a token, 1 if there is none now, 2 wrong usage, 78 what trying
    again can't mend.
    """
    tokens = Tokens.of(options)
    with told():
        found = fetch_now(lambda: source(tokens), tokens.connection_id or "dromos", fresh=fresh)
        known = summary(found, now=now())
        if as_json:
            shown = {**known, "values": dict(found.credentials)} if reveal else known
            click.echo(json.dumps(shown))
            return
        for line in lines(known, reveal=reveal):
            click.echo(escape(line), err=reveal)
        if reveal:
            click.echo(clear(found))


@cli.command()
@click.argument("agent", required=False, metavar="[MODULE:AGENT]")
@service_options
@token_options
def run(agent: str | None, **options: Any) -> None:
    """Run an agent of yours as a service: MODULE:AGENT is a handler, or a function.

    A handler is an object with on_connect, on_message and on_disconnect, or a class or a
    function of no arguments that makes one; a session runs for each connection.  An async
    function that takes a bridge does everything itself.  Without it, each connection of the
    file names its own.

    The command line goes before the variables DROMOS_*, and those before the file; only what a
    connection of the file says of its own session goes before all.  "dromos config" lists all
    options.

    SIGTERM and SIGINT drain, a second one exits at once.

    Exit status: 0 closed or told to stop, 2 wrong usage, 78 what a configuration or a person
    must mend, 130 or 143 after a second signal, 1 all else.
    """
    with told():
        run_agent(agent, options)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", "path", metavar="FILE", help="Check a file, and print no options.")
def config(as_json: bool, path: str | None) -> None:
    """List every option, with its variable, its unit and its default; or check a file.

    A check builds what "dromos run" would build of the file: it imports and makes the provider
    and the handlers that the file names, and looks up the variables and files that it refers
    to.  It opens no connection, and the variables DROMOS_* have no say.

    Exit status: 0, or 78 if the file can't work, or 1 if what it names raises.
    """
    with told():
        if path is not None:
            number = len(check(path).connections)
            named = "1 connection" if number == 1 else f"{number or 'no'} connections"
            click.echo(f"{path}: fine; it names {named}")
        elif as_json:
            click.echo(options_command.as_json())
        else:
            for line in options_command.as_lines(shutil.get_terminal_size().columns):
                click.echo(line)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.option("--plain", is_flag=True, help="Print plain lines, as into a pipe.")
@click.option(
    "--rate",
    type=NumberRange(1, 2000),
    default=200,
    show_default=True,
    help="Messages a second from the far side.",
)
@click.option(
    "--record",
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="FILE",
    help="Write down what happens, for `dromos timeline`.",
)
def demo(as_json: bool, plain: bool, rate: float, record: IO[str] | None) -> None:
    """Show on loopback what goes wrong with long connections, and what becomes of it.

    A gateway with tokens of 8 seconds, a far side that closes a link when the token it was
    opened with expires, and a bridge between them.  In half a minute the far side is killed,
    goes silent, refuses the token, and limits the rate.

    Exit status: 0 if every step went as scripted, else 1.
    """
    from dromos.demo.run import Form, show

    form: Form = "json" if as_json else "plain" if plain or not sys.stdout.isatty() else "live"
    with told():
        passed = asyncio.run(show(form, rate=rate, record=record))
    sys.exit(CLEAN if passed else FAILED)


cli.add_command(doctor)
cli.add_command(timeline)
cli.add_command(watch)
