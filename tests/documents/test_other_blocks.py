"""Blocks that are no Python: commands exist with their options, and settings are read.

The rule for a block of shell: it is run, with processes as a user would start them, where that
can be done on loopback in seconds; `RUN` says by which test.  Of the others `READ_ONLY` says why
not; their commands are read with all options, as far as running them, like those of every block.
"""

import importlib.metadata
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from dromos.cli.commands import cli
from tests.documents.pages import PAGES, README, Block, Page

ROOT = Path(__file__).parents[2]

LANGUAGES = {"python", "sh", "text", "toml", "yaml", "ini", "json"}
"""What a page may have: each is run, compared or read by some test here."""

OTHERS = {"curl", "echo", "python", "systemctl", "journalctl", "uvicorn"}
"""Programs that are not ours; the pages that use them have tests of their own."""


RUN = {
    "howto/django.md": "test_django.py",
    "howto/doctor.md": "test_doctor.py",
    "howto/fastapi.md": "test_fastapi.py",
    "howto/logging.md": "test_shell_blocks.py",
    "reference/command-line.md": "test_shell_blocks.py",
    "reference/configuration.md": "test_shell_blocks.py",
    "reference/exit-codes.md": "test_shell_blocks.py",
    "tokens.md": "test_shell_blocks.py",
    "tutorial.md": "test_tutorial.py",
}
"""Which test runs a page's shell."""

READ_ONLY = {
    "../README.md": "its service is the tutorial's, which is run, and the rest installs",
    "howto/systemd.md": "it changes the machine; a systemd of its own reads the unit elsewhere",
    "performance.md": "it measures for minutes; a smaller scrape has to print the same form",
}
"""Whose shell is not run, and why."""


def blocks(*languages: str) -> list[Block]:
    return [block for page in [README, *PAGES] for block in page.blocks(*languages)]


def test_every_block_has_a_language_that_is_looked_after():
    found = {block.language for block in blocks() if not block.language.startswith("{")}

    assert found <= LANGUAGES


# ---------------------------------------------------------------- shell


def commands(block: Block) -> Iterator[list[str]]:
    """Each command of a shell block, word by word, without comments and redirections."""
    text = re.sub(r"\s\d?>+ ?\S+", "", block.text.replace("\\\n", " "))
    for line in text.splitlines():
        for part in re.split(r"\s(?:\||&&)\s", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                yield words


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_a_command_exists_and_takes_its_arguments(block: Block):
    for name, *arguments in commands(block):
        match name:
            case "dromos":
                parse(arguments)
            case "make":
                assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.M)
            case "pip":
                assert installable(arguments)
            case _:
                assert name in OTHERS


def test_every_block_of_shell_is_run_by_a_test_or_it_is_said_why_not():
    pages = {block.page for block in blocks("sh")}
    tests = Path(__file__).parent

    assert pages == set(RUN) | set(READ_ONLY)
    assert not set(RUN) & set(READ_ONLY)
    for page, test in RUN.items():
        assert f'"{page}"' in (tests / test).read_text(encoding="utf-8"), page


def parse(arguments: list[str]) -> None:
    """Let click read a command line of ours, as far as running it.

    Raises:
        click.UsageError: If there is no such command or option.
    """
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, arguments = arguments[0], arguments[1:]
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"there is no command {name}"
        command = found
    command.make_context(command.name, list(arguments))


def installable(arguments: list[str]) -> bool:
    """Whether what pip is asked for is ours, with extras that there are."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = set(extras["optional-dependencies"])
    wanted = re.match(r"(?:dromos|\.)(?:\[([\w,]+)\])?$", arguments[1])
    assert wanted, f"pip is asked for {arguments[1]}"
    return arguments[0] == "install" and set((wanted[1] or "").split(",")) - {""} <= known


def test_the_library_brings_what_the_extras_of_the_health_port_and_the_fakes_name():
    """The pages say that they add nothing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought, waiting = set[str](), [*project["dependencies"]]
    while waiting:
        asked = Requirement(waiting.pop())
        if asked.name not in brought and (asked.marker is None or asked.marker.evaluate()):
            brought.add(asked.name)
            waiting += importlib.metadata.requires(asked.name) or []
    extras = project["optional-dependencies"]

    assert {Requirement(each).name for each in extras["service"] + extras["testing"]} <= brought


def test_the_tutorial_asks_for_what_the_readme_asks_for():
    first, tutorial = (
        next(words for block in page.blocks("sh") for words in commands(block) if "pip" in words)
        for page in (README, Page("tutorial.md"))
    )

    assert first == tutorial


def test_the_commands_of_the_readme_are_among_them():
    """What a newcomer types first."""
    looked_at = [block for block in blocks("sh") if block.page == README.path]
    typed = {" ".join(words[:2]) for block in looked_at for words in commands(block)}

    assert {"pip install", "dromos demo", "dromos run", "python world.py", "make test"} <= typed


def test_a_command_that_is_misspelt_is_found():
    with pytest.raises(click.UsageError):
        parse(["token", "--isuer", "https://login.example.com"])
    with pytest.raises(AssertionError, match="no command"):
        parse(["tokens"])
    assert not installable(["install", "dromos[everything]"])


# ---------------------------------------------------------------- text


def test_every_block_of_text_belongs_to_a_program_or_a_command():
    """What nothing prints must not look like output."""
    for page in PAGES:
        all_blocks = page.blocks()
        for before, block in zip([None, *all_blocks], all_blocks, strict=False):
            if block.language == "text":
                assert before is not None, f"{block} has nothing before it"
                assert before.language in {"python", "sh"}, f"{block} follows {before.language}"


# ---------------------------------------------------------------- what readers see

WIDTH = 100
"""Characters of a line of code: as in our own files."""


def test_no_line_of_code_is_wider_than_our_own():
    wide = [
        f"{block.page}:{block.line + number}"
        for block in blocks()
        for number, line in enumerate(block.text.splitlines())
        if len(line) > WIDTH
    ]

    assert [] == wide
