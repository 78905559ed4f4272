"""Makes settings of what is written in a file, and in variables that go before it."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from dromos.config.connections import try_out
from dromos.config.errors import ConfigError
from dromos.config.reading import Document, Written, nearest, options_of, refused
from dromos.config.sources import WHICH
from dromos.config.table import SECTIONS, VERDICTS, Option
from dromos.model import Outbox, RetryPolicy, Verdict
from dromos.redaction import is_sensitive

__all__ = ["Assembly"]

T = TypeVar("T")


class Assembly:
    """What is written, put together into what is made of it."""

    def __init__(self, document: Document, from_variables: list[tuple[Option, Written]]) -> None:
        self._document = document
        self._variables = from_variables

    def make(self, section: str, kind: Callable[..., T]) -> T:
        """Return what a class makes of its table.

        Raises:
            ConfigError: If a value is refused; it names where that is written.
        """
        written = self.written(section)
        try:
            return kind(**{name: one.value for name, one in written.items()})
        except (ValueError, TypeError) as error:
            raise self.refused(str(error), section) from error

    def refused(self, problem: str, section: str) -> ConfigError:
        """Return the error that says where the option is written that a refusal begins with."""
        return refused(problem, section, self.written(section), self._document.place(section))

    def written(self, section: str) -> dict[str, Written]:
        """Return what is written of a section's options, each one's last word."""
        known = next(each for each in SECTIONS if each.name == section)
        found: dict[str, Written] = {}
        table = self._document.tables.get(section)
        if table is not None:
            for option, one in options_of(self._document, known, table):
                _refuse_secret(option, one)
                found[option.name] = one
        said = [pair for pair in self._variables if pair[0].section.name == section]
        if any(option.name in WHICH for option, _ in said):
            # It goes before the file's, of which there may be only one.
            for name in WHICH:
                found.pop(name, None)
        return found | {option.name: one for option, one in said}

    def bridge_options(self) -> dict[str, Any]:
        """Return the arguments for `Bridge`, tried out on one.

        Raises:
            ConfigError: If it refuses one; it names where that is written.
        """
        written = self.written("bridge")
        options: dict[str, Any] = {name: one.value for name, one in written.items()}
        if self._has("retry"):
            options["retry_policy"] = self.make("retry", RetryPolicy)
        if self._has("outbox"):
            options["outbox"] = self.make("outbox", Outbox)
        if "verdicts" in self._document.tables:
            options["verdicts"] = self._verdicts(self._document.tables["verdicts"])
        try:
            try_out(options)
        except (ValueError, TypeError) as error:
            raise self.refused(str(error), "bridge") from error
        return options

    def refuse_unknown_tables(self) -> None:
        """Refuse tables that nobody has asked for.

        Raises:
            ConfigError: If there is one.
        """
        known = [*(section.name for section in SECTIONS), "connections", "verdicts"]
        for name, value in self._document.tables.items():
            if name not in known:
                is_table = isinstance(value, dict)
                place = self._document.place(*((name,) if is_table else ("", name)))
                what = f"[{name}]" if is_table else name
                said = f"there is no {what} in a configuration{nearest(name, known)}"
                raise place.error(said, key=name)

    def _has(self, section: str) -> bool:
        in_variables = any(option.section.name == section for option, _ in self._variables)
        return in_variables or section in self._document.tables

    def _verdicts(self, table: object) -> dict[int, Verdict]:
        if not isinstance(table, dict):
            raise self._document.place("", "verdicts").error("verdicts must be a table")
        made: dict[int, Verdict] = {}
        for code, word in cast("dict[str, object]", table).items():
            place = self._document.place("verdicts", code)
            if not (code.isascii() and code.isdigit()):
                raise place.error("verdicts are by close code or HTTP status", key="verdicts")
            if not isinstance(word, str) or word not in VERDICTS:
                said = f"{code} must be one of {', '.join(VERDICTS)}"
                raise place.error(said, key=f"verdicts.{code}")
            made[int(code)] = VERDICTS[word]
        return made


def _refuse_secret(option: Option, written: Written) -> None:
    """Refuse a secret in the clear, in a file that may be in a repository.

    Raises:
        ConfigError: If there is one.
    """
    value = written.value
    if option.name == "proxy" and isinstance(value, str) and "@" in value:
        raise written.place.error(f"proxy holds a password: {_REFER}", key=option.key)
    if option.name == "headers":
        for name, text in cast("Mapping[str, object]", value).items():
            if isinstance(text, str) and is_sensitive(name):
                raise written.place.error(f"{name} is a secret: {_REFER}", key=option.key)


_REFER: Final = 'write { env = "NAME" } or { file = "PATH" } in its place'
