"""What a run was made with: without it, a table says little."""

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from typing import Final

__all__ = ["describe", "line"]

_PACKAGES: Final = ("dromos", "picows", "aiofastnet", "websockets", "aiohttp", "websocket-client")


def describe() -> dict[str, str]:
    """Return date, interpreter, system and versions."""
    versions = {name: importlib.metadata.version(name) for name in (*_PACKAGES, "uvloop")}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": str(os.cpu_count()),
        **versions,
    }


def line(surroundings: dict[str, str]) -> str:
    """Return it as one line."""
    return ", ".join(f"{name} {value}" for name, value in surroundings.items())
