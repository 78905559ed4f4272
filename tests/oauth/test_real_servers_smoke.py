"""The authorization servers that are not ours do what the tests of our providers rely on.

Told with plain HTTP requests, without a line of ours in between.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import sys
import time
import uuid
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.oauth.servers import (
    AuthorizationServer,
    Client,
    Oidc,
    Process,
    Toolkit,
    fixtures,
    http_client,
)
from tests.oauth.servers.wire import Tap

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def post(
    url: str,
    form: dict[str, str],
    client: Client | None = None,
    *,
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> httpx2.Response:
    """POST a form; a client is named as it has to be: with its secret by Basic, else by its id."""
    headers = dict(headers or {})
    if client is not None and client.secret is not None:
        headers["Authorization"] = client.basic()
    elif client is not None:
        form = {**form, "client_id": client.id}
    async with http_client(**({} if tls is None else {"verify": tls})) as http:
        return await http.post(url, data=form, headers=headers)


async def refresh(
    server: AuthorizationServer, token: str, client: str = "rotating", **options: Any
) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return await post(server.token_endpoint, form, server.client(client), **options)


def refused(answer: httpx2.Response, error: str = "invalid_grant") -> bool:
    return answer.status_code in (400, 401) and answer.json()["error"] == error


# --- Client credentials ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["basic", "reserved"])
async def test_oidc_takes_a_secret_by_basic(oidc: Oidc, name: str):
    form = {"grant_type": "client_credentials"}

    answer = await post(oidc.token_endpoint, form, oidc.client(name))

    assert 200 == answer.status_code
    assert 60 == answer.json()["expires_in"]
    assert await oidc.alive(answer.json()["access_token"])
    assert 1 == await oidc.posts("client_credentials")


async def test_oidc_takes_a_secret_in_the_body(oidc: Oidc):
    client = oidc.client("post")
    form = {"grant_type": "client_credentials", "client_id": client.id}

    answer = await post(oidc.token_endpoint, {**form, "client_secret": client.secret or ""})
    wrong = await post(oidc.token_endpoint, {**form, "client_secret": "wrong"})

    assert 200 == answer.status_code
    assert refused(wrong, "invalid_client")
    assert 2 == await oidc.posts()


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_oidc_takes_an_assertion_once(oidc: Oidc, algorithm: str):
    now = int(time.time())
    claims = {"iss": "jwt", "sub": "jwt", "aud": oidc.issuer, "iat": now, "exp": now + 300}
    key = oidc.keys[algorithm]
    assertion = jwt.encode({**claims, "jti": uuid.uuid4().hex}, key, algorithm)
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION,
        "client_assertion": assertion,
    }

    assert 200 == (await post(oidc.token_endpoint, form)).status_code
    assert refused(await post(oidc.token_endpoint, form), "invalid_client")


@pytest.mark.parametrize("name", ["service", "reserved"])
async def test_toolkit_takes_a_secret_by_basic(toolkit: Toolkit, name: str):
    form = {"grant_type": "client_credentials"}

    answer = await post(toolkit.token_endpoint, form, toolkit.client(name))

    assert 200 == answer.status_code
    assert 60 == answer.json()["expires_in"]
    assert await toolkit.alive(answer.json()["access_token"])
    assert 1 == await toolkit.posts("client_credentials")


async def test_oidc_issues_jwts_for_a_resource(oidc: Oidc):
    form = {"grant_type": "client_credentials", "scope": "read"}
    for resource, parts in ((oidc.JWT_RESOURCE, 3), (oidc.OPAQUE_RESOURCE, 1)):
        answer = await post(
            oidc.token_endpoint, {**form, "resource": resource}, oidc.client("basic")
        )
        assert 200 == answer.status_code
        assert parts == len(answer.json()["access_token"].split("."))
        assert await oidc.alive(answer.json()["access_token"])
    unknown = {**form, "resource": "https://api.example/unknown"}
    assert 200 != (await post(oidc.token_endpoint, unknown, oidc.client("basic"))).status_code


# --- Lifetimes and failures -----------------------------------------------------------------------


@pytest.fixture(params=["oidc", "toolkit"])
def server(request: pytest.FixtureRequest) -> AuthorizationServer:
    """Each of the two."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, AuthorizationServer)
    return found


def service(server: AuthorizationServer) -> Client:
    return server.client("basic" if isinstance(server, Oidc) else "service")


async def test_tokens_expire_when_time_passes_at_the_server(server: AuthorizationServer):
    form = {"grant_type": "client_credentials"}
    await server.lifetime(access=7)
    answer = await post(server.token_endpoint, form, service(server))
    token = answer.json()["access_token"]
    assert 7 == answer.json()["expires_in"]
    assert await server.alive(token)

    await server.advance(8)

    assert not await server.alive(token)
    after = await post(server.token_endpoint, form, service(server))
    assert 8 <= date(after) - date(answer)


def date(answer: httpx2.Response) -> float:
    return parsedate_to_datetime(answer.headers["Date"]).timestamp()


async def test_a_server_fails_before_acting_as_often_as_told(server: AuthorizationServer):
    token = await server.grant("rotating")
    await server.fail(
        2, status=429, body='{"x": 1}', headers={"Retry-After": "9"}, grant_type="refresh_token"
    )

    for _ in range(2):
        answer = await refresh(server, token)
        assert (429, "9", {"x": 1}) == (
            answer.status_code,
            answer.headers["Retry-After"],
            answer.json(),
        )

    form = {"grant_type": "client_credentials"}
    assert 200 == (await post(server.token_endpoint, form, service(server))).status_code
    assert 200 == (await refresh(server, token)).status_code
    assert 3 == await server.posts("refresh_token")


# --- Refresh tokens -------------------------------------------------------------------------------


async def test_rotation_replaces_the_refresh_token(server: AuthorizationServer):
    first = await server.grant("rotating")

    one = (await refresh(server, first)).json()
    two = (await refresh(server, one["refresh_token"])).json()

    assert 3 == len({first, one["refresh_token"], two["refresh_token"]})
    assert await server.alive(two["access_token"])
    assert await server.alive(two["refresh_token"])
    assert not await server.alive(one["refresh_token"])


async def test_a_replay_kills_the_grant_with_its_newest_tokens(server: AuthorizationServer):
    first = await server.grant("rotating")
    newest = (await refresh(server, first)).json()

    assert refused(await refresh(server, first))

    assert not await server.alive(newest["access_token"])
    assert not await server.alive(newest["refresh_token"])
    assert refused(await refresh(server, newest["refresh_token"]))


async def test_oidc_hides_in_its_answers_why_it_refuses_but_tells_the_test(oidc: Oidc):
    first = await oidc.grant("rotating")
    await refresh(oidc, first)

    answer = await refresh(oidc, first)

    assert "used" not in answer.text
    assert ["invalid_grant: refresh token already used"] == await oidc.complaints()


async def test_five_refreshes_at_once_kill_the_grant(oidc: Oidc):
    token = await oidc.grant("rotating")

    answers = await asyncio.gather(*(refresh(oidc, token) for _ in range(5)))

    assert [200, 400, 400, 400, 400] == sorted(answer.status_code for answer in answers)
    (won,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert not await oidc.alive(won["access_token"])
    assert not await oidc.alive(won["refresh_token"])
    assert 5 == await oidc.posts("refresh_token")


async def test_a_revoked_grant_is_dead(server: AuthorizationServer):
    token = await server.grant("rotating")
    await server.revoke(token)
    assert not await server.alive(token)
    assert refused(await refresh(server, token))


async def test_oidc_keeps_the_refresh_token_of_the_client_that_wants_that(oidc: Oidc):
    token = await oidc.grant("keeping")
    for _ in range(2):
        answer = await refresh(oidc, token, "keeping")
        assert (200, token) == (answer.status_code, answer.json().get("refresh_token"))


async def test_oidc_refreshes_jwts_and_knows_public_clients(oidc: Oidc):
    token = await oidc.grant("rotating-public", resource=oidc.JWT_RESOURCE)
    answer = await refresh(oidc, token, "rotating-public")
    assert 3 == len(answer.json()["access_token"].split("."))


async def test_toolkit_gives_the_same_tokens_again_within_its_grace_period(toolkit: Toolkit):
    await toolkit.grace(60)
    first = await toolkit.grant("rotating")

    one = (await refresh(toolkit, first)).json()
    again = (await refresh(toolkit, first)).json()
    await toolkit.advance(61)
    late = await refresh(toolkit, first)

    assert one["access_token"] == again["access_token"]
    assert one["refresh_token"] == again["refresh_token"]
    assert refused(late)
    assert not await toolkit.alive(one["refresh_token"])


# --- Devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["device", "device-public"])
async def test_a_device_waits_and_is_approved(oidc: Oidc, name: str):
    client = oidc.client(name)
    asked = (await post(oidc.device_endpoint, {"client_id": client.id}, client)).json()
    form = {"grant_type": DEVICE, "device_code": asked["device_code"]}

    assert "interval" not in asked
    assert refused(await post(oidc.token_endpoint, form, client), "authorization_pending")
    await oidc.approve(asked["user_code"])
    answer = await post(oidc.token_endpoint, form, client)

    assert 200 == answer.status_code
    assert await oidc.alive(answer.json()["access_token"])
    assert 200 == (await refresh(oidc, answer.json()["refresh_token"], name)).status_code
    assert 2 == await oidc.posts(DEVICE)


async def test_a_device_is_denied_or_comes_too_late(oidc: Oidc):
    client = oidc.client("device")
    await oidc.interval(1)
    await oidc.lifetime(device=30)
    codes = [
        (await post(oidc.device_endpoint, {"client_id": client.id}, client)).json()
        for _ in range(2)
    ]
    assert [1, 1] == [each["interval"] for each in codes]
    denied, late = ({"grant_type": DEVICE, "device_code": c["device_code"]} for c in codes)

    await oidc.deny(codes[0]["user_code"])

    assert refused(await post(oidc.token_endpoint, denied, client), "access_denied")
    await oidc.advance(31)
    assert (await post(oidc.token_endpoint, late, client)).json()["error"] in (
        "expired_token",
        "invalid_grant",
    )


# --- The wire -------------------------------------------------------------------------------------


async def test_a_lost_answer_costs_the_grant_at_oidc(oidc: Oidc, oidc_tap: Tap):
    tapped = oidc.behind(oidc_tap)
    token = await oidc.grant("rotating")
    oidc_tap.lose(grant_type="refresh_token")

    with pytest.raises(httpx2.ReadError):
        await refresh(tapped, token)

    assert 1 == await oidc.posts("refresh_token")
    assert refused(await refresh(tapped, token))
    assert [200, 400] == [each.status for each in oidc_tap.seen]


async def test_a_lost_answer_is_repeated_by_toolkit(toolkit: Toolkit, toolkit_tap: Tap):
    tapped = toolkit.behind(toolkit_tap)
    await toolkit.grace(60)
    token = await toolkit.grant("rotating")
    toolkit_tap.lose()

    with pytest.raises(httpx2.ReadError):
        await refresh(tapped, token)
    answer = await refresh(tapped, token)

    assert 200 == answer.status_code
    assert await toolkit.alive(answer.json()["refresh_token"])
    assert 2 == toolkit_tap.count(method="POST", path=tapped.token_path, grant_type="refresh_token")


async def test_a_cut_request_costs_nothing(oidc: Oidc, oidc_tap: Tap):
    tapped = oidc.behind(oidc_tap)
    token = await oidc.grant("rotating")
    oidc_tap.cut()

    with pytest.raises(httpx2.ReadError):
        await refresh(tapped, token)

    assert 0 == await oidc.posts()
    assert 200 == (await refresh(tapped, token)).status_code


async def test_a_tap_answers_in_the_servers_place(oidc: Oidc, oidc_tap: Tap):
    tapped = oidc.behind(oidc_tap)
    oidc_tap.answer(502, b"<html>", {"Content-Type": "text/html"}, times=2)
    form = {"grant_type": "client_credentials"}

    answers = [await post(tapped.token_endpoint, form, oidc.client("basic")) for _ in range(3)]

    assert [502, 502, 200] == [answer.status_code for answer in answers]
    assert "<html>" == answers[0].text
    assert 3 == oidc_tap.count(grant_type="client_credentials")
    assert 1 == await oidc.posts()


async def test_a_tap_holds_an_answer_back(oidc: Oidc, oidc_tap: Tap):
    tapped = oidc.behind(oidc_tap)
    token = await oidc.grant("rotating")
    held = oidc_tap.hold(grant_type="refresh_token")
    refreshing = asyncio.create_task(refresh(tapped, token))

    await held.arrived.wait()

    assert not refreshing.done()
    assert not await oidc.alive(token)
    held.release()
    assert 200 == (await refreshing).status_code


async def test_a_tap_is_an_issuer_of_its_own(oidc: Oidc, oidc_tap: Tap):
    tapped = oidc.behind(oidc_tap)
    async with http_client() as http:
        # One connection: the tap keeps it open, as the server does.
        answers = [
            await http.get(f"{tapped.issuer}/.well-known/openid-configuration") for _ in range(2)
        ]
    for answer in answers:
        assert tapped.issuer == answer.json()["issuer"] != oidc.issuer
        assert tapped.token_endpoint == answer.json()["token_endpoint"]
        assert tapped.device_endpoint == answer.json()["device_authorization_endpoint"]


async def test_toolkit_has_metadata_where_rfc_8414_looks(toolkit: Toolkit, toolkit_tap: Tap):
    tapped = toolkit.behind(toolkit_tap)
    async with http_client() as http:
        answer = await http.get(f"{tapped.url}/.well-known/oauth-authorization-server/o")
    assert tapped.issuer == answer.json()["issuer"]
    assert tapped.token_endpoint == answer.json()["token_endpoint"]


# --- DPoP -----------------------------------------------------------------------------------------


def thumbprint(key: ec.EllipticCurvePrivateKey) -> str:
    public = public_jwk(key)
    members = {name: public[name] for name in ("crv", "kty", "x", "y")}
    return digest(json.dumps(members, separators=(",", ":")).encode())


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    found = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {name: str(value) for name, value in found.items()}


def proof(key: ec.EllipticCurvePrivateKey, url: str, nonce: str | None = None) -> dict[str, str]:
    claims = {"htm": "POST", "htu": url, "iat": int(time.time()), "jti": uuid.uuid4().hex}
    if nonce is not None:
        claims["nonce"] = nonce
    headers = {"typ": "dpop+jwt", "jwk": public_jwk(key)}
    return {"DPoP": jwt.encode(claims, key, "ES256", headers=headers)}


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


async def test_dpop_is_asked_for_and_proofs_serve_once(oidc: Oidc, key: ec.EllipticCurvePrivateKey):
    form = {"grant_type": "client_credentials"}
    client = oidc.client("dpop")
    shown = proof(key, oidc.token_endpoint)

    bare = await post(oidc.token_endpoint, form, client)
    bound = await post(oidc.token_endpoint, form, client, headers=shown)
    replayed = await post(oidc.token_endpoint, form, client, headers=shown)

    assert refused(bare)
    assert (200, "DPoP") == (bound.status_code, bound.json()["token_type"])
    assert refused(replayed)
    assert "invalid_grant: DPoP proof JWT Replay detected" in await oidc.complaints()


async def test_a_dpop_nonce_is_demanded(oidc: Oidc, oidc_tap: Tap, key: ec.EllipticCurvePrivateKey):
    tapped = oidc.behind(oidc_tap)
    form = {"grant_type": "client_credentials"}
    client, url = tapped.client("dpop-nonce"), tapped.token_endpoint

    challenge = await post(url, form, client, headers=proof(key, url))
    nonce = challenge.headers["DPoP-Nonce"]
    answer = await post(url, form, client, headers=proof(key, url, nonce))

    assert refused(challenge, "use_dpop_nonce")
    assert (200, "DPoP") == (answer.status_code, answer.json()["token_type"])

    await oidc.advance(3600)
    stale = await post(url, form, client, headers=proof(key, url, nonce))
    assert refused(stale, "use_dpop_nonce")
    assert nonce != stale.headers["DPoP-Nonce"]


async def test_a_public_clients_refresh_token_is_bound_to_its_key(
    oidc: Oidc, key: ec.EllipticCurvePrivateKey
):
    token = await oidc.grant("dpop-public", jkt=thumbprint(key))
    other = ec.generate_private_key(ec.SECP256R1())
    url = oidc.token_endpoint

    assert refused(await refresh(oidc, token, "dpop-public", headers=proof(other, url)))
    answer = await refresh(oidc, token, "dpop-public", headers=proof(key, url))
    assert (200, "DPoP") == (answer.status_code, answer.json()["token_type"])


# --- Certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown", "error"),
    [
        ("mtls", "client", None),
        ("mtls", "other", "invalid_client"),
        ("mtls", None, "invalid_client"),
        ("mtls-ca", "client", None),
        ("mtls-ca", "other", "invalid_client"),
        ("mtls-ca", None, "invalid_client"),
        ("mtls-bound", "other", None),
        ("mtls-bound", None, "invalid_grant"),
    ],
)
async def test_certificates(oidc: Oidc, name: str, shown: str | None, error: str | None):
    secure = oidc.secure
    form = {"grant_type": "client_credentials"}

    answer = await post(secure.token_endpoint, form, oidc.client(name), tls=oidc.tls(shown))

    if error is not None:
        assert refused(answer, error)
        return
    assert 200 == answer.status_code
    assert shown is not None
    asked = {"token": answer.json()["access_token"]}
    if name == "mtls-bound":
        url = f"{secure.url}/token/introspection"
        about = (await post(url, asked, oidc.client(name), tls=oidc.tls(shown))).json()
        der = ssl.PEM_cert_to_DER_cert(_first_certificate(oidc.certificates[shown]))
        assert {"x5t#S256": digest(der)} == about["cnf"]


def _first_certificate(file: Path) -> str:
    begin = "-----BEGIN CERTIFICATE-----"
    return begin + file.read_text().split(begin)[1]


async def test_a_certificate_bound_refresh_needs_the_certificate(oidc: Oidc):
    secure = oidc.secure
    token = await oidc.grant("mtls-bound")
    assert refused(await refresh(secure, token, "mtls-bound", tls=oidc.tls()))
    answer = await refresh(secure, token, "mtls-bound", tls=oidc.tls("client"))
    assert 200 == answer.status_code


# --- The harness itself ---------------------------------------------------------------------------


async def test_a_reset_forgets_everything(server: AuthorizationServer):
    token = await server.grant("rotating")
    await server.lifetime(access=1)
    await server.fail(5)
    await refresh(server, token)
    await server.advance(1000)

    server.reset()

    assert 0 == await server.posts()
    assert not await server.alive(token)
    answer = await refresh(server, await server.grant("rotating"))
    assert 60 == answer.json()["expires_in"]
    assert abs(date(answer) - time.time()) < 500


def test_a_server_ends_with_its_stdin():
    script = Path(fixtures.__file__).with_name("django_toolkit.py")
    process = Process([sys.executable, "-W", "ignore", str(script)], {})
    assert 0 == process.end(grace=60)


def test_a_server_that_does_not_start_says_why():
    with pytest.raises(RuntimeError, match="no luck"):
        Process([sys.executable, "-c", "raise SystemExit('no luck')"], {})


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (b"npm error code EUSAGE\nnpm error\nnpm error no lock file\n", "EUSAGE: no lock file"),
        (
            b"npm ERR! request to https://u:p@packages.example:8080/x/-/x.tgz failed, reason: "
            b"getaddrinfo ENOTFOUND packages.example\n"
            b"npm error A complete log of this run can be found in: /home/me/.npm/_logs/x.log\n",
            "request to (address) failed, reason: getaddrinfo ENOTFOUND (host)",
        ),
        (b"", "it said nothing"),
    ],
)
def test_what_npm_said_is_told_without_addresses(output: bytes, told: str):
    assert told == fixtures.told(output, Path("/somewhere"))
