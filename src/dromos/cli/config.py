"""Lists every option, with its variable, its unit and its default."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from dromos.bridge import Bridge
from dromos.config.config import PREFIX
from dromos.config.table import (
    CONNECTION,
    PER_CONNECTION,
    SECTIONS,
    VERDICTS,
    Option,
    Section,
)

__all__ = ["as_json", "as_lines", "of_verdicts"]


CODE: Final = "CODE"
"""What stands for the keys of `[verdicts]`, which are numbers."""

OF_VERDICTS: Final = (
    "What is to become of a session after this close code, or HTTP status of an upgrade.  "
    "Default: what the tables of verdicts say."
)

OF_CONNECTIONS: Final = (
    "A connection may have these as well, for its own session; there they go before what the "
    "file, a variable or the program says for all:"
)


def as_json() -> str:
    """Return the options as a JSON array of objects."""
    return json.dumps([*map(_told, _options()), of_verdicts()], indent=2)


def as_lines(width: int) -> Iterator[str]:
    """Yield the options for a person.

    Args:
        width: Characters that a line may have.
    """
    for section in _sections():
        yield f"[[{section.name}]]" if section is CONNECTION else f"[{section.name}]"
        for option in section.options():
            told = _told(option)
            yield f"  {option.name} = {_shown(told)}"
            yield from _wrapped(told["text"], width)
            if told["variable"]:
                yield f"      {told['variable']}"
        if section is CONNECTION:
            yield from _wrapped(OF_CONNECTIONS, width, indent=2)
            yield from _wrapped(", ".join(PER_CONNECTION), width)
        yield ""
    told = of_verdicts()
    yield f"[{told['section']}]"
    yield f"  {told['name']} = <{told['form']}>"
    yield from _wrapped(told["text"], width)


def _told(option: Option) -> dict[str, Any]:
    return {
        "section": option.section.name,
        "name": option.name,
        "form": option.kind.form,
        "unit": option.kind.unit or None,
        "default": None if option.is_required else option.default,
        "required": option.is_required,
        "variable": option.variable(PREFIX),
        "per_connection": option.section.takes is Bridge and option.name in PER_CONNECTION,
        "text": option.text,
    }


def of_verdicts() -> dict[str, Any]:
    """Tell of the one table whose keys are not names."""
    return {
        "section": "verdicts",
        "name": CODE,
        "form": " or ".join(f'"{word}"' for word in VERDICTS),
        "unit": None,
        "default": None,
        "required": False,
        "variable": None,
        "per_connection": False,
        "text": OF_VERDICTS,
    }


def _sections() -> tuple[Section, ...]:
    return (*SECTIONS, CONNECTION)


def _options() -> Iterator[Option]:
    for section in _sections():
        yield from section.options()


def _shown(told: dict[str, Any]) -> str:
    """Return a default as TOML has it, with its unit; what there is none of is a word."""
    if told["required"]:
        return f"<{told['form']}>"
    default = told["default"]
    if default is None:
        return "none"
    unit = f" {told['unit']}" if told["unit"] and not isinstance(default, str) else ""
    plain = int(default) if isinstance(default, float) and default.is_integer() else default
    return f"{json.dumps(plain)}{unit}"


def _wrapped(text: str, width: int, *, indent: int = 6) -> Iterator[str]:
    margin = " " * indent
    yield from textwrap.wrap(text, max(width, 40), initial_indent=margin, subsequent_indent=margin)
