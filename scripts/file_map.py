"""Writes the list of files in ARCHITECTURE.md, each with the sentence that opens it.

scripts/file_map.py             write it
scripts/file_map.py --check     fail if the list is not what the files say
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "ARCHITECTURE.md"
START, END = "<!-- files -->\n", "<!-- end of files -->\n"


def sentence(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text()))
    if not docstring:
        sys.exit(f"{file.relative_to(ROOT)} does not say what it is for")
    return " ".join(docstring.split("\n\n")[0].split())


def file_map() -> str:
    package = ROOT / "src" / "dromos"
    files = sorted(package.rglob("*.py"), key=lambda file: (file.parent, file.name))
    rows = [f"| `{file.relative_to(package)}` | {sentence(file)} |" for file in files]
    return "\n".join(
        ["Paths are below `src/dromos`.", "", "| File | Is for |", "|---|---|", *rows, ""]
    )


def main() -> None:
    before, rest = DOCUMENT.read_text().split(START)
    _, after = rest.split(END)
    text = before + START + file_map() + END + after
    if "--check" not in sys.argv[1:]:
        DOCUMENT.write_text(text)
    elif text != DOCUMENT.read_text():
        sys.exit("the list of files in ARCHITECTURE.md is not up to date: run `make map`")


if __name__ == "__main__":
    main()
