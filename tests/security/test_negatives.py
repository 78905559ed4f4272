"""What must not happen, over real sockets.  Each test is named after its number in the list.

The other numbers are in the other files of this folder.
"""

import asyncio
import datetime
import gzip
import http
import ipaddress
import json
import socket
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import jwt
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from dromos import Bridge, Handler, PermanentError, RetryPolicy
from dromos._core.failure import Again, Failure, Over, weigh
from dromos._core.policy import Moment, Past, Policy
from dromos._core.verdict import Stage, judge
from dromos._proof import ProofKey, SigningKey
from dromos.errors import BridgeError, HandshakeError, InteractionRequired, TokenError
from dromos.interfaces import Dialer
from dromos.model import AuthStrategy, Token, Verdict
from dromos.oauth import OAuthClient
from dromos.oauth._http import Answer, Outcome, Request
from dromos.oauth.client_credentials import ClientCredentials
from dromos.oauth.device_code import DeviceCode
from dromos.oauth.jwt_bearer import JWTBearer
from dromos.oauth.refresh_token import RefreshToken
from dromos.oauth.token_exchange import TokenExchange
from dromos.testing import FarSide, MemoryDialer
from dromos.testing.clock import EPOCH, on_loop_time
from tests.dialers.loopback import Peer, serving
from tests.oauth.playing import EC, pem
from tests.oauth.scripted_gateway import Raw, Reply, ScriptedGateway, json_reply
from tests.oauth.servers import AuthorizationServer, Oidc, Toolkit
from tests.security.ways import (
    CANARY,
    CLIENT,
    DIALERS,
    DISCOVERY,
    GATEWAY,
    GRANTS,
    METADATA_PATH,
    WAYS,
    Way,
    by_status,
    dial,
    everything,
    is_clean,
    trusting,
)

Dialers = Callable[..., Dialer]

each_way = pytest.mark.parametrize("way", WAYS, ids=str)
each_dialer = pytest.mark.parametrize("dialer", DIALERS)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedGateway]:
    async with ScriptedGateway() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh whose answer was lost is tried again at once."""
    monkeypatch.setattr("dromos.oauth.refresh_token.LOST_ANSWER_PAUSE", 0.01)


async def refused(way: Way, url: str, **options: Any) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await way.ask(url, **options)
    assert is_clean(caught.value)
    return caught.value


async def unopened(dialer: Dialer, url: str) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        await dial(dialer, url)
    assert is_clean(caught.value)
    return caught.value


def verdict_of(error: Exception, *, stage: Stage = Stage.TOKEN, worked: bool = True) -> Verdict:
    return judge(error, stage=stage, worked=worked, rejected=False)


def end_of(error: Exception, stage: Stage, past: Past) -> tuple[int, float] | None:
    """After how many failures in a row, a minute apart, a session ends, and when."""
    for count in range(1, 50):
        at = 60.0 * (count - 1)
        moment = Moment(now=at, wall=at, roll=0.5, link=1, ticket=1)
        outcome = weigh(Policy(), past, Failure(error=error, stage=stage), moment)
        if isinstance(outcome, Over):
            return count, at
        assert isinstance(outcome, Again)
        past = outcome.past
    return None


class Idle(Handler):
    """Does nothing."""


class OneToken:
    """A provider with one token."""

    def __init__(self, value: str | Token) -> None:
        self._token = value if isinstance(value, Token) else Token({"access_token": value})

    async def get_token(self, connection_id: str, /) -> Token:
        return self._token

    async def refresh_connection(self, connection_id: str, /) -> Token:
        return self._token


async def session_error(tokens: Any, url: str, **options: Any) -> BridgeError:
    """Run a session that can't work, and return what ended it."""
    with pytest.raises(BridgeError) as caught:
        async with Bridge(tokens, **options) as bridge:
            await bridge.maintain_websocket("c", url, Idle())
    assert is_clean(caught.value)
    return caught.value


# --- 4: tokens that no header may hold ------------------------------------------------------------

ILL = {
    "last line break": f"{CANARY}\n",
    "CR LF": f"{CANARY}\r\nX-Injected: 1",
    "line break": f"{CANARY}\nX-Injected: 1",
    "space": f"{CANARY} x",
    "NUL": f"{CANARY}\0",
    "not ASCII": f"{CANARY}é",
    "1 MB": CANARY + "x" * 1_000_000,
}
each_ill = pytest.mark.parametrize("ill", ILL.values(), ids=ILL.keys())


@each_ill
@pytest.mark.parametrize("way", [GATEWAY[0], *GRANTS[:4]], ids=str)
async def test_04_an_ill_token_from_a_server_is_refused(
    server: ScriptedGateway, way: Way, ill: str
):
    told = json.dumps({"access_token": ill, "token_type": "Bearer", "expires_in": 60})
    server.on(way.method, way.path, json_reply(told))

    error = await refused(way, server.url)

    assert isinstance(error, TokenError)
    assert error.malformed


@each_ill
@each_dialer
async def test_04_an_ill_token_of_a_provider_s_is_sent_to_nobody(dialer: Dialers, ill: str):
    async with FarSide() as far:
        error = await session_error(OneToken(ill), far.url, dialer=dialer())

    assert isinstance(error, PermanentError)
    assert not any("x-injected" in request.headers for request in far.attempts)
    assert ill.startswith(f"{CANARY}x") or [] == far.attempts


@each_ill
@pytest.mark.parametrize(
    "make",
    [
        lambda ill: RefreshToken(ill, token_url="https://as.example", client_id="a"),
        lambda ill: JWTBearer(ill, token_url="https://as.example"),
        lambda ill: TokenExchange(ill, token_url="https://as.example"),
    ],
    ids=["refresh token", "assertion", "subject"],
)
def test_04_an_ill_token_that_is_given_is_refused_or_stripped(
    make: Callable[[str], object], ill: str
):
    if ill.endswith("\n"):
        assert CANARY not in repr(make(ill))
        return
    with pytest.raises(ValueError, match="a space, a line break") as caught:
        make(ill)

    assert CANARY not in f"{caught.value!r}"


@pytest.mark.parametrize("ill", [f"{CANARY}\udcff", f"{CANARY}\n\n", f"\n{CANARY}\r\n"], ids=ascii)
@pytest.mark.parametrize("auth", ["basic", "post"])
async def test_04_an_ill_client_secret_is_refused_or_stripped(
    server: ScriptedGateway, ill: str, auth: Any
):
    server.on("POST", "/token", json_reply('{"access_token":"at","token_type":"Bearer"}'))
    provider = ClientCredentials(
        token_url=f"{server.url}/token",
        client_id="a",
        client_secret=lambda: ill,
        client_auth=auth,
    )

    if ill.isascii():
        assert await provider.get_token()
        return
    with pytest.raises(ValueError, match="client_secret") as caught:
        await provider.get_token()

    assert CANARY not in everything(caught.value)
    assert [] == server.seen


# --- 5: redirects ---------------------------------------------------------------------------------

REDIRECTS = [301, 302, 303, 307, 308]


@each_way
@pytest.mark.parametrize("status", REDIRECTS)
async def test_05_a_redirect_of_a_token_server_is_not_followed(
    server: ScriptedGateway, way: Way, status: int
):
    async with ScriptedGateway() as elsewhere:
        where = f"{elsewhere.url}{way.path}?t={CANARY}"
        server.on(way.method, way.path, Reply(status=status, headers=(("Location", where),)))

        error = await refused(way, server.url)

        assert [] == elsewhere.seen
    assert 1 == len(server.seen)
    assert verdict_of(error) is Verdict.PERMANENT
    assert way is DISCOVERY or elsewhere.url in str(error)


@each_way
async def test_05_a_redirect_from_https_to_http_is_not_followed(way: Way):
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(served)
    async with ScriptedGateway() as clear, ScriptedGateway(tls=served) as server:
        reply = Reply(status=307, headers=(("Location", f"{clear.url}{way.path}"),))
        server.on(way.method, way.path, reply)

        await refused(way, server.url, ssl=trusting(authority))

        assert (1, []) == (len(server.seen), clear.seen)


@each_dialer
@pytest.mark.parametrize("status", REDIRECTS)
async def test_05_a_redirect_of_the_handshake_is_not_followed(dialer: Dialers, status: int):
    async with FarSide() as far, FarSide() as elsewhere, ScriptedGateway() as page:
        for where in (elsewhere.url, page.url):
            far.refuse(status=status, headers={"Location": f"{where}/?t={CANARY}"})

            error = await unopened(dialer(), far.url)

            assert status == error.status
            assert verdict_of(error, stage=Stage.DIAL) is Verdict.LIMITED
        assert ([], []) == (elsewhere.attempts, page.seen)


@each_dialer
async def test_05_a_redirect_from_wss_to_ws_is_not_followed(dialer: Dialers):
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    async with FarSide(ssl=served) as far, FarSide() as clear:
        far.refuse(status=308, headers={"Location": clear.url})

        await unopened(dialer(ssl=trusting(authority)), far.url)

        assert [] == clear.attempts


# --- 6: the environment ---------------------------------------------------------------------------


@pytest.fixture
async def trap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[list[bytes]]:
    """What reaches a proxy that the environment names, which also names a .netrc."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login x password from-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    caught: list[bytes] = []

    async def take(peer: Peer) -> None:
        caught.append(await peer.reader.read(1))

    async with serving(take) as port:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield caught


@each_way
async def test_06_the_environment_leads_no_token_request_astray(
    server: ScriptedGateway, trap: list[bytes], way: Way
):
    server.on(way.method, way.path, Reply(status=400))

    await refused(way, server.url)

    assert [] == trap
    assert not any("from-netrc" in value for value in server.seen[0].headers.values())
    if way not in (GATEWAY[0], GATEWAY[1], GRANTS[0], GRANTS[3], GRANTS[4]):
        assert "authorization" not in server.seen[0].headers


@each_dialer
async def test_06_the_environment_leads_no_handshake_astray(trap: list[bytes], dialer: Dialers):
    async with FarSide() as far:
        far.refuse(status=400)

        await unopened(dialer(), far.url)

        assert ([], 1) == (trap, len(far.attempts))
        assert [f"Bearer {CANARY}-at"] == far.attempts[0].headers.all("authorization")


# --- 7: in the clear ------------------------------------------------------------------------------

CLEAR = [
    "http://as.example",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example",
    "http://localhost@evil.example",
    "http://user:password@localhost",
    "http://evil.example\\@localhost",
    "http://0.0.0.0",
    "http://[::ffff:10.0.0.1]",
    "http://[::]",
    "http://[fe80::1]",
    "http://[::ffff:127.0.0.1]",
    "http://[::1%25eth0]",
    "http://[::1].evil.example",
    "http://[::1]evil.example",
    "http://localhost\ud800",
    "http://10.0.0.1",
    "http://2130706433.example",
    "http://2130706433",
    "http://0x7f000001",
    "http://127.1",
    "http://localhost.",
    "http://LOCALHOST.example",
    "ftp://localhost",
    "//localhost",
    "localhost",
]
each_clear = pytest.mark.parametrize("url", CLEAR)


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every name that is looked up."""
    asked: list[object] = []

    def look_up(host: object, *_: object, **__: object) -> object:
        asked.append(host)
        raise OSError("no names here")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "gethostbyname", look_up)
    return asked


@each_clear
@pytest.mark.parametrize(
    "make",
    [
        OAuthClient,
        lambda url: ClientCredentials(token_url=url, **CLIENT),
        lambda url: ClientCredentials(issuer=url, **CLIENT),
        lambda url: RefreshToken("rt", token_url=url, client_id="a"),
        lambda url: DeviceCode(
            print, token_url="https://as.example", device_authorization_url=url, client_id="a"
        ),
    ],
    ids=["gateway", "token endpoint", "issuer", "refresh", "device"],
)
def test_07_a_server_in_the_clear_is_refused_before_its_name_is_looked_up(
    no_names: list[object], make: Callable[[str], object], url: str
):
    with pytest.raises(ValueError, match=r"base_url|token_url|issuer|device_auth") as caught:
        make(url)

    assert [] == no_names
    assert "password" not in str(caught.value).replace("user name or password", "")
    assert CANARY not in f"{caught.value}"


@each_clear
async def test_07_a_far_side_in_the_clear_is_refused_before_its_name_is_looked_up(
    no_names: list[object], url: str
):
    bridge = Bridge(OneToken("at"))
    with pytest.raises(ValueError, match="endpoint_url"):
        await bridge.maintain_websocket("c", url.replace("http:", "ws:"), Idle())

    assert [] == no_names


@each_clear
async def test_07_neither_is_one_that_a_callable_names(no_names: list[object], url: str):
    bad = url.replace("http:", "ws:")
    with pytest.raises(PermanentError):
        async with Bridge(OneToken("at")) as bridge:
            await bridge.maintain_websocket("c", lambda token: bad, Idle())

    assert [] == no_names


# --- 8: certificates ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pki:
    """Servers' TLS contexts that must not be trusted, and what the client trusts."""

    served: dict[str, ssl.SSLContext]
    trusted: ssl.SSLContext


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    authority = trustme.CA()
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    certificates = {
        "wrong name": authority.issue_cert("other.example"),
        "expired": authority.issue_cert("localhost", "127.0.0.1", not_after=past),
        "another authority": trustme.CA().issue_cert("localhost", "127.0.0.1"),
    }
    served = {}
    for name, certificate in certificates.items():
        served[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(served[name])
    served["self-signed"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served["self-signed"].load_cert_chain(self_signed(tmp_path_factory.mktemp("pki")))
    return Pki(served, trusting(authority))


def self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "self.pem"
    path.write_bytes(pem(key).encode() + certificate.public_bytes(serialization.Encoding.PEM))
    return path


BAD = ["wrong name", "expired", "another authority", "self-signed"]


@each_way
@pytest.mark.parametrize("bad", BAD)
async def test_08_a_token_server_with_a_bad_certificate_is_refused_and_classed(
    pki: Pki, bad: str, way: Way
):
    async with ScriptedGateway(tls=pki.served[bad]) as server:
        error = await refused(way, server.url, ssl=pki.trusted)

        assert [] == server.seen
    assert isinstance(error, TokenError)
    assert "certificate is not trusted" in str(error)
    assert verdict_of(error) is Verdict.BOUNDED
    assert (1, 0.0) == end_of(error, Stage.TOKEN, Past())
    assert (6, 300.0) == end_of(error, Stage.TOKEN, Past(had_token=True))


@each_dialer
@pytest.mark.parametrize("bad", BAD)
async def test_08_a_far_side_with_a_bad_certificate_is_refused_and_classed(
    pki: Pki, bad: str, dialer: Dialers
):
    async with FarSide(ssl=pki.served[bad]) as far:
        error = await unopened(dialer(ssl=pki.trusted), far.url)

        assert [] == far.attempts
    assert verdict_of(error, stage=Stage.DIAL) is Verdict.LIMITED
    assert (3, 120.0) == end_of(error, Stage.DIAL, Past(had_token=True))
    assert (11, 600.0) == end_of(error, Stage.DIAL, Past(had_token=True, ever_stable=True))


# --- 12: lifetimes --------------------------------------------------------------------------------


@dataclass
class Issuing:
    """A token server in virtual time, whose answers say any lifetime."""

    said: str

    def __post_init__(self) -> None:
        self.asked: list[float] = []

    async def send(self, request: Request, /) -> Outcome:
        now = asyncio.get_running_loop().time()
        self.asked.append(now)
        body = f'{{"access_token":"at-{len(self.asked)}","token_type":"Bearer"{self.said}}}'
        headers = {"content-type": "application/json"}
        began = EPOCH + now
        return Answer(
            status=200, headers=headers, body=body.encode(), started=began, at=began + 0.05
        )


# What is said of a lifetime, and how many seconds two requests must then be apart.
LIVES = {
    "": 1.0,
    "0": 1.0,
    "-1": 1.0,
    "1": 1.0,
    "2": 1.0,
    "5": 1.25,
    "60": 15.0,
    "300": 30.0,
    "315360000": 30.0,
    '"3600"': 30.0,
    "3600.5": 30.0,
    "1e9999": 1.0,
    "NaN": 1.0,
    "true": 1.0,
    "[]": 1.0,
}
SHORT = {"1", "2", "5", "60", "300"}
"""Those of which a session of a quarter of an hour needs several."""


@pytest.mark.looptime
@pytest.mark.parametrize(("life", "floor"), LIVES.items())
async def test_12_no_lifetime_makes_a_session_loop(life: str, floor: float):
    server = Issuing(f',"expires_in":{life}' if life else "")
    tokens = ClientCredentials(token_url="https://as.example/token", transport=server, **CLIENT)
    loop = asyncio.get_running_loop()
    tokens._client.wall = lambda: EPOCH + loop.time()
    dialer = MemoryDialer()
    bridge = on_loop_time(Bridge(tokens, dialer=dialer, retry_policy=RetryPolicy(min_backoff=1)))
    async with bridge, bridge.connect("c", "wss://far.example") as connection:
        await asyncio.sleep(900)
        assert connection.state

    gaps = [later - earlier for earlier, later in pairwise(server.asked)]
    assert dialer.dials
    assert min(gaps, default=floor) > floor - 1e-9  # the last digit of a binary fraction
    assert (len(server.asked) > 1) is (life in SHORT)


# --- 14: clocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [-600.0, 600.0, -86_400.0])
async def test_14_a_gateway_s_wrong_clock_does_not_move_an_expiry(
    server: ScriptedGateway, skew: float
):
    theirs = time.time() + skew
    until = datetime.datetime.fromtimestamp(theirs + 3600, datetime.UTC).isoformat()
    told = {"access_token": "at", "credentials": {"access_token": "at", "expires_at": until}}
    server.on(
        "GET", "/v1/token/c", json_reply(json.dumps(told), Date=formatdate(theirs, usegmt=True))
    )
    async with OAuthClient(server.url) as oauth:
        token = await oauth.get_token("c")

    assert token.expires_at is not None
    assert 3600 == pytest.approx(token.expires_at - time.time(), abs=30)


@pytest.mark.parametrize("skew", [-600.0, 600.0])
async def test_14_a_token_server_s_wrong_clock_does_not_move_an_expiry(
    server: ScriptedGateway, skew: float
):
    told = '{"access_token":"at","token_type":"Bearer","expires_in":3600}'
    server.on("POST", "/token", json_reply(told, Date=formatdate(time.time() + skew, usegmt=True)))

    token = await ClientCredentials(token_url=f"{server.url}/token", **CLIENT).get_token()

    assert token.expires_at is not None
    assert token.clock_skew is not None
    assert 3600 == pytest.approx(token.expires_at - time.time(), abs=30)
    assert skew == pytest.approx(token.clock_skew, abs=30)


# --- 15: Retry-After ------------------------------------------------------------------------------

WAITS = {
    "seconds": ("17", 17.0),
    "a date": (formatdate(1_000_000_000 + 17, usegmt=True), 17.0),
    "too long": ("1000000000", 3600.0),
    "negative": ("-5", None),
    "a date in the past": (formatdate(1_000_000_000 - 17, usegmt=True), None),
    "garbage": ("soon", None),
    "nothing": ("", None),
}
each_wait = pytest.mark.parametrize(("asked", "wait"), WAITS.values(), ids=WAITS.keys())
THEIRS = formatdate(1_000_000_000, usegmt=True)


@each_wait
@each_way
async def test_15_a_token_server_s_retry_after_is_respected_capped_or_ignored(
    server: ScriptedGateway, way: Way, asked: str, wait: float | None
):
    fields = (("Date", THEIRS), ("Retry-After", asked))
    server.on(way.method, way.path, Reply(status=429, headers=fields))

    error = await refused(way, server.url)

    assert isinstance(error, TokenError)
    assert wait == error.retry_after
    assert least_delay(error, Stage.TOKEN) >= (wait or 10.0)


@each_wait
@each_dialer
async def test_15_a_far_side_s_retry_after_is_respected_capped_or_ignored(
    dialer: Dialers, asked: str, wait: float | None
):
    async with FarSide() as far:
        far.refuse(status=429, headers={"Date": THEIRS, "Retry-After": asked})

        error = await unopened(dialer(), far.url)

    assert wait == error.retry_after
    assert least_delay(error, Stage.DIAL) >= (wait or 10.0)


def least_delay(error: Exception, stage: Stage) -> float:
    moment = Moment(now=0.0, wall=0.0, roll=0.0, link=1, ticket=1)
    outcome = weigh(Policy(), Past(had_token=True), Failure(error=error, stage=stage), moment)
    assert isinstance(outcome, Again)
    return outcome.delay


# --- 16: bodies -----------------------------------------------------------------------------------

MUCH = 100_000_000
BOMB = gzip.compress(b" " * MUCH, 1)
PLAIN = {
    "empty": b"",
    "HTML": b"<html><body>" + CANARY.encode() + b"</body></html>",
    "not UTF-8": b'{"error":"\xff\xfe' + CANARY.encode() + b'"}',
    "deep": b'{"error":' + b"[" * 200_000,
    "a deep object": b'{"error":' * 100_000,
}


def answering(body: str, status: int) -> Reply | Raw:
    if body == "gzip bomb":
        return Reply(status=status, body=BOMB, headers=(("Content-Encoding", "gzip"),))
    if body == "100 MB":
        return lambda writer: _flood(writer, status)
    return Reply(status=status, body=PLAIN[body])


async def _flood(writer: asyncio.StreamWriter, status: int) -> None:
    phrase = http.HTTPStatus(status).phrase
    writer.write(f"HTTP/1.1 {status} {phrase}\r\nContent-Length: {MUCH}\r\n\r\n".encode())
    chunk = CANARY.encode() * 1000
    for _ in range(MUCH // len(chunk)):
        writer.write(chunk)
        await writer.drain()


@pytest.mark.parametrize("status", [400, 401, 409, 429, 503])
@pytest.mark.parametrize("body", [*PLAIN, "gzip bomb", "100 MB"])
@pytest.mark.parametrize("way", [*GATEWAY, GRANTS[0], GRANTS[3], GRANTS[4], DISCOVERY], ids=str)
async def test_16_no_body_of_a_refusal_changes_its_class(
    server: ScriptedGateway, way: Way, body: str, status: int
):
    for method, path in {(way.method, way.path), ("GET", "/v1/token/c")}:
        server.on(method, path, answering(body, status))

    error = await refused(way, server.url, timeout=20)

    assert verdict_of(error) is by_status(status, gateway=way in GATEWAY)
    assert isinstance(error, InteractionRequired) or status == error.status  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", ["gzip bomb", "100 MB"])
@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("way", [GATEWAY[0], GRANTS[0], DISCOVERY], ids=str)
async def test_16_no_body_takes_much_memory(
    server: ScriptedGateway, way: Way, status: int, body: str
):
    server.on(way.method, way.path, answering(body, status))

    tracemalloc.start()
    try:
        await refused(way, server.url, timeout=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 20_000_000


@pytest.mark.parametrize("body", [*PLAIN, "gzip bomb", "100 MB"])
@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.LIMITED),
        (401, Verdict.AUTHENTICATION),
        (409, Verdict.LIMITED),
        (429, Verdict.TRANSIENT),
        (503, Verdict.TRANSIENT),
    ],
)
@each_dialer
async def test_16_no_body_of_a_refused_handshake_changes_its_class(
    dialer: Dialers, body: str, status: int, verdict: Verdict
):
    async def serve(peer: Peer) -> None:
        await peer.read_request()
        if body == "100 MB":
            await _flood(peer.writer, status)
            return
        data = BOMB if body == "gzip bomb" else PLAIN[body]
        zipped = "Content-Encoding: gzip\r\n" if body == "gzip bomb" else ""
        head = f"HTTP/1.1 {status} No\r\n{zipped}Content-Length: {len(data)}\r\n\r\n"
        peer.write(head.encode() + data)
        await peer.writer.drain()

    async with serving(serve) as port:
        tracemalloc.start()
        try:
            with pytest.raises(HandshakeError) as caught:
                await dial(dialer(), f"ws://127.0.0.1:{port}")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    error = caught.value
    assert status == error.status
    assert verdict_of(error, stage=Stage.DIAL) is verdict
    assert len(error.body) <= 1024
    assert peak < 20_000_000


# --- 17: what servers say -------------------------------------------------------------------------

FORGED = f"\x1b[31mno\x1b[0m\r\n2026-11-23 CRITICAL forged {CANARY}-key \u202e\x00\x07 {CANARY}"


ESCAPES = "\x1b[31mno\x1b[0m\r\n2026-11-23 CRITICAL forged \u202e\x00\x07"
"""Without a secret, for which alone a text is dropped."""


@pytest.mark.parametrize("said", [FORGED, ESCAPES], ids=["with a secret", "without"])
@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize("field", ["error", "error_description", "message", "detail", "code"])
@each_way
async def test_17_what_a_token_server_says_is_cleaned(
    server: ScriptedGateway, way: Way, field: str, status: int, said: str
):
    told = {"error": "invalid_thing", field: said, "claims": said, "suberror": said}
    fields = {"X-Correlation-Id": f"{CANARY}-key", "Location": f"https://{CANARY}.example/"}
    server.on(way.method, way.path, json_reply(json.dumps(told), status=status, **fields))

    error = await refused(way, server.url)

    assert [] == [one for one in vars(error).values() if isinstance(one, str) and _steers(one)]
    assert len(str(error)) < 600


def _steers(text: str) -> bool:
    """Whether a terminal or a reader of logs would do anything but show it."""
    return not text.isprintable()


@pytest.mark.parametrize("way", [*GATEWAY, *GRANTS], ids=str)
async def test_17_a_page_or_a_text_that_a_token_server_sends_is_cleaned(
    server: ScriptedGateway, way: Way
):
    server.on(way.method, way.path, Reply(status=500, body=FORGED.encode()))

    error = await refused(way, server.url)

    assert "\x1b" not in everything(error)


@each_dialer
async def test_17_what_a_far_side_says_is_cleaned(dialer: Dialers):
    async with FarSide() as far:
        echoed = f"{CANARY}-key"
        far.refuse(
            status=403,
            headers={"X-Echo": echoed, "WWW-Authenticate": f'Bearer error="{CANARY}-at"'},
            body=f"{FORGED} {CANARY}-at {CANARY}-query".replace(f" {CANARY} ", " "),
        )

        with pytest.raises(HandshakeError) as caught:
            await dial(dialer(), far.url)

    assert str(caught.value).isprintable()
    assert f"{CANARY}-" not in everything(caught.value)


async def test_17_what_a_far_side_says_with_its_close_is_cleaned():
    async with FarSide() as far:
        far.accept_then_close(4003, FORGED[:100])

        with pytest.raises(PermanentError) as caught:
            async with Bridge(OneToken(f"{CANARY}-key")) as bridge:
                await bridge.maintain_websocket("c", far.url, Idle())

    assert str(caught.value).isprintable()
    assert f"{CANARY}-key" not in everything(caught.value)


# --- 18: slow answers -----------------------------------------------------------------------------


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
    )
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)  # slow on purpose; the client's deadline ends it


async def _drip_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)  # likewise


@each_way
@pytest.mark.parametrize("drip", [_drip, _drip_head], ids=["body", "head"])
async def test_18_a_token_server_that_drips_is_given_up_on(
    server: ScriptedGateway, way: Way, drip: Raw
):
    server.on(way.method, way.path, drip)
    if way is GATEWAY[1]:  # what became of the refresh is looked up
        server.on("GET", "/v1/token/c", drip)
    began = time.monotonic()

    error = await refused(way, server.url, timeout=0.2)

    assert isinstance(error, TokenError)
    assert error.status is None
    assert "over 0.2 s" in str(error)
    assert verdict_of(error) is Verdict.TRANSIENT
    assert time.monotonic() - began < 10


@each_dialer
async def test_18_a_far_side_that_drips_is_given_up_on(dialer: Dialers):
    async def serve(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
        while True:
            peer.write(b"x")
            await peer.writer.drain()
            await asyncio.sleep(0.01)  # likewise

    async with serving(serve) as port:
        error = await unopened(dialer(open_timeout=0.2), f"ws://127.0.0.1:{port}")

    assert "over 0.2 s" in str(error)
    assert verdict_of(error, stage=Stage.DIAL) is Verdict.TRANSIENT


# --- 20: what is signed ---------------------------------------------------------------------------


async def test_20_each_attempt_has_an_assertion_and_a_proof_of_its_own(server: ScriptedGateway):
    nonce = json_reply('{"error":"use_dpop_nonce"}', status=400, DPoP_Nonce="n-1")
    good = json_reply('{"access_token":"at","token_type":"DPoP","expires_in":60}')
    server.on("POST", "/token", nonce, Reply(status=503), good)
    tokens = ClientCredentials(
        token_url=f"{server.url}/token", client_id="agent-7", private_key=pem(EC), dpop=True
    )

    with pytest.raises(TokenError):
        await tokens.get_token()
    await tokens.get_token()

    assertions = [_form(seen.body)["client_assertion"] for seen in server.seen]
    proofs = [seen.headers["dpop"] for seen in server.seen]
    assert 3 == len({_claims(text)["jti"] for text in assertions})
    assert 3 == len({_claims(text)["jti"] for text in proofs})
    assert [None, "n-1", "n-1"] == [_claims(text).get("nonce") for text in proofs]
    for text in (*assertions, *proofs):
        assert "ES256" == jwt.get_unverified_header(text)["alg"]
    for text in proofs:
        assert {"kty", "crv", "x", "y"} == jwt.get_unverified_header(text)["jwk"].keys()


def _form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode()))


def _claims(text: str) -> dict[str, Any]:
    return dict(jwt.decode(text, options={"verify_signature": False}))


async def test_20_a_refresh_that_is_repeated_has_a_proof_of_its_own(server: ScriptedGateway):
    async def cut(writer: asyncio.StreamWriter) -> None:
        """Lose the answer."""

    good = json_reply('{"access_token":"at","token_type":"DPoP","expires_in":60}')
    server.on("POST", "/token", cut, good)
    tokens = RefreshToken("rt-1", token_url=f"{server.url}/token", client_id="agent-7", dpop=True)

    await tokens.get_token()

    one, two = (_claims(seen.headers["dpop"])["jti"] for seen in server.seen)
    assert one != two


async def test_20_each_handshake_has_a_proof_of_its_own():
    key = ProofKey()
    token = Token({"access_token": "at", "dpop_key": key.to_jwk()}, strategy=AuthStrategy("dpop"))
    async with FarSide() as far:
        far.refuse(next=2, status=503)
        bridge = Bridge(OneToken(token), retry_policy=RetryPolicy(min_backoff=0.2))
        async with bridge, bridge.connect("c", f"{far.url}/?q=1") as connection:
            await connection.wait_open()

    proofs = [request.headers["dpop"] for request in far.attempts]
    claims = [_claims(text) for text in proofs]
    assert 3 == len({claim["jti"] for claim in claims})
    assert {"GET"} == {claim["htm"] for claim in claims}
    assert 1 == len({claim["ath"] for claim in claims})
    assert not any("?" in claim["htu"] for claim in claims)
    assert not any("d" in jwt.get_unverified_header(text)["jwk"] for text in proofs)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "HS512", "RSA1_5"])
def test_20_nothing_is_signed_with_an_algorithm_that_proves_nothing(algorithm: str):
    with pytest.raises(ValueError, match="algorithm"):
        SigningKey(pem(EC), algorithm=algorithm)


@pytest.mark.parametrize("key", ["ec", "rsa", "ed"])
def test_20_no_private_part_of_any_key_is_in_a_proof(key: str):
    made: Any = {
        "ec": lambda: EC,
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed": ed25519.Ed25519PrivateKey.generate,
    }[key]()

    proof = ProofKey(pem(made)).proof("GET", "https://far.example/?q#f", now=1.0, identity="j")

    header = jwt.get_unverified_header(proof)
    assert not header["jwk"].keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}
    assert "https://far.example/" == _claims(proof)["htu"]


def test_20_a_symmetric_key_binds_nothing():
    with pytest.raises(ValueError, match="dpop"):
        ProofKey(json.dumps({"kty": "oct", "k": "c2VjcmV0"}))


@pytest.mark.parametrize("nonced", [False, True], ids=["plain", "with the server's nonce"])
async def test_20_a_real_server_takes_what_we_sign_again_and_again(oidc: Oidc, nonced: bool):
    client = oidc.client("dpop-nonce" if nonced else "dpop")
    tokens = RefreshToken(
        await oidc.grant(client.id),
        token_url=oidc.token_endpoint,
        client_id=client.id,
        client_secret=client.secret,
        dpop=True,
    )

    issued = [await tokens.refresh_connection() for _ in range(2)]

    assert ["dpop", "dpop"] == [token.strategy.type for token in issued]
    assert issued[0].access_token != issued[1].access_token


# --- 21: strategies that ask for too much ---------------------------------------------------------

GREEDY: dict[str, tuple[str, dict[str, Any]]] = {
    "Host": ("header", {"header_name": "Host"}),
    "host": ("header", {"header_name": "host"}),
    "the key": ("header", {"header_name": "Sec-WebSocket-Key"}),
    "the version": ("header", {"header_name": "sec-websocket-version"}),
    "Connection": ("header", {"header_name": "Connection"}),
    "Upgrade": ("header", {"header_name": "Upgrade"}),
    "Content-Length": ("header", {"header_name": "Content-Length"}),
    "Transfer-Encoding": ("header", {"header_name": "Transfer-Encoding"}),
    "CR LF in a name": ("header", {"header_name": "X-A\r\nX-Injected: 1\r\nX-B"}),
    "a colon in a name": ("header", {"header_name": "X-Injected: 1"}),
    "CR LF in a prefix": ("header", {"header_name": "X-A", "value_prefix": "a\r\nX-Injected: 1"}),
    "& in a parameter": ("query_param", {"param_name": "a&x-injected"}),
    "= in a parameter": ("query_param", {"param_name": "a=b"}),
    "# in a parameter": ("query_param", {"param_name": "a#b"}),
    "CR LF in a parameter": ("query_param", {"param_name": "a\r\nX-Injected: 1"}),
    "a strategy that is none": ("evil", {}),
}


@pytest.mark.parametrize(("kind", "config"), GREEDY.values(), ids=GREEDY.keys())
async def test_21_a_gateway_s_strategy_that_asks_for_too_much_is_refused(
    server: ScriptedGateway, kind: str, config: dict[str, Any]
):
    told = {
        "strategy": {"type": kind, "config": config},
        "credentials": {"api_key": f"{CANARY}-key"},
    }
    server.on("GET", "/v1/token/c", json_reply(json.dumps(told)))
    async with FarSide() as far:
        error = await session_error(OAuthClient(server.url), far.url)

    assert isinstance(error, PermanentError)
    assert [] == far.attempts


@pytest.mark.parametrize("name", ["target", "url", "endpoint", "host", "endpoint_url"])
async def test_21_a_gateway_s_strategy_does_not_choose_the_target(
    server: ScriptedGateway, name: str
):
    async with FarSide() as far, FarSide() as elsewhere:
        told = {
            "strategy": {"type": "header", "config": {"header_name": "X-A", name: elsewhere.url}},
            "credentials": {"api_key": f"{CANARY}-key", name: elsewhere.url},
            name: elsewhere.url,
        }
        server.on("GET", "/v1/token/c", json_reply(json.dumps(told)))
        far.refuse(status=410)

        await session_error(OAuthClient(server.url), far.url)

        assert (1, []) == (len(far.attempts), elsewhere.attempts)
        assert f"{CANARY}-key" == far.attempts[0].headers["x-a"]


# --- 22: connection ids ---------------------------------------------------------------------------

REFUSED_IDS = ["../admin", "a/b", "%2e%2e", "%2e%2e%2fadmin", "", ".", "..", "a?b", "a#b", "a\\b",
               "a\r\nX: 1", "%252e%252e", "x" * 10_240]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_IDS, ids=lambda name: f"{name!a:.24}")
async def test_22_an_id_that_leads_to_another_path_is_refused_by_a_session(
    server: ScriptedGateway, name: str
):
    async with FarSide() as far:
        with pytest.raises((ValueError, PermanentError)):
            async with Bridge(OAuthClient(server.url)) as bridge:
                await bridge.maintain_websocket(name, far.url, Idle())

        assert ([], []) == (server.seen, far.attempts)


@pytest.mark.parametrize(
    "name", ["a b", "ä", "a;b", "a%b", "a&b=c", "a:b@c", "~", "a+b", "100%", "a%41"]
)
async def test_22_any_other_id_is_one_segment_of_the_path(server: ScriptedGateway, name: str):
    async with OAuthClient(server.url) as oauth:
        with pytest.raises(TokenError):
            await oauth.get_token(name)

    (target,) = [seen.target for seen in server.seen]
    assert ["", "v1", "token", name] == [unquote(part) for part in target.split("/")]
    assert target.isascii()


# --- 23: reserved characters ----------------------------------------------------------------------


@pytest.mark.parametrize("server_name", ["oidc", "toolkit"])
async def test_23_a_real_server_takes_reserved_characters_by_basic(
    request: pytest.FixtureRequest, server_name: str
):
    real: AuthorizationServer = request.getfixturevalue(server_name)
    client = real.client("reserved")
    assert set(":%+ ") <= set(client.secret or "")
    assert isinstance(real, Oidc) or "é" in f"{client.secret}"

    token = await ClientCredentials(
        token_url=real.token_endpoint, client_id=client.id, client_secret=client.secret
    ).get_token()

    assert await real.alive(token.access_token)
    assert 1 == await real.posts("client_credentials")


async def test_23_a_real_server_takes_reserved_characters_in_the_form(toolkit: Toolkit):
    client = toolkit.client("reserved")

    token = await ClientCredentials(
        token_url=toolkit.token_endpoint,
        client_id=client.id,
        client_secret=client.secret,
        client_auth="post",
    ).get_token()

    assert await toolkit.alive(token.access_token)


# --- 26: discovery --------------------------------------------------------------------------------


def metadata(server: ScriptedGateway, **changes: Any) -> Reply:
    told = {"issuer": server.url, "token_endpoint": f"{server.url}/token", **changes}
    return json_reply(json.dumps(told))


GOOD = json_reply('{"access_token":"at","token_type":"Bearer","expires_in":60}')


@pytest.mark.parametrize("issuer", ["https://evil.example", "{}/", "{}/tenant", None])
async def test_26_metadata_of_another_issuer_are_refused(
    server: ScriptedGateway, issuer: str | None
):
    named = issuer and issuer.replace("{}", server.url)
    server.on("GET", METADATA_PATH, metadata(server, issuer=named))
    server.on("POST", "/token", GOOD)

    error = await refused(DISCOVERY, server.url)

    assert isinstance(error, TokenError)
    assert ("issuer_mismatch", Verdict.PERMANENT) == (error.code, verdict_of(error))
    assert [f"GET {METADATA_PATH}"] == server.asked()


@pytest.mark.parametrize(
    "endpoint", ["http://as.example/token", "https://as.example/token", "{other}/token"]
)
async def test_26_an_endpoint_elsewhere_or_in_the_clear_is_refused(
    server: ScriptedGateway, no_lookups: list[object], endpoint: str
):
    async with ScriptedGateway() as other:
        url = endpoint.replace("{other}", other.url)
        server.on("GET", METADATA_PATH, metadata(server, token_endpoint=url))

        error = await refused(DISCOVERY, server.url)

        assert [] == other.seen
    assert isinstance(error, TokenError)
    assert ("endpoint_refused", Verdict.PERMANENT) == (error.code, verdict_of(error))
    assert [] == no_lookups


@pytest.fixture
def no_lookups(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every name beyond this machine that is looked up."""
    asked: list[object] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1", "localhost"):
            asked.append(host)
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


async def test_26_an_endpoint_elsewhere_is_used_where_that_is_allowed(server: ScriptedGateway):
    async with ScriptedGateway() as other:
        server.on("GET", METADATA_PATH, metadata(server, token_endpoint=f"{other.url}/token"))
        other.on("POST", "/token", GOOD)
        provider = ClientCredentials(issuer=server.url, endpoint_origins=[other.url], **CLIENT)

        assert "at" == (await provider.get_token()).access_token


async def test_26_a_real_server_is_found_by_its_metadata(oidc: Oidc):
    client = oidc.client("basic")

    token = await ClientCredentials(
        issuer=oidc.issuer, client_id=client.id, client_secret=client.secret
    ).get_token()

    assert await oidc.alive(token.access_token)


# --- 27: types of tokens --------------------------------------------------------------------------

each_kind = pytest.mark.parametrize(
    ("kind", "is_good"),
    [
        ("mac", False),
        ("N_A", False),
        ("DPoP", False),
        (None, True),
        ("bearer", True),
        ("Bearer", True),
    ],
)


@each_kind
@pytest.mark.parametrize("way", [GATEWAY[0], *GRANTS[:4]], ids=str)
async def test_27_a_type_that_is_not_understood_is_not_used(
    server: ScriptedGateway,
    caplog: pytest.LogCaptureFixture,
    way: Way,
    kind: str | None,
    is_good: bool,
):
    told = {"access_token": "at", "expires_in": 60} | ({"token_type": kind} if kind else {})
    server.on(way.method, way.path, json_reply(json.dumps(told)))

    if is_good:
        token = await way.ask(server.url)
        assert isinstance(token, Token)
        assert "at" == token.access_token
    else:
        error = await refused(way, server.url)
        assert "token_type is not Bearer" in str(error)
        assert verdict_of(error) is Verdict.BOUNDED
    is_noted = "Bearer is assumed" in caplog.text
    assert is_noted is (kind is None and way is not GATEWAY[0])
