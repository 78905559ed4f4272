"""A bearer token, as RFC 6750 has it."""

from dromos.auth._values import add_header, credential
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["oauth2"]


def oauth2(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present `access_token` in `Authorization: Bearer`; no setting changes that.

    Raises:
        PermanentError: If the credential is missing, empty, or no bearer token can look like it.
    """
    # RFC 6750, 2.1, read generously: visible ASCII, and above all no space.
    if " " in credential(token, "access_token"):
        raise PermanentError("credential field 'access_token' holds a space")
    return add_header(
        handshake,
        "Authorization",
        f"Bearer {credential(token, 'access_token')}",
        strategy="oauth2",
    )
