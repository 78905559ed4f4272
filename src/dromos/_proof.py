"""Signs what proves that we hold a key: JWTs, and the DPoP proofs of RFC 9449.

PyJWT does the signing; it comes with `pip install "dromos[jwt]"`.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

from dromos.redaction import REDACTED, unseen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["ProofKey", "SigningKey"]

_ALGORITHMS: Final = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)
"""What may sign.  Neither `none` nor a shared secret proves that anybody holds a key."""

_LEAST_RSA: Final = 2048

_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class SigningKey:
    """A private key, and the algorithm that it signs with.

    Args:
        key: PEM as `str` or `bytes`, or a JWK as JSON text.
        algorithm: Such as `"PS256"`.  None takes what fits the key: RS256 for RSA,
            ES256, ES384 or ES512 by the curve, EdDSA.
        name: What to call the key in messages.

    Raises:
        ImportError: If PyJWT with cryptography is not installed.
        ValueError: If the key can't be read, is public, is RSA of under 2048 bits, or does
            not fit the algorithm.
    """

    __slots__ = ("_key", "algorithm")

    @unseen
    def __init__(
        self, key: str | bytes, *, algorithm: str | None = None, name: str = "private_key"
    ) -> None:
        if algorithm is not None and algorithm not in _ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(sorted(_ALGORITHMS))}")
        self._key: Any = _read(key, name)  # PyJWT's and cryptography's ideas of a key differ
        fitting = _fitting(self._key)
        if fitting is None:
            raise ValueError(f"{name} must be an RSA, elliptic curve or Edwards curve key")
        if _is_short(self._key):
            raise ValueError(f"{name} has fewer than {_LEAST_RSA} bits (RFC 7518, 3.3)")
        if algorithm is not None and algorithm[:2] not in _families(fitting):
            raise ValueError(f"{name} can't sign with {algorithm}")
        if fitting[:2] == "ES" and algorithm not in (None, fitting):
            raise ValueError(f"{name} is on the curve of {fitting}, not of {algorithm}")
        self.algorithm = algorithm or fitting

    def __repr__(self) -> str:
        return f"{type(self).__name__}({REDACTED})"

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise TypeError("a private key can't be copied or pickled")

    def sign(self, claims: Mapping[str, Any], *, headers: Mapping[str, Any] | None = None) -> str:
        """Return a signed JWT."""
        import jwt

        shown = None if headers is None else dict(headers)
        return jwt.encode(dict(claims), self._key, algorithm=self.algorithm, headers=shown)


class ProofKey(SigningKey):
    """The key of a DPoP-bound token: for each request it signs a proof that we hold it.

    Args:
        jwk: A private key on P-256, P-384, P-521 or an Edwards curve, or an RSA key,
            as a JWK in JSON or as PEM.  None makes a new one on P-256.

    Raises:
        ImportError: If PyJWT with cryptography is not installed.
        ValueError: If the key can't be read.
    """

    __slots__ = ()

    @unseen
    def __init__(self, jwk: str | bytes | None = None) -> None:
        super().__init__(_new_key() if jwk is None else jwk, name="dpop")

    def to_jwk(self) -> str:
        """Return the private key as a JWK, in the clear: to be kept beside a bound token."""
        return json.dumps(_as_jwk(self._key))

    def public_jwk(self) -> dict[str, str]:
        """Return the public key as a JWK: nothing of the private one is in it."""
        return _as_jwk(self._key.public_key())

    def proof(
        self,
        method: str,
        url: str,
        *,
        now: float,
        identity: str,
        access_token: str | None = None,
        nonce: str | None = None,
    ) -> str:
        """Return a proof for one request: RFC 9449, 4.2.

        Args:
            method: Of the request.
            url: Of the request; query, fragment and user info are left out of it.
            now: Unix time.
            identity: The proof's `jti`, another one for each.
            access_token: What is presented with it, where one is.
            nonce: What the server wants to find in it, if it said so.
        """
        claims: dict[str, Any] = {
            "jti": identity,
            "htm": method,
            "htu": _target(url),
            "iat": int(now),
        }
        if access_token is not None:
            digest = hashlib.sha256(access_token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if nonce is not None:
            claims["nonce"] = nonce
        return self.sign(claims, headers={"typ": "dpop+jwt", "jwk": self.public_jwk()})


def _target(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _need_jwt() -> None:
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        raise ImportError('signing needs PyJWT and cryptography: pip install "dromos[jwt]"')


def _new_key() -> bytes:
    _need_jwt()
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(key: str | bytes, name: str) -> "PrivateKeyTypes":
    _need_jwt()
    problem = "is no PEM or JWK of a private key"
    try:
        found = _loaded(key)
    except TypeError:  # cryptography's way to ask for a password
        problem = "is encrypted: decrypt it first"
    except Exception:  # neither text nor type of what a parser says about a key belongs in a log
        pass
    else:
        if hasattr(found, "private_bytes"):
            return found
    # The key is an argument of this frame, and a traceback may show arguments.
    del key
    raise ValueError(f"{name} {problem}")


def _loaded(key: str | bytes) -> "PrivateKeyTypes":
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = key.encode() if isinstance(key, str) else bytes(key)
    if data.lstrip()[:1] != b"{":
        return load_pem_private_key(data, password=None)
    import jwt

    found: PrivateKeyTypes = jwt.PyJWK.from_json(data.decode()).key
    return found


def _fitting(key: "PrivateKeyTypes") -> str | None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _CURVES.get(key.curve.name)
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return "EdDSA"
    return None


def _is_short(key: "PrivateKeyTypes") -> bool:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return isinstance(key, rsa.RSAPrivateKey) and key.key_size < _LEAST_RSA


def _families(fitting: str) -> tuple[str, ...]:
    return ("RS", "PS") if fitting == "RS256" else (fitting[:2],)


def _as_jwk(key: Any) -> dict[str, str]:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from jwt import algorithms

    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        found = algorithms.ECAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        found = algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
    else:
        found = algorithms.OKPAlgorithm.to_jwk(key, as_dict=True)
    # PyJWT adds `key_ops`, which says nothing here.
    return {name: value for name, value in found.items() if isinstance(value, str)}
