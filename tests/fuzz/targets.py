"""Everything that parses what a stranger sends, and what must hold whatever that is.

Each target is a Hypothesis property.  It may find an error; it may not find an exception
that we did not mean, a value that is not finite, or a secret in what we say.
"""

import base64
import contextlib
import io
import json
import math
import re
import traceback
from collections.abc import Callable
from typing import Any, Final
from xml.etree import ElementTree

import click
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dromos import Config, auth
from dromos._core.verdict import Stage, asked_to_wait, judge
from dromos._driver.endpoint import check_url
from dromos.cli.commands import cli
from dromos.cli.flags import a_header
from dromos.cli.run import _flags
from dromos.cli.sources import Tokens, source
from dromos.cli.watch_ask import address
from dromos.config import ConfigError
from dromos.config.errors import Raised
from dromos.dialers._refusal import parse_head, refused
from dromos.dialers._request import Request as Upgrade
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
