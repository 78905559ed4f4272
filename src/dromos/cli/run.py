"""Runs an agent of the user's as a service: what the command line says, the rest, the file."""

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from dromos.cli.flags import in_words_of_the_command
from dromos.cli.sources import Tokens
from dromos.config import Config, ConfigError, ServiceSettings
from dromos.config.config import PREFIX
from dromos.config.settings import WORDS
from dromos.config.sources import WHICH, load, made
from dromos.model import in_seconds
from dromos.service.launch import run_configured
from dromos.service.work import Unrunnable, is_handler, takes_a_bridge

__all__ = ["run_agent", "service_options"]

F = TypeVar("F", bound=Callable[..., Any])

_SERVICE: Final = tuple(each.name for each in fields(ServiceSettings))

_USUAL: Final = ServiceSettings()


def _one_of(name: str) -> str:
    return f"{', '.join(WORDS[name])}; {getattr(_USUAL, name)} by default."


_OPTIONS: Final = (
    click.option("--config", "path", metavar="FILE", help="Read options from this file, in TOML."),
    click.option("--url", metavar="URL", help="The far side, with --connection-id."),
    click.option("--health-port", metavar="PORT", help="Serve health there; 0 takes any."),
    click.option(
        "--health-host", metavar="ADDRESS", help=f"That port's address: {_USUAL.health_host}."
    ),
    click.option(
        "--drain-timeout",
        metavar="SECONDS",
        help=f"From the signal to the end: {in_seconds(_USUAL.drain_timeout):g}.",
    ),
    click.option("--log-format", metavar="FORM", help=_one_of("log_format")),
    click.option("--log-level", metavar="LEVEL", help=_one_of("log_level")),
    click.option("--loop", metavar="LOOP", help=_one_of("loop")),
    click.option("--record", metavar="FILE", help="Add what happens there, for dromos timeline."),
    click.option("--time-handlers", is_flag=True, help="Measure how long callbacks take."),
)


def service_options(command: F) -> F:
    """Give a command the options of a service."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_agent(name: str | None, options: dict[str, Any]) -> None:
    """Run an object in a module until it is over.

    Args:
        name: As `"module:name"`; None runs the handlers that the configuration names.
        options: Those of `service_options` and `token_options`.

    Raises:
        SystemExit: If the status is not 0.
        ConfigError: If the configuration can't work, or what is named can't be run.
        Raised: If what is named raises as it is imported or made.
    """
    flags = _flags(options)
    path = options["path"]
    environ = _overlaid(flags)
    with _in_words_of_the_command(flags):
        if path is None:
            config = Config.from_env(environ=environ)
        else:
            config = Config.from_toml(path, environ=environ)
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    target = None if name is None else _agent(name)
    if options["url"] is not None and _takes_a_bridge(target):
        raise ConfigError(f"--url is for a handler; {name} takes a bridge, and connects by itself")
    try:
        with _in_words_of_the_command(flags):
            run_configured(target, config)
    except Unrunnable as error:
        raise ConfigError(f"the agent {name}: {error}") from error


def _agent(name: str) -> Any:
    """Return what is to be run; what makes a handler does so under its name.

    Raises:
        ConfigError: If there is no such object.
        Raised: If its module raises as it is imported.
    """
    try:
        found = load(name, "the agent")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    makes_one = isinstance(found, type) or not (is_handler(found) or _takes_a_bridge(found))
    return partial(made, name, found) if callable(found) and makes_one else found


def _takes_a_bridge(target: Any) -> bool:
    return callable(target) and not is_handler(target) and takes_a_bridge(target)


def _flags(options: dict[str, Any]) -> dict[str, str]:
    """Return what the command line says, as the variables that would say the same."""
    tokens = Tokens.of(options)
    said: dict[str, Any] = {name: options[name] for name in _SERVICE}
    said |= {"connection_id": tokens.connection_id, "connection_url": options["url"]}
    said["time_handlers"] = "true" if options["time_handlers"] else None
    said["allow_insecure_transport"] = "true" if tokens.insecure else None
    for name, value in tokens.said().items():
        said[name] = value if isinstance(value, str) or value is None else ",".join(value) or None
    return {f"{PREFIX}{name}".upper(): value for name, value in said.items() if value is not None}


def _overlaid(flags: dict[str, str]) -> dict[str, str]:
    """Return the environment with the command line in front of it."""
    environ = dict(os.environ)
    which = {f"{PREFIX}{name}".upper() for name in WHICH}
    if which & set(flags):
        for name in which:
            environ.pop(name, None)
    return {**environ, **flags}


@contextlib.contextmanager
def _in_words_of_the_command(flags: Mapping[str, str]) -> Generator[None, None, None]:
    """Say flags where something is refused that they have said, or that nobody has.

    Raises:
        ConfigError: In place of the other one.
    """
    try:
        yield
    except ConfigError as error:
        source, problem = error.source, error.problem
        if source is not None and source in flags:
            source = _flag(source)
            problem = problem.replace(f"{PREFIX}ALLOW_INSECURE_TRANSPORT=true", "--insecure")
        elif source is None and error.key == "tokens":
            problem = in_words_of_the_command(problem)
        raise ConfigError(problem, source=source, line=error.line, key=error.key) from None


def _flag(variable: str) -> str:
    name = variable.removeprefix(PREFIX).lower()
    return _NAMES.get(name, f"--{name.replace('_', '-')}")


_NAMES: Final = {"connection_url": "--url", "allow_insecure_transport": "--insecure"}
