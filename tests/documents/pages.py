"""The pages of the documents, and the blocks of code in them."""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

__all__ = ["DOCS", "PAGES", "README", "Block", "Page", "load"]

DOCS = Path(__file__).parents[2] / "docs"

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$", re.M | re.S
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code in a page."""

    page: str
    number: int
    line: int
    language: str
    text: str
    prints: str | None = None
    """What a block of `text` right after it says that it prints."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def with_addresses(self, addresses: dict[str, str]) -> str:
        """The text with those addresses in place of nobody's."""
        text = self.text
        for written, real in addresses.items():
            text = text.replace(written, real)
        return text


@dataclass(frozen=True, slots=True)
class Page:
    """A page, by its path below `docs`."""

    path: str

    def __str__(self) -> str:
        return self.path

    @property
    def text(self) -> str:
        """The Markdown."""
        return (DOCS / self.path).read_text()

    def blocks(self, *languages: str) -> list[Block]:
        """Its blocks in these languages, or all."""
        found = list(_FENCE.finditer(self.text))
        blocks: list[Block] = []
        for number, fence in enumerate(found):
            after = found[number + 1] if number + 1 < len(found) else None
            follows = after is not None and _is_output_of(self.text[fence.end() : after.start()])
            is_output = after is not None and after["language"].strip() == "text" and follows
            blocks.append(
                Block(
                    page=self.path,
                    number=number,
                    line=self.text.count("\n", 0, fence.start()) + 2,
                    language=fence["language"].strip(),
                    text=fence["text"],
                    prints=after["text"] if after is not None and is_output else None,
                )
            )
        return [block for block in blocks if not languages or block.language in languages]


def _is_output_of(between: str) -> bool:
    """Whether no more than a short sentence stands between a program and what it prints."""
    return len(between.strip().splitlines()) <= 1


PAGES = [
    Page(str(file.relative_to(DOCS)))
    for file in sorted(DOCS.rglob("*.md"))
    if "_build" not in file.parts
]

README = Page("../README.md")
"""The first page of all; its Python runs in tests/bridge/test_readme.py."""


def load(name: str) -> ModuleType:
    """A module of the Sphinx extension."""
    folder = str(DOCS / "_ext")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    found = importlib.util.find_spec(name)
    assert found is not None
    return importlib.import_module(name)
