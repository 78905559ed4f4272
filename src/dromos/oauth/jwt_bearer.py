"""Tokens for an assertion that we sign, or that somebody else has signed: RFC 7523, 2.1."""

from collections.abc import Mapping
from typing import Any, Final, Unpack

from dromos._proof import SigningKey
from dromos.model import Seconds, seconds
from dromos.oauth._client import Client, ClientOptions, Pairs, SecretValue
from dromos.oauth._endpoint import Asking
from dromos.oauth._flow import Flow
from dromos.oauth._issuer import Issuer
from dromos.oauth._subject import Subject
from dromos.redaction import unseen

__all__ = ["JWTBearer"]

_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class JWTBearer(Issuer):
    """Tokens for a signed statement of who we act for, such as a service account's.

        tokens = JWTBearer(
            token_url="https://oauth2.googleapis.com/token",
            signing_key=key_pem,
            claims={"iss": account, "scope": "https://www.googleapis.com/auth/pubsub"},
        )

    Args:
        assertion: A finished assertion, or a callable, sync or async, that returns one
            for each request; give this or
        signing_key: The private key that signs one for each request, as PEM or as a
            JWK in JSON; needs `dromos[jwt]`.
        signing_key_id: Its `kid`. Default None: not sent.
        signing_algorithm: What it signs with. Default None: what fits it.
        claims: Of the assertion.  `iss` is needed unless there is a `client_id`.  Where
            they are not given, `sub` is `iss`, and `aud` is the token endpoint or `issuer`.
        assertion_lifetime: Seconds for which an assertion holds. Default 300.
        **options: See `ClientOptions`; the client needs no name of its own.

    Raises:
        TypeError: If an argument is unknown, or has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
        ImportError: If a key is given without PyJWT.
    """

    @unseen
    def __init__(
        self,
        assertion: SecretValue | None = None,
        *,
        signing_key: "str | bytes | None" = None,
        signing_key_id: str | None = None,
        signing_algorithm: str | None = None,
        claims: Mapping[str, Any] | None = None,
        assertion_lifetime: Seconds = 300,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(Client(options, needs_id=False))
        if (assertion is None) == (signing_key is None):
            raise ValueError("give either assertion or signing_key")
        self._given = None if assertion is None else Subject("assertion", assertion)
        self._key = None
        if signing_key is not None:
            self._key = SigningKey(signing_key, algorithm=signing_algorithm, name="signing_key")
        self._key_id = signing_key_id
        self._claims = dict(claims or {})
        self._claims.setdefault("iss", self._client.client_id)
        if self._key is not None and not self._claims["iss"]:
            raise ValueError("claims must hold iss, or client_id be given")
        self._lifetime = seconds("assertion_lifetime", assertion_lifetime, above=0)
        if self._key is not None:
            self._try_to_sign(self._key)

    def _try_to_sign(self, key: SigningKey) -> None:
        """Find out now, rather than at the first request, whether the claims can be signed."""
        try:
            self._signed(key, 0.0)
        except (TypeError, ValueError, RecursionError):  # whose frames hold the claims
            pass
        else:
            return
        raise ValueError("claims can't be written as JSON, or iss is not a str")

    def _asking(self) -> Asking:
        return Asking(
            step="token",
            subject="the JWT bearer request",
            form=self._form,
            presented=None if self._given is None else self._presented,
            signs=self._key is not None,
        )

    def _form(self, now: float) -> Pairs:
        signed = [] if self._key is None else [("assertion", self._signed(self._key, now))]
        return [("grant_type", _GRANT), *signed, *self._client.asked_for()]

    def _presented(self) -> Flow[Pairs]:
        assert self._given is not None
        return [("assertion", (yield from self._given.now()))]

    def _signed(self, key: SigningKey, now: float) -> str:
        where = self._client.token_url or self._client.issuer
        claims = {
            "sub": self._claims["iss"],
            "aud": "" if where is None else where.url,
            **self._claims,
            # Another one each time: a server that remembers them refuses a second use.
            "jti": self._client.identity(),
            "iat": int(now),
            "exp": int(now + self._lifetime),
        }
        headers = None if self._key_id is None else {"kid": self._key_id}
        return key.sign(claims, headers=headers)

    def _mark(self) -> Flow[bytes]:
        mine = yield from self._client.mark()
        return mine if self._given is None else mine + (yield from self._given.mark())
