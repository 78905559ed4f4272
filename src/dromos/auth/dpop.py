"""A token that is bound to a key of ours, with a proof that we hold it: RFC 9449."""

import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from dromos._proof import ProofKey
from dromos.auth._target import target
from dromos.auth._values import add_header, credential, setting
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["dpop", "learn_nonce"]

_SCHEMES: Final = {
    "https": {"wss": "https", "ws": "http"},
    "wss": {"wss": "wss", "ws": "ws"},
}
_NONCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,1024}", re.ASCII)  # RFC 9449, 8.1
_MOST_ORIGINS: Final = 1024

_nonces: Final[OrderedDict[str, str]] = OrderedDict()
"""What each far side last wanted to find in a proof.  Not secret: it is worth nothing
without the key."""


def dpop(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present `access_token` in `Authorization: DPoP`, and a new proof in `DPoP`.

    The credential `dpop_key` is the private key, as a JWK in JSON; the OAuth sources
    put it there.  Setting: `htu_scheme`, `https` (default) or `wss`, for the URL in
    the proof: RFC 9449 speaks of HTTP URIs, and an upgrade is an HTTP request, but
    no standard says it of `wss:`.

    Raises:
        PermanentError: If a credential is missing, or the key can't be read.
    """
    access = credential(token, "access_token")
    if " " in access:
        del access
        raise PermanentError("credential field 'access_token' holds a space")
    proof = _key(token).proof(
        "GET",
        _as_http(handshake.url, setting(token, "htu_scheme", "https")),
        now=now,
        # Not from the core's chance: whoever could guess it could spoil it.
        identity=secrets.token_urlsafe(18),
        access_token=access,
        nonce=_nonces.get(_origin(handshake.url)),
    )
    presented = add_header(handshake, "Authorization", f"DPoP {access}", strategy="dpop")
    return add_header(presented, "DPoP", proof, strategy="dpop")


def learn_nonce(url: str, status: int | None, headers: Mapping[str, str]) -> bool:
    """Note what a far side wants to find in a proof; True if that is why it refused.

    Args:
        url: That was asked.
        status: Of the answer.
        headers: Of the answer.
    """
    nonce = headers.get("dpop-nonce", "")
    if not _NONCE.fullmatch(nonce):
        return False
    origin = _origin(url)
    is_new = _nonces.get(origin) != nonce
    _nonces[origin] = nonce
    _nonces.move_to_end(origin)
    while len(_nonces) > _MOST_ORIGINS:
        _nonces.popitem(last=False)
    return is_new and status == 401 and "use_dpop_nonce" in headers.get("www-authenticate", "")


def _key(token: Token) -> ProofKey:
    try:
        return ProofKey(credential(token, "dpop_key"))
    except ValueError:
        pass
    raise PermanentError("credential field 'dpop_key' is no private key as a JWK")


def _as_http(url: str, wanted: str) -> str:
    parts = target(url)
    scheme = _SCHEMES.get(wanted, _SCHEMES["https"]).get(parts.scheme, parts.scheme)
    return parts._replace(scheme=scheme).geturl()


def _origin(url: str) -> str:
    parts = target(url)
    return f"{parts.scheme}://{parts.netloc}"
