"""Several headers at once, each with credentials in its value."""

from collections.abc import Mapping
from typing import cast

from dromos.auth._template import pieces
from dromos.auth._values import add_header, credential
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["headers"]


def headers(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present credentials in several headers.

    Settings: `headers` (required), a map from a header's name to its value, in
    which `{field}` stands for a credential, and `{{` and `}}` for braces:
    `{"Authorization": "Bearer {access_token}", "X-Tenant": "{tenant}"}`.

    Raises:
        PermanentError: If `headers` is missing or can't be read, a credential is
            missing or empty, or a header may not be set.
    """
    given: object = token.strategy.config.get("headers")
    if not isinstance(given, Mapping) or not given:
        raise PermanentError("config 'headers' is required for headers strategy")
    for name, template in cast("Mapping[object, object]", given).items():
        if not isinstance(name, str):
            raise PermanentError("config 'headers' has a name that is not a string")
        if not isinstance(template, str) or not template:
            # Left out without a word, it would be missed only at the far side.
            raise PermanentError(f"config 'headers' has no text for header {name[:64]!a}")
        value = _filled(token, template, name)
        handshake = add_header(handshake, name, value, strategy="headers")
    return handshake


def _filled(token: Token, template: str, name: str) -> str:
    where = f"config 'headers', header {name[:64]!a},"
    return "".join(
        text + ("" if field is None else credential(token, field))
        for text, field in pieces(template, setting=where)
    )
