"""How a token is presented to a far side, on real sockets and on both engines."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from dromos import (
    AuthStrategy,
    Bridge,
    Dialer,
    HandshakeError,
    PermanentError,
    Send,
    Token,
    auth,
)
from dromos._proof import ProofKey
from dromos.dialers import PicowsDialer
from dromos.dialers.websockets import WebsocketsDialer
from dromos.events import AttemptFailed, BridgeEvent
from dromos.testing import FarSide

CHALLENGE = {"WWW-Authenticate": 'DPoP error="use_dpop_nonce"', "DPoP-Nonce": "nonce-1"}


class Source:
    """One token; all that the contract asks for."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def get_token(self, connection_id: str, /) -> Token:
        return self._token


class Greeter:
    """Says hello, and ends the session with the first answer."""

    def __init__(self) -> None:
        self.send: Send | None = None

    async def on_connect(self, send: Send) -> None:
        self.send = send
        await send("hello")

    async def on_message(self, message: str | bytes) -> None:
        assert self.send is not None
        self.send.close()

    async def on_disconnect(self, error: Exception | None) -> None:
        pass


@pytest.fixture(params=[PicowsDialer, WebsocketsDialer])
def dialer(request: pytest.FixtureRequest) -> Dialer:
    made: Dialer = request.param()
    return made


async def talk(
    token: Token,
    far: FarSide,
    dialer: Dialer,
    on_event: Callable[[BridgeEvent], None] | None = None,
) -> None:
    bridge = Bridge(Source(token), dialer=dialer, on_event=on_event)
    async with asyncio.timeout(30):
        await bridge.maintain_websocket("c-1", far.url, Greeter())


def bound(key: ProofKey) -> Token:
    return Token({"access_token": "at-1", "dpop_key": key.to_jwk()}, strategy=AuthStrategy("dpop"))


def proof_in(headers: Any) -> dict[str, Any]:
    """The claims of a proof, whose signature is checked with the key that it names."""
    proof = headers["dpop"]
    shown = jwt.get_unverified_header(proof)
    assert "dpop+jwt" == shown["typ"]
    assert {"kty", "crv", "x", "y"} == set(shown["jwk"])
    claims: dict[str, Any] = jwt.decode(proof, jwt.PyJWK(shown["jwk"]), algorithms=["ES256"])
    return claims


async def test_a_bound_token_is_presented_with_a_proof(dialer: Dialer) -> None:
    key = ProofKey()
    async with FarSide(echo=True) as far:
        await talk(bound(key), far, dialer)
        headers = far.attempts[0].headers

    claims = proof_in(headers)
    digest = hashlib.sha256(b"at-1").digest()
    assert "DPoP at-1" == headers["authorization"]
    assert "GET" == claims["htm"]
    assert far.url.replace("ws://", "http://").split("?")[0].rstrip("/") == claims["htu"].rstrip(
        "/"
    )
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == claims["ath"]
    assert "nonce" not in claims


async def test_a_nonce_that_the_far_side_wants_is_no_failed_attempt(dialer: Dialer) -> None:
    events: list[BridgeEvent] = []
    async with FarSide(echo=True) as far:
        far.refuse(status=401, headers=CHALLENGE)
        await talk(bound(ProofKey()), far, dialer, events.append)

    first, second = (proof_in(attempt.headers) for attempt in far.attempts)
    assert ("nonce" in first, "nonce-1") == (False, second["nonce"])
    assert first["jti"] != second["jti"]
    assert [] == [event for event in events if isinstance(event, AttemptFailed)]


async def test_a_far_side_that_always_wants_another_nonce_is_asked_twice_an_attempt(
    dialer: Dialer,
) -> None:
    async with FarSide() as far:
        for number in range(40):
            far.refuse(status=401, headers={**CHALLENGE, "DPoP-Nonce": f"n-{number}"})
        with pytest.raises(PermanentError, match="has no other one"):
            await talk(bound(ProofKey()), far, dialer)

    assert 2 == len(far.attempts)


async def test_claims_that_the_far_side_wants_reach_the_source(dialer: Dialer) -> None:
    class Claiming(Source):
        claims: str | None = None

        async def get_token(self, connection_id: str, /) -> Token:
            return Token({"access_token": "plain" if self.claims is None else "with-claims"})

        def claims_challenged(self, connection_id: str, claims: str, /) -> None:
            self.claims = claims

    wanted = json.dumps({"access_token": {"acrs": {"essential": True, "value": "cp1"}}})
    coded = base64.b64encode(wanted.encode()).decode()
    challenge = f'Bearer realm="", error="insufficient_claims", claims="{coded}"'
    source = Claiming(Token({"access_token": "unused"}))
    async with FarSide(echo=True) as far:
        far.refuse(status=401, headers={"WWW-Authenticate": challenge})
        bridge = Bridge(source, dialer=dialer)
        async with asyncio.timeout(30):
            await bridge.maintain_websocket("c-1", far.url, Greeter())

    assert wanted == source.claims
    assert "with-claims" == far.links[0].token


@pytest.mark.parametrize(
    ("status", "challenge"),
    [
        (403, 'Bearer error="insufficient_claims", claims="e30="'),
        (401, 'Bearer error="invalid_token", claims="e30="'),
        (401, 'Bearer error="insufficient_claims"'),
        (401, 'Bearer error="insufficient_claims", claims="bm90IGpzb24="'),
        (401, 'Bearer error="insufficient_claims", claims="W10="'),
        (401, 'Bearer error="insufficient_claims", claims="/w=="'),
    ],
)
def test_a_refusal_that_asks_for_no_claims_is_just_that(status: int, challenge: str) -> None:
    error = HandshakeError("refused", status=status, headers={"www-authenticate": challenge})

    assert auth.claims_in(error) is None


async def test_a_first_message_goes_before_anything_else_on_every_link(dialer: Dialer) -> None:
    token = Token({"access_token": 'a"b'}, strategy=AuthStrategy("first_message"))
    async with FarSide(echo=False) as far:

        def answer(link: Any, message: Any) -> None:
            if message == "hello":
                if far.links[-1].number == 1:
                    link.drop()
                else:
                    link.send("welcome")

        far._on_message = answer
        await talk(token, far, dialer)
        received = [link.received for link in far.links]

    expected = [{"type": "auth", "access_token": 'a"b'}, "hello"]
    assert [expected, expected] == [[json.loads(one), two] for one, two in received]
    assert all("authorization" not in attempt.headers for attempt in far.attempts)


@pytest.mark.parametrize(
    ("strategy", "credentials", "header", "value"),
    [
        (AuthStrategy("oauth2"), {"access_token": "t"}, "authorization", "Bearer t"),
        (AuthStrategy("api_key"), {"api_key": "k"}, "x-api-key", "k"),
        (AuthStrategy("cookie", {"cookie_name": "sid"}), {"session": "s"}, "cookie", "sid=s"),
        (
            AuthStrategy("headers", {"headers": {"X-A": "{a}", "X-B": "B {b}"}}),
            {"a": "1", "b": "2"},
            "x-b",
            "B 2",
        ),
        (
            AuthStrategy("subprotocol"),
            {"access_token": "t0k3n"},
            "sec-websocket-protocol",
            "bearer, t0k3n",
        ),
    ],
)
async def test_each_strategy_reaches_the_far_side(
    dialer: Dialer, strategy: AuthStrategy, credentials: dict[str, str], header: str, value: str
) -> None:
    async with FarSide(echo=True, subprotocols=("bearer",)) as far:
        await talk(Token(credentials, strategy=strategy), far, dialer)

    assert value == far.attempts[0].headers[header]
    assert (far.links[0].subprotocol == "bearer") == (strategy.type == "subprotocol")


async def test_a_signature_covers_the_host_that_is_sent(dialer: Dialer) -> None:
    token = Token(
        {"access_key": "AKIDEXAMPLE", "secret_key": "secret"},
        strategy=AuthStrategy("aws_sigv4", {"service": "execute-api", "region": "eu-west-1"}),
    )
    async with FarSide(echo=True) as far:
        await talk(token, far, dialer)
    sent = far.attempts[0]

    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    # botocore signs the same request as it came in, at the time that it says.
    request = AWSRequest(
        "GET",
        f"http://{sent.headers['host']}{sent.target}",
        headers={
            name: sent.headers[name] for name in ("host", "x-amz-date", "x-amz-content-sha256")
        },
    )
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", "secret"), "execute-api", "eu-west-1")
    request.context["timestamp"] = sent.headers["x-amz-date"]
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert f"Signature={signature}" in sent.headers["authorization"]
