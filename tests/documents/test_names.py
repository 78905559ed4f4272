"""What the documents name exists: modules and names of ours, and files of the repository."""

import importlib
import re
from pathlib import Path

import pytest

from tests.documents.pages import DOCS, PAGES

ROOT = DOCS.parent
WRITTEN = [*ROOT.glob("*.md"), *(DOCS / page.path for page in PAGES)]
WRITTEN += (ROOT / "changelog.d").glob("*.md")
OF_READERS = {"dromos.toml"}
"""What looks like a name of ours and is a file of the reader's."""


def exists(name: str) -> bool:
    """Whether a dotted name leads to something."""
    module, _, attribute = name.rpartition(".")
    if not module:
        return name == "dromos"
    try:
        importlib.import_module(name)
    except ImportError:
        return exists(module) and hasattr(found(module), attribute)
    return True


def found(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ImportError:
        module, _, attribute = name.rpartition(".")
        return getattr(found(module), attribute)


@pytest.mark.parametrize("file", sorted(WRITTEN), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_name_of_ours_exists(file: Path):
    named = set(re.findall(r"\bdromos(?:\.\w+)+", file.read_text())) - OF_READERS

    assert [] == sorted(name for name in named if not exists(name))


def test_every_source_file_that_the_map_s_own_words_name_is_there():
    """The list of files is generated, and `make lint` compares it."""
    before, _, rest = (ROOT / "ARCHITECTURE.md").read_text().partition("<!-- files -->")
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", before + rest.partition("<!-- end of files -->")[2])

    assert "oauth/cache.py" in named
    assert [] == [each for each in named if not (ROOT / "src" / "dromos" / each).exists()]


def test_a_name_that_is_misspelt_is_found():
    assert exists("dromos.oauth.OAuthClient.get_token")
    assert exists("dromos.telemetry.formatters")
    assert not exists("dromos.oauth.OAuthClent")
    assert not exists("dromos.Bridge.conect")
    assert not exists("dromos.telemtry.formatters")
