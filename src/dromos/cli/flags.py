"""Flags and arguments: what the command line says, in the library's words and back."""

import math
import re
from typing import Any

import click

from dromos.cli.sources import FLAGS

__all__ = ["NumberRange", "a_header", "in_words_of_the_command"]


class NumberRange(click.FloatRange):
    """A range of numbers, and nothing else: to click `nan` is below no limit and above none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number.

        Raises:
            click.BadParameter: If it is none, or not in the range.
        """
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def in_words_of_the_command(message: str) -> str:
    """Say flags where the library says arguments."""
    return re.sub(r"[\w=]+", lambda found: FLAGS.get(found[0], found[0]), message)


def a_header(text: str) -> tuple[str, str]:
    """Return a header that was written as `NAME: VALUE`.

    Raises:
        click.UsageError: If it was not; the message shows the name only.
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError("a header is NAME: VALUE")
    return name.strip(), value.strip()
