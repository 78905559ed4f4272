"""Where the tokens of a command come from: the options that say so, and the source they mean."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from dromos import oauth
from dromos.interfaces import TokenProvider, TokenSource

__all__ = ["Misuse", "Tokens", "misuse_if", "source", "token_options"]

F = TypeVar("F", bound=Callable[..., Any])

_KINDS = (
    "--gateway with --connection-id, --token-env, --token-file, "
    "--issuer or --token-url with --client-id, or --provider"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the command line says of tokens."""

    connection_id: str | None = None
    gateway: str | None = None
    token_env: str | None = None
    token_file: str | None = None
    issuer: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    client_secret_env: str | None = None
    client_secret_file: str | None = None
    private_key_file: str | None = None
    refresh_store: str | None = None
    scope: Sequence[str] = ()
    audience: Sequence[str] = ()
    provider: str | None = None
    insecure: bool = False

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Tokens":
        """Take the options of `token_options` out of a command's."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})


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


class Misuse(Exception):
    """An argument was wrong."""


@contextlib.contextmanager
def misuse_if(is_so: bool) -> Generator[None, None, None]:
    """Call what arguments are refused with a misuse, if nothing has been done yet."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if not is_so:
            raise
        raise Misuse(str(error)) from error


def source(tokens: Tokens) -> TokenProvider | TokenSource:
    """Return the one source that the command line means.

    Raises:
        click.UsageError: If it means none or several, or lacks what that one needs.
        ValueError: If an option has a value that can't work.
        TypeError: If what `--provider` names is no source.
    """
    server = tokens.issuer or tokens.token_url
    given = [tokens.gateway, tokens.token_env, tokens.token_file, server, tokens.provider]
    if sum(one is not None for one in given) != 1:
        raise click.UsageError(f"say once where tokens come from: {_KINDS}")
    if tokens.gateway is not None:
        if not tokens.connection_id:
            raise click.UsageError("--gateway needs --connection-id")
        return oauth.OAuthClient(tokens.gateway, allow_insecure_transport=tokens.insecure)
    if tokens.token_env is not None:
        return oauth.EnvToken(tokens.token_env)
    if tokens.token_file is not None:
        return oauth.FileToken(tokens.token_file)
    if tokens.provider is not None:
        return _named(tokens.provider)
    return _of_server(tokens)


def _of_server(tokens: Tokens) -> TokenProvider | TokenSource:
    if not tokens.client_id:
        raise click.UsageError("--issuer and --token-url need --client-id")
    options: oauth.ClientOptions = {
        "issuer": tokens.issuer,
        "token_url": tokens.token_url,
        "client_id": tokens.client_id,
        "scope": tokens.scope,
        "audience": tokens.audience,
        "allow_insecure_transport": tokens.insecure,
    }
    if tokens.client_secret_env is not None:
        options["client_secret"] = _variable(tokens.client_secret_env)
    elif tokens.client_secret_file is not None:
        options["client_secret"] = _file("--client-secret-file", tokens.client_secret_file)
    if tokens.private_key_file is not None:
        options["private_key"] = _file("--private-key-file", tokens.private_key_file)
    if tokens.refresh_store is not None:
        return oauth.RefreshToken(store=oauth.FileStore(tokens.refresh_store), **options)
    return oauth.ClientCredentials(**options)


def _variable(name: str) -> oauth.Secret:
    value = os.environ.get(name)
    if not value:
        raise click.UsageError(f"the environment has no {name}, or it is empty")
    return oauth.Secret(value)


def _file(option: str, path: str) -> Callable[[], oauth.Secret]:
    def read() -> oauth.Secret:
        return oauth.Secret(Path(path).read_text(encoding="utf-8"))

    try:
        read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    else:
        return read  # read anew for each request: it may be replaced
    raise click.UsageError(f"{option} can't be read: {reason}")


def _named(name: str) -> TokenProvider | TokenSource:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise click.UsageError("--provider is MODULE:NAME")
    sys.path.insert(0, "")  # as `python -m` has it
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"--provider {name} can't be imported: {error}") from error
    finally:
        sys.path.remove("")
    # A class or a function that takes nothing makes one.
    if callable(found) and (isinstance(found, type) or not hasattr(found, "get_token")):
        found = found()
    if not callable(getattr(found, "get_token", None)):
        raise TypeError(f"--provider {name} has no get_token")
    return cast("TokenProvider | TokenSource", found)
