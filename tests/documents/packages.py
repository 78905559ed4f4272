"""Packages that some pages are about and the library does not need, installed once."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents.world import SOURCE
from tests.interop.conftest import INSTALL_WITHIN, install, key

__all__ = ["other_packages", "search_path", "yaml"]

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


@pytest.fixture
def yaml(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """PyYAML: that of the documents' environment, or else the one that is installed for tests."""
    if importlib.util.find_spec("yaml") is None:
        monkeypatch.syspath_prepend(str(request.getfixturevalue("other_packages")))
    return importlib.import_module("yaml")


def search_path(*folders: Path) -> str:
    """A `PYTHONPATH` with the library and these."""
    return os.pathsep.join([SOURCE, *map(str, folders)])
