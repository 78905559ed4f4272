"""Packages that some pages are about and the library does not need, installed once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.world import SOURCE
from tests.interop.conftest import INSTALL_WITHIN, install, key

__all__ = ["other_packages", "search_path"]

WANTED = Path(__file__).parent / "requirements.txt"


@pytest.fixture(scope="session")
def other_packages() -> Path:
    """Where they are; the test is skipped if they can't be installed."""

    def make(place: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "--target", str(place), "-r", str(WANTED)],
            check=True,
            capture_output=True,
            timeout=INSTALL_WITHIN,
        )

    return install(f"documents-{key(WANTED)}", make)


def search_path(*folders: Path) -> str:
    """A `PYTHONPATH` with the library and these."""
    return os.pathsep.join([SOURCE, *map(str, folders)])
