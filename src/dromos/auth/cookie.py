"""A credential in a cookie."""

import re
from typing import Final

from dromos.auth._values import TOKEN, add_header, credential, setting
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["cookie"]

# RFC 6265, 4.1.1: printable ASCII without space, quote, comma, semicolon and backslash.
_VALUE: Final = re.compile(r"""(?P<quote>"?)[!#-+\--:<-\[\]-~]*(?P=quote)""", re.ASCII)


def cookie(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present one credential in a cookie, beside the cookies that are there.

    It replaces one of the same name.  A `Cookie` header that the dialer was
    given is replaced as a whole, as any header that a strategy sets.

    Settings: `cookie_name` (required) and `credential_field` (default `session`).

    Raises:
        PermanentError: If the credential is missing or empty, or `cookie_name` is
            missing, or no cookie can have this name or value.
    """
    name = setting(token, "cookie_name")
    if not name:
        raise PermanentError("config 'cookie_name' is required for cookie strategy")
    if not TOKEN.fullmatch(name):
        raise PermanentError("config 'cookie_name' holds characters that no cookie's name may have")
    field = setting(token, "credential_field", "session")
    if not _VALUE.fullmatch(credential(token, field)):
        raise PermanentError(
            f"credential field {field[:64]!a} holds characters that no cookie may hold (RFC 6265)"
        )
    pairs = (*_others(handshake, name), f"{name}={credential(token, field)}")
    return add_header(handshake, "Cookie", "; ".join(pairs), strategy="cookie")


def _others(handshake: Handshake, name: str) -> list[str]:
    """Return the cookies of another name, each as `name=value`."""
    present = [value for header, value in handshake.headers if header.lower() == "cookie"]
    pairs = [pair.strip() for value in present for pair in value.split(";")]
    return [pair for pair in pairs if pair and pair.partition("=")[0] != name]
