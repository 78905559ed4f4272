"""Sets up logging for a program that has not: for people on a terminal, as JSON otherwise."""

import logging
import os
import sys
from typing import Literal

from dromos.telemetry.formatters import JsonFormatter, TerminalFormatter

__all__ = ["set_up_logging"]


def set_up_logging(form: Literal["auto", "text", "json", "none"], level: str) -> None:
    """Write what is logged to standard error, unless the program has seen to that itself.

    Args:
        form: `"text"`, `"json"`, `"auto"` for whichever fits, or `"none"` to leave it alone.
        level: The least that is written, such as `"info"`.
    """
    root = logging.getLogger()
    if form == "none" or root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(form))
    root.addHandler(handler)
    root.setLevel(level.upper())


def _formatter(form: str) -> logging.Formatter:
    is_terminal = sys.stderr.isatty()
    if form == "text" or (form == "auto" and is_terminal):
        # https://no-color.org
        return TerminalFormatter(colour=is_terminal and not os.environ.get("NO_COLOR"))
    return JsonFormatter()
