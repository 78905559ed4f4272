"""Checks a file: builds all that `dromos run` would build of it, and opens no connection."""

import asyncio
import contextlib
import sys
from collections.abc import Generator
from pathlib import Path

from dromos.cli.token import fetch
from dromos.config import Config, ConfigError, ServiceSettings, TokenSettings
from dromos.config.reading import Document, option_named, read_file
from dromos.errors import TokenError
from dromos.oauth import EnvToken, FileToken
from dromos.service.launch import loop_factory
from dromos.service.metrics import timing_metrics
from dromos.service.recording import check_record
from dromos.service.service import health_server
from dromos.service.work import handler_of

__all__ = ["check"]


def check(path: str) -> Config:
    """Return what a file says by itself, whatever the variables `DROMOS_*` say.

    Raises:
        ConfigError: If it can't work; it names the file, the table and, if it can, the line.
        Raised: If what it names raises as it is imported or made.
    """
    config = Config.from_toml(path, environ={})
    document = read_file(Path(path))
    sys.path.insert(0, str(Path.cwd()))  # as `dromos run` has it
    with _placed(document, "service"):
        _check_service(config.service)
    with _placed(document, "dialer"):
        # The dialer is built with it; what stands for the source is asked for nothing.
        config.bridge(EnvToken("NONE"))
    # Without connections a file may leave the tokens to the command line.
    if config.connections or config.tokens != TokenSettings():
        _check_tokens(document, config)
    for nth, connection in enumerate(config.connections):
        if connection.handler is not None:
            with _placed(document, "connections", f"handler {connection.handler}", nth=nth):
                handler_of(config, connection)
    return config


def _check_service(settings: ServiceSettings) -> None:
    """Refuse what the service could not be started with.

    Raises:
        ConfigError: If there is such.
    """
    loop_factory(settings.loop)
    if settings.health_port is not None:
        health_server()
    if settings.time_handlers:
        timing_metrics()
    if settings.record is not None:
        check_record(settings.record)


def _check_tokens(document: Document, config: Config) -> None:
    with _placed(document, "tokens"):
        source = config.source()
    if isinstance(source, EnvToken | FileToken):  # what can be asked without a network
        option = "token_env" if isinstance(source, EnvToken) else "token_file"
        with _placed(document, "tokens", option):
            asyncio.run(fetch(source, "", fresh=False))


@contextlib.contextmanager
def _placed(
    document: Document, table: str, subject: str = "", *, nth: int = 0
) -> Generator[None, None, None]:
    """Say of what is refused where that is written.

    Args:
        document: The file.
        table: Its table.
        subject: Whose refusal it is, if the refusal itself does not begin with that.
        nth: Which one of an array of tables.
    """
    try:
        yield
    except (ConfigError, TokenError) as error:
        problem = error.problem if isinstance(error, ConfigError) else str(error)
        if not problem.startswith(subject):
            problem = f"{subject}: {problem}"
        key = option_named(problem)
        place = document.place(table, key, nth=nth)
        shown = f"[[{table}]]" if table == "connections" else f"[{table}]"
        raise place.error(f"{shown} {problem}", key=f"{table}.{key}") from error
