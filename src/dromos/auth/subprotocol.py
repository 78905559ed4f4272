"""A credential among the offered subprotocols: what browsers are left with."""

import base64
from collections.abc import Iterable
from typing import Final, cast

from dromos.auth._values import TOKEN, credential, setting, shown
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["subprotocol"]

_ENCODINGS: Final = frozenset({"none", "base64url"})


def subprotocol(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Offer one credential in `Sec-WebSocket-Protocol`, after a marker that a server can choose.

    A server must choose one of what is offered, or none (RFC 6455, 4.2.2), and
    should not choose the credential: it would send it back.

    Settings: `credential_field` (default `access_token`); `protocol` (default
    `bearer`), the marker, or a list of several, or `""` for none; `value_prefix`
    (default none), such as `base64url.bearer.authorization.k8s.io.` for
    Kubernetes, put before the value as it is; `encoding` (`none`, the default,
    or `base64url` without padding).

    Raises:
        PermanentError: If the credential is missing or empty, or what would be offered
            is not a token (RFC 6455, 4.1).
    """
    markers = _markers(token)
    if not all(TOKEN.fullmatch(marker) for marker in markers):
        raise PermanentError("config 'protocol' holds what is not a token (RFC 6455, 4.1)")
    offered = setting(token, "value_prefix") + _encoded(token)
    if TOKEN.fullmatch(offered):
        return handshake.with_subprotocols(*markers, offered)
    del offered
    raise PermanentError(
        "subprotocol auth strategy: the prefix and the credential hold characters that no "
        "subprotocol may hold; does the far side want the encoding 'base64url'?"
    )


def _markers(token: Token) -> tuple[str, ...]:
    given: object = token.strategy.config.get("protocol")
    if isinstance(given, str):
        return (given,) if given else ()
    if isinstance(given, list | tuple):
        several = tuple(cast("Iterable[object]", given))
        if all(isinstance(one, str) for one in several):
            return cast("tuple[str, ...]", several)
    return ("bearer",)


def _encoded(token: Token) -> str:
    field = setting(token, "credential_field", "access_token")
    encoding = setting(token, "encoding", "none")
    if encoding not in _ENCODINGS:
        raise PermanentError(f"unsupported encoding: {shown(encoding)}")
    value = credential(token, field)
    if encoding == "none":
        return value
    return base64.urlsafe_b64encode(value.encode()).decode("ascii").rstrip("=")
