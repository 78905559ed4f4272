"""Where the tokens of a command come from: the options that say so, and the source they mean."""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

import click

from dromos.config.settings import TokenSettings
from dromos.config.sources import source as config_source
from dromos.interfaces import TokenProvider, TokenSource

__all__ = ["FLAGS", "Misuse", "Tokens", "misuse_if", "source", "token_options"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the command line says of tokens."""

    connection_id: str | None
    settings: TokenSettings

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Tokens":
        """Take the options of `token_options` out of a command's."""
        said = {name: options.pop(name) for name in _SAID}
        for name in ("scope", "audience"):
            said[name] = tuple(said[name])
        insecure, connection_id = options.pop("insecure"), options.pop("connection_id")
        settings = TokenSettings(**said, allow_insecure_transport=insecure)
        return cls(connection_id=connection_id, settings=settings)

    @property
    def insecure(self) -> bool:
        """Whether `ws://` and `http://` may go to other machines."""
        return self.settings.allow_insecure_transport

    @property
    def is_silent(self) -> bool:
        """Whether nothing is said of tokens, nor of a connection."""
        return self.connection_id is None and all(
            value in (None, ()) for value in self.said().values()
        )

    def said(self) -> dict[str, Any]:
        """The options by name, but for the connection's id and `--insecure`."""
        return {name: getattr(self.settings, name) for name in _SAID}


_SAID: Final = tuple(
    each.name for each in fields(TokenSettings) if each.name != "allow_insecure_transport"
)


def token_options(command: F) -> F:
    """Give a command the options that say where tokens come from."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option("--connection-id", metavar="ID", help="The gateway's record to connect with."),
    click.option(
        "--gateway", metavar="URL", help="Where the gateway is, such as http://localhost:8081."
    ),
    click.option("--token-env", metavar="NAME", help="Take the token from this variable."),
    click.option("--token-file", metavar="PATH", help="Take the token from this file."),
    click.option("--issuer", metavar="URL", help="An authorization server, by its name."),
    click.option("--token-url", metavar="URL", help="Its token endpoint, in place of --issuer."),
    click.option("--client-id", metavar="ID", help="Who we are to it."),
    click.option("--client-secret-env", metavar="NAME", help="Our secret is in this variable."),
    click.option("--client-secret-file", metavar="PATH", help="Our secret is in this file."),
    click.option("--private-key-file", metavar="PATH", help="Our private key, as PEM or JWK."),
    click.option(
        "--refresh-store", metavar="PATH", help="Use the refresh token that this file keeps."
    ),
    click.option("--scope", multiple=True, metavar="NAME", help="What to ask for."),
    click.option("--audience", multiple=True, metavar="NAME", help="Whom it is for."),
    click.option("--provider", metavar="MODULE:NAME", help="Any token source of yours, in Python."),
    click.option("--insecure", is_flag=True, help="Allow ws:// and http:// to other machines."),
)


_ARGUMENTS: Final = (
    "client_id",
    "client_secret_env",
    "client_secret_file",
    "connection_id",
    "issuer",
    "private_key_file",
    "provider",
    "refresh_store",
    "token_env",
    "token_file",
    "token_url",
)

FLAGS: Final = {
    **{name: f"--{name.replace('_', '-')}" for name in _ARGUMENTS},
    "endpoint_url": "URL",
    "allow_insecure_transport=True": "--insecure",
    "base_url": "--gateway",
}
"""What the command calls arguments of the library."""


class Misuse(Exception):
    """An argument was wrong."""


@contextlib.contextmanager
def misuse_if(is_so: bool) -> Generator[None, None, None]:
    """Call what arguments are refused with a misuse, if nothing has been done yet.

    Raises:
        Misuse: In place of a `ValueError` or `TypeError`, if that is so.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if not is_so:
            raise
        raise Misuse(str(error)) from error


def source(tokens: Tokens) -> TokenProvider | TokenSource:
    """Return the one source that the command line means.

    Raises:
        click.UsageError: If `--connection-id` is missing.
        ValueError: If it means none or several, or an option has a value that can't work.
        TypeError: If what `--provider` names is no source.
        Raised: If it raises as it is imported or made.
    """
    found = config_source(tokens.settings)
    if tokens.settings.gateway is not None and not tokens.connection_id:
        raise click.UsageError("--gateway needs --connection-id")
    return found
