"""An API key in a header: the name that older documents give to `header`."""

from dromos.auth.header import in_header
from dromos.model import Handshake, Token

__all__ = ["api_key"]


def api_key(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present an API key, by default in `X-API-Key`.

    Settings: `header_name` (default `X-API-Key`), `credential_field` (default
    `api_key`) and `value_prefix` (default none), as for `header`.

    The Go library's documents call it an alias of `header`, and its code does
    not know it.  The default is the one that its broker gives to connections of
    this type; a key alone in `Authorization` would be no credentials (RFC 9110, 11.4).

    Raises:
        PermanentError: If the credential is missing or empty, or the header may not be set.
    """
    return in_header(handshake, token, default="X-API-Key", strategy="api_key")
