"""A Sphinx extension: `{from-code}` puts a table in its place that is read from the code."""

from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docstring_examples import is_python, paragraphs
from tables import TABLES


class FromCode(SphinxDirective):
    """Renders one of the tables that `tables.py` reads from the code."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Return the table, as if the page had it."""
        name = self.arguments[0]
        if name not in TABLES:
            raise self.error(f"there is no table {name}: {', '.join(TABLES)}")
        self.env.note_reread()  # in each build: what it is read from may have changed
        return self.parse_text_to_nodes("\n".join(TABLES[name]()), allow_section_headings=True)


def show_examples(
    _: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Let an indented paragraph of a docstring be code, which it is here, and no quotation."""
    out: list[str] = []
    for is_example, paragraph in paragraphs(lines):
        if is_example:
            language = "python" if is_python(paragraph) else "text"
            out += [f".. code-block:: {language}", ""]
        out += paragraph
    lines[:] = out


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_directive("from-code", FromCode)
    app.connect("autodoc-process-docstring", show_examples, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
