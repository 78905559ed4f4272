"""What a configuration says besides the options of `Bridge`, `RetryPolicy` and `Outbox`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from dromos._options import port_number
from dromos.model import Seconds, seconds

__all__ = ["WORDS", "ConnectionSettings", "DialerSettings", "ServiceSettings", "TokenSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """Where tokens come from.  Secrets are only referred to: by a variable, or by a file.

    Its `repr` shows no URL: one with a password is refused, but only by what it is given to.

    Attributes:
        gateway: Where the token gateway is, such as `"http://localhost:8081"`.  None
            (default): tokens don't come from one.
        token_env: The variable that holds the token.  None (default): none does.
        token_file: The file that holds the token; it is read anew when it changes.  None
            (default): none does.
        issuer: An authorization server, by its name (RFC 8414).  None (default): none.
        token_url: Its token endpoint, in place of `issuer`.  None (default): none.
        client_id: Who we are to it.  None (default): nobody.
        client_secret_env: The variable that holds our secret.  None (default): none does.
        client_secret_file: The file that holds our secret.  None (default): none does.
        private_key_file: The file that holds our private key, as PEM or JWK.  None
            (default): none does.
        refresh_store: The file that keeps a refresh token, which is then used.  None
            (default): none does.
        scope: What to ask for.  Default: what the server gives by itself.
        audience: Whom the token is for.  Default: not said.
        provider: Any source of tokens in Python, as `"module:name"`.  None (default): none.
        allow_insecure_transport: Whether `http://` may go to other machines.  Default False.
    """

    gateway: str | None = field(default=None, repr=False)
    token_env: str | None = None
    token_file: str | None = None
    issuer: str | None = field(default=None, repr=False)
    token_url: str | None = field(default=None, repr=False)
    client_id: str | None = None
    client_secret_env: str | None = None
    client_secret_file: str | None = None
    private_key_file: str | None = None
    refresh_store: str | None = None
    scope: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    provider: str | None = None
    allow_insecure_transport: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DialerSettings:
    """What opens links.

    Attributes:
        engine: `"picows"` (default), or `"websockets"`, which needs `dromos[websockets]`.
        ca_file: A file with the certificates to trust, as PEM, beside those of the system.
            None (default): those of the system alone.
        proxy: The URL of a forward proxy; one with a password is only referred to, as
            `{ env = "NAME" }` or `{ file = "PATH" }`.  None (default) connects directly.
        headers: Header fields to send with each upgrade request; those that are secret are
            only referred to, as `{ env = "NAME" }` or `{ file = "PATH" }`.  Default: none.
        subprotocols: To offer, in order of preference.  Default: none.
        origin: The `Origin` header.  None (default) sends none.
        user_agent: The `User-Agent` header.  None (default) is `dromos/VERSION`.
        open_timeout: Seconds for DNS, TCP, TLS, proxy and upgrade together.  Default 15.
        happy_eyeballs_delay: Seconds after which the next address is tried beside those
            before it (RFC 8305).  Default 0.25.

    Raises:
        ValueError: If there is no such engine; all else is refused by the dialer itself.
    """

    engine: Literal["picows", "websockets"] = "picows"
    ca_file: str | None = None
    proxy: object = field(default=None, repr=False)
    headers: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)
    subprotocols: tuple[str, ...] = ()
    origin: str | None = None
    user_agent: str | None = None
    open_timeout: Seconds = 15.0
    happy_eyeballs_delay: Seconds = 0.25

    def __post_init__(self) -> None:
        _check_word("engine", self.engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """How a bridge is run as a service.

    Attributes:
        health_port: The port of `/livez`, `/readyz`, `/metrics` and `/sessions`; 0 takes any
            that is free.  None (default) opens none.
        health_host: The address of that port.  Default `"127.0.0.1"`; Kubernetes probes
            need `"0.0.0.0"` or `"::"`.
        drain_timeout: Seconds from SIGTERM or SIGINT to the end, in which what was sent
            arrives.  Default 25: Kubernetes kills after 30.
        log_format: `"auto"` (default) is `"text"` on a terminal and `"json"` otherwise;
            `"none"` leaves logging to the program.
        log_level: The least that is logged: `"debug"`, `"info"` (default), `"warning"` or
            `"error"`.
        loop: `"auto"` (default) is `"uvloop"` where it is installed, and `"asyncio"` otherwise.
        record: A file to which everything that happens is added, as JSON lines that
            `dromos timeline` draws.  None (default) records nothing.
        time_handlers: Whether to measure how long each callback of the handlers takes, for
            `bridge_handler_duration_seconds`; it costs something for each message, and needs
            `dromos[prometheus]`.  Default False.

    Raises:
        TypeError: If a setting has the wrong type; the message names it.
        ValueError: If a setting has a value that can't work; the message names it.
    """

    health_port: int | None = None
    health_host: str = "127.0.0.1"
    drain_timeout: Seconds = 25.0
    log_format: Literal["auto", "text", "json", "none"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    record: str | None = None
    time_handlers: bool = False

    def __post_init__(self) -> None:
        if self.health_port is not None:
            port_number("health_port", self.health_port)
        if not isinstance(self.health_host, str) or not self.health_host:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("health_host must be an address, as a str")
        if self.record is not None and (not isinstance(self.record, str) or not self.record):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("record must be the path of a file, as a str, or None")
        if not isinstance(self.time_handlers, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("time_handlers must be True or False")
        drain = seconds("drain_timeout", self.drain_timeout, above=0)
        object.__setattr__(self, "drain_timeout", drain)
        for name in ("log_format", "log_level", "loop"):
            _check_word(name, getattr(self, name))


WORDS: Final = {
    "engine": ("picows", "websockets"),
    "log_format": ("auto", "text", "json", "none"),
    "log_level": ("debug", "info", "warning", "error"),
    "loop": ("auto", "asyncio", "uvloop"),
}
"""The words that an option may be."""


def _check_word(name: str, word: object) -> None:
    if word not in WORDS[name]:
        wanted = " or ".join(f'"{each}"' for each in WORDS[name])
        raise ValueError(f"{name} must be {wanted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """One connection to keep.

    Attributes:
        id: What the source of tokens knows it by.
        url: Where the far side is, `ws://` or `wss://`.
        handler: What to do with it, as `"module:name"`: an object, or what makes one.  None
            (default): what `dromos run` is given.
        options: Options of this session in place of the bridge's, whoever said those: the
            file, a variable or the program.  Default: none.
    """

    id: str
    url: str = field(repr=False)
    handler: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
