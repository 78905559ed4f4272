"""A credential in the query of the URL: the weakest strategy, since URLs are logged."""

import functools
import logging
import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from dromos.auth._target import target
from dromos.auth._values import credential, setting
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["query_param"]

_log: Final = logging.getLogger("dromos.auth")

_PLAIN_NAME: Final = re.compile(r"[^\x00-\x20\x7f-\x9f&=#?;+%\ud800-\udfff]{1,256}")


def query_param(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Add one credential to the query, which is re-encoded in the order of its keys.

    Settings: `param_name` (required) and `credential_field` (default `api_key`).

    The logger `dromos.auth` warns of it once for each far side: servers and proxies log
    URLs, and RFC 9700, 4.3.2 forbids it for access tokens.

    Raises:
        PermanentError: If the credential is missing or empty, or `param_name` is
            missing or would change the query's structure.
    """
    name = setting(token, "param_name")
    if not name:
        raise PermanentError("config 'param_name' is required for query auth strategy")
    if not _PLAIN_NAME.fullmatch(name):
        raise PermanentError("config 'param_name' holds characters that no parameter may have")
    field = setting(token, "credential_field", "api_key")
    _warn_of(target(handshake.url).netloc)
    return handshake.with_url(_added(handshake.url, name, credential(token, field)))


@functools.lru_cache(maxsize=1024)
def _warn_of(host: str) -> None:
    _log.warning("a credential goes to %s in the URL's query, where it may be logged", host)


def _added(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    # As Go's url.Values does it: added, not replaced; sorted; `k` becomes `k=`.
    # Bytes that are no UTF-8 come out as they went in.
    pairs = parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
    pairs.append((name, value))
    pairs.sort(key=lambda pair: pair[0])
    return urlunsplit(parts._replace(query=urlencode(pairs, errors="surrogateescape")))
