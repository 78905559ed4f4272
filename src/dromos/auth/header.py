"""A credential in a header of its own."""

from dromos.auth._values import add_header, credential, setting
from dromos.model import Handshake, Token

__all__ = ["header"]


def header(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present one credential in one header.

    Settings: `header_name` (default `Authorization`), `credential_field`
    (default `api_key`), and `value_prefix` (default none), which is put before
    the value as it is, with its own space.

    Raises:
        PermanentError: If the credential is missing or empty, or the header may not be set.
    """
    name = setting(token, "header_name", "Authorization")
    field = setting(token, "credential_field", "api_key")
    return add_header(
        handshake,
        name,
        setting(token, "value_prefix") + credential(token, field),
        strategy="header",
    )
