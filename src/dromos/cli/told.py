"""How a command ends: what it says of what went wrong, and its exit status."""

import contextlib
import sys
from collections.abc import Generator
from typing import NoReturn

import click

from dromos._outlook import is_hopeless
from dromos.cli import INTERRUPTED, write_no_more
from dromos.cli.flags import in_words_of_the_command
from dromos.cli.sources import Misuse
from dromos.cli.users_traceback import users_traceback
from dromos.config import ConfigError
from dromos.config.errors import Raised
from dromos.demo.words import escape
from dromos.errors import PermanentError, TokenError
from dromos.service.outcome import CLEAN, CONFIGURATION, FAILED

__all__ = ["CLEAN", "CONFIGURATION", "FAILED", "leave", "say", "told"]


@contextlib.contextmanager
def told() -> Generator[None, None, None]:
    """Say in a line what went wrong, and exit with the status that it deserves.

    Raises:
        SystemExit: In place of our errors, of an interrupt, and of output that nobody reads.
        click.UsageError: In place of a `Misuse`.
    """
    try:
        yield
    except PermanentError as error:
        cause = "" if error.__cause__ is None else str(error.__cause__)
        leave(f"{error}" if cause in str(error) else f"{error} ({cause})", CONFIGURATION)
    except ConfigError as error:
        leave(str(error), CONFIGURATION)
    except TokenError as error:
        leave(str(error), CONFIGURATION if is_hopeless(error) else FAILED)
    except Raised as error:
        say(str(error))
        click.echo(users_traceback(error), err=True, nl=False)
        sys.exit(FAILED)
    except Misuse as error:
        raise click.UsageError(escape(in_words_of_the_command(str(error)))) from error
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        write_no_more()  # whoever read it has gone
        sys.exit(FAILED)


def say(text: str) -> None:
    """Say something on standard error, whatever is in it."""
    click.echo(f"dromos: {escape(text)}", err=True)


def leave(text: str, status: int = FAILED) -> NoReturn:
    """Say why, and exit."""
    say(text)
    sys.exit(status)
