"""The command line: `dromos run`, `config`, `connect`, `token`, `doctor`, `timeline` and others."""

import sys
from typing import Final

__all__ = ["main"]

CONFIGURATION: Final = 78
"""The exit status for what trying again can't mend: `EX_CONFIG` of sysexits.h."""


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
