"""`Config`: all that can be said of a bridge and its service outside of the program."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from dromos.bridge import Bridge
from dromos.config import sources
from dromos.config.assembly import Assembly
from dromos.config.connections import connections
from dromos.config.dialer import make_dialer
from dromos.config.errors import ConfigError
from dromos.config.reading import Document, read_file, variables
from dromos.config.settings import (
    ConnectionSettings,
    DialerSettings,
    ServiceSettings,
    TokenSettings,
)
from dromos.interfaces import Dialer, TokenProvider, TokenSource

__all__ = ["PREFIX", "Config"]

PREFIX: Final = "DROMOS_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a file, the environment and the program say; the program goes first, the file last.

    Only what a connection says of its own session goes before all three.

        config = Config.from_toml("dromos.toml")
        bridge = config.bridge()

    `dromos config` lists every option with its variable, unit and default.

    Attributes:
        tokens: Where tokens come from.
        service: How the bridge is run: health port, drain, logs, event loop.
        dialer: What opens links.
        connections: What to keep alive.  Default: nothing.
        options: Arguments for `Bridge`.  Default: none.
    """

    tokens: TokenSettings = field(default_factory=TokenSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    dialer: DialerSettings = field(default_factory=DialerSettings)
    connections: tuple[ConnectionSettings, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    # No argument: what the program says in its place is not blamed on the file.
    _read_from: Assembly | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def from_toml(
        cls,
        path: str | os.PathLike[str],
        *,
        prefix: str = PREFIX,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Return what a file says, and the environment where it says otherwise.

        Args:
            path: A file in TOML.
            prefix: What variables begin with.  Default `"DROMOS_"`.
            environ: The variables.  None (default): those of the process.

        Raises:
            ConfigError: If the file can't be read, a key is unknown, or a value can't work;
                it names the file or the variable, and the line where that can be found.
        """
        return cls._from(read_file(Path(path)), prefix, environ)

    @classmethod
    def from_env(cls, prefix: str = PREFIX, *, environ: Mapping[str, str] | None = None) -> Self:
        """Return what the environment says.

        Variables that are unlike any that is known are left alone.

        Args:
            prefix: What variables begin with.  Default `"DROMOS_"`.
            environ: The variables.  None (default): those of the process.

        Raises:
            ConfigError: If a variable can't be read or can't work, or is nearly a known one.
        """
        return cls._from(Document("", ""), prefix, environ)

    @classmethod
    def _from(cls, document: Document, prefix: str, environ: Mapping[str, str] | None) -> Self:
        said = list(variables(prefix, os.environ if environ is None else environ))
        assembly = Assembly(document, said)
        assembly.refuse_unknown_tables()
        options = assembly.bridge_options()
        made = cls(
            tokens=assembly.make("tokens", TokenSettings),
            service=assembly.make("service", ServiceSettings),
            dialer=assembly.make("dialer", DialerSettings),
            connections=connections(document, said, options),
            options=options,
        )
        return made._known_from(assembly)

    def with_service(self, **settings: Any) -> Self:
        """Return a copy in which the program has said these settings of the service itself.

        Raises:
            TypeError: If one has the wrong type, or there is no such setting.
            ValueError: If one has a value that can't work.
        """
        made = replace(self, service=replace(self.service, **settings))
        return made._known_from(self._read_from)

    def source(self) -> TokenProvider | TokenSource:
        """Return the source of tokens; whoever calls this closes it.

        Raises:
            ConfigError: If none is said, or several, or it can't work.
            BridgeError: If a `provider` raises as it is imported or made; its cause is that.
        """
        try:
            return sources.source(self.tokens)
        except (ValueError, TypeError) as error:
            said = str(error).replace("base_url", "gateway")  # what the option is called here
            raise self._refused(said, "tokens") from error

    def bridge(self, tokens: TokenProvider | TokenSource | None = None, **options: Any) -> Bridge:
        """Return a bridge with these options.

        Args:
            tokens: Where tokens come from.  None (default): `source()`.
            **options: Options of `Bridge`, which go before those that were read.

        Raises:
            ConfigError: If the dialer or the source of tokens can't work.
            BridgeError: If a `provider` raises as it is imported or made; its cause is that.
            TypeError: If an option has the wrong type, or there is none of that name.
            ValueError: If an option has a value that can't work.
        """
        if "dialer" not in options and self.dialer != DialerSettings():
            options["dialer"] = self._dialer()
        return Bridge(self.source() if tokens is None else tokens, **{**self.options, **options})

    def handler(self, connection: ConnectionSettings) -> Any:
        """Return the object that a connection names as its handler, or what makes one.

        Raises:
            ConfigError: If it names none, or there is no such object.
            BridgeError: If its module raises; its cause is that.
        """
        if connection.handler is None:
            raise ConfigError(f"connection {connection.id} has no handler", key="connections")
        try:
            return sources.load(connection.handler, "handler")
        except ValueError as error:
            raise ConfigError(str(error), key="connections.handler") from error

    def _dialer(self) -> Dialer:
        try:
            return make_dialer(self.dialer)
        except (ValueError, TypeError, ImportError) as error:
            raise self._refused(str(error), "dialer") from error

    def _known_from(self, assembly: Assembly | None) -> Self:
        object.__setattr__(self, "_read_from", assembly)
        return self

    def _refused(self, problem: str, section: str) -> ConfigError:
        """Return the error that says where that is written, if it was read from anywhere."""
        if self._read_from is None:
            return ConfigError(problem, key=section)
        return self._read_from.refused(problem, section)
