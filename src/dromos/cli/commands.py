"""The commands and their options."""

import asyncio
import os
import sys
from collections.abc import Sequence

import click

from dromos import __version__
from dromos.cli.connect import Misuse, Settings, Tokens, converse
from dromos.demo.words import escape
from dromos.errors import PermanentError

__all__ = ["cli"]

CLEAN, FAILED, CONFIGURATION, INTERRUPTED = 0, 1, 78, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="dromos %(version)s")
def cli() -> None:
    """Keep an authenticated WebSocket connection alive for months."""


@cli.command()
@click.argument("url")
@click.option("--connection-id", metavar="ID", help="The gateway's record to connect with.")
@click.option(
    "--gateway", metavar="URL", help="Where the gateway is, such as http://localhost:8081."
)
@click.option("--token-env", metavar="NAME", help="Take a static token from this variable.")
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
@click.option("--insecure", is_flag=True, help="Allow ws:// and http:// to other machines.")
@click.option("--quiet", "-q", is_flag=True, help="Only errors on standard error.")
@click.option("--verbose", "-v", is_flag=True, help="Everything on standard error.")
def connect(
    url: str,
    connection_id: str | None,
    gateway: str | None,
    token_env: str | None,
    header: Sequence[str],
    subprotocol: Sequence[str],
    stay: bool,
    binary: str,
    insecure: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Bridge standard input and output to the far side at URL.

    Each line of the input is sent as a text message, once a link is open; each message
    received is printed on a line, a binary one as "<binary, N bytes> ...".  The end of the
    input, SIGINT and SIGTERM close the connection.

    The token comes from a gateway (--gateway with --connection-id), or from an environment
    variable (--token-env).

    Exit status: 0 closed, 2 wrong usage, 78 what trying again can't mend.
    """
    settings = Settings(
        url=url,
        tokens=_tokens(connection_id, gateway, token_env),
        headers=[_header(text) for text in header],
        subprotocols=subprotocol,
        stay=stay,
        base64=binary == "base64",
        insecure=insecure,
        detail="quiet" if quiet else "verbose" if verbose else "usual",
    )
    try:
        asyncio.run(converse(settings))
    except PermanentError as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        click.echo(f"dromos: {escape(f'{error}{cause}')}", err=True)
        sys.exit(CONFIGURATION)
    except Misuse as error:
        raise click.UsageError(escape(_in_words_of_the_command(str(error)))) from error
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _in_words_of_the_command(message: str) -> str:
    """Say flags where the library says arguments."""
    for argument, flag in (
        ("endpoint_url", "URL"),
        ("allow_insecure_transport=True", "--insecure"),
        ("connection_id", "--connection-id"),
    ):
        message = message.replace(argument, flag)
    return message


def _tokens(connection_id: str | None, gateway: str | None, token_env: str | None) -> Tokens:
    if (gateway is None) == (token_env is None):
        raise click.UsageError("give either --gateway with --connection-id, or --token-env")
    if gateway is not None:
        if not connection_id:
            raise click.UsageError("--gateway needs --connection-id")
        return Tokens(connection_id=connection_id, gateway=gateway)
    assert token_env is not None
    if not os.environ.get(token_env):
        click.echo(f"dromos: the environment has no {token_env}, or it is empty", err=True)
        sys.exit(CONFIGURATION)
    return Tokens(connection_id=connection_id or token_env, variable=token_env)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"a header is NAME: VALUE, not {name!r}")
    return name.strip(), value.strip()


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.option("--plain", is_flag=True, help="Print plain lines, as into a pipe.")
@click.option(
    "--rate",
    type=click.FloatRange(1, 2000),
    default=200,
    show_default=True,
    help="Messages a second from the far side.",
)
def demo(as_json: bool, plain: bool, rate: float) -> None:
    """Show on loopback what goes wrong with long connections, and what becomes of it.

    A gateway with tokens of 8 seconds, a far side that closes a link when the token it was
    opened with expires, and a bridge between them.  In half a minute the far side is killed,
    goes silent, refuses the token, and limits the rate.

    Exit status: 0 if every step went as scripted, else 1.
    """
    from dromos.demo.run import Form, show

    form: Form = "json" if as_json else "plain" if plain or not sys.stdout.isatty() else "live"
    try:
        passed = asyncio.run(show(form, rate=rate))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    sys.exit(CLEAN if passed else FAILED)
