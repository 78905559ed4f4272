"""Which paragraphs of a docstring are examples: for the pages, and for the tests that run them."""

import ast
import textwrap
from collections.abc import Iterator, Sequence

__all__ = ["is_python", "paragraphs"]


def paragraphs(lines: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    """Divide a docstring into indented paragraphs after prose, which are code, and the rest."""
    prose: list[str] = []
    block: list[str] = []
    for line in lines:
        starts = not block and line.startswith("    ") and _end_in_prose(prose)
        if starts or (block and (line.startswith("    ") or not line.strip())):
            block.append(line)
            continue
        if block:
            yield False, prose
            yield True, block
            prose, block = [], []
        prose.append(line)
    yield False, prose
    if block:
        yield True, block


def _end_in_prose(lines: list[str]) -> bool:
    """Whether the last paragraph was text at the margin, and an empty line came after it."""
    if len(lines) < 2 or lines[-1].strip():
        return False
    before = next((line for line in reversed(lines) if line.strip()), "")
    return not before.startswith((" ", "* "))


def is_python(block: Sequence[str]) -> bool:
    """Whether it is Python, which may await."""
    code = textwrap.indent(textwrap.dedent("\n".join(block)), "    ")
    try:
        ast.parse(f"async def example():\n{code}")
    except SyntaxError:
        return False
    return True
