"""A bridge as a service: signals, a health port, logs, and what a service manager wants to hear."""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dromos.service.launch import run
    from dromos.service.server import HealthServer

__all__ = ["HealthServer", "run"]

_HOME: Final = {"HealthServer": "dromos.service.server", "run": "dromos.service.launch"}
"""Imported when they are asked for: the server alone needs the extra `service`."""


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
