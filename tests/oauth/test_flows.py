"""Every grant played by hand: what it sends, and what it makes of each answer."""

import json
import ssl
import traceback
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from dromos._proof import ProofKey
from dromos.errors import TokenError
from dromos.model import Token
from dromos.oauth._client import Client
from dromos.oauth._endpoint import Issued
from dromos.oauth.client_credentials import ClientCredentials
from dromos.oauth.device_code import DevicePrompt, authorized
from dromos.oauth.jwt_bearer import JWTBearer
from dromos.oauth.refresh_token import LOST_ANSWER_PAUSE, RefreshToken, refresh
from dromos.oauth.token_exchange import TokenExchange
from dromos.redaction import Secret
from tests.oauth.playing import (
    CANARY,
    EC,
    ISSUER,
    LOST,
    NOW,
    OTHER,
    TOKEN_URL,
    UNSENT,
    Played,
    answer,
    at_noon,
    bound,
    date,
    metadata,
    pem,
    play,
    refusal,
    token,
)

POST = f"POST {TOKEN_URL}"
RESERVED = "a:b%c+d e/f?g=h&é~<>'\""


def service(**options: Any) -> ClientCredentials:
    options.setdefault("client_id", "agent-7")
    if not options.keys() & {"client_secret", "private_key", "client_auth"}:
        options["client_secret"] = CANARY
    if "issuer" not in options:
        options.setdefault("token_url", TOKEN_URL)
    provider = ClientCredentials(**options)
    at_noon(provider._client)
    return provider


def signer(**options: Any) -> ClientCredentials:
    return service(private_key=pem(EC), **options)


def issued(played: Played) -> Token:
    assert isinstance(played.result, Issued), played.result
    assert isinstance(played.result.token, Token), played.result.token
    return played.result.token


def failed(played: Played) -> TokenError:
    result = played.result.token if isinstance(played.result, Issued) else played.result
    assert isinstance(result, TokenError), result
    assert CANARY not in f"{result} {result!r} {vars(result)}"
    return result


# --- Requests -------------------------------------------------------------------------------------


def test_the_client_credentials_grant_is_one_post_of_a_form():
    played = play(service().flow(), token())

    posed = played.asked[0]
    assert [POST] == played.places()
    assert [("grant_type", "client_credentials")] == posed.form
    assert "application/x-www-form-urlencoded" == posed.headers["content-type"]
    assert "application/json" == posed.headers["accept"]
    assert "at-1" == issued(played).access_token


def test_a_lifetime_counts_from_the_moment_the_request_began():
    held = issued(play(service().flow(), token()))

    assert (NOW - 0.2 + 3600, 3600) == (held.expires_at, held.lifetime)


def test_a_lifetime_that_is_not_told_may_be_assumed():
    held = issued(play(service(assume_lifetime=90).flow(), token(expires_in=None)))

    assert (NOW - 0.2 + 90, 90) == (held.expires_at, held.lifetime)


def test_what_is_wanted_goes_into_the_form():
    provider = service(
        scope=["read", "write"],
        audience="telemetry",
        resource=["https://a.example", "https://b.example"],
        extra={"tenant": "t"},
    )

    played = play(provider.flow(), token())

    assert [
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
        ("audience", "telemetry"),
        ("resource", "https://a.example"),
        ("resource", "https://b.example"),
        ("tenant", "t"),
    ] == played.asked[0].form


def test_each_request_has_an_id_of_its_own():
    provider = service()

    ids = [play(provider.flow(), token()).asked[0].headers["x-request-id"] for _ in range(2)]

    assert ids[0] != ids[1]


def test_scopes_that_were_granted_are_told_and_those_that_were_asked_for_otherwise():
    narrowed = play(service(scope="a b").flow(), token(scope="a"))
    silent = play(service(scope="a b").flow(), token())

    assert (("a",), ("a", "b")) == (issued(narrowed).scopes, issued(silent).scopes)


def test_less_than_was_asked_for_is_a_warning_said_once(caplog: pytest.LogCaptureFixture):
    provider = service(scope="a b")
    for _ in range(2):
        play(provider.flow(), token(scope="a"))

    assert [f"{ISSUER}:443 grants less than was asked for: not ['b']"] == caplog.messages


def test_less_than_was_required_is_an_error():
    error = failed(play(service(scope="a b", require_scope=True).flow(), token(scope="a")))

    assert "insufficient_scope" == error.code


# --- Who asks -------------------------------------------------------------------------------------


def test_23_basic_form_encodes_name_and_secret_first():
    posed = play(service(client_id=RESERVED, client_secret=RESERVED).flow(), token()).asked[0]

    assert (RESERVED, RESERVED) == posed.basic()
    assert ["grant_type"] == [name for name, _ in posed.form]


def test_post_puts_name_and_secret_into_the_form():
    provider = service(client_id=RESERVED, client_secret=RESERVED, client_auth="post")

    posed = play(provider.flow(), token()).asked[0]

    assert (RESERVED, RESERVED) == (posed["client_id"], posed["client_secret"])
    assert "authorization" not in posed.headers


def test_a_certificate_needs_the_name_and_nothing_else():
    provider = service(client_auth="tls", ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    posed = play(provider.flow(), token()).asked[0]

    assert "agent-7" == posed["client_id"]
    assert 2 == len(posed.form)
    assert "authorization" not in posed.headers


def test_a_public_client_gives_its_name():
    provider = JWTBearer("an.assertion.x", token_url=TOKEN_URL, client_id="agent-7")

    posed = play(provider.flow(), token()).asked[0]

    assert "agent-7" == posed["client_id"]


def test_a_client_without_a_name_gives_none():
    posed = play(JWTBearer("an.assertion.x", token_url=TOKEN_URL).flow(), token()).asked[0]

    assert ["grant_type", "assertion"] == [name for name, _ in posed.form]


def test_a_secret_is_read_anew_for_each_request():
    secrets = iter(["one\n", Secret("two")])
    provider = service(client_secret=lambda: next(secrets))

    read = [play(provider.flow(), token()).asked[0].basic()[1] for _ in range(2)]

    assert ["one", "two"] == read


def test_a_secret_may_come_from_an_async_function():
    async def secret() -> str:
        return "later"

    assert "later" == play(service(client_secret=secret).flow(), token()).asked[0].basic()[1]


KEYS = [f"{CANARY}", f"{CANARY}\udcff", b"", 7, {"d": CANARY}, [CANARY]]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_3_a_function_that_returns_no_key_is_a_clean_error(key: object):
    with pytest.raises((ValueError, TypeError), match="private_key") as caught:
        play(service(private_key=lambda: key).flow())

    assert CANARY not in _frames_of_ours(caught.value)


def _frames_of_ours(error: BaseException) -> str:
    """What a traceback with captured locals shows of the library."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in told.stack if "/dromos/" in frame.filename]
    assert ours
    return f"{error!r} {[frame.locals for frame in ours]}"


def test_a_secret_is_read_anew_for_the_second_try_with_a_nonce():
    secrets = iter(["one", "two"])
    provider = service(client_secret=lambda: next(secrets), dpop=True)

    played = play(provider.flow(), refusal("use_dpop_nonce", dpop_nonce="n"), bound())

    assert ["one", "two"] == [posed.basic()[1] for posed in played.asked]


@pytest.mark.parametrize("secret", ["", "\n", None, 7, b"bytes", f"{CANARY}\udcff"], ids=ascii)
def test_a_function_that_returns_no_secret_is_a_clean_error(secret: object):
    with pytest.raises((ValueError, TypeError), match="client_secret") as caught:
        play(service(client_secret=lambda: secret).flow())

    assert not isinstance(caught.value, UnicodeError)  # it would hold the whole text
    assert CANARY not in _frames_of_ours(caught.value)


# --- private_key_jwt ------------------------------------------------------------------------------


def test_a_signed_assertion_says_who_asks_whom_and_until_when():
    posed = play(signer(key_id="k-1").flow(), token()).asked[0]

    assert (
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" == posed["client_assertion_type"]
    )
    assert {
        "iss": "agent-7",
        "sub": "agent-7",
        "aud": TOKEN_URL,
        "jti": "jti-1",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
    } == posed.assertion(EC.public_key())
    assert "k-1" == jwt.get_unverified_header(posed["client_assertion"])["kid"]


@pytest.mark.parametrize(
    ("options", "audience"),
    [
        ({"issuer": ISSUER}, ISSUER),
        ({"issuer": ISSUER, "assertion_audience": "urn:as"}, "urn:as"),
        ({"token_url": TOKEN_URL, "assertion_audience": "urn:as"}, "urn:as"),
    ],
    ids=["the issuer", "not the issuer", "not the endpoint"],
)
def test_an_assertion_is_for_the_issuer_or_whom_the_user_names(
    options: dict[str, Any], audience: str
):
    answers = [metadata()] if "issuer" in options else []

    posed = play(signer(**options).flow(), *answers, token()).asked[-1]

    assert audience == posed.assertion(EC.public_key())["aud"]


def test_20_each_attempt_has_an_assertion_of_its_own():
    provider = signer()
    flows = [play(provider.flow(), refusal("temporarily_unavailable", 503)) for _ in range(3)]

    claims = [played.asked[0].assertion(EC.public_key()) for played in flows]

    assert ["jti-1", "jti-2", "jti-3"] == [claim["jti"] for claim in claims]


def test_a_key_is_read_anew_for_each_request():
    keys = iter([pem(EC), pem(OTHER).encode()])
    provider = service(private_key=lambda: next(keys))

    one, two = (play(provider.flow(), token()).asked[0] for _ in range(2))

    assert one.assertion(EC.public_key())
    assert two.assertion(OTHER.public_key())


def test_a_wrong_clock_is_corrected_by_the_date_of_the_refusal():
    played = play(signer().flow(), refusal("invalid_client", 401, date=date(600)), token())

    first, second = (posed.assertion(EC.public_key()) for posed in played.asked)
    assert 600 == pytest.approx(second["iat"] - first["iat"], abs=2)
    assert ("jti-1", "jti-2") == (first["jti"], second["jti"])


def test_a_clock_is_corrected_once_and_no_more():
    played = play(
        signer().flow(),
        refusal("invalid_client", 401, date=date(600)),
        refusal("invalid_client", 401, date=date(9000)),
    )

    assert "invalid_client" == failed(played).code


def test_a_correction_lasts():
    provider = signer()
    play(provider.flow(), refusal("invalid_client", 401, date=date(600)), token())

    later = play(provider.flow(), refusal("invalid_client", 401, date=date(600)))

    assert 600 == pytest.approx(later.asked[0].assertion(EC.public_key())["iat"] - NOW, abs=2)


@pytest.mark.parametrize(
    "refused",
    [
        refusal("invalid_client", 401),
        refusal("invalid_client", 401, date=date(2)),
        refusal("invalid_client", 401, date="garbage"),
        refusal("invalid_scope", 400, date=date(600)),
        refusal("invalid_grant", 400, date=date(600)),
    ],
    ids=["no date", "right clock", "garbage", "another matter", "the grant is not signed"],
)
def test_a_refusal_that_is_not_about_time_is_not_asked_again(refused: Any):
    assert failed(play(signer().flow(), refused))


def test_a_clock_does_not_matter_where_nothing_is_signed():
    assert failed(play(service().flow(), refusal("invalid_client", 401, date=date(600))))


# --- JWT bearer -----------------------------------------------------------------------------------


def bearer(**options: Any) -> JWTBearer:
    options.setdefault("claims", {"iss": "robot"})
    provider = JWTBearer(signing_key=pem(EC), token_url=TOKEN_URL, **options)
    at_noon(provider._client)
    return provider


def test_a_jwt_bearer_grant_presents_an_assertion_that_it_signs():
    posed = play(bearer(signing_key_id="k-2", scope="a").flow(), token()).asked[0]

    assert "urn:ietf:params:oauth:grant-type:jwt-bearer" == posed["grant_type"]
    assert "a" == posed["scope"]
    assert {
        "iss": "robot",
        "sub": "robot",
        "aud": TOKEN_URL,
        "jti": "jti-1",
        "iat": int(NOW),
        "exp": int(NOW) + 300,
    } == posed.assertion(EC.public_key(), name="assertion")
    assert "k-2" == jwt.get_unverified_header(posed["assertion"])["kid"]


def test_claims_of_an_assertion_may_be_given():
    provider = bearer(
        claims={"iss": "robot", "sub": "alice", "aud": "urn:as", "scope": "x"},
        assertion_lifetime=10,
    )

    claims = play(provider.flow(), token()).asked[0].assertion(EC.public_key(), name="assertion")

    assert ("alice", "urn:as", "x", int(NOW) + 10) == (
        claims["sub"],
        claims["aud"],
        claims["scope"],
        claims["exp"],
    )


def test_20_claims_can_t_make_an_assertion_be_used_twice():
    provider = bearer(claims={"iss": "robot", "jti": "mine", "exp": 1, "iat": 1})

    claims = play(provider.flow(), token()).asked[0].assertion(EC.public_key(), name="assertion")

    assert ("jti-1", int(NOW) + 300) == (claims["jti"], claims["exp"])


def test_the_clock_of_an_assertion_is_corrected_by_the_date_of_invalid_grant():
    played = play(bearer().flow(), refusal("invalid_grant", date=date(-600)), token())

    first, second = (each.assertion(EC.public_key(), name="assertion") for each in played.asked)
    assert -600 == pytest.approx(second["iat"] - first["iat"], abs=2)
    assert first["jti"] != second["jti"]


def test_the_clock_of_an_assertion_is_corrected_once():
    refused = refusal("invalid_grant", date=date(-600)), refusal("invalid_grant", date=date(9000))

    assert "invalid_grant" == failed(play(bearer().flow(), *refused)).code


def test_an_assertion_of_somebody_else_s_is_not_sent_again_for_its_time():
    provider = JWTBearer("an.assertion.x", token_url=TOKEN_URL)

    assert failed(play(provider.flow(), refusal("invalid_grant", date=date(600))))


def test_an_assertion_of_somebody_else_s_is_read_anew_for_each_request():
    assertions = iter(["one.x.y", Secret("two.x.y\n")])
    provider = JWTBearer(lambda: next(assertions), token_url=TOKEN_URL)

    read = [play(provider.flow(), token()).asked[0]["assertion"] for _ in range(2)]

    assert ["one.x.y", "two.x.y"] == read


def test_20_an_assertion_of_somebody_else_s_is_read_anew_for_the_second_try_with_a_nonce():
    assertions = iter(["one.x.y", "two.x.y"])
    provider = JWTBearer(lambda: next(assertions), token_url=TOKEN_URL, dpop=True)

    played = play(provider.flow(), refusal("use_dpop_nonce", dpop_nonce="n"), bound())

    assert ["one.x.y", "two.x.y"] == [posed["assertion"] for posed in played.asked]


@pytest.mark.parametrize("given", [f"{CANARY} x", "", None, 7], ids=repr)
def test_4_a_function_that_returns_no_assertion_is_a_clean_error(given: object):
    with pytest.raises(TokenError, match="assertion") as caught:
        play(JWTBearer(lambda: given, token_url=TOKEN_URL).flow())

    assert CANARY not in _frames_of_ours(caught.value)


def test_4_an_actor_that_is_none_shows_no_subject():
    provider = TokenExchange(CANARY, actor_token=lambda: "a b", token_url=TOKEN_URL)
    with pytest.raises(TokenError, match="actor_token") as caught:
        play(provider.flow())

    assert CANARY not in _frames_of_ours(caught.value)


# --- Token exchange -------------------------------------------------------------------------------


def test_an_exchange_presents_a_token_and_says_what_it_is():
    provider = TokenExchange(
        "subject",
        subject_token_type="jwt",
        actor_token=Secret("actor"),
        actor_token_type="urn:custom:type",
        requested_token_type="access_token",
        token_url=TOKEN_URL,
        audience="telemetry",
    )

    posed = play(provider.flow(), token()).asked[0]

    kind = "urn:ietf:params:oauth:token-type:"
    assert {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "subject",
        "subject_token_type": f"{kind}jwt",
        "actor_token": "actor",
        "actor_token_type": "urn:custom:type",
        "requested_token_type": f"{kind}access_token",
        "audience": "telemetry",
    } == dict(posed.form)


def test_an_exchange_may_have_a_client_with_a_secret():
    provider = TokenExchange("subject", token_url=TOKEN_URL, client_id="a", client_secret="b")

    assert ("a", "b") == play(provider.flow(), token()).asked[0].basic()


def test_what_is_exchanged_is_read_anew_each_time_from_another_source():
    class Other:
        count = 0

        async def get_token(self, connection_id: str, /) -> Token:
            self.count += 1
            return Token({"access_token": f"subject-{self.count}"})

    provider = TokenExchange(Other(), token_url=TOKEN_URL)

    read = [play(provider.flow(), token()).asked[0]["subject_token"] for _ in range(2)]

    assert ["subject-1", "subject-2"] == read


# --- DPoP -----------------------------------------------------------------------------------------


def test_a_proof_is_for_this_request_and_has_no_more_than_the_public_key():
    url = f"{TOKEN_URL}?tenant=t"
    posed = play(service(dpop=True, token_url=url).flow(), bound()).asked[0]

    header = jwt.get_unverified_header(posed.headers["dpop"])
    assert f"POST {url}" == posed.where
    assert {"jti": "jti-1", "htm": "POST", "htu": TOKEN_URL, "iat": int(NOW)} == posed.proof()
    assert ("dpop+jwt", "ES256") == (header["typ"], header["alg"])
    assert {"kty", "crv", "x", "y"} == header["jwk"].keys()


def test_20_each_request_has_a_proof_of_its_own():
    provider = service(dpop=True)

    proofs = [play(provider.flow(), bound()).asked[0].proof()["jti"] for _ in range(3)]

    assert 3 == len(set(proofs))


def test_the_nonce_that_a_server_wants_is_given_at_once():
    played = play(service(dpop=True).flow(), refusal("use_dpop_nonce", dpop_nonce="n-1"), bound())

    first, second = (posed.proof() for posed in played.asked)
    assert (None, "n-1") == (first.get("nonce"), second["nonce"])
    assert first["jti"] != second["jti"]
    assert "at-1" == issued(played).access_token


def test_a_nonce_is_given_once_and_then_it_is_an_error():
    played = play(
        service(dpop=True).flow(),
        refusal("use_dpop_nonce", dpop_nonce="n-1"),
        refusal("use_dpop_nonce", dpop_nonce="n-2"),
    )

    assert "use_dpop_nonce" == failed(played).code


def test_a_server_that_wants_a_nonce_and_names_none_is_not_asked_again():
    assert failed(play(service(dpop=True).flow(), refusal("use_dpop_nonce")))


def test_a_nonce_is_learned_from_a_success_as_well():
    provider = service(dpop=True)
    play(provider.flow(), bound(dpop_nonce="n-1"))

    assert "n-1" == play(provider.flow(), bound()).asked[0].proof()["nonce"]


def test_a_nonce_of_gigantic_size_is_not_kept():
    provider = service(dpop=True)
    play(provider.flow(), bound(dpop_nonce="n" * 2000))

    assert "nonce" not in play(provider.flow(), bound()).asked[0].proof()


def test_the_clock_of_a_proof_is_corrected():
    played = play(service(dpop=True).flow(), refusal("invalid_dpop_proof", date=date(600)), bound())

    first, second = (posed.proof() for posed in played.asked)
    assert 600 == pytest.approx(second["iat"] - first["iat"], abs=2)


def test_a_bound_token_carries_its_key_for_the_handshake():
    held = issued(play(service(dpop=True).flow(), bound()))

    key = json.loads(held.credentials["dpop_key"])
    assert "dpop" == held.strategy.type
    assert "d" in key
    assert key["d"] not in repr(held)


def test_the_users_own_key_makes_the_proofs():
    posed = play(service(dpop=pem(EC)).flow(), bound()).asked[0]

    assert jwt.decode(
        posed.headers["dpop"], EC.public_key(), algorithms=["ES256"], options={"verify_iat": False}
    )


@pytest.mark.parametrize("kind", ["Bearer", None, "N_A", 3])
def test_a_token_that_is_not_bound_is_refused_where_binding_was_asked_for(kind: object):
    assert "DPoP" in str(failed(play(service(dpop=True).flow(), token(token_type=kind))))


def test_a_bound_token_is_refused_where_binding_was_not_asked_for():
    assert "Bearer" in str(failed(play(service().flow(), bound())))


# --- Device code ----------------------------------------------------------------------------------

DEVICE_URL = "https://login.example/device"
PROMPT = {
    "device_code": f"{CANARY}-device",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://login.example/go",
    "expires_in": 600,
}
PENDING = refusal("authorization_pending")
SLOW_DOWN = refusal("slow_down")


def device(*polls: Any, prompt: Any = None, **told: object) -> Played:
    client = Client({"issuer": ISSUER, "client_id": "agent-7", "scope": "a"})
    shown: list[DevicePrompt] = []
    first = prompt or answer({**PROMPT, **told})
    played = play(authorized(at_noon(client), shown.append), metadata(), first, *polls)
    assert 1 >= len(shown)
    return played


def test_a_device_asks_for_a_code_shows_it_and_polls():
    played = device(PENDING, token())

    assert [f"POST {DEVICE_URL}", POST, POST] == played.places()[1:]
    assert [("scope", "a"), ("client_id", "agent-7")] == played.asked[1].form
    assert {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": PROMPT["device_code"],
        "client_id": "agent-7",
    } == dict(played.asked[2].form)
    steps = ["Request", "Request", "Ask", "Pause", "Request", "Pause", "Request"]
    assert steps == played.steps
    assert "at-1" == issued(played).access_token


def test_a_device_polls_each_five_seconds_unless_it_is_told_otherwise():
    assert [5.0] == device(token()).pauses
    assert [12.0] == device(token(), interval=12).pauses


@pytest.mark.parametrize("interval", [0, -5, 1e-9, "nonsense", True, None])
def test_an_interval_never_makes_a_loop(interval: object):
    assert device(token(), interval=interval).pauses[0] >= 1


def test_slow_down_makes_this_and_all_later_waits_longer():
    played = device(SLOW_DOWN, PENDING, SLOW_DOWN, PENDING, token())

    assert [5.0, 10.0, 10.0, 15.0, 15.0] == played.pauses


@pytest.mark.parametrize("trouble", [UNSENT, LOST], ids=["not sent", "lost"])
def test_a_poll_without_an_answer_doubles_the_wait(trouble: Any):
    assert [5.0, 10.0, 20.0, 20.0] == device(trouble, trouble, PENDING, token()).pauses


@pytest.mark.parametrize(
    "trouble",
    [
        answer(b"", 503),
        answer(b"", 429),
        answer(b"<html>", 502),
        refusal("temporarily_unavailable", 503),
        refusal("server_error", 500),
        refusal("too_many_requests", 429),
    ],
    ids=lambda trouble: f"{trouble.status} {trouble.body!r:.40}",
)
def test_a_server_that_is_ill_does_not_end_the_code(trouble: Any):
    assert [5.0, 10.0] == device(trouble, token()).pauses


def test_a_wait_that_was_slowed_down_does_not_get_shorter():
    played = device(SLOW_DOWN, LOST, PENDING, token(), interval=60)

    assert [60.0, 65.0, 65.0, 65.0] == played.pauses


def test_a_poll_waits_as_long_as_it_was_asked_to():
    assert [5.0, 45.0, 10.0] == device(answer(b"", 429, retry_after="45"), PENDING, token()).pauses


@pytest.mark.parametrize(
    "code", ["access_denied", "expired_token", "invalid_grant", "invalid_client", "odd"]
)
def test_a_refusal_ends_the_code(code: str):
    error = failed(device(PENDING, refusal(code)))

    assert (code, "device") == (error.code, error.step)


def test_a_code_that_has_run_out_is_polled_no_more():
    error = failed(device(*[PENDING] * 5, expires_in=30))

    assert ("expired_token", "device") == (error.code, error.step)


def test_a_code_without_an_end_is_given_up_within_half_an_hour():
    played = device(*[PENDING] * 29, expires_in=1e9, interval=60)

    assert sum(played.pauses) <= 1800
    assert "expired_token" == failed(played).code


def test_a_prompt_says_what_to_do_and_its_repr_does_not():
    shown: list[DevicePrompt] = []
    client = at_noon(Client({"issuer": ISSUER, "client_id": "agent-7"}))
    told = {**PROMPT, "verification_uri_complete": "https://login.example/go?c=WDJB-MJHT"}

    play(authorized(client, shown.append), metadata(), answer(told), token())

    prompt = shown[0]
    assert ("https://login.example/go", "WDJB-MJHT", told["verification_uri_complete"], 600) == (
        prompt.url,
        prompt.user_code,
        prompt.complete_url,
        prompt.expires_in,
    )
    assert "WDJB" not in f"{prompt} {prompt!r}"


def test_a_prompt_may_be_shown_by_an_async_function():
    shown: list[DevicePrompt] = []

    async def show(prompt: DevicePrompt) -> None:
        shown.append(prompt)

    client = at_noon(Client({"issuer": ISSUER, "client_id": "agent-7"}))
    play(authorized(client, show), metadata(), answer(PROMPT), token())

    assert 1 == len(shown)


def test_googles_name_for_the_place_is_understood():
    told = {**PROMPT, "verification_url": PROMPT["verification_uri"]}
    del told["verification_uri"]

    assert issued(device(token(), prompt=answer(told)))


@pytest.mark.parametrize("lacking", ["device_code", "user_code", "verification_uri"])
def test_an_answer_without_a_code_is_malformed(lacking: str):
    told = {name: value for name, value in PROMPT.items() if name != lacking}

    assert failed(device(prompt=answer(told))).malformed


def test_a_code_that_could_steer_a_terminal_is_not_shown():
    assert failed(device(user_code="WDJB\x1b[2J")).malformed


def test_a_refused_request_for_a_code_is_an_error():
    assert "unauthorized_client" == failed(device(prompt=refusal("unauthorized_client"))).code


# --- Refresh --------------------------------------------------------------------------------------


def renewal(*answers: Any, **options: Any) -> Played:
    options = {"token_url": TOKEN_URL, "client_id": "agent-7", **options}
    return play(refresh(at_noon(Client(options)), Secret(f"{CANARY}-rt")), *answers)


def test_a_refresh_presents_the_refresh_token_and_asks_for_no_other_scope():
    played = renewal(token(refresh_token="rt-2"), scope="a", resource="https://a.example")

    assert {
        "grant_type": "refresh_token",
        "refresh_token": f"{CANARY}-rt",
        "resource": "https://a.example",
        "client_id": "agent-7",
    } == dict(played.asked[0].form)
    assert Secret("rt-2") == played.result.refresh_token


def test_a_refresh_that_brings_no_new_refresh_token_says_so():
    assert renewal(token()).result.refresh_token is None


def test_a_refresh_token_counts_even_where_the_access_token_can_t_be_used():
    played = renewal(token("a b", refresh_token="rt-2"))

    assert Secret("rt-2") == played.result.refresh_token
    assert failed(played).malformed


@pytest.mark.parametrize("lost", [LOST, answer(b""), answer(b"<p>")], ids=["cut", "empty", "page"])
def test_11_after_a_lost_answer_the_same_refresh_token_is_used_once_more(lost: Any):
    played = renewal(lost, token("at-2"))

    assert [LOST_ANSWER_PAUSE] == played.pauses
    assert [f"{CANARY}-rt"] * 2 == [posed["refresh_token"] for posed in played.asked]
    assert "at-2" == issued(played).access_token


def test_11_a_server_that_rotated_and_takes_the_old_one_for_stolen_needs_a_person():
    error = failed(renewal(LOST, refusal("invalid_grant")))

    assert ("invalid_grant", "refresh", "rotation_answer_lost") == (
        error.code,
        error.step,
        error.suberror,
    )


def test_11_a_second_lost_answer_is_left_to_the_session():
    assert "answer_lost" == failed(renewal(LOST, LOST)).code


@pytest.mark.parametrize(
    "refused",
    [UNSENT, answer(b"", 503), refusal("invalid_grant"), refusal("invalid_client", 401)],
    ids=["not sent", "503", "invalid_grant", "invalid_client"],
)
def test_a_refresh_whose_outcome_is_known_is_not_asked_again(refused: Any):
    played = renewal(refused)

    assert [] == played.pauses
    assert failed(played).suberror is None


def test_a_refresh_is_not_repeated_for_its_time_where_nothing_is_signed():
    assert failed(renewal(refusal("invalid_grant", date=date(600))))


@pytest.mark.parametrize("flow", ["service", "bearer", "exchange"])
def test_what_never_left_is_not_asked_again_by_a_flow(flow: str):
    flows = {
        "service": service().flow,
        "bearer": bearer().flow,
        "exchange": TokenExchange("subject", token_url=TOKEN_URL).flow,
    }

    error = failed(play(flows[flow](), UNSENT))

    assert (None, None) == (error.status, error.code)


# --- Discovery ------------------------------------------------------------------------------------

BEFORE = ".well-known/oauth-authorization-server"


def found(*answers: Any, issuer: str = ISSUER, **options: Any) -> Played:
    return play(service(issuer=issuer, **options).flow(), *answers)


@pytest.mark.parametrize(
    ("issuer", "place"),
    [
        (ISSUER, f"{ISSUER}:443/{BEFORE}"),
        (f"{ISSUER}/", f"{ISSUER}:443/{BEFORE}"),
        (f"{ISSUER}/tenant/7", f"{ISSUER}:443/{BEFORE}/tenant/7"),
        (f"{ISSUER}/tenant/7/", f"{ISSUER}:443/{BEFORE}/tenant/7"),
        ("https://login.example:8443/t", f"https://login.example:8443/{BEFORE}/t"),
    ],
)
def test_metadata_are_where_rfc_8414_has_them(issuer: str, place: str):
    endpoint = "https://login.example:8443/t" if ":8443" in issuer else TOKEN_URL

    played = found(metadata(issuer=issuer, token_endpoint=endpoint), token(), issuer=issuer)

    assert [f"GET {place}", f"POST {endpoint}"] == played.places()


@pytest.mark.parametrize("status", [404, 405, 410])
def test_metadata_may_be_where_openid_connect_has_them(status: int):
    issuer = f"{ISSUER}/tenant/7"

    played = found(answer(b"", status), metadata(issuer=issuer), token(), issuer=issuer)

    assert f"GET {ISSUER}:443/tenant/7/.well-known/openid-configuration" == played.places()[1]
    assert issued(played)


def test_metadata_that_are_nowhere_are_an_error():
    error = failed(found(answer(b"", 404), answer(b"", 404)))

    assert (404, "discovery", None) == (error.status, error.step, error.code)


@pytest.mark.parametrize("named", [f"{ISSUER}/", "https://LOGIN.example", "https://evil.example"])
def test_26_metadata_of_another_issuer_are_refused(named: str):
    assert "issuer_mismatch" == failed(found(metadata(issuer=named))).code


def test_26_a_trailing_slash_makes_another_issuer():
    assert "issuer_mismatch" == failed(found(metadata(), issuer=f"{ISSUER}/")).code


@pytest.mark.parametrize("told", [None, 7, [ISSUER]])
def test_26_metadata_that_name_no_issuer_are_refused(told: object):
    assert "issuer_mismatch" == failed(found(metadata(issuer=told))).code


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://other.example/token",
        "https://login.example:444/token",
        "https://login.example.evil.example/token",
        "http://login.example/token",
        "https://a:b@login.example/token",
        "https://login.example/token#x",
        "https://login.example/to ken",
        "ftp://login.example/token",
        "/token",
        "https://[",
        f"https://login.example/{'x' * 9000}",
        "https://login.example/\ud800",
    ],
)
def test_26_an_endpoint_that_leads_elsewhere_or_into_the_clear_is_refused(endpoint: str):
    assert "endpoint_refused" == failed(found(metadata(token_endpoint=endpoint))).code


def test_26_an_endpoint_of_another_origin_may_be_allowed():
    url = "https://oauth2.example/token"

    played = found(
        metadata(token_endpoint=url), token(), endpoint_origins="https://oauth2.example/"
    )

    assert f"POST {url}" == played.places()[1]


def test_26_an_allowed_origin_is_not_allowed_in_the_clear():
    played = found(
        metadata(token_endpoint="http://oauth2.example/token"),
        endpoint_origins="http://oauth2.example",
    )

    assert "endpoint_refused" == failed(played).code


@pytest.mark.parametrize("endpoint", [None, 7, {}])
def test_metadata_without_an_endpoint_are_an_error(endpoint: object):
    assert "no_endpoint" == failed(found(metadata(token_endpoint=endpoint))).code


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff\xfe", b"[" * 100_000], ids=ascii)
def test_malformed_metadata_are_an_error(body: bytes):
    assert failed(found(answer(body))).malformed


@pytest.mark.parametrize(
    ("outcome", "status"), [(UNSENT, None), (LOST, None), (answer(b"", 503), 503)]
)
def test_metadata_that_can_t_be_had_are_an_error_and_nothing_is_posted(outcome: Any, status: int):
    error = failed(found(outcome))

    assert (status, "discovery") == (error.status, error.step)


def test_metadata_are_asked_for_once():
    provider = service(issuer=ISSUER)
    play(provider.flow(), metadata(), token())

    assert [POST] == play(provider.flow(), token()).places()


@pytest.mark.parametrize("status", [404, 405, 410])
def test_metadata_are_asked_for_again_when_the_endpoint_is_gone(status: int):
    provider = service(issuer=ISSUER)
    moved = "https://login.example/v2/token"
    assert failed(play(provider.flow(), metadata(), answer(b"", status)))

    played = play(provider.flow(), metadata(token_endpoint=moved), token())

    assert f"POST {moved}" == played.places()[1]


def test_metadata_that_failed_are_asked_for_again():
    provider = service(issuer=ISSUER)
    assert failed(play(provider.flow(), answer(b"", 503)))

    assert issued(play(provider.flow(), metadata(), token()))


def test_the_metadata_are_asked_for_without_a_secret():
    posed = found(metadata(), token()).asked[0]

    assert "authorization" not in posed.headers
    assert b"" == posed.request.body
    assert CANARY not in str(posed.headers)


@pytest.mark.parametrize(("auth", "used"), [("tls", True), ("basic", False)])
def test_endpoints_for_certificates_are_used_where_one_is_presented(auth: str, used: bool):
    alias = "https://login.example/mtls/token"
    options: dict[str, Any] = {"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    if auth == "tls":
        options["client_auth"] = "tls"

    played = found(metadata(mtls_endpoint_aliases={"token_endpoint": alias}), token(), **options)

    assert f"POST {alias if used else TOKEN_URL}" == played.places()[1]


def test_an_endpoint_for_certificates_is_held_to_the_same_rules():
    played = found(
        metadata(mtls_endpoint_aliases={"token_endpoint": "https://mtls.example/token"}),
        client_auth="tls",
        ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )

    assert "endpoint_refused" == failed(played).code


# --- What is half made ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClientCredentials(token_url=TOKEN_URL, client_secret="s"),
        lambda: JWTBearer("a.b.c"),
        lambda: RefreshToken("rt", client_id="a"),
    ],
    ids=["credentials", "assertion", "refresh token"],
)
def test_3_a_traceback_shows_the_variables_of_a_constructor_that_refuses(make: Any):
    with pytest.raises(ValueError, match=r"give either token_url|client_id must") as caught:
        make()

    assert traceback.TracebackException.from_exception(caught.value, capture_locals=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("client_id", {"client_id": "a\ud800"}),
        ("scope", {"scope": "a\udcff"}),
        ("scope", {"scope": ["a\udcff"]}),
        ("audience", {"audience": "\udcff"}),
        ("resource", {"resource": ["\udcff"]}),
        ("key_id", {"key_id": "\udcff"}),
        ("extra", {"extra": {"x": "\udcff"}}),
        ("extra", {"extra": {"\udcff": "x"}}),
    ],
    ids=ascii,
)
def test_3_what_no_form_can_hold_is_refused_before_a_secret_stands_beside_it(
    name: str, options: Any
):
    with pytest.raises(ValueError, match=name) as caught:
        service(**options)

    assert not isinstance(caught.value, UnicodeError)


@pytest.mark.parametrize("claims", [{"iss": 5}, {"iss": "a", "x": {1}}, {"iss": "a", "x": b"y"}])
def test_claims_that_can_t_be_signed_are_refused_at_once(claims: Any):
    with pytest.raises(ValueError, match="claims"):
        JWTBearer(signing_key=pem(EC), claims=claims, token_url=TOKEN_URL)


def test_a_short_rsa_key_is_refused_at_once():
    with pytest.raises(ValueError, match="private_key has fewer than 2048 bits"):
        service(private_key=pem(rsa.generate_private_key(65537, 1024)))


def test_3_a_key_that_can_t_be_read_is_in_no_frame():
    jwk = json.dumps({"kty": "oct", "k": CANARY})
    with pytest.raises(ValueError, match="dpop") as caught:
        ProofKey(jwk)

    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame.locals for frame in told.stack if "/tests/" not in frame.filename]
    assert CANARY not in f"{caught.value!r} {ours}"
