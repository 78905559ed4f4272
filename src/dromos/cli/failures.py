"""What ends a command: a line that says why, and the exit status that it deserves."""

import contextlib
import sys
from collections.abc import Generator
from typing import NoReturn

import click

from dromos._outlook import is_hopeless
from dromos.cli.flags import in_words_of_the_command
from dromos.cli.sources import Misuse
from dromos.cli.users_traceback import users_traceback
from dromos.config import ConfigError
from dromos.config.errors import Raised
from dromos.demo.words import escape
from dromos.errors import PermanentError, TokenError

__all__ = ["failures_told"]

FAILED, CONFIGURATION, INTERRUPTED = 1, 78, 130


@contextlib.contextmanager
def failures_told() -> Generator[None, None, None]:
    """Say in a line what went wrong, and exit with the status that it deserves."""
    try:
        yield
    except PermanentError as error:
        cause = "" if error.__cause__ is None else str(error.__cause__)
        _leave(f"{error}" if cause in str(error) else f"{error} ({cause})", CONFIGURATION)
    except ConfigError as error:
        _leave(str(error), CONFIGURATION)
    except TokenError as error:
        is_final = is_hopeless(error)
        _leave(str(error), CONFIGURATION if is_final else FAILED)
    except Raised as error:
        click.echo(f"dromos: {escape(str(error))}", err=True)
        click.echo(users_traceback(error), err=True, nl=False)
        sys.exit(FAILED)
    except Misuse as error:
        raise click.UsageError(escape(in_words_of_the_command(str(error)))) from error
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _leave(message: str, status: int) -> NoReturn:
    click.echo(f"dromos: {escape(message)}", err=True)
    sys.exit(status)
