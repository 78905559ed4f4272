"""A credential in a header of its own."""

from dromos.auth._values import add_header, credential, setting
from dromos.model import Handshake, Token

__all__ = ["header", "in_header"]


def header(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present one credential in one header.

    Settings: `header_name` (default `Authorization`), `credential_field`
    (default `api_key`), and `value_prefix` (default none), which is put before
    the value as it is, with its own space.

    Raises:
        PermanentError: If the credential is missing or empty, or the header may not be set.
    """
    return in_header(handshake, token, default="Authorization", strategy="header")


def in_header(handshake: Handshake, token: Token, *, default: str, strategy: str) -> Handshake:
    """Return a handshake with the credential in the header that the settings name.

    Args:
        handshake: What would be sent without it.
        token: Holds the credential and the settings.
        default: The header, where no setting names it.
        strategy: What to call the strategy in messages.
    """
    name = setting(token, "header_name", default)
    field = setting(token, "credential_field", "api_key")
    return add_header(
        handshake,
        name,
        setting(token, "value_prefix") + credential(token, field),
        strategy=strategy,
    )
