"""Command lines, made of what each command says it takes, and read with nothing behind them."""

from collections.abc import Iterator
from typing import Any, Final

import click
from click.testing import CliRunner
from hypothesis import strategies as st

from dromos.cli.commands import cli

__all__ = ["COMMANDS", "as_declared", "command_lines", "parsed"]

COMMANDS: Final = tuple(sorted(cli.commands))

Words = tuple[str, ...]

texts = st.text(max_size=8).map(lambda text: text.replace("\0", ""))
written = st.sampled_from(
    """
    HOME NO_SUCH http://127.0.0.1:1 ws://127.0.0.1:1 http://user:password@h ftp://h wss://[::1 -
    os:path no_such_module:name a:b NAME:VALUE a,b /nonexistent 8080 :8080 h:99999 -- -1 0 1e999
    nan inf --token-env
    """.split()  # noqa: SIM905 - two dozen strings would be no easier to read
)


def values_of(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """What may be written for a parameter: mostly of its type."""
    match parameter.type:
        case click.Choice(choices=choices):
            fit: st.SearchStrategy[str] = st.sampled_from([str(each) for each in choices])
        case click.FloatRange(min=least, max=most):
            fit = st.one_of(st.floats(least, most).map(repr), st.sampled_from(["nan", "inf"]))
        case click.IntRange(min=least, max=most):
            fit = st.integers(least, most).map(str)
        case click.types.IntParamType():
            fit = st.integers().map(str)
        case _:
            fit = st.one_of(written, texts)
    return st.one_of(fit, fit, fit, written, texts)


def option(one: click.Option) -> st.SearchStrategy[Words]:
    """An option as people write it: by any of its names, its value beside it or behind `=`."""
    names = st.sampled_from(one.opts)
    if one.is_flag:
        return names.map(lambda name: (name,))
    return st.builds(
        lambda name, value, joined: (
            (f"{name}={value}",) if joined and name.startswith("--") else (name, value)
        ),
        names,
        values_of(one),
        st.booleans(),
    )


def line(name: str) -> st.SearchStrategy[tuple[str, list[str]]]:
    """A command's name and its words: its arguments, some of its options, now and then a stray."""
    parameters = cli.commands[name].params
    options = [option(each) for each in parameters if isinstance(each, click.Option)]
    arguments = [
        values_of(each).map(lambda text: (text,))
        for each in parameters
        if isinstance(each, click.Argument)
    ]
    stray = st.one_of(texts, st.sampled_from(["--help", "-h", "--no-such-option", "-"]))
    usual = st.tuples(*arguments, st.lists(st.one_of(options), max_size=5).map(flat))
    unusual = st.lists(st.one_of(*options, *arguments, stray.map(lambda text: (text,))), max_size=6)
    words = st.one_of(usual.map(flat), usual.map(flat), usual.map(flat), unusual.map(flat))
    return words.map(lambda found: (name, list(found)))


def flat(parts: Any) -> Words:
    return tuple(word for part in parts for word in part)


command_lines = st.one_of([line(name) for name in COMMANDS])


def parsed(name: str, words: list[str]) -> dict[str, Any] | str:
    """Let the whole program read a command line, with nothing behind the command.

    Returns:
        What the command would be called with, or what the program says instead.
    """
    called: list[dict[str, Any]] = []
    known = cli.commands[name]
    inert = click.Command(
        name, params=known.params, callback=lambda **values: called.append(values)
    )
    program = click.Group(commands=[inert], context_settings=cli.context_settings)
    outcome = CliRunner().invoke(program, [name, *words])
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    assert outcome.exit_code in (0, 2)
    assert "Traceback" not in outcome.output
    assert bool(outcome.exit_code) == ("Error: " in outcome.stderr)
    assert not (called and outcome.output)
    return called[0] if called else outcome.output


def as_declared(name: str, values: dict[str, Any]) -> Iterator[str]:
    """Yield what a value is not that its option promises."""
    parameters = {str(each.name): each for each in cli.commands[name].params}
    if values.keys() != parameters.keys():
        yield f"{sorted(values)} are not {sorted(parameters)}"
    for key, value in values.items():
        parameter = parameters[key]
        if parameter.multiple:
            fits = isinstance(value, tuple)
        elif value is None:
            fits = not parameter.required
        else:
            fits = is_of(parameter, value)
        if not fits:
            yield f"{key} is {value!r}"


def is_of(parameter: click.Parameter, value: Any) -> bool:
    match parameter.type:
        case click.Choice(choices=choices):
            return value in choices
        case click.FloatRange(min=least, max=most) | click.IntRange(min=least, max=most):
            return (least is None or least <= value) and (most is None or value <= most)
        case click.types.BoolParamType():
            return isinstance(value, bool)
        case click.File():
            # Asking it for any member of a file would open it.
            return hasattr(type(value), "__enter__")
        case _:
            return isinstance(value, str)
