"""Lists every option, with its variable, its unit and its default."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from dromos.config.config import PREFIX
from dromos.config.table import CONNECTION, SECTIONS, Option, Section

__all__ = ["as_json", "as_lines"]


def as_json() -> str:
    """Return the options as a JSON array of objects."""
    return json.dumps([_told(option) for option in _options()], indent=2)


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
        yield ""


def _told(option: Option) -> dict[str, Any]:
    return {
        "section": option.section.name,
        "name": option.name,
        "form": option.kind.form,
        "unit": option.kind.unit or None,
        "default": None if option.is_required else option.default,
        "required": option.is_required,
        "variable": option.variable(PREFIX),
        "text": option.text,
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


def _wrapped(text: str, width: int) -> Iterator[str]:
    indent = " " * 6
    yield from textwrap.wrap(text, max(width, 40), initial_indent=indent, subsequent_indent=indent)
