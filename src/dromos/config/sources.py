"""The source of tokens that settings mean, and other objects that they name."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from dromos import oauth
from dromos._proof import SigningKey
from dromos.config.errors import Raised
from dromos.config.settings import TokenSettings
from dromos.interfaces import TokenProvider, TokenSource

__all__ = ["SOURCES", "WHICH", "load", "made", "source"]

WHICH: Final = ("gateway", "token_env", "token_file", "issuer", "token_url", "provider")
"""The settings of which one says where tokens come from."""

SOURCES: Final = "a gateway, token_env, token_file, issuer or token_url with client_id, or provider"


def source(
    settings: TokenSettings, *, environ: Mapping[str, str] | None = None
) -> TokenProvider | TokenSource:
    """Return the one source of tokens that settings mean.

    Args:
        settings: What says so.
        environ: Where variables are looked up.  None (default): the process's own.

    Raises:
        ValueError: If they mean none or several, or one of them can't work.
        TypeError: If what `provider` names is no source.
        Raised: If it raises as it is imported or made.
    """
    server = settings.issuer or settings.token_url
    given = [settings.gateway, settings.token_env, settings.token_file, server, settings.provider]
    if sum(one is not None for one in given) != 1:
        raise ValueError(f"say once where tokens come from: {SOURCES}")
    if settings.gateway is not None:
        insecure = settings.allow_insecure_transport
        return oauth.OAuthClient(settings.gateway, allow_insecure_transport=insecure)
    if settings.token_env is not None:
        with _called("token_env", argument="name"):
            return oauth.EnvToken(settings.token_env)
    if settings.token_file is not None:
        with _called("token_file", argument="path"):
            return oauth.FileToken(settings.token_file)
    if settings.provider is not None:
        return _provider(settings.provider)
    return _of_server(settings, os.environ if environ is None else environ)


@contextlib.contextmanager
def _called(option: str, *, argument: str) -> Generator[None, None, None]:
    """Say of what is refused what the option is called, and not the argument.

    Raises:
        ValueError: In place of the refusal.
    """
    try:
        yield
    except ValueError as error:
        problem = str(error)
        if problem.startswith(f"{argument} "):
            problem = f"{option}{problem.removeprefix(argument)}"
        raise ValueError(problem) from error


def load(name: str, what: str) -> Any:
    """Return the object that `"module:name"` names; modules of the current folder are found.

    Raises:
        ValueError: If it is no such name, or there is no such object.
        Raised: If its module raises, be it that something else can't be imported there.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute) or module.startswith("."):
        raise ValueError(f"{what} must be MODULE:NAME")
    sys.path.insert(0, "")  # as `python -m` has it
    try:
        found = _imported(module, name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"{what} {name} can't be imported: {error}{_meant(name)}") from error
    finally:
        sys.path.remove("")
    return found


def _meant(name: str) -> str:
    """Return a question after the module that somebody meant who named its file, or nothing."""
    module, _, attribute = name.partition(":")
    if not module.endswith(".py"):
        return ""
    return f"; did you mean {module.removesuffix('.py').replace('/', '.')}:{attribute}?"


def made(name: str, make: Callable[[], Any]) -> Any:
    """Return what a class or a function of the user's makes.

    Raises:
        Raised: If it raises.
    """
    try:
        return make()
    except Exception as error:
        raise Raised(name, error) from error


def _imported(module: str, name: str) -> Any:
    """Return a module.

    Raises:
        ModuleNotFoundError: If there is none of that name.
        Raised: If it raises itself.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise
        raise Raised(name, error) from error


def _provider(name: str) -> TokenProvider | TokenSource:
    found = load(name, "provider")
    # A class or a function that takes nothing makes one.
    if callable(found) and (isinstance(found, type) or not hasattr(found, "get_token")):
        found = made(name, found)
    if not callable(getattr(found, "get_token", None)):
        raise TypeError(f"provider {name} has no get_token")
    return cast("TokenProvider | TokenSource", found)


def _of_server(settings: TokenSettings, environ: Mapping[str, str]) -> TokenProvider | TokenSource:
    if not settings.client_id:
        raise ValueError("issuer and token_url need client_id")
    options: oauth.ClientOptions = {
        "issuer": settings.issuer,
        "token_url": settings.token_url,
        "client_id": settings.client_id,
        "scope": settings.scope,
        "audience": settings.audience,
        "allow_insecure_transport": settings.allow_insecure_transport,
    }
    if settings.client_secret_env is not None:
        options["client_secret"] = _variable(settings.client_secret_env, environ)
    elif settings.client_secret_file is not None:
        options["client_secret"] = _file("client_secret_file", settings.client_secret_file)
    if settings.private_key_file is not None:
        options["private_key"] = _key_file(settings.private_key_file)
    if settings.refresh_store is not None:
        with _called("refresh_store", argument="path"):
            store = oauth.FileStore(settings.refresh_store)
        return oauth.RefreshToken(store=store, **options)
    return oauth.ClientCredentials(**options)


def _variable(name: str, environ: Mapping[str, str]) -> oauth.Secret:
    value = environ.get(name)
    if not value:
        raise ValueError(f"the environment has no {name}, or it is empty")
    return oauth.Secret(value)


def _key_file(path: str) -> Callable[[], oauth.Secret]:
    """Return what reads a private key, tried out: one that can't sign does not begin to."""
    read = _file("private_key_file", path)
    try:
        SigningKey(read().reveal())
    except (ValueError, ImportError) as error:
        problem = str(error)
    else:
        return read
    # Out here, so that no traceback leads through what was read.
    raise ValueError(f"private_key_file can't be used: {problem}")


def _file(option: str, path: str) -> Callable[[], oauth.Secret]:
    def read() -> oauth.Secret:
        return oauth.Secret(Path(path).read_text(encoding="utf-8"))

    try:
        read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    else:
        return read  # read anew for each request: it may be replaced
    raise ValueError(f"{option} can't be read: {reason}")
