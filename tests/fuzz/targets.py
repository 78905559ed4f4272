"""Everything that parses what a stranger sends, and what must hold whatever that is.

Each target is a Hypothesis property.  It may find an error; it may not find an exception
that we did not mean, a value that is not finite, or a secret in what we say.
"""

import asyncio
import base64
import contextlib
import functools
import io
import json
import math
import re
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final
from xml.etree import ElementTree

import click
import h11
import httpx2
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dromos import Bridge, Config, auth
from dromos._core.verdict import Stage, asked_to_wait, judge
from dromos._driver.endpoint import check_url
from dromos.cli.commands import cli
from dromos.cli.flags import a_header
from dromos.cli.run import _flags
from dromos.cli.sources import Tokens, source
from dromos.cli.watch_ask import Port, Unreachable, address
from dromos.cli.watch_sessions import Round, with_rates
from dromos.cli.watch_table import plain, table
from dromos.config import ConfigError
from dromos.config.errors import Raised
from dromos.demo.words import escape
from dromos.dialers._refusal import parse_head, refused
from dromos.dialers._request import Request as Upgrade
from dromos.doctor.finding import Finding
from dromos.doctor.proxy import pass_proxy
from dromos.doctor.subject import Found, Subject
from dromos.errors import (
    BridgeError,
    ConnectionClosed,
    PermanentError,
)
from dromos.model import AuthStrategy, Handshake, Token, Verdict
from dromos.oauth import ClientCredentials, ClientOptions, StaticToken
from dromos.oauth._answers import Asked, Reading, read_token, refusal
from dromos.oauth._client import Client
from dromos.oauth._endpoint import Issued
from dromos.oauth._expiry import duration, http_date, moment, retry_after
from dromos.oauth._flow import Flow
from dromos.oauth._http import Answer
from dromos.oauth.device_code import authorized
from dromos.oauth.store import _decoded
from dromos.service import HealthServer
from dromos.timeline.entry import LATEST
from dromos.timeline.fold import fold
from dromos.timeline.picture import draw
from dromos.timeline.read import Problems, entries
from dromos.timeline.svg import to_svg
from tests.fuzz import lines

CANARY: Final = "CANARY7f3b9d"
TARGETS: Final[dict[str, Callable[[], None]]] = {}


def target(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """List a property under a name."""

    def listed(function: Callable[[], None]) -> Callable[[], None]:
        TARGETS[name] = function
        return function

    return listed


# --- What strangers send --------------------------------------------------------------------------

WORDS: Final = """
    access_token token_type Bearer bearer DPoP mac expires_in expires_at expiry refresh_token
    id_token scope error error_description error_codes suberror claims strategy credentials type
    config oauth2 header header_name credential_field api_key query_param param_name basic_auth
    username password hmac_payload aws_sigv4 service region headers template cookie cookie_name
    first_message subprotocol dpop dpop_key expired token message code detail status issuer
    token_endpoint device_authorization_endpoint device_code user_code verification_uri interval
    invalid_grant invalid_client slow_down authorization_pending use_dpop_nonce 1e9999 NaN -1 0
    3600 2026-11-24T05:00:00Z 0001-01-01T00:00:00Z {access_token} Host https://as.example/token
""".split()  # noqa: SIM905 - a list of a hundred strings would be no easier to read

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.sampled_from(WORDS),
    st.just(CANARY),
    st.text(max_size=40),
)
keys = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, max_size=8)
bodies = st.one_of(
    objects.map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=200),
    st.sampled_from([b"", b"{", b"[" * 5000, b"null", b"\xff\xfe", b"access_token=x&error=y"]),
)
NAMES: Final = """
    date retry-after location content-type www-authenticate dpop-nonce x-request-id
    x-correlation-id set-cookie transfer-encoding sec-websocket-accept
""".split()  # noqa: SIM905
header_names = st.sampled_from(NAMES)
header_values = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "120",
            "-5",
            "1e3",
            "9" * 400,
            "Tue, 24 Nov 2026 05:00:00 GMT",
            "Tue, 99 Nov 99999 05:00:00 +9999",
            "http://evil.example:99999/" + CANARY,
            "//[::1",
            "application/x-www-form-urlencoded",
            'DPoP error="use_dpop_nonce"',
            'Bearer error="insufficient_claims", claims="e30="',
            CANARY,
        ]
    ),
)
answers = st.builds(
    lambda status, headers, body, skew: Answer(
        status=status, headers=headers, body=body, started=1.8e9 - skew, at=1.8e9
    ),
    st.one_of(
        st.sampled_from([200, 201, 302, 400, 401, 403, 404, 409, 429, 500, 503]),
        st.integers(100, 999),
    ),
    st.dictionaries(header_names, header_values, max_size=5),
    bodies,
    st.floats(0, 30),
)


# --- What must hold -------------------------------------------------------------------------------


def sound(error: BaseException) -> None:
    """Check an error: it is ours, it can be judged, and it shows no secret."""
    assert isinstance(error, BridgeError), repr(error)
    for worked in (False, True):
        assert isinstance(judge(error, stage=Stage.TOKEN, worked=worked, rejected=False), Verdict)
    wait = asked_to_wait(error)
    assert wait is None or 0 <= wait <= 3600
    text = str(error)
    assert text.isprintable(), repr(text)
    assert len(text) < 2000
    shown = "".join(traceback.TracebackException.from_exception(error).format())
    assert CANARY not in shown + repr(error), shown


def sound_token(token: Token) -> None:
    """Check a token: it can be shown, reckoned with, and presented or refused."""
    if CANARY not in repr(token.strategy.config):  # settings are no secret
        assert CANARY not in repr(token)
    for number in (token.expires_at, token.lifetime):
        assert number is None or not math.isnan(number)
    try:
        made = auth.apply(Handshake(url="wss://far.example:8443/ws?a=b"), token, 1.8e9)
    except PermanentError as error:
        sound(error)
    else:
        assert made.url.startswith("wss://far.example:8443/")
        with contextlib.suppress(ValueError):
            Upgrade.of(made)


def played(flow: Flow[Any], replies: list[Answer]) -> Any:
    """Play a flow with these answers, over and over."""
    told: object = None
    try:
        for step in range(60):
            asked = flow.send(told)
            told = replies[step % len(replies)] if type(asked).__name__ == "Request" else None
    except StopIteration as end:
        return end.value
    return None


def client(**more: Any) -> Client:
    options: ClientOptions = {
        "issuer": "https://as.example",
        "client_id": "agent",
        "client_secret": CANARY,
    }
    return Client(options | more)  # type: ignore[arg-type]


# --- The targets ----------------------------------------------------------------------------------


@target("gateway answers")
@given(answers)
def gateway_answers(answer: Answer) -> None:
    asked = Asked(
        step="token",
        subject="the token request",
        connection_id="c",
        origin="http://localhost:8081",
        secrets=(CANARY,),
    )
    if 200 <= answer.status < 300:
        read = read_token(answer, asked)
        sound_token(read.token) if isinstance(read, Reading) else sound(read)
    else:
        sound(refusal(answer, asked))


@target("token answers")
@given(st.lists(answers, min_size=1, max_size=3))
def token_answers(replies: list[Answer]) -> None:
    source = ClientCredentials(
        token_url="https://as.example/token", client_id="agent", client_secret=CANARY
    )
    told = played(source.flow(), replies)
    told = told.token if isinstance(told, Issued) else told
    sound_token(told) if isinstance(told, Token) else sound(told)


@target("metadata")
@given(st.lists(answers, min_size=1, max_size=3))
def metadata(replies: list[Answer]) -> None:
    from dromos.oauth._discovery import located

    found = played(located(client(), "token_endpoint"), replies)
    if isinstance(found, BridgeError):
        sound(found)
    else:
        assert found.origin == "https://as.example:443"


@target("device answers")
@given(st.lists(answers, min_size=1, max_size=4))
def device_answers(replies: list[Answer]) -> None:
    asking = client()
    asking.token_url = asking.issuer
    asking.device_url = asking.issuer
    told = played(authorized(asking, lambda prompt: None), replies)
    if isinstance(told, BridgeError):
        sound(told)


@target("dates and times")
@given(st.one_of(values, header_values), st.dictionaries(header_names, header_values, max_size=3))
def dates_and_times(value: Any, headers: dict[str, str]) -> None:
    for read in (
        moment(value),
        duration(value),
        http_date(value if isinstance(value, str) else ""),
    ):
        assert read is None or math.isfinite(read)
    wait = retry_after({**headers, "retry-after": str(value)}, at=1.8e9)
    assert wait is None or 0 < wait <= 3600


@target("close reasons")
@given(st.integers(0, 70000), st.text(max_size=123), st.booleans())
def close_reasons(code: int, reason: str, by_peer: bool) -> None:
    upgrade = Upgrade.of(
        Handshake(url="wss://h/", headers=(("Authorization", f"Bearer {CANARY}"),))
    )
    cleaned = upgrade.redactor.reason(reason + CANARY)
    error = ConnectionClosed(code=code, reason=cleaned, by_peer=by_peer)
    assert CANARY not in str(error)
    assert isinstance(judge(error, stage=Stage.LINK, worked=True, rejected=False), Verdict)
    wait = asked_to_wait(error)
    assert wait is None or 0 <= wait


@target("refused upgrades")
@given(
    st.one_of(st.binary(max_size=300), st.sampled_from([b"HTTP/1.1 503 No\r\nRetry-After: 1e3"])),
    st.dictionaries(header_names, header_values, max_size=4),
    bodies,
)
def refused_upgrades(head: bytes, headers: dict[str, str], body: bytes) -> None:
    status, _ = parse_head(head)
    assert status is None or 100 <= status <= 999
    lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    upgrade = Upgrade.of(
        Handshake(url="wss://h/ws?key=" + CANARY, headers=(("X-Key", CANARY),)), proxy=None
    )
    for each in (head, b"HTTP/1.1 401 Unauthorized" + lines.encode("utf-8", "replace")):
        error = refused(upgrade, each, body + CANARY.encode())
        sound(error)
        assert CANARY.encode() not in error.body
        assert all(CANARY not in value for value in error.headers.values())
        claims = auth.claims_in(error)
        assert claims is None or isinstance(json.loads(claims), dict)
        auth.asks_again(Handshake(url="wss://h/"), DPOP, error)


DPOP: Final = Token({"access_token": "t"}, strategy=AuthStrategy("dpop"))


@target("store files")
@given(bodies)
def store_files(data: bytes) -> None:
    grant = _decoded(data)
    assert CANARY not in repr(grant)


@target("tokens that look like JWTs")
@given(objects, st.text(alphabet="abc._-=", max_size=20))
def jwts(claims: dict[str, Any], rest: str) -> None:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    for text in (f"eyJhbGciOiJub25lIn0.{body}.sig", f"{rest}.{body}.{rest}", f"a.{rest}.b"):
        with contextlib.suppress(ValueError):
            source = StaticToken(text)
            sound_token(source._token)


@target("strategies")
@given(st.sampled_from(sorted(auth._strategies)), objects, objects)
def strategies(kind: str, config: dict[str, Any], credentials: dict[str, Any]) -> None:
    sound_token(Token(credentials, strategy=AuthStrategy(kind, config)))


EVENTS: Final = """
    session_started session_ended sampled attempt_started attempt_failed retry_scheduled link_opened
    link_lost connected disconnected handed_over token_obtained refresh_started handler_failed
    renewal_failed flapped latency_measured of_a_later_version
""".split()  # noqa: SIM905
MEMBERS: Final = """
    link old new handover released took lived delay generation expires_in received sent error
    error_type status code reason method endpoint text
""".split()  # noqa: SIM905
members = st.dictionaries(st.sampled_from(MEMBERS), st.integers(0, 5) | st.floats() | values)
recorded = st.builds(
    lambda name, at, own: {"at": at, "connection_id": "c", "session": 1, **own, "event": name},
    st.sampled_from([f"bridge.{name}" for name in EVENTS] + ["mark"]),
    st.floats(1.7e9, 1.7e9 + 100) | st.sampled_from([0.0, 1e11, 2e11, LATEST - 1]) | st.floats(),
    members,
)
recordings = st.lists(
    st.one_of(recorded.map(lambda line: json.dumps(line).encode()), bodies), max_size=25
)


@target("timelines")
@given(recordings)
def timelines(lines: list[bytes]) -> None:
    problems = Problems()
    read = entries(io.BytesIO(b"\n".join(lines)), "run.jsonl", problems)
    story = fold(read, problems.note)
    assert all(problem.isprintable() for problem in problems)
    for track in story.tracks:
        times = [track.start, track.end, *(link.opened for link in track.links)]
        assert all(math.isfinite(time) for time in times)
        assert 0 <= track.start <= track.end < LATEST
    if story.tracks:
        svg = to_svg(draw(story.tracks[:3], story.marks))
        ElementTree.fromstring(svg)
        assert "nan" not in re.sub(r"<(title|desc|text)[^>]*>[^<]*<", "", svg)
        assert len(svg) < 200_000


@target("command lines")
@given(lines.command_lines)
def command_lines(line: tuple[str, list[str]]) -> None:
    name, words = line
    values = lines.parsed(name, words)
    if isinstance(values, str):
        return
    assert [] == list(lines.as_declared(name, values))
    for header in values.get("header", ()):
        with contextlib.suppress(click.UsageError):
            assert a_header(header)[0]
    if name == "watch":
        with contextlib.suppress(ValueError):
            assert address(values["port"]).startswith(("http://", "https://"))
    if name in ("connect", "doctor"):
        with contextlib.suppress(ValueError):
            check_url(values["url"], allow_insecure=values["insecure"])
    if name == "run":
        with contextlib.suppress(ConfigError):
            Config.from_env(environ=_flags(values))
    elif "insecure" in values:
        with contextlib.suppress(ValueError, TypeError, click.UsageError, Raised):
            source(Tokens.of(dict(values)))
    asks = any(values.get(each) is not None for each in ("gateway", "issuer", "token_url"))
    if name == "config" or (name == "token" and not asks):  # these neither wait nor write
        outcome = CliRunner().invoke(cli, [name, *words], env={"NO_SUCH": ""})
        assert outcome.exit_code in (0, 1, 2, 78), (line, outcome.exception)
        assert outcome.exception is None or isinstance(outcome.exception, SystemExit)
        assert "Traceback" not in outcome.output


METHODS: Final = ("GET", "HEAD", "POST", "OPTIONS", "CONNECT", "get", "G\tT", "")
PATHS: Final = (
    *(
        "/",
        "/livez",
        "/readyz",
        "/metrics",
        "/sessions",
        "//livez",
        "/nowhere",
        "/%00",
        "*",
        "[::1",
    ),
    *("http://host/livez", "http://[", "http://[::1]:99999/sessions"),
)
counts = st.one_of(
    st.sampled_from(
        ["0", "1", "1000", "1001", "9" * 9, "9" * 10, "9" * 5000, "-1", "+1", "1e3", "1_0"]
    ),
    st.sampled_from(["٣", "²", "%31", "1%00", " 1", "NaN", ""]),
    st.integers(10**8, 10**10).map(str),
    st.text(max_size=6),
)
queries = st.one_of(
    st.builds("?offset={}&limit={}".format, counts, counts),
    st.builds("?{}={}".format, st.sampled_from(["offset", "limit", "", "offset=1&offset"]), counts),
)
asked_for_sessions = queries.map(
    lambda query: f"GET /sessions{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode("utf-8", "replace")
)
requests = st.builds(
    lambda method, path, query, headers, end: (
        f"{method} {path}{query} HTTP/1.1\r\nHost: h\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        + end
    ).encode("utf-8", "replace"),
    st.sampled_from(METHODS),
    st.sampled_from(PATHS),
    st.just("") | queries,
    st.dictionaries(
        st.sampled_from(["Accept", "Content-Length", "Transfer-Encoding", "Expect", "X"]),
        st.one_of(
            st.sampled_from(["0", "5", "-1", "chunked", "100-continue", "text/plain; q=x"]),
            st.text(max_size=10),
        ),
        max_size=2,
    ),
    st.sampled_from(["\r\n", "\r\n", "\r\n", "\r\nhello", "\n", ""]),
)


@target("requests to the health port")
@given(
    st.one_of(
        requests,
        asked_for_sessions,
        requests.map(lambda sent: sent * 2),
        st.binary(max_size=300),
    )
)
def health_requests(sent: bytes) -> None:
    answered = asyncio.run(answer_of_the_health_port(sent))
    if not answered:
        return
    reader = h11.Connection(h11.CLIENT)
    method = b"HEAD" if sent.startswith(b"HEAD ") else b"GET"
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    reader.receive_data(answered)
    reader.receive_data(b"")
    head = reader.next_event()
    while isinstance(head, h11.InformationalResponse):
        head = reader.next_event()
    assert isinstance(head, h11.Response)
    assert head.status_code in (200, 400, 404, 405, 413, 431, 501, 503)
    body = bytearray()
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    if body.startswith(b"{"):
        told = json.loads(body)
        assert 0 <= told["offset"] < 10**9
        assert [] == told["sessions"]


async def answer_of_the_health_port(sent: bytes) -> bytes:
    """What a client is sent by the server's own way of serving, without a socket between."""
    health = HealthServer(Bridge(StaticToken("t")))
    reader = asyncio.StreamReader()
    reader.feed_data(sent)
    reader.feed_eof()
    writer = Written()
    await health._serve(reader, writer)  # type: ignore[arg-type]
    return bytes(writer.sent)


class Written:
    """The half of a `StreamWriter` that a server uses, into memory."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.transport = self

    def write(self, data: bytes) -> None:
        self.sent += data

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    async def drain(self) -> None:
        pass

    def write_eof(self) -> None:
        pass

    def abort(self) -> None:
        pass


TOLD: Final = """
    connection_id session endpoint since link next_link attempts last_error next_attempt_at
    token_expires_at latency link_since
""".split()  # noqa: SIM905
numbers = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.floats(1.7e9, 1.8e9))
watched = st.fixed_dictionaries(
    {"state": st.text(max_size=8) | st.sampled_from(["open", "waiting", CANARY])},
    optional={
        name: st.text(max_size=20) if name in ("endpoint", "last_error") else numbers | scalars
        for name in TOLD
    }
    | {"counters": st.fixed_dictionaries({}, optional={"received": numbers, "sent": scalars})},
)
rounds = st.builds(
    lambda now, total, more, sessions: {**more, "now": now, "total": total, "sessions": sessions},
    st.floats(1.7e9, 1.8e9) | scalars,
    st.integers(0, 9) | scalars,
    st.dictionaries(st.sampled_from(["version", "ready", "draining", "open"]), scalars, max_size=4),
    st.one_of(st.lists(watched, min_size=1, max_size=4), st.lists(watched | values), values),
)


@target("answers to watch")
@given(
    st.lists(
        st.tuples(
            st.sampled_from([200] * 8 + [204, 302, 404, 500]),
            st.one_of([rounds.map(lambda told: json.dumps(told).encode())] * 3 + [bodies]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 5),
)
def watch_answers(replies: list[tuple[int, bytes]], limit: int) -> None:
    waiting = iter(replies)
    last = (200, json.dumps({"now": 1.8e9, "sessions": []}).encode())

    def answer(_: httpx2.Request) -> httpx2.Response:
        status, body = next(waiting, last)
        return httpx2.Response(status, content=body)

    port = asking_port()
    port._client = httpx2.Client(transport=httpx2.MockTransport(answer))
    before: Round | None = None
    for _ in range(2):
        try:
            told = with_rates(port.ask(), before)
        except Unreachable as error:
            refusals = [escape(str(error))]
        else:
            refusals, before = [], told
            sound_table(told, limit)
        assert all(why.isprintable() and CANARY not in why for why in refusals)


@functools.cache
def asking_port() -> Port:
    """One for all examples: its own client takes long to make, and is not what is looked at."""
    with Port(f"http://user:{CANARY}@h:8080") as port:
        return port


def sound_table(told: Round, limit: int) -> None:
    """Check that a round can be shown in each way."""
    shown = plain(told, limit=limit)
    assert all(line.replace("\t", "").isprintable() for line in shown), shown
    assert len(shown) <= 3 + limit
    assert sum(told.by_state().values()) == len(told.sessions)
    Console(file=io.StringIO(), width=200).print(table(told, limit=limit))
    json.dumps(asdict(told), allow_nan=False)


statuses = st.one_of(
    st.sampled_from(["200", "403", "407", "502", "2oo", "", "-1", "9" * 5000, "²00"]),
    st.integers(0, 9999).map(str),
)
tunnels = st.one_of(
    st.builds(
        lambda version, status, reason, headers: (
            f"{version} {status} {reason}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            + "\r\n"
        ).encode("utf-8", "replace"),
        st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2", "ICY", ""]),
        statuses,
        st.text(max_size=20),
        st.dictionaries(header_names, header_values, max_size=3),
    ),
    st.binary(max_size=60),
    st.binary(max_size=12).map(lambda data: b"\x05\x00\x05" + data),
    st.binary(max_size=12).map(lambda data: b"\x05\x02\x01\x00\x05" + data),
)


@target("proxies' answers")
@given(st.sampled_from(["http", "socks5", "socks4"]), tunnels)
def proxy_answers(scheme: str, sent: bytes) -> None:
    finding = asyncio.run(through_a_proxy(scheme, sent))
    assert "proxy" == finding.step
    assert finding.outcome in ("pass", "fail")
    assert bool(finding.advice) == ("fail" == finding.outcome)
    assert finding.hopeless <= ("fail" == finding.outcome)
    assert finding.said.isprintable(), finding.said
    assert len(finding.said) < 200
    assert CANARY not in repr(finding)
    json.dumps(dict(finding.facts), allow_nan=False)
    if "pass" == finding.outcome:
        is_granted = rb"\S* +200\b" if scheme == "http" else rb"[\x05\x00]"
        assert re.match(is_granted, sent), sent


async def through_a_proxy(scheme: str, sent: bytes) -> Finding:
    """What the doctor finds of a proxy that answers so, whatever it is asked, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(2**16)
            writer.write(sent)
            writer.write_eof()
            while await reader.read(2**16):
                pass
        writer.close()
        has_left.set()

    has_left = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found = Found()
    async with server, asyncio.timeout(10):
        port = server.sockets[0].getsockname()[1]
        proxy = f"{scheme}://user:{CANARY}@127.0.0.1:{port}"
        subject = Subject(url="ws://203.0.113.1:8765/", source=None, connection_id="c", proxy=proxy)
        try:
            return await pass_proxy(subject, found)
        finally:
            found.discard()
            await has_left.wait()
