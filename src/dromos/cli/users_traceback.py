"""The traceback of an object of the user's, from the first line that is theirs."""

import importlib
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

import dromos
from dromos.config.errors import Raised

__all__ = ["users_traceback"]

_WAY_THERE: Final = (
    str(Path(dromos.__file__).parent),
    "<frozen importlib",
    str(Path(importlib.__file__).parent),
)
"""What the files begin with whose calls come before the user's."""


def users_traceback(error: Raised) -> str:
    """Return the traceback of what was raised, without the calls that led to the user's code."""
    cause = error.__cause__
    assert cause is not None
    theirs: TracebackType | None = cause.__traceback__
    while theirs is not None and theirs.tb_frame.f_code.co_filename.startswith(_WAY_THERE):
        theirs = theirs.tb_next
    return "".join(traceback.format_exception(type(cause), cause, theirs))
