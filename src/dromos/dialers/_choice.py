"""Chooses the listener: the compiled one where it was built for the picows that runs."""

import importlib
import os
import re
import warnings
from typing import TYPE_CHECKING, Final

from picows.version import __version__ as picows_version

from dromos.dialers._listener import PythonListener

__all__ = ["COMPILED", "SWITCH", "Listener", "choose", "module_for"]

SWITCH: Final = "DROMOS_NO_EXTENSIONS"
"""The environment variable that, set to anything, has everything run in Python."""


def module_for(version: str) -> str:
    """Return the name of the listener that was compiled for this version of picows.

    Its code relies on where picows keeps its fields and methods, which another version may
    change.  So one that was built for another is not even loaded.  `hatch_build.py` names it.
    """
    numbers = re.sub(r"\W", "_", version)
    return f"dromos.dialers._compiled_for_picows_{numbers}"


def choose(version: str = picows_version) -> type[PythonListener]:
    """Return the compiled listener if there is one that fits, and else the one in Python."""
    if os.environ.get(SWITCH):
        return PythonListener
    try:
        with warnings.catch_warnings():
            # So Cython tells of structures that have grown, as in a patched picows.  No other
            # warning: this holds for all threads meanwhile.
            warnings.filterwarnings("error", ".* size changed", RuntimeWarning)
            found: type[PythonListener] = importlib.import_module(module_for(version)).Listener
    except Exception:  # whatever keeps it from loading, the one in Python does the same
        return PythonListener
    return found


if TYPE_CHECKING:
    Listener = PythonListener
else:
    Listener = choose()

COMPILED: Final = Listener is not PythonListener
"""Whether the compiled listener runs in this process."""
