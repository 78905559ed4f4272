"""AWS Signature Version 4 of a GET without a body, as pure functions.

Source: AWS's "Create a signed AWS API request"; checked against botocore and
against what the Go library's signer makes.  Where those two differ, AWS's text
and botocore stand: dot segments and empty segments of a path are removed before
it is signed, and a query is sorted as it is spelled, not as it reads.
"""

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote

__all__ = ["Signer", "canonical_query", "is_s3", "signed_headers", "signed_query"]

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_EMPTY: Final = hashlib.sha256(b"").hexdigest()
# Whoever signs a URL for S3 does not know what will be sent with it.
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
# botocore's rules for endpoints turn double encoding off for these names, and no others.
_S3: Final = frozenset({"s3", "s3express", "s3-outposts", "s3-object-lambda"})
_OURS: Final = frozenset(
    f"x-amz-{name}"
    for name in ("algorithm", "credential", "date", "expires", "signedheaders", "signature")
) | {"x-amz-security-token"}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Signer:
    """Who signs, for what, and when.

    Attributes:
        access_key: Names the secret key.
        secret_key: What is signed with.
        session_token: Of temporary credentials; empty without.
        region: Such as `us-east-1`.
        service: Such as `execute-api`.
        single_encoding: True if the service, as S3 does, takes the path as it is sent; else
            it is normalized and encoded once more.
        now: Unix time.
    """

    access_key: str
    secret_key: str
    session_token: str
    region: str
    service: str
    single_encoding: bool
    now: float

    @property
    def stamp(self) -> str:
        """The time as it is signed."""
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.now))

    @property
    def scope(self) -> str:
        """What a signature is good for: one day, region and service."""
        return f"{self.stamp[:8]}/{self.region}/{self.service}/aws4_request"

    @property
    def credential(self) -> str:
        """Who signs what."""
        return f"{self.access_key}/{self.scope}"

    def signature(self, path: str, query: str, headers: Mapping[str, str], payload: str) -> str:
        """Return the signature of a request.

        Args:
            path: As it is sent, in ASCII.
            query: In canonical order.
            headers: To be signed: names in lower case, and sorted.
            payload: The body's hash, or what stands for it.
        """
        canonical = [
            "GET",
            path or "/" if self.single_encoding else _canonical_path(path),
            query,
            *(f"{name}:{value}" for name, value in headers.items()),
            "",
            ";".join(headers),
            payload,
        ]
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        text = f"{_ALGORITHM}\n{self.stamp}\n{self.scope}\n{digest}"
        return _mac(self._key(), text).hex()

    def _key(self) -> bytes:
        key = f"AWS4{self.secret_key}".encode()
        for step in self.scope.split("/"):
            key = _mac(key, step)
        return key


def is_s3(service: str) -> bool:
    """Whether a service is of the S3 family, which signs paths and bodies in its own way."""
    return service in _S3


def signed_headers(signer: Signer, *, host: str, path: str, query: str) -> dict[str, str]:
    """Return the headers that sign a request.

    Args:
        signer: Who signs.
        host: The `Host` header as it is sent.
        path: As it is sent, in ASCII.
        query: In canonical order.
    """
    headers = {"X-Amz-Content-Sha256": _EMPTY, "X-Amz-Date": signer.stamp}
    if signer.session_token:
        headers["X-Amz-Security-Token"] = signer.session_token
    signed = {"host": host} | {name.lower(): value for name, value in headers.items()}
    signature = signer.signature(path, query, signed, _EMPTY)
    headers["Authorization"] = (
        f"{_ALGORITHM} Credential={signer.credential}, "
        f"SignedHeaders={';'.join(signed)}, Signature={signature}"
    )
    return headers


def signed_query(
    signer: Signer, *, host: str, path: str, query: str, expires: int, signs_token: bool
) -> str:
    """Return a query that signs a request.

    Args:
        signer: Who signs.
        host: The `Host` header as it is sent.
        path: As it is sent, in ASCII.
        query: Without a signature; an old one is removed.
        expires: Seconds for which it may be used.
        signs_token: Whether the session token is signed, or added afterwards.
    """
    mine = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": signer.credential,
        "X-Amz-Date": signer.stamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    token = {"X-Amz-Security-Token": signer.session_token} if signer.session_token else {}
    pairs = [pair for pair in _pairs(query) if pair[0].lower() not in _OURS]
    pairs += (mine | token if signs_token else mine).items()
    payload = _UNSIGNED if is_s3(signer.service) else _EMPTY
    made = _joined(pairs)
    made += f"&X-Amz-Signature={signer.signature(path, made, {'host': host}, payload)}"
    return made if signs_token or not token else f"{made}&{_joined(token.items())}"


def canonical_query(query: str) -> str:
    """Return a query as it is signed: each pair encoded anew, and sorted by its spelling."""
    return _joined(_pairs(query))


def _pairs(query: str) -> list[tuple[str, str]]:
    # Bytes that are no UTF-8 come out as they went in.
    return parse_qsl(query, keep_blank_values=True, errors="surrogateescape")


def _joined(pairs: Iterable[tuple[str, str]]) -> str:
    spelled = sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in spelled)


def _encoded(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _canonical_path(path: str) -> str:
    """Return a path without `.`, `..` and empty segments, encoded once more."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    last = "/" if kept and path.endswith("/") else ""
    return quote(f"/{'/'.join(kept)}{last}", safe="/")


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), hashlib.sha256)
