"""Plays a flow by hand: what it asks is kept, and answered from a list.  No loop and no network."""

import base64
import inspect
import json
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote_plus

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dromos.oauth._client import Client
from dromos.oauth._flow import Ask, Flow, Pause
from dromos.oauth._http import Answer, NoAnswer, Outcome, Request

T = TypeVar("T")

NOW = 1_795_402_541.0
ISSUER = "https://login.example"
TOKEN_URL = "https://login.example/token"
CANARY = "CANARY-5f3a"

METADATA = {
    "issuer": ISSUER,
    "token_endpoint": TOKEN_URL,
    "device_authorization_endpoint": "https://login.example/device",
}


# --- Answers --------------------------------------------------------------------------------------


def answer(body: object = b"", status: int = 200, **headers: str) -> Answer:
    """What came back just now; a body that is not `bytes` is sent as JSON."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
        fields.setdefault("content-type", "application/json")
    return Answer(status=status, headers=fields, body=body, started=NOW - 0.2, at=NOW)


def token(value: str = "at-1", **more: object) -> Answer:
    return answer({"access_token": value, "token_type": "Bearer", "expires_in": 3600, **more})


def bound(value: str = "at-1", **headers: str) -> Answer:
    return answer({"access_token": value, "token_type": "DPoP", "expires_in": 3600}, **headers)


def refusal(code: str, status: int = 400, **headers: str) -> Answer:
    return answer({"error": code}, status, **headers)


def metadata(**changes: object) -> Answer:
    told = {**METADATA, **changes}
    return answer({name: value for name, value in told.items() if value is not None})


def date(ahead: float = 0.0) -> str:
    """The `Date` header of a server whose clock is ahead of ours."""
    return formatdate(NOW + ahead, usegmt=True)


LOST = NoAnswer(reason="it broke off", sent=True, started=NOW)
UNSENT = NoAnswer(reason="no connection could be made", sent=False, started=NOW)


# --- Questions ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A request as a flow made it."""

    request: Request
    headers: dict[str, str]

    @property
    def where(self) -> str:
        return f"{self.request.method} {self.request.url}"

    @property
    def form(self) -> list[tuple[str, str]]:
        text = self.request.body.decode()
        return parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))

    def __getitem__(self, name: str) -> str:
        """The one value of a field of the form."""
        (value,) = [value for key, value in self.form if key == name]
        return value

    def basic(self) -> tuple[str, str]:
        """Name and secret as a server reads them that decodes what RFC 6749, 2.3.1 encodes."""
        kind, _, value = self.headers["authorization"].partition(" ")
        assert "Basic" == kind
        name, _, secret = base64.b64decode(value, validate=True).decode("ascii").partition(":")
        return unquote_plus(name), unquote_plus(secret)

    def assertion(self, key: Any, *, name: str = "client_assertion", **more: Any) -> dict[str, Any]:
        """The claims of what was signed, which `key` verifies.  Times are the test's to judge."""
        return verified(self[name], key, **more)

    def proof(self) -> dict[str, Any]:
        """The claims of a DPoP proof, verified with the key in its own header."""
        held = jwt.PyJWK(jwt.get_unverified_header(self.headers["dpop"])["jwk"])
        return verified(self.headers["dpop"], held.key)


def verified(text: str, key: Any, **more: Any) -> dict[str, Any]:
    off = dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf", "verify_aud"), False)
    algorithms = ["ES256", "RS256", "PS256", "EdDSA"]
    return dict(jwt.decode(text, key, algorithms=algorithms, options=off, **more))


@dataclass(kw_only=True)
class Played:
    """All that a flow did, and what it returned."""

    asked: list[Posed] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    result: Any = None

    def places(self) -> list[str]:
        return [posed.where for posed in self.asked]


def play(flow: Flow[Any], *answers: Outcome) -> Played:
    """Take a flow's steps.  The answers must be as many as it asks for."""
    played, waiting = Played(), list(answers)
    told: object = None
    try:
        while True:
            told = _taken(flow.send(told), played, waiting)
    except StopIteration as end:
        played.result = end.value
    finally:
        flow.close()
    assert [] == waiting, "it asked less often than that"
    return played


def _taken(step: object, played: Played, waiting: list[Outcome]) -> object:
    played.steps.append(type(step).__name__)
    match step:
        case Request():
            played.asked.append(Posed(request=step, headers=dict(step.headers)))
            assert waiting, f"nobody expected {step.method} {step.url}"
            return waiting.pop(0)
        case Pause():
            played.pauses.append(step.seconds)
            return None
        case Ask():
            said = step.function()
            return _awaited(said) if inspect.isawaitable(said) else said
        case _:
            raise AssertionError(step)


def _awaited(said: Awaitable[T]) -> T:
    """What a coroutine returns that waits for nothing."""
    try:
        said.__await__().send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits for something")


# --- Clients --------------------------------------------------------------------------------------


def at_noon(client: Client, *, ahead: float = 0.0) -> Client:
    """Let a client's clock stand still, and count what it names."""
    names = _names()
    client.wall = lambda: NOW + ahead
    client.identity = lambda: next(names)
    return client


def _names() -> Iterator[str]:
    count = 0
    while True:
        count += 1
        yield f"jti-{count}"


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


EC = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
