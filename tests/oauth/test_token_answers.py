"""What a token endpoint may answer, how it is judged, and when a session ends over it.

The rows are those of the table in which trusted clients' behaviour was put together; the
gateway's have their own tests.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from dromos._core import schedule
from dromos._core.failure import Again, Failure, Over, weigh
from dromos._core.policy import Moment, Past, Policy
from dromos._core.schedule import Need
from dromos._core.verdict import Stage, asked_to_wait, judge
from dromos.errors import InteractionRequired, TokenError
from dromos.model import Token, Verdict
from dromos.oauth._client import Client
from dromos.oauth._endpoint import Issued
from dromos.oauth._http import UNTRUSTED, Answer, NoAnswer, Outcome, Request
from dromos.oauth.cache import Grant, TokenCache
from dromos.oauth.client_credentials import ClientCredentials
from dromos.oauth.device_code import authorized
from dromos.oauth.jwt_bearer import JWTBearer
from dromos.oauth.refresh_token import refresh
from dromos.oauth.token_exchange import TokenExchange
from dromos.redaction import Secret
from tests.oauth.fake_provider import wall
from tests.oauth.playing import (
    CANARY,
    EC,
    LOST,
    NOW,
    TOKEN_URL,
    UNSENT,
    answer,
    at_noon,
    date,
    pem,
    play,
    refusal,
    token,
)

T, B, U, P = Verdict.TRANSIENT, Verdict.BOUNDED, Verdict.INTERACTION, Verdict.PERMANENT

OPTIONS: Any = {"token_url": TOKEN_URL, "client_id": "agent-7", "client_secret": CANARY}
PROMPT = {
    "device_code": "device-code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://login.example/go",
}
FORM = "application/x-www-form-urlencoded"


# --- Asking ---------------------------------------------------------------------------------------


def client(**more: Any) -> Client:
    return at_noon(Client({**OPTIONS, **more}))


def by_client(*outcomes: Outcome, **options: Any) -> Any:
    return play(ClientCredentials(**{**OPTIONS, **options}).flow(), *outcomes).result


def by_refresh(*outcomes: Outcome) -> Any:
    return play(refresh(client(), Secret("rt-1-secret")), *outcomes).result


def by_exchange(*outcomes: Outcome) -> Any:
    return play(TokenExchange("subject", **OPTIONS).flow(), *outcomes).result


def by_bearer(*outcomes: Outcome) -> Any:
    provider = JWTBearer(signing_key=pem(EC), claims={"iss": "robot"}, token_url=TOKEN_URL)
    return play(provider.flow(), *outcomes).result


def by_device(*outcomes: Outcome) -> Any:
    asking = client()
    asking.device_url = asking.token_url
    return play(authorized(asking, lambda prompt: None), answer(PROMPT), *outcomes).result


Grants = Callable[..., Any]
ALL: list[Grants] = [by_client, by_refresh, by_exchange, by_bearer, by_device]
ISSUING: list[Grants] = [by_client, by_exchange, by_bearer]


def error_of(result: Any) -> TokenError:
    found = result.token if isinstance(result, Issued) else result
    assert isinstance(found, TokenError), found
    assert CANARY not in f"{found} {found!r} {vars(found)}"
    return found


def token_of(result: Any) -> Token:
    assert isinstance(result, Issued), result
    assert isinstance(result.token, Token), result.token
    return result.token


# --- Judging --------------------------------------------------------------------------------------

NEVER = Past()
WORKED = Past(had_token=True)


def weighed(past: Past, error: Exception, *, at: float = 0.0, roll: float = 0.5) -> Again | Over:
    moment = Moment(now=at, wall=NOW + at, roll=roll, link=1, ticket=1)
    return weigh(Policy(), past, Failure(error=error, stage=Stage.TOKEN), moment)


def lasts(error: TokenError) -> tuple[int, float]:
    """How many failures in a row, 20 s apart, a session bears that had a token, and how long."""
    past = WORKED
    for count in range(1, 100):
        outcome = weighed(past, error, at=20.0 * count)
        if isinstance(outcome, Over):
            return count, 20.0 * (count - 1)
        past = outcome.past
    return 100, 2000.0


def check(error: TokenError, verdict: Verdict) -> None:
    """A verdict, before and after the first token, and what a session makes of it."""
    for worked in (False, True):
        found = judge(error, stage=Stage.TOKEN, worked=worked, rejected=False)
        assert verdict is found, f"{found} after {error}"
    first = weighed(NEVER, error)
    match verdict:
        case Verdict.TRANSIENT:
            # The first token has ten seconds, and a rate limit takes them all.
            assert isinstance(first, Again) or (asked_to_wait(error) or 0.0) >= 5
            assert (100, 2000.0) == lasts(error)
        case Verdict.BOUNDED:
            assert isinstance(first, Over)
            assert (16, 300.0) == lasts(error)
        case _:
            assert isinstance(first, Over)
            assert isinstance(first.error, InteractionRequired) is (verdict is U)
            assert (1, 0.0) == lasts(error)


def test_a_bounded_failure_needs_both_five_tries_and_five_minutes():
    error = refusal_error("invalid_client", 401)
    past = replace(WORKED, bounded=5, bounded_since=0.0)

    assert isinstance(weighed(past, error, at=299.0), Again)
    assert isinstance(weighed(past, error, at=300.0), Over)
    assert isinstance(weighed(replace(past, bounded=4), error, at=9000.0), Again)


def refusal_error(code: str, status: int) -> TokenError:
    return error_of(by_client(refusal(code, status)))


# --- No answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ISSUING)
@pytest.mark.parametrize("outcome", [UNSENT, LOST], ids=["not sent", "lost"])
def test_no_answer_is_transient(ask: Grants, outcome: NoAnswer):
    check(error_of(ask(outcome)), T)


def test_no_answer_to_a_refresh_is_transient():
    check(error_of(by_refresh(UNSENT)), T)
    check(error_of(by_refresh(LOST, LOST)), T)


@pytest.mark.parametrize("ask", ALL)
def test_a_certificate_that_is_refused_is_bounded(ask: Grants):
    refused = NoAnswer(reason="its certificate", sent=False, started=NOW, code=UNTRUSTED)

    error = error_of(ask(refused))

    check(error, B)
    assert "https://login.example:443" in str(error)


def test_a_lost_answer_after_which_the_refresh_token_is_dead_needs_a_person():
    error = error_of(by_refresh(LOST, refusal("invalid_grant")))

    check(error, U)
    assert "rotation_answer_lost" == error.suberror


# --- Codes ----------------------------------------------------------------------------------------

CODES = {
    "invalid_request": P,
    "unsupported_grant_type": P,
    "unauthorized_client": P,
    "invalid_scope": P,
    "invalid_target": P,
    "unsupported_token_type": P,
    "invalid_client": B,
    "interaction_required": U,
    "login_required": U,
    "consent_required": U,
    "account_selection_required": U,
    "mfa_required": U,
    "invalid_rapt": U,
    "rapt_required": U,
    "server_error": T,
    "temporarily_unavailable": T,
    "internal_failure": T,
    "invalid_dpop_proof": B,
    "use_dpop_nonce": P,  # again after it was given, or without one to give
    "nobody_knows_this": P,
}


@pytest.mark.parametrize("ask", [*ISSUING, by_refresh])
@pytest.mark.parametrize(("code", "verdict"), CODES.items())
def test_a_code_is_judged_alike_in_every_grant(ask: Grants, code: str, verdict: Verdict):
    error = error_of(ask(refusal(code)))

    check(error, verdict)
    assert (code, 400) == (error.code, error.status)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500, 503])
@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("temporarily_unavailable", T),
        ("server_error", T),
        ("invalid_client", B),
        ("invalid_scope", P),
        ("consent_required", U),
    ],
)
def test_a_code_goes_before_the_status(code: str, verdict: Verdict, status: int):
    check(refusal_error(code, status), verdict)


@pytest.mark.parametrize(
    ("ask", "verdict"), [(by_refresh, U), *((ask, B) for ask in (*ISSUING, by_device))]
)
def test_a_grant_that_is_refused_needs_a_person_only_where_one_gave_it(
    ask: Grants, verdict: Verdict
):
    check(error_of(ask(refusal("invalid_grant"))), verdict)


@pytest.mark.parametrize(
    ("ask", "verdict"), [(by_device, U), *((ask, P) for ask in (*ISSUING, by_refresh))]
)
def test_access_that_is_denied_needs_a_person_only_where_one_said_no(ask: Grants, verdict: Verdict):
    check(error_of(ask(refusal("access_denied"))), verdict)


def test_a_device_code_that_has_expired_needs_another_one():
    check(error_of(by_device(refusal("expired_token"))), U)


def test_what_a_person_has_to_be_told_is_kept():
    told = {
        "error": "interaction_required",
        "suberror": "basic_action",
        "claims": '{"access_token":{"acrs":{"value":"c1"}}}',
        "correlation_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    }

    error = error_of(by_client(answer(told, 400)))

    assert tuple(told.values()) == (
        error.code,
        error.suberror,
        error.claims,
        error.correlation_id,
    )


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ([50076, 7000215], (50076, 7000215)),
        (None, ()),
        ("50076", ()),
        ({"50076": 1}, ()),
        (["50076", True, -1, 1.5, 10**7, None, [1], 3], (3,)),
        (list(range(1000)), tuple(range(16))),
    ],
)
def test_the_numbers_of_an_error_are_kept(told: object, kept: tuple[int, ...]):
    error = error_of(by_client(answer({"error": "invalid_client", "error_codes": told}, 401)))

    assert kept == error.error_codes


@pytest.mark.parametrize("grant", ISSUING)
def test_a_refused_grant_may_be_refused_for_what_is_not_the_grant(grant: Grants):
    error = error_of(grant(refusal("invalid_grant")))

    assert all(word in str(error) for word in ("clock", "DPoP", "certificate"))
    assert "DPoP" not in str(error_of(by_refresh(refusal("invalid_grant"))))


@pytest.mark.parametrize("name", ["x-correlation-id", "x-ms-request-id", "x-request-id"])
def test_the_servers_name_for_the_exchange_is_kept(name: str):
    assert "abc-1" == error_of(by_client(answer(b"", 500, **{name: "abc-1"}))).correlation_id


def test_the_name_of_an_exchange_does_not_repeat_a_secret():
    error = error_of(by_client(answer(b"", 500, x_request_id=f"r-{CANARY}")))

    assert CANARY not in str(error.correlation_id)


# --- Statuses -------------------------------------------------------------------------------------

STATUSES = {
    **dict.fromkeys((300, 301, 302, 303, 304, 307, 308), P),
    401: B,
    403: P,
    **dict.fromkeys((404, 405, 410), B),
    407: P,
    **dict.fromkeys((408, 421, 425, 429), T),
    **dict.fromkeys((400, 402, 406, 409, 411, 413, 415, 418, 422, 431, 451, 499), P),
    **dict.fromkeys((501, 505), P),
    **dict.fromkeys((500, 502, 503, 504, 507, 508, 509, 510, 511, 520, 524, 530, 599), T),
}


@pytest.mark.parametrize(
    "body", [b"", b"<html>no</html>", b'{"odd":1}'], ids=["none", "page", "odd"]
)
@pytest.mark.parametrize(("status", "verdict"), STATUSES.items())
def test_a_status_is_judged_where_there_is_no_code(status: int, verdict: Verdict, body: bytes):
    error = error_of(by_client(answer(body, status)))

    check(error, verdict)
    assert (status, None, False) == (error.status, error.code, error.malformed)


@pytest.mark.parametrize("status", [401, 404, 429, 503])
@pytest.mark.parametrize("ask", [*ISSUING, by_refresh])
def test_a_status_is_judged_alike_in_every_grant(ask: Grants, status: int):
    check(error_of(ask(answer(b"", status))), STATUSES[status])


def test_403_is_passing_where_the_server_says_until_when():
    check(error_of(by_client(answer(b"", 403, retry_after="5"))), T)


@pytest.mark.parametrize(("status", "verdict"), [(404, B), (403, P), (429, T), (503, T)])
def test_metadata_that_can_t_be_had_are_judged_by_their_status(status: int, verdict: Verdict):
    refused = [answer(b"", status)] * (2 if status == 404 else 1)
    options: Any = {"token_url": None, "issuer": "https://login.example"}

    check(error_of(by_client(*refused, **options)), verdict)


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"issuer": "https://evil.example"}, P),
        ({"issuer": "https://login.example"}, P),
        ({"issuer": "https://login.example", "token_endpoint": "http://login.example/"}, P),
    ],
)
def test_metadata_that_lead_nowhere_are_permanent(told: object, verdict: Verdict):
    options: Any = {"token_url": None, "issuer": "https://login.example"}

    check(error_of(by_client(answer(told), **options)), verdict)


def test_metadata_that_can_t_be_read_are_bounded():
    options: Any = {"token_url": None, "issuer": "https://login.example"}

    check(error_of(by_client(answer(b"<html>"), **options)), B)


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_tells_the_origin_that_it_leads_to_and_no_more(status: int):
    where = f"https://u:{CANARY}@evil.example:8443/path?t={CANARY}"

    error = error_of(by_client(answer(b"", status, location=where)))

    assert "https://evil.example:8443," in str(error)
    assert "path" not in str(error)


# --- Successes that are none ----------------------------------------------------------------------

UNUSABLE = {
    "empty": answer(b""),
    "blank": answer(b" \n"),
    "page": answer(b"<html>"),
    "not UTF-8": answer(b"\xff\xfe\xfa"),
    "deep": answer(b"[" * 100_000),
    "list": answer([]),
    "text": answer("at-1"),
    "null": answer(None),
    "nothing in it": answer({}),
    "no token": answer({"token_type": "Bearer"}),
    "empty token": token(""),
    "space": token("a b"),
    "line break": token("a\nb"),
    "last line break": token("a\n"),
    "NUL": token("a\0b"),
    "not ASCII": token("é"),
    "surrogate": token("\ud800"),
    "1 MB": token("x" * 1_000_000),
    "number": answer({"access_token": 7, "token_type": "Bearer"}),
    "object": answer({"access_token": {}, "token_type": "Bearer"}),
    "mac": token(token_type="mac"),
    "N_A": token(token_type="N_A"),
    "a type that is none": token(token_type=7),
    "cut off": replace(token(), flaw="it was over 1 MiB"),
    "form without fields": answer(b"hello", content_type=FORM),
    "form of a million fields": answer(b"access_token=at&a=" + b"&a=" * 300_000, content_type=FORM),
}


@pytest.mark.parametrize("held", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_success_without_a_usable_token_is_bounded(held: Answer):
    error = error_of(by_client(held))

    check(error, B)
    assert (200, True) == (error.status, error.malformed)


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", None])
def test_27_bearer_is_understood_in_any_spelling_and_assumed_where_none_is_told(kind: object):
    assert "at-1" == token_of(by_client(token(token_type=kind))).access_token


def test_27_a_type_that_is_assumed_is_said_once(caplog: pytest.LogCaptureFixture):
    provider = ClientCredentials(**OPTIONS)
    for _ in range(2):
        play(provider.flow(), token(token_type=None))

    (said,) = caplog.messages
    assert "Bearer is assumed" in said


def test_less_than_the_user_requires_is_permanent():
    error = error_of(by_client(token(scope="a"), scope="a b", require_scope=True))

    check(error, P)
    assert "insufficient_scope" == error.code


# --- Other shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FORM, f"{FORM}; charset=utf-8", FORM.upper()])
def test_a_form_is_understood(kind: str):
    body = b"access_token=at%2B1&token_type=bearer&expires_in=60&scope=a+b"

    held = token_of(by_client(answer(body, content_type=kind)))

    assert ("at+1", 60, ("a", "b")) == (held.access_token, held.lifetime, held.scopes)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b"error=temporarily_unavailable", T),
        (b"error=invalid_client&error_description=Who+are+you", B),
        (b"error=bad_verification_code&error_uri=https%3A%2F%2Fx", P),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_an_error_in_a_form_is_understood(body: bytes, verdict: Verdict, status: int):
    check(error_of(by_client(answer(body, status, content_type=FORM))), verdict)


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"error": "incorrect_client_credentials", "error_description": "Wrong."}, P),
        ({"ok": False, "error": "invalid_auth"}, P),
        ({"ok": False, "error": "internal_failure"}, T),
        ({"error": {"code": 400, "message": "no"}}, P),
    ],
    ids=["GitHub", "Slack", "transient", "Google's APIs"],
)
def test_a_success_with_an_error_in_it_is_judged_by_the_code(told: object, verdict: Verdict):
    error = error_of(by_client(answer(told)))

    check(error, verdict)
    assert not error.malformed


def test_a_token_beside_an_empty_error_is_a_token():
    assert token_of(by_client(token(error="", error_description=None)))


def test_a_description_is_shown_and_a_secret_in_it_is_not():
    described = f"No such client, {CANARY} it says"

    error = error_of(
        by_client(answer({"error": "invalid_client", "error_description": described}, 401))
    )

    assert "(invalid_client: No such client, <redacted> it says)" in str(error)


def test_a_code_that_repeats_a_secret_is_none():
    assert error_of(by_client(refusal(f"bad_{CANARY}"))).code is None


# --- Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": " 7 "}, 7.0),
        ({"retry_after": date(30)}, 30.0),
        ({"retry_after": date(630), "date": date(600)}, 30.0),
        ({"retry_after": date(-570), "date": date(-600)}, 30.0),
        ({"retry_after": date(30), "date": "garbage"}, 30.0),
        ({"retry_after": str(10**9)}, 3600.0),
        ({"retry_after": "9" * 5000}, 3600.0),
        ({"retry_after": date(86_400)}, 3600.0),
        ({"retry_after": "0"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "1.5"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "٣"}, None),
        ({"retry_after": ""}, None),
        ({"retry_after": date(-30)}, None),
        ({"retry_after": "Mon, 99 Foo 2026 99:99:99 GMT"}, None),
        ({}, None),
    ],
    ids=lambda value: ascii(value)[:60],
)  # fmt: skip
def test_15_retry_after_is_respected_capped_or_ignored(
    headers: dict[str, str], expected: float | None
):
    assert expected == error_of(by_client(answer(b"", 503, **headers))).retry_after


@pytest.mark.parametrize(
    ("status", "asked", "least"),
    [(429, "120", 120.0), (503, "120", 120.0), (429, None, 10.0), (429, "-5", 10.0)],
)
def test_15_a_session_waits_at_least_so_long(status: int, asked: str | None, least: float):
    headers = {} if asked is None else {"retry_after": asked}

    outcome = weighed(WORKED, error_of(by_client(answer(b"", status, **headers))), roll=0.0)

    assert isinstance(outcome, Again)
    assert least <= outcome.delay


def test_15_retry_after_makes_no_delay_shorter():
    past = replace(WORKED, failures=9)

    outcome = weighed(past, error_of(by_client(answer(b"", 503, retry_after="1"))), roll=0.9)

    assert isinstance(outcome, Again)
    assert outcome.delay > 30


# --- Lifetimes, in virtual time -------------------------------------------------------------------

TEN_YEARS = 10 * 365 * 86_400


@dataclass
class Server:
    """Issues `at-1`, `at-2`, ..., each said to live as long as the text of a JSON value says."""

    said: str | None
    asked: list[float] = field(default_factory=list)

    async def send(self, request: Request, /) -> Outcome:
        self.asked.append(asyncio.get_running_loop().time())
        began = wall()
        await asyncio.sleep(0.1)
        lives = "" if self.said is None else f',"expires_in":{self.said}'
        body = f'{{"access_token":"at-{len(self.asked)}","token_type":"Bearer"{lives}}}'
        headers = {"content-type": "application/json"}
        return Answer(status=200, headers=headers, body=body.encode(), started=began, at=wall())


def verdict_of(error: Exception, worked: bool) -> Verdict:
    return judge(error, stage=Stage.TOKEN, worked=worked, rejected=False)


async def pestered(server: Server, *needs: Need, seconds: float) -> list[Grant]:
    """Ask a cache for tokens four times a second, and return the grants."""
    provider = ClientCredentials(**OPTIONS, transport=server)
    provider._client.wall = wall
    cache = TokenCache(provider, judge=verdict_of, wall=wall)
    loop, grants = asyncio.get_running_loop(), []
    while loop.time() < seconds:
        for need in needs:
            with contextlib.suppress(TokenError):
                grants.append(await cache.obtain("c", need=need))
        await asyncio.sleep(0.25)
    return grants


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("said", "floor"),
    [
        ("1", 1.0),
        ("2", 1.0),
        ("5", 1.25),
        ("60", 15.0),
        ("300", 30.0),
        (str(TEN_YEARS), 30.0),
        ('"3600"', 30.0),
        ("3600.5", 30.0),
        (None, 1.0),
        ("0", 1.0),
        ("-1", 1.0),
        ("1e9999", 1.0),
        ("-1e9999", 1.0),
        ("Infinity", 1.0),
        ("NaN", 1.0),
        ("true", 1.0),
        ("[]", 1.0),
        ('{"a":1}', 1.0),
        ('"soon"', 1.0),
        ("1" * 400, 1.0),
        ("0.000001", 1.0),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_12_no_lifetime_makes_a_loop(said: str | None, floor: float):
    server = Server(said)

    grants = await pestered(server, Need.DIAL, Need.RENEW, seconds=100)

    assert grants or said == "0.000001"
    assert all(later - earlier >= floor for earlier, later in pairwise(server.asked))


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("said", "lifetime"),
    [("60", 60.0), ('"3600"', 3600.0), ("3600.5", 3600.5), (str(TEN_YEARS), TEN_YEARS)],
)
async def test_12_a_lifetime_that_is_one_is_the_leases(said: str, lifetime: float):
    grants = await pestered(Server(said), Need.DIAL, seconds=0.1)

    assert lifetime == grants[0].lease.lifetime
    assert lifetime - 1 < schedule.remaining(grants[0].lease, now=0.1, wall=wall()) <= lifetime


@pytest.mark.looptime
@pytest.mark.parametrize("said", [None, "0", "-1", "1e9999", "NaN", "true", "[]"])
async def test_12_what_is_no_lifetime_means_until_it_is_refused(said: str | None):
    server = Server(said)

    grants = await pestered(server, Need.DIAL, seconds=100)

    assert grants[0].lease.expires_at is None
    assert 1 == len(server.asked)
