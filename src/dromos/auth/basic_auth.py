"""A user name and a password, as RFC 7617 has it."""

import base64

from dromos.auth._values import add_header, credential, setting
from dromos.model import Handshake, Token

__all__ = ["basic_auth"]


def basic_auth(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present a user name and a password in `Authorization: Basic`, in UTF-8.

    Settings: `username_field` (default `username`) and `password_field`
    (default `password`).

    Raises:
        PermanentError: If one of the two is missing or empty; an empty password is an error.
    """
    return add_header(handshake, "Authorization", f"Basic {_pair(token)}", strategy="basic_auth")


def _pair(token: Token) -> str:
    user = credential(token, setting(token, "username_field", "username"), role="username")
    password = credential(token, setting(token, "password_field", "password"), role="password")
    return base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
