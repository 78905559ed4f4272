"""Reading a strategy's settings and credentials, without ever showing one.

Every message names a field only.  Source of the rules: `strategies.go` of the
Go library; a setting of the wrong type or an empty one counts as absent.
"""

import re
from typing import Final

from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = [
    "CONTROL",
    "TOKEN",
    "add_header",
    "credential",
    "header_problem",
    "is_header_name",
    "setting",
    "shown",
    "switch",
]

TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""RFC 9110, 5.6.2: what the name of a header, a cookie or a subprotocol is made of."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no header, URL or message of ours may hold."""

_FIELD_VALUE: Final = re.compile(r"[\x20-\x7e\t]*", re.ASCII)
# The protocol's own: one of these from the gateway's configuration could turn
# the request into another one, or another host's.
_RESERVED: Final = frozenset(
    {"host", "connection", "upgrade", "content-length", "transfer-encoding"}
)
_LONGEST_NAME: Final = 256
_LONGEST: Final = 16384  # as for a bearer token in the gateway's answer; servers take less


def setting(token: Token, key: str, default: str = "") -> str:
    """Return a setting of the token's strategy, or the default where there is none."""
    value = token.strategy.config.get(key)
    return value if isinstance(value, str) and value else default


def switch(token: Token, key: str, *, default: bool) -> bool:
    """Return a setting that is true or false, or the default where there is none."""
    value = token.strategy.config.get(key)
    return value if isinstance(value, bool) else default


def shown(setting: str) -> str:
    """Return a setting's value, or a strategy's name, as a message may show it."""
    start = setting[:64]
    return start if start.isascii() and start.isprintable() else ascii(start)


def credential(token: Token, name: str, *, role: str = "") -> str:
    """Return a credential in the clear.

    Args:
        token: Holds it.
        name: Its field.
        role: What it is for, for messages, where the field's name does not say it.

    Raises:
        PermanentError: If it is missing, empty, not a string, over 16 KiB, or holds
            control characters.
    """
    value = token.credentials.get(name)
    problem = None
    if value is None:
        problem = "is missing"
    elif not isinstance(value, str) or not value:
        problem = "is empty or not a string"
    elif len(value) > _LONGEST:
        problem = f"is longer than {_LONGEST} characters"
    elif CONTROL.search(value):
        # A newline at the end of a secret file is the commonest mistake there is.
        problem = "holds a line break or another control character"
    if problem is None and isinstance(value, str):
        return value
    del value
    raise PermanentError(f"credential field {name[:64]!a}{f' ({role})' if role else ''} {problem}")


def is_header_name(name: str) -> bool:
    """Whether a header can have this name at all."""
    return len(name) <= _LONGEST_NAME and bool(TOKEN.fullmatch(name))


def header_problem(name: str, value: str) -> str | None:
    """Say why a strategy may not set a header; None if it may."""
    if not is_header_name(name):
        return "is not an HTTP field name"
    if name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
        return "belongs to the protocol"
    if not _FIELD_VALUE.fullmatch(value):
        return "would get a value with characters that no header may hold"
    return None


def add_header(handshake: Handshake, name: str, value: str, *, strategy: str) -> Handshake:
    """Return a handshake with a header, in place of any of the same name.

    Raises:
        PermanentError: If the name is the protocol's own, or name or value are illegal.
    """
    problem = header_problem(name, value)
    if problem is None:
        return handshake.with_header(name, value)
    del value
    raise PermanentError(f"{strategy} auth strategy: header {name[:64]!a} {problem}")
