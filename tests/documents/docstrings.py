"""The examples in the docstrings of `src/dromos`: found as the pages find them, and run."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import dromos
from tests.documents.pages import load

__all__ = ["EXAMPLES", "Enough", "Example", "Steps", "docstrings"]

SOURCE = Path(dromos.__file__).parent

read = load("docstring_examples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A paragraph of code in a docstring."""

    module: str
    owner: str
    number: int = 0
    """Which of those in its docstring."""
    text: str
    is_python: bool

    def __str__(self) -> str:
        place = f"{self.module}:{self.owner}" if self.owner else self.module
        return f"{place}, {self.number + 1}" if self.number else place


def docstrings() -> Iterator[tuple[str, str, str]]:
    """Module, owner and text of every string that stands for itself: those after names as well."""
    for file in sorted(SOURCE.rglob("*.py")):
        path = file.relative_to(SOURCE.parent).with_suffix("")
        module = ".".join(path.parts).removesuffix(".__init__")
        for owner, node in _owners(ast.parse(file.read_text()), ()):
            for statement in node.body:
                match statement:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        yield module, ".".join(owner), inspect.cleandoc(text)


def _owners(node: Any, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield name, node
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _owners(inner, (*name, inner.name))


def _examples() -> Iterator[Example]:
    for module, owner, text in docstrings():
        paragraphs = [block for code, block in read.paragraphs(text.splitlines()) if code]
        for number, paragraph in enumerate(paragraphs):
            yield Example(
                module=module,
                owner=owner,
                number=number,
                text=textwrap.dedent("\n".join(paragraph)),
                is_python=read.is_python(paragraph),
            )


EXAMPLES = list(_examples())


class Enough(Exception):
    """Every statement of an example has run: one that would go on for ever needs not."""


class Steps(ast.NodeTransformer):
    """An example that notes how far it has come, and ends when it has come to its end.

    With `ends` set to False it goes on.
    """

    def __init__(self, text: str, name: str) -> None:
        self.ends = True
        self._left: set[int] = set()
        tree = ast.fix_missing_locations(self.visit(ast.parse(text)))
        awaits = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.code: CodeType = compile(tree, f"<{name}>", "exec", flags=awaits)
        self._lines = textwrap.dedent(text).splitlines()

    @property
    def awaits(self) -> bool:
        """Whether it needs an event loop around it."""
        return bool(self.code.co_flags & inspect.CO_COROUTINE)

    @property
    def left(self) -> list[str]:
        """The lines with statements that have not begun."""
        return [self._lines[number - 1].strip() for number in sorted(self._left)]

    def begun(self, line: int) -> None:
        """Note that a statement begins."""
        self._left.discard(line)

    def done(self) -> None:
        """Note that a statement has come to its end.

        Raises:
            Enough: If none is left.
        """
        if self.ends and not self._left:
            raise Enough

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Put notes around each statement that holds no others."""
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(node, field, [noted for each in statements for noted in self._noted(each)])
        return node

    def _noted(self, statement: ast.stmt) -> list[ast.stmt]:
        if hasattr(statement, "body"):
            return [statement]
        self._left.add(statement.lineno)
        before, after = ast.parse(f"_begun({statement.lineno})\n_done()").body
        return [before, statement, after]
