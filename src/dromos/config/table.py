"""Every option there is: where it is written, and what may be written there.

What an option means, and what it is by default, is said once: in the docstring and the
signature of the class that takes it.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dromos.bridge import Bridge
from dromos.config.settings import (
    WORDS,
    ConnectionSettings,
    DialerSettings,
    ServiceSettings,
    TokenSettings,
)
from dromos.config.values import (
    COUNT,
    DURATION,
    FLAG,
    HEADERS,
    JITTER,
    PORT,
    SECRET_TEXT,
    SIZE,
    TEXT,
    TEXTS,
    Kind,
    choice,
    optional,
)
from dromos.model import Outbox, RetryPolicy, Verdict

__all__ = ["CONNECTION", "PER_CONNECTION", "SECTIONS", "VERDICTS", "Option", "Section"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Section:
    """A table of the file, and the class that takes what is in it.

    Attributes:
        name: The table's name.
        takes: The class.
        prefix: What its variables begin with, after that of all of them.
        kinds: What may be written, by option.
        only_in_files: Options that have no variable.
    """

    name: str
    takes: type[Any]
    prefix: str
    kinds: Mapping[str, Kind]
    only_in_files: frozenset[str] = frozenset()

    def options(self) -> "Iterator[Option]":
        """Yield its options."""
        for name, kind in self.kinds.items():
            yield Option(section=self, name=name, kind=kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        section: The table it is in.
        name: Its name there.
        kind: What may be written.
    """

    section: Section
    name: str
    kind: Kind

    @property
    def key(self) -> str:
        """Its full name, such as `"bridge.ping_interval"`."""
        return f"{self.section.name}.{self.name}"

    @property
    def is_required(self) -> bool:
        """Whether somebody has to say it."""
        return self._parameter.default is inspect.Parameter.empty

    @property
    def default(self) -> Any:
        """What it is if nobody says anything."""
        # Of what is made anew for each, a signature shows nothing.
        return {} if self.kind is HEADERS else self._parameter.default

    @property
    def _parameter(self) -> inspect.Parameter:
        return inspect.signature(self.section.takes).parameters[self.name]

    @property
    def text(self) -> str:
        """What it means; empty where Python runs without docstrings."""
        return _entries(self.section.takes).get(self.name, "")

    def variable(self, prefix: str) -> str | None:
        """Return the name of its variable, or None if it has none."""
        if self.name in self.section.only_in_files:
            return None
        return f"{prefix}{self.section.prefix}{self.name}".upper()


_BRIDGE: Final = {
    "refresh_buffer": DURATION,
    "renewal": choice("handover", "keep"),
    "initial_token": choice("fail", "retry"),
    "max_link_age": optional(DURATION),
    "ping_interval": optional(DURATION),
    "ping_timeout": DURATION,
    "write_timeout": DURATION,
    "close_timeout": DURATION,
    "connect_timeout": DURATION,
    "message_size_limit": SIZE,
    "fragment_limit": COUNT,
    "send_size_limit": optional(SIZE),
    "send_buffer_limit": SIZE,
    "max_concurrent_dials": COUNT,
    "handler_errors": choice("log", "raise"),
    "allow_insecure_transport": FLAG,
}

PER_CONNECTION: Final = {
    name: kind for name, kind in _BRIDGE.items() if name != "max_concurrent_dials"
}
"""What a connection may have as well, for its own session.  There it goes before the bridge's
option, whoever said that: the file, a variable or the program."""

VERDICTS: Final = {verdict.name.lower(): verdict for verdict in Verdict}
"""What the table `[verdicts]` may say of a close code or an HTTP status."""

_RETRY: Final = {
    "min_backoff": DURATION,
    "max_backoff": DURATION,
    "jitter": JITTER,
    "stable_after": DURATION,
    "max_attempts": optional(COUNT),
    "max_elapsed": optional(DURATION),
}

_OUTBOX: Final = {
    "max_messages": COUNT,
    "max_bytes": SIZE,
    "ttl": optional(DURATION),
    "when_full": choice("error", "drop_oldest", "wait"),
    "resend_unknown": FLAG,
}

_TOKENS: Final = {
    **dict.fromkeys(
        (
            "gateway",
            "token_env",
            "token_file",
            "issuer",
            "token_url",
            "client_id",
            "client_secret_env",
            "client_secret_file",
            "private_key_file",
            "refresh_store",
        ),
        TEXT,
    ),
    "scope": TEXTS,
    "audience": TEXTS,
    "provider": TEXT,
    "allow_insecure_transport": FLAG,
}

_DIALER: Final = {
    "engine": choice(*WORDS["engine"]),
    "ca_file": TEXT,
    "proxy": SECRET_TEXT,
    "headers": HEADERS,
    "subprotocols": TEXTS,
    "origin": TEXT,
    "user_agent": TEXT,
    "open_timeout": DURATION,
    "happy_eyeballs_delay": DURATION,
}

_SERVICE: Final = {
    "health_port": optional(PORT),
    "health_host": TEXT,
    "drain_timeout": DURATION,
    "log_format": choice(*WORDS["log_format"]),
    "log_level": choice(*WORDS["log_level"]),
    "loop": choice(*WORDS["loop"]),
    "record": optional(TEXT),
    "time_handlers": FLAG,
}

SECTIONS: Final = (
    Section(name="tokens", takes=TokenSettings, prefix="", kinds=_TOKENS),
    Section(name="bridge", takes=Bridge, prefix="", kinds=_BRIDGE),
    Section(name="retry", takes=RetryPolicy, prefix="RETRY_", kinds=_RETRY),
    Section(name="outbox", takes=Outbox, prefix="OUTBOX_", kinds=_OUTBOX),
    Section(
        name="dialer",
        takes=DialerSettings,
        prefix="DIALER_",
        kinds=_DIALER,
        only_in_files=frozenset({"headers"}),
    ),
    Section(name="service", takes=ServiceSettings, prefix="", kinds=_SERVICE),
)
"""The tables with options, in the order in which people want to read of them."""

CONNECTION: Final = Section(
    name="connections",
    takes=ConnectionSettings,
    prefix="CONNECTION_",
    kinds={"id": TEXT, "url": TEXT, "handler": TEXT},
)
"""One of the connections.  The variables speak of a single one."""


def _entries(takes: type[Any]) -> dict[str, str]:
    """Return what a class's docstrings say of its arguments, on one line each."""
    texts: dict[str, str] = {}
    for documented in (takes, takes.__init__):
        texts |= _arguments(inspect.getdoc(documented) or "")
    return texts


def _arguments(docstring: str) -> dict[str, str]:
    """Return the entries below `Args:` or `Attributes:` of a docstring in Google's style."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in docstring.splitlines():
        if re.fullmatch(r"\S.*", line):
            inside = line in ("Args:", "Attributes:")
        elif inside and (entry := re.fullmatch(r"    (\w+): (.*)", line)):
            name = entry[1]
            found[name] = entry[2]
        elif inside and line.strip():
            found[name] += f" {line.strip()}"
    return found
