"""An OAuth client: where it asks, what it is registered as, and how it proves who it is."""

import base64
import hashlib
import hmac
import secrets
import ssl as ssl_module
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypedDict, cast, get_args
from urllib.parse import quote_plus

from dromos._proof import ProofKey, SigningKey
from dromos.model import Seconds, seconds
from dromos.oauth._checks import ServerUrl, is_unicode, server_url
from dromos.oauth._expiry import http_date
from dromos.oauth._flow import Ask, Flow
from dromos.oauth._http import Answer, Transport
from dromos.oauth._wire import Wire
from dromos.redaction import Secret

__all__ = [
    "Client",
    "ClientAuth",
    "ClientOptions",
    "Identified",
    "Pairs",
    "SecretValue",
    "texts",
]

SecretValue: TypeAlias = (
    str | Secret | Callable[[], "str | Secret | Awaitable[str] | Awaitable[Secret]"]
)
"""A secret, or what returns it: called for each request, so that it may be replaced."""

ClientAuth: TypeAlias = Literal["basic", "post", "private_key_jwt", "tls", "none"]

Pairs: TypeAlias = Sequence[tuple[str, str]]
"""The fields of a form, in order."""

CLOCK_TOLERANCE: Final = 5.0
"""Seconds by which clocks may differ before a signature's times are corrected."""

ASSERTION_LIFETIME: Final = 60
"""Seconds for which a client's assertion of who it is holds."""

_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_KEY: Final = secrets.token_bytes(32)
_OURS: Final = frozenset({"grant_type", "client_id", "client_secret", "client_assertion"})


class ClientOptions(TypedDict, total=False):
    """The options that every OAuth flow has in common.

    Attributes:
        token_url: The token endpoint; give this or `issuer`.
        issuer: The authorization server's name, from whose metadata (RFC 8414) the
            endpoints are taken.  It is compared exactly with what the metadata say.
        endpoint_origins: Other origins than the issuer's that its metadata may name,
            such as `"https://oauth2.googleapis.com"`.
        client_id: The name that the client is registered under.
        client_secret: Its secret, or a callable, sync or async, that returns it for
            each request.
        private_key: Its private key, as PEM or as a JWK in JSON, or a callable that
            returns it; needs `dromos[jwt]`.
        key_id: The key's `kid`. Default None: not sent.
        algorithm: What the key signs with. Default None: what fits it.
        client_auth: How the client says who it is: `"basic"` (default with a secret),
            `"post"`, `"private_key_jwt"` (default with a private key), `"tls"` for the
            certificate in `ssl` (RFC 8705), or `"none"` (default otherwise).
        assertion_audience: The `aud` of `private_key_jwt`. Default: the issuer, or
            the token endpoint where no issuer is given.
        scope: What to ask for: names, or one text with spaces. Default: what the
            server gives by itself.
        require_scope: Whether less than that is an error. Default False: a warning.
        audience: Whom the token is for, as some servers want it.
        resource: Whom the token is for, as RFC 8707 has it: absolute URIs.
        extra: Other fields of the form.
        assume_lifetime: Seconds that a token lives whose answer does not say it.
            Default None: until it is refused.
        dpop: True binds the tokens to a key of this process (RFC 9449); a private key
            as PEM or JWK binds them to that one.  Needs `dromos[jwt]`. Default False.
        headers: Sent with each request.
        ssl: The TLS context, for a private CA or a client certificate.  Default: the
            system's trust, TLS 1.2 or newer.
        proxy: URL of a proxy; never used for this machine. The environment's
            proxies are not used at all.
        connect_timeout: Seconds to connect. Default 10.
        timeout: Seconds for a whole request. Default 30.
        allow_insecure_transport: Allow `http://` to another machine, with a warning.
        user_agent: Default `dromos/<version> python/<version>`.
        transport: Sends the requests in place of httpx2; for tests.
    """

    token_url: str | None
    issuer: str | None
    endpoint_origins: Sequence[str]
    client_id: str | None
    client_secret: SecretValue | None
    private_key: "str | bytes | Secret | Callable[[], Any] | None"
    key_id: str | None
    algorithm: str | None
    client_auth: ClientAuth | None
    assertion_audience: str | None
    scope: str | Sequence[str]
    require_scope: bool
    audience: str | Sequence[str]
    resource: str | Sequence[str]
    extra: Mapping[str, str] | None
    assume_lifetime: Seconds | None
    dpop: "bool | str | bytes | Secret"
    headers: Mapping[str, str] | None
    ssl: ssl_module.SSLContext | None
    proxy: str | None
    connect_timeout: Seconds
    timeout: Seconds
    allow_insecure_transport: bool
    user_agent: str | None
    transport: Transport | None


class Identified:
    """What a client's proof of who it is adds to one request.

    Attributes:
        fields: To the form.
        authorization: To the header, or None.
        secrets: What no message may repeat.
        signs: Whether it depends on our clock.
    """

    __slots__ = ("authorization", "fields", "secrets", "signs")

    def __init__(
        self,
        fields: Pairs = (),
        *,
        authorization: str | None = None,
        secrets: tuple[str, ...] = (),
        signs: bool = False,
    ) -> None:
        self.fields = fields
        self.authorization = authorization
        self.secrets = secrets
        self.signs = signs


class Client:
    """One client of one authorization server, checked.

    Args:
        options: As `ClientOptions` says.
        needs_id: Whether the grant is given to nobody who has no name.

    Attributes:
        wire: How it speaks HTTP.
        issuer: The server's name, or None.
        token_url: Its token endpoint, or None for the one of its metadata.
        device_url: Where device codes are given, or None likewise.
        endpoint_origins: Where else its endpoints may be.
        client_auth: How the client says who it is.
        scope: What is asked for.
        require_scope: Whether less is an error.
        assume_lifetime: Seconds, or None.
        proof_key: What tokens are bound to, or None.
        timeout: Seconds for a request.
        nonces: What servers want to find in a proof, by origin.
        wall: Unix time.
        identity: A name that nothing else has.

    Raises:
        TypeError: If an option is unknown, or has the wrong type.
        ValueError: If its value can't be right; the message names the option.
        ImportError: If a key is used without PyJWT.
    """

    # A traceback may show one that is half made.
    client_id: str | None = None
    token_url: ServerUrl | None = None
    issuer: ServerUrl | None = None

    def __init__(self, options: ClientOptions, *, needs_id: bool = True) -> None:
        given = cast("dict[str, Any]", dict(options))
        unknown = set(given) - set(ClientOptions.__annotations__)
        if unknown:
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
        take = given.get
        self.wire = Wire(
            headers=take("headers"),
            ssl=take("ssl"),
            proxy=take("proxy"),
            connect_timeout=seconds("connect_timeout", take("connect_timeout", 10), above=0),
            allow_insecure_transport=bool(take("allow_insecure_transport", False)),
            user_agent=take("user_agent"),
            transport=take("transport"),
        )
        self.timeout = seconds("timeout", take("timeout", 30), above=0)
        self.token_url, self.issuer = self._servers(take("token_url"), take("issuer"))
        self.device_url: ServerUrl | None = None
        self.endpoint_origins = tuple(
            server_url("endpoint_origins", origin).origin
            for origin in texts("endpoint_origins", take("endpoint_origins", ()))
        )
        self.client_id = _text("client_id", take("client_id"))
        if needs_id and self.client_id is None:
            raise ValueError("client_id must be given")
        self._secret = _secret("client_secret", take("client_secret"))
        self._algorithm = take("algorithm")
        self._key_id = _text("key_id", take("key_id"))
        self._key = self._signing_key(take("private_key"))
        self._key_seen: tuple[bytes, SigningKey] | None = None
        self.client_auth = self._chosen(take("client_auth"), take("ssl"))
        self._assertion_audience = _text("assertion_audience", take("assertion_audience"))
        self.scope = _words("scope", take("scope", ()))
        self.require_scope = bool(take("require_scope", False))
        self._asked_for = self._form(take("audience", ()), take("resource", ()), take("extra"))
        lifetime = take("assume_lifetime")
        self.assume_lifetime = (
            None if lifetime is None else seconds("assume_lifetime", lifetime, above=0)
        )
        self.proof_key = _proof_key(take("dpop", False))
        self.nonces: dict[str, str] = {}
        self.metadata: Mapping[str, str] | None = None
        self.said: set[str] = set()
        self.wall: Callable[[], float] = time.time  # noqa: TID251  # the seam to the outer world
        self.identity: Callable[[], str] = _identity
        self._offset = 0.0

    def __repr__(self) -> str:
        return f"Client({self.client_id!r} at {self.server!r})"

    @property
    def server(self) -> str:
        """The origin of who is asked, for messages."""
        known = self.token_url or self.issuer
        return "" if known is None else known.origin

    def _servers(
        self, token_url: object, issuer: object
    ) -> tuple[ServerUrl | None, ServerUrl | None]:
        if (token_url is None) == (issuer is None):
            raise ValueError("give either token_url or issuer")
        name, value = ("issuer", issuer) if token_url is None else ("token_url", token_url)
        url = server_url(name, value)
        self.wire.may_send_secrets(name, url, stacklevel=6)
        if token_url is not None:
            return url, None
        if "?" in url.url:
            raise ValueError("issuer must not have a query (RFC 8414, 2)")
        return None, url

    def _signing_key(self, key: object) -> "SigningKey | Callable[[], Any] | None":
        if key is None or callable(key):
            return key
        return SigningKey(_key_text("private_key", key), algorithm=self._algorithm)

    def _chosen(self, asked: object, ssl: object) -> str:
        if asked is not None and asked not in get_args(ClientAuth):
            raise ValueError(f"client_auth must be one of {', '.join(get_args(ClientAuth))}")
        if self._secret is not None and self._key is not None:
            raise ValueError("give client_secret or private_key, not both")
        by_default = "none" if self._secret is None else "basic"
        chosen = str(asked or ("private_key_jwt" if self._key is not None else by_default))
        if chosen in ("basic", "post") and self._secret is None:
            raise ValueError(f'client_auth="{chosen}" needs a client_secret')
        if chosen == "private_key_jwt" and self._key is None:
            raise ValueError('client_auth="private_key_jwt" needs a private_key')
        if chosen == "tls" and ssl is None:
            raise ValueError('client_auth="tls" needs an ssl context with a certificate loaded')
        if chosen in ("tls", "none") and (self._secret is not None or self._key is not None):
            raise ValueError(f'client_auth="{chosen}" has no use for a secret or a key')
        if self.client_id is None and chosen != "none":
            raise ValueError("client_id must be given")
        return chosen

    def _form(self, audience: object, resource: object, extra: object) -> Pairs:
        pairs = [("audience", one) for one in texts("audience", audience)]
        pairs += [("resource", one) for one in texts("resource", resource)]
        if extra is None:
            return pairs
        if not isinstance(extra, Mapping):
            raise TypeError(f"extra must be a mapping or None, not {type(extra).__name__}")
        for name, value in cast("Mapping[object, object]", extra).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError("extra must map str to str")
            if name in _OURS:
                raise ValueError(f"extra must not set {name}")
            if not is_unicode(name + value):
                raise ValueError("extra must hold Unicode text")
            pairs.append((name, value))
        return pairs

    def asked_for(self, *, scope: bool = True) -> list[tuple[str, str]]:
        """Return the fields that say what is wanted."""
        wanted = [("scope", " ".join(self.scope))] if scope and self.scope else []
        return [*wanted, *self._asked_for]

    # --- Who we are --------------------------------------------------------------------------

    def identified(self, endpoint: ServerUrl) -> Flow[Identified]:
        """Read the secret or the key anew, and prove with it who asks."""
        named = [] if self.client_id is None else [("client_id", self.client_id)]
        match self.client_auth:
            case "basic" | "post":
                secret = yield from self._revealed()
                return _with_secret(self.client_id or "", secret, self.client_auth)
            case "private_key_jwt":
                key = yield from self._signer()
                assertion = self._assertion(key, endpoint)
                fields = [("client_assertion_type", _JWT_BEARER), ("client_assertion", assertion)]
                return Identified([*named, *fields], secrets=(assertion,), signs=True)
            case _:
                return Identified(named)

    def _revealed(self) -> Flow[str]:
        # No local name: what is no secret of ours may be another one, and this frame may raise.
        if callable(self._secret):
            return _revealed("client_secret", (yield Ask(function=self._secret)))
        return _revealed("client_secret", self._secret)

    def _signer(self) -> Flow[SigningKey]:
        if isinstance(self._key, SigningKey):
            return self._key
        assert self._key is not None
        found = self._read(_key_text("private_key", (yield Ask(function=self._key))))
        if isinstance(found, Exception):
            raise found
        return found

    def _read(self, text: str | bytes) -> SigningKey | Exception:
        """Read a key; what is wrong with it is returned, since this frame holds it."""
        mark = _mark(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
        if self._key_seen is None or self._key_seen[0] != mark:
            # Reading an RSA key takes milliseconds; it changes once in months.
            try:
                self._key_seen = mark, SigningKey(text, algorithm=self._algorithm)
            except (ValueError, ImportError) as error:
                return type(error)(str(error))
        return self._key_seen[1]

    def _assertion(self, key: SigningKey, endpoint: ServerUrl) -> str:
        # RFC 7523, 3; the audience as draft-ietf-oauth-rfc7523bis narrows it: the issuer.
        now = int(self.now())
        audience = self._assertion_audience or (self.issuer or endpoint).url
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "jti": self.identity(),
            "iat": now,
            "exp": now + ASSERTION_LIFETIME,
        }
        headers = None if self._key_id is None else {"kid": self._key_id}
        return key.sign(claims, headers=headers)

    def proof(self, method: str, endpoint: ServerUrl) -> str | None:
        """Return a proof for one request, or None where tokens are not bound."""
        if self.proof_key is None:
            return None
        return self.proof_key.proof(
            method,
            endpoint.url,
            now=self.now(),
            identity=self.identity(),
            nonce=self.nonces.get(endpoint.origin),
        )

    def mark(self) -> Flow[bytes]:
        """Tell the credentials in use from others, without telling them."""
        parts = [self.client_id or "", self.client_auth]
        if self._secret is not None:
            parts.append((yield from self._revealed()))
        elif callable(self._key):
            key = _key_text("private_key", (yield Ask(function=self._key)))
            parts.append(key.decode("latin-1") if isinstance(key, bytes) else key)
        return _mark("\0".join(parts).encode(errors="surrogatepass"))

    # --- What time it is ---------------------------------------------------------------------

    def now(self) -> float:
        """Return Unix time as the server has it, as far as we had to find out."""
        return self.wall() + self._offset

    def correct_clock(self, answer: Answer) -> bool:
        """Take over the server's clock if that may be why it refused; False if not."""
        skew = clock_skew(answer)
        if skew is None or abs(skew - self._offset) <= CLOCK_TOLERANCE:
            return False
        self._offset = skew
        return True


def clock_skew(answer: Answer) -> float | None:
    """Return by how many seconds the server's clock is ahead of ours; None if it did not say."""
    sent = http_date(answer.headers.get("date"))
    # `Date` is cut to the second, so the middle of that second is the best guess.
    return None if sent is None else sent + 0.5 - (answer.started + answer.at) / 2


def texts(name: str, value: object) -> tuple[str, ...]:
    """Return one text, or a sequence of them, checked.

    Raises:
        TypeError: If it is neither.
        ValueError: If one is empty.
    """
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, Sequence):
        raise TypeError(f"{name} must be a str or a sequence of str, not {type(value).__name__}")
    for text in cast("Sequence[object]", found):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str or a sequence of str")
        if not text or not is_unicode(text):
            raise ValueError(f"{name} must not hold an empty text, or one that is no Unicode")
    return tuple(cast("Sequence[str]", found))


def _words(name: str, value: object) -> tuple[str, ...]:
    words = texts(name, tuple(value.split()) if isinstance(value, str) else value)
    if any(word.split() != [word] for word in words):
        raise ValueError(f"{name} must not hold a name with spaces in it")
    return words


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if not value or not is_unicode(value):
        raise ValueError(f"{name} must not be empty, or hold what is no Unicode text")
    return value


def _secret(name: str, value: object) -> "Secret | Callable[[], Any] | None":
    if value is None or callable(value):
        return value
    return Secret(_revealed(name, value))


def _revealed(name: str, value: object) -> str:
    """Return a secret in the clear, without the line break that its file ends with."""
    text = value.reveal() if isinstance(value, Secret) else value
    if isinstance(text, str) and (text := text.strip("\r\n")) and is_unicode(text):
        return text
    if not isinstance(text, str):
        problem: Exception = TypeError(f"{name} is not a str but {type(text).__name__}")
    else:
        problem = ValueError(f"{name} is {'no Unicode text' if text else 'empty'}")
    del text, value
    raise problem


def _key_text(name: str, value: object) -> str | bytes:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, str | bytes):
        return value
    kind = type(value).__name__
    del value  # a JWK as a dict, most likely: a traceback may show arguments
    raise TypeError(f"{name} must be a str, bytes or Secret, not {kind}")


def _proof_key(value: object) -> ProofKey | None:
    if isinstance(value, bool):
        return ProofKey() if value else None
    return ProofKey(_key_text("dpop", value))


def _with_secret(client_id: str, secret: str, how: str) -> Identified:
    if how == "post":
        return Identified([("client_id", client_id), ("client_secret", secret)], secrets=(secret,))
    # RFC 6749, 2.3.1: each is form-encoded first.  Most clients forget it, and then a
    # secret with a colon, a percent sign or a plus is refused.
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    encoded = base64.b64encode(pair.encode()).decode()
    return Identified(authorization=f"Basic {encoded}", secrets=(secret, encoded))


def _mark(data: bytes) -> bytes:
    return hmac.digest(_KEY, data, hashlib.sha256)


def _identity() -> str:
    return secrets.token_urlsafe(18)
