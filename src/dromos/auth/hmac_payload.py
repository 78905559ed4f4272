"""An HMAC over the request's body, which in an upgrade request is empty."""

import base64
import hmac
from typing import Final

from dromos.auth._values import add_header, credential, setting, shown
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["hmac_payload", "signature"]

_ALGORITHMS: Final = frozenset({"sha256", "sha1"})
_ENCODINGS: Final = frozenset({"hex", "base64"})


def hmac_payload(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present an HMAC of the empty body in one header, as the Go library does.

    It is the same for every request: it proves the secret, and can be replayed.

    Settings: `header_name` (required), `secret_field` (default `api_secret`),
    `algo` (`sha256`, the default, or `sha1`) and `encoding` (`hex` in lower
    case, the default, or `base64` with padding).

    Raises:
        PermanentError: If the secret is missing or empty, or a setting is missing or unknown.
    """
    name = setting(token, "header_name")
    if not name:
        raise PermanentError("config 'header_name' is required for hmac_payload strategy")
    return add_header(handshake, name, _signature(token), strategy="hmac_payload")


def _signature(token: Token) -> str:
    field = setting(token, "secret_field", "api_secret")
    algorithm = setting(token, "algo", "sha256")
    encoding = setting(token, "encoding", "hex")
    credential(token, field)
    if algorithm not in _ALGORITHMS:
        raise PermanentError(f"unsupported hmac algorithm: {shown(algorithm)}")
    if encoding not in _ENCODINGS:
        raise PermanentError(f"unsupported encoding: {shown(encoding)}")
    return signature(credential(token, field), b"", algorithm=algorithm, encoding=encoding)


def signature(secret: str, body: bytes, *, algorithm: str, encoding: str) -> str:
    """Return the HMAC of a body as text."""
    digest = hmac.digest(secret.encode(), body, algorithm)
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode("ascii")
