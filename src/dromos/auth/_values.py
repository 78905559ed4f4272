"""Reading a strategy's settings and credentials, without ever showing one.

Every message names a field only.  Source of the rules: `strategies.go` of the
Go library; a setting of the wrong type or an empty one counts as absent.
"""

import re
from typing import Final

from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["add_header", "credential", "setting"]


_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", re.ASCII)
_FIELD_VALUE: Final = re.compile(r"[\x20-\x7e\t]*", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The protocol's own: one of these from the gateway's configuration could turn
# the request into another one, or another host's.
_RESERVED: Final = frozenset(
    {"host", "connection", "upgrade", "content-length", "transfer-encoding"}
)


def setting(token: Token, key: str, default: str = "") -> str:
    """Return a setting of the token's strategy, or the default where there is none."""
    value = token.strategy.config.get(key)
    return value if isinstance(value, str) and value else default


def credential(token: Token, name: str, *, role: str = "") -> str:
    """Return a credential in the clear.

    Args:
        token: Holds it.
        name: Its field.
        role: What it is for, for messages, where the field's name does not say it.

    Raises:
        PermanentError: If it is missing, empty, not a string, or holds control characters.
    """
    value = token.credentials.get(name)
    problem = None
    if value is None:
        problem = "is missing"
    elif not isinstance(value, str) or not value:
        problem = "is empty or not a string"
    elif _CONTROL.search(value):
        # A newline at the end of a secret file is the commonest mistake there is.
        problem = "holds a line break or another control character"
    if problem is None and isinstance(value, str):
        return value
    del value
    raise PermanentError(f"credential field {name!a}{f' ({role})' if role else ''} {problem}")


def add_header(handshake: Handshake, name: str, value: str, *, strategy: str) -> Handshake:
    """Return a handshake with a header, in place of any of the same name.

    Raises:
        PermanentError: If the name is the protocol's own, or name or value are illegal.
    """
    problem = None
    if not _FIELD_NAME.fullmatch(name):
        problem = "is not an HTTP field name"
    elif name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
        problem = "belongs to the protocol"
    elif not _FIELD_VALUE.fullmatch(value):
        problem = "would get a value with characters that no header may hold"
    if problem is None:
        return handshake.with_header(name, value)
    del value
    raise PermanentError(f"{strategy} auth strategy: header {name[:64]!a} {problem}")
