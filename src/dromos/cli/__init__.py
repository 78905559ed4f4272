"""The command line: `dromos run`, `config`, `connect`, `token`, `doctor`, `timeline` and others."""

import errno
import os
import sys
from typing import Final

__all__ = ["INTERRUPTED", "main", "write_no_more"]

CONFIGURATION: Final = 78
"""The exit status for what trying again can't mend: `EX_CONFIG` of sysexits.h."""

INTERRUPTED: Final = 130
"""The exit status after SIGINT, as shells have it."""

FAILED: Final = 1
"""The exit status for what may go better the next time."""


def main() -> None:
    """Run the command that `sys.argv` asks for, and exit with its status."""
    try:
        from dromos.cli.commands import cli

        cli(prog_name="dromos")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("click", "h11", "rich"):
            raise
        print(f'dromos: this needs {missing}: pip install "dromos[cli]"', file=sys.stderr)
        sys.exit(CONFIGURATION)
    except KeyboardInterrupt:  # while our own modules load; a command has its own way
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"dromos: the output can't be written: {error.strerror}", file=sys.stderr)
        write_no_more()
        sys.exit(FAILED)


def write_no_more() -> None:
    """Let Python's own flush at its end succeed, where nobody takes what is still to be written.

    It would complain otherwise, and end with another status.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
