"""Reads what a file and the environment say, and remembers where they say it."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from dromos.config.errors import ConfigError
from dromos.config.table import CONNECTION, SECTIONS, Option, Section

__all__ = [
    "Document",
    "Place",
    "Written",
    "option_named",
    "options_of",
    "read_file",
    "refused",
    "variables",
]

_CLOSE: Final = 0.8
"""How alike an unknown variable is to a known one before it is taken for a slip.  Others are
left alone: Kubernetes sets some for every Service, and programs have their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is written.

    Attributes:
        source: The file, or the variable.
        line: The line in the file, or None.
        allowing: What is written there to allow insecure transport.
    """

    source: str
    line: int | None = None
    allowing: str = "allow_insecure_transport = true"

    def error(self, problem: str, *, key: str | None = None) -> ConfigError:
        """Return the error that names this place, and advises what can be written there."""
        said = problem.replace("allow_insecure_transport=True", self.allowing)
        return ConfigError(said, source=self.source or None, line=self.line, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A value, and where it is written; its `repr` shows no value, which may be secret."""

    value: Any
    place: Place

    def __repr__(self) -> str:
        return f"Written({self.place!r})"


class Document:
    """A file in TOML, whose lines can be found again."""

    def __init__(self, name: str, text: str) -> None:
        """Parse it.

        Raises:
            ConfigError: If it is not TOML.
        """
        self.name = name
        self._lines = text.splitlines()
        try:
            self.tables: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            at = re.search(r" \(at line (\d+), column \d+\)$", str(error))
            problem = str(error)[: at.start()] if at else str(error)
            line = int(at[1]) if at else None
            # Its context would be the text itself, and with it whatever the file holds.
            raise ConfigError(f"this is not TOML: {problem}", source=name, line=line) from None

    def place(self, table: str, key: str | None = None, *, nth: int = 0) -> Place:
        """Return where a key of a table is, or the table where it hides.

        Args:
            table: Its name; empty for the top of the file.
            key: The key, or None for the table's own line.
            nth: Which one of an array of tables.
        """
        line = self._find(table, key, nth)
        return Place(source=self.name, line=self._find(table, None, nth) if line is None else line)

    def _find(self, table: str, key: str | None, nth: int) -> int | None:
        current, seen = "", -1
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[\[?\s*([\w.\"'-]+?)\s*\]\]?", line):
                current = header[1].replace('"', "").replace("'", "")
                seen += current == table
                if key is None and current == table and seen == nth:
                    return number
                if key is not None and current == f"{table}.{key}" and max(seen, 0) == nth:
                    return number
            elif current == table and (not table or seen == nth) and _begins(line, key):
                return number
        return None


def _begins(line: str, key: str | None) -> bool:
    """Whether a line begins with a key."""
    return key is not None and bool(re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line))


def refused(problem: str, section: str, written: Mapping[str, Written], at: Place) -> ConfigError:
    """Return the error that says where the option is written that a class refuses.

    Args:
        problem: The refusal, which begins with the option's name, as all of ours do.
        section: The table that it is about.
        written: What is written there.
        at: Where that table is, for a refusal of more than one option.
    """
    name = option_named(problem)
    place = written[name].place if name in written else at
    return place.error(problem, key=f"{section}.{name}" if place.source else section)


def option_named(problem: str) -> str:
    """Return the option that a refusal begins with."""
    return problem.partition(" ")[0].rstrip(":")


def read_file(path: Path) -> Document:
    """Return a file's document.

    Raises:
        ConfigError: If it can't be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"it can't be read: {error.strerror}", source=str(path)) from error
    except UnicodeDecodeError:
        raise ConfigError("it can't be read: it is not UTF-8", source=str(path)) from None
    return Document(str(path), text)


def options_of(
    document: Document, section: Section, table: object, *, nth: int = 0
) -> Iterator[tuple[Option, Written]]:
    """Yield what a table of a file says, read.

    Args:
        document: The file.
        section: What the table should be.
        table: What it is.
        nth: Which one of an array of tables.

    Raises:
        ConfigError: If a key is unknown, or its value can't be read.
    """
    if not isinstance(table, Mapping):
        raise document.place("", section.name).error(f"{section.name} must be a table")
    known = {option.name: option for option in section.options()}
    for name, value in cast("Mapping[str, object]", table).items():
        place = document.place(section.name, name, nth=nth)
        if name not in known:
            meant = _own_table(name) or nearest(name, known)
            said = f"[{section.name}] has no {name}{meant}"
            raise place.error(said, key=f"{section.name}.{name}")
        yield known[name], Written(value=read(known[name], value, place), place=place)


def variables(prefix: str, environ: Mapping[str, str]) -> Iterator[tuple[Option, Written]]:
    """Yield what the environment says, read.

    Raises:
        ConfigError: If a variable can't be read, or is nearly one that is known.
    """
    known: dict[str, list[Option]] = {}
    for section in (*SECTIONS, CONNECTION):
        for option in section.options():
            variable = option.variable(prefix)
            if variable is not None:
                known.setdefault(variable, []).append(option)
    for name, text in environ.items():
        place = Place(source=name, allowing=f"{prefix.upper()}ALLOW_INSECURE_TRANSPORT=true")
        for option in known.get(name, ()):
            yield option, Written(value=read(option, text, place), place=place)
        if name in known or not name.startswith(prefix.upper()):
            continue
        own = [each.removeprefix(prefix.upper()) for each in known]
        if meant := _nearest(name.removeprefix(prefix.upper()), own, cutoff=_CLOSE):
            said = f"there is no such variable; did you mean {prefix.upper()}{meant}?"
            raise place.error(said)


def read(option: Option, written: object, place: Place) -> Any:
    """Return what was written as the option takes it.

    Raises:
        ConfigError: If that can't be done.
    """
    try:
        return option.kind.read(written)
    except ValueError as error:
        raise place.error(f"{option.name} {error}", key=option.key) from None


def _own_table(name: str) -> str:
    """Return where an argument of `Bridge` is written that is a table by itself, or nothing."""
    table = "retry" if name == "retry_policy" else name
    is_one = any(table == section.name for section in SECTIONS) or table == "verdicts"
    return f"; it is a table of its own: [{table}]" if is_one else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question after the name that was probably meant, or nothing."""
    found = _nearest(name, known, cutoff=0.6)
    return f"; did you mean {found}?" if found else ""


def _nearest(name: str, known: Iterable[str], *, cutoff: float) -> str | None:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None
