"""Tokens from a constant, from the environment and from a function."""

import asyncio
import base64
import json
import logging
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dromos._core.schedule import Need
from dromos._core.verdict import Stage, judge
from dromos.errors import InteractionRequired, PermanentError, TokenError
from dromos.interfaces import TokenProvider, TokenSource
from dromos.model import AuthStrategy, Token, Verdict
from dromos.oauth.cache import cache_for
from dromos.oauth.callable import CallableToken
from dromos.oauth.env import EnvToken
from dromos.oauth.static import StaticToken
from dromos.redaction import Secret

CANARY = "c4n4ry-7f3b9e1d5a-and-then-some"
HEADER = AuthStrategy("header", {"header_name": "X-Api-Key"})
BASIC = AuthStrategy("basic_auth")


def verdicts(error: Exception) -> tuple[Verdict, Verdict]:
    """What the core makes of an error: on a first token, and once the source has worked."""
    first, later = (
        judge(error, stage=Stage.TOKEN, worked=worked, rejected=False) for worked in (False, True)
    )
    return first, later


def told(error: BaseException) -> str:
    """All that a crash reporter would take along: texts, chains, and locals of every frame."""
    parts: list[str] = [repr(vars(error))]
    left: list[traceback.TracebackException | None] = [
        traceback.TracebackException.from_exception(error, capture_locals=True)
    ]
    while left:
        found = left.pop()
        if found is None:
            continue
        parts += found.format_exception_only()
        parts += [str(f.locals) for f in found.stack if "/tests/" not in f.filename]
        left += [found.__cause__, found.__context__]
    return "\n".join(parts)


async def failure(source: TokenSource, *, refresh: bool = False) -> Exception:
    """Return what asking a source raises, which shows no secret whatever it is."""
    ask = getattr(source, "refresh_connection" if refresh else "get_token")
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever it is, it is looked at
        await ask("c")
    assert CANARY not in told(caught.value)
    assert CANARY not in repr(source)
    return caught.value


def jwt(**claims: object) -> str:
    """Return a token that looks signed."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{payload}.c2ln"


@pytest.fixture(autouse=True)
def quiet_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Look for the canary in every line that anybody logs."""
    caplog.set_level(logging.DEBUG)
    yield
    assert CANARY not in caplog.text


# --- A fixed token --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [CANARY, Secret(CANARY), f"\n {CANARY}\r\n", {"access_token": CANARY}]
)
async def test_a_fixed_token_is_a_bearer_token(given: Any) -> None:
    source = StaticToken(given)

    token = await source.get_token("c")

    assert Token({"access_token": CANARY}) == token
    assert CANARY not in repr(source) + repr(vars(source))
    assert isinstance(source, TokenProvider)
    assert source.per_connection is False


async def test_a_fixed_token_fits_the_strategy() -> None:
    named = AuthStrategy("header", {"credential_field": "key"})

    assert {"api_key": CANARY} == dict(
        (await StaticToken(CANARY, strategy=HEADER).get_token("c")).credentials
    )
    assert {"key": CANARY} == dict(
        (await StaticToken(CANARY, strategy=named).get_token("c")).credentials
    )
    pair = {"username": "u", "password": Secret(CANARY)}
    token = await StaticToken(pair, strategy=BASIC).get_token("c")
    assert Token({"username": "u", "password": CANARY}, BASIC) == token


async def test_a_fixed_token_cannot_be_refreshed() -> None:
    error = await failure(StaticToken(CANARY), refresh=True)

    assert isinstance(error, TokenError)
    assert ("refresh_not_supported", "refresh") == (error.code, error.step)


async def test_a_refused_fixed_token_is_the_end() -> None:
    source = StaticToken(CANARY)
    cache = cache_for(source, judge=lambda error, worked: verdicts(error)[worked])
    held = await cache.obtain("c", need=Need.DIAL)

    with pytest.raises(TokenError) as caught:
        await cache.obtain("d", need=Need.REPLACE, generation=held.lease.generation)

    assert caught.value.code == "same_token_returned"
    await cache.aclose()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "  \n",
        f"{CANARY}\n{CANARY}",
        f"{CANARY} {CANARY}",
        f"{CANARY}\0",
        f"{CANARY}é",
        CANARY * 1000,
        {},
        {"access_token": f"{CANARY}\n"},
        {"token": CANARY},
        {1: CANARY},
        CANARY.encode(),
        None,
        12,
    ],
    ids=lambda bad: f"{type(bad).__name__}-{repr(bad).replace(CANARY, 'x')[:24]}",
)
def test_what_can_be_no_token_is_refused_unseen(bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^token ") as caught:
        StaticToken(bad)

    assert CANARY not in told(caught.value)


@pytest.mark.parametrize(
    ("strategy", "text"),
    [("oauth2", "strategy must be"), (BASIC, "by name"), (HEADER, "^token ")],
)
def test_a_strategy_that_does_not_fit_is_refused_and_the_token_unseen(
    strategy: Any, text: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=text) as caught:
        StaticToken(f"{CANARY}\0", strategy=strategy)

    assert CANARY not in told(caught.value)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": 2_000_003_600, "iat": 2_000_000_000}, (2_000_003_600.0, 3600.0)),
        ({"exp": 2_000_003_600.5}, (2_000_003_600.5, None)),
        ({"exp": 5, "iat": 9}, (5.0, None)),
        ({"exp": "2000003600"}, (None, None)),
        ({"exp": True}, (None, None)),
        ({"exp": -1}, (None, None)),
        ({"exp": float("inf")}, (None, None)),
        ({"exp": 10**400}, (None, None)),
        ({"iat": 5}, (None, None)),
    ],
)
async def test_a_jwts_expiry_is_a_hint(claims: dict[str, object], expected: object) -> None:
    token = await StaticToken(jwt(**claims)).get_token("c")

    assert expected == (token.expires_at, token.lifetime)


@pytest.mark.parametrize(
    "text",
    ["a.b.c", "..", "a.!!!.c", "a.W10.c", "a.bnVsbA.c", "a." + "W1tb" * 3000 + ".c", "a.gICA.c"],
)
async def test_what_only_looks_like_a_jwt_is_a_token_all_the_same(text: str) -> None:
    token = await StaticToken(text).get_token("c")

    assert (text, None) == (token.access_token, token.expires_at)


# --- The environment ------------------------------------------------------------------------------


async def test_a_variable_is_read_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    source = EnvToken("DROMOS_TEST_TOKEN")
    monkeypatch.setenv("DROMOS_TEST_TOKEN", f"{CANARY}\n")
    first, mark = await source.get_token("c"), await source.credentials_mark("c")
    monkeypatch.setenv("DROMOS_TEST_TOKEN", "second")

    assert first.access_token == CANARY
    assert (await source.refresh_connection("c")).access_token == "second"
    assert (await source.get_token("c")).access_token == "second"
    assert mark != await source.credentials_mark("c")
    assert CANARY.encode() not in mark
    assert (source.per_connection, source.always_read) == (False, True)
    error = await failure(source, refresh=True)
    assert getattr(error, "code", None) == "refresh_not_supported"


@pytest.mark.parametrize("value", [None, "", "  ", f"{CANARY} {CANARY}", f"{CANARY}\udc80"])
async def test_a_variable_without_a_token_is_bounded_and_named(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("DROMOS_TEST_TOKEN", value)
    source = EnvToken("DROMOS_TEST_TOKEN")

    error = await failure(source)

    assert "DROMOS_TEST_TOKEN" in str(error)
    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(error)
    assert await source.credentials_mark("c") == await source.credentials_mark("d")


async def test_an_empty_variable_is_another_state_than_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = EnvToken("DROMOS_TEST_TOKEN", strategy=BASIC, credential="password")
    without = await source.credentials_mark("c")
    monkeypatch.setenv("DROMOS_TEST_TOKEN", "")

    assert without != await source.credentials_mark("c")


@pytest.mark.parametrize("name", ["", "A=B", "a b", jwt(exp=1), "a\0", 5, None])
def test_what_can_be_no_variable_is_refused_unseen(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^name must be ") as caught:
        EnvToken(name)

    assert not isinstance(name, str) or not name or name not in str(caught.value)


@pytest.mark.parametrize("credential", ["", 5])
def test_a_credential_needs_a_name(credential: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^credential must "):
        EnvToken("A", strategy=HEADER, credential=credential)


# --- A function -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        CANARY,
        f" {CANARY}\n",
        Secret(CANARY),
        {"access_token": CANARY},
        Token({"access_token": CANARY}),
    ],
)
async def test_a_functions_answer_is_a_token(given: Any) -> None:
    async def later() -> Any:
        return given

    def soon() -> Any:
        return later()

    for function in (lambda: given, later, soon):
        source = CallableToken(function)
        assert (await source.get_token("c")).access_token == CANARY
        assert source.per_connection is False
        assert isinstance(source, TokenSource)
        assert not isinstance(source, TokenProvider)


async def test_a_function_of_one_argument_gets_the_connection_id() -> None:
    async def later(connection_id: str) -> str:
        return f"for-{connection_id}"

    for source in (CallableToken(lambda c: f"for-{c}"), CallableToken(later)):
        assert (await source.get_token("a")).access_token == "for-a"
        assert source.per_connection is True


async def test_a_parameter_with_a_default_is_left_alone() -> None:
    def function(region: str = "eu") -> str:
        return region

    source = CallableToken(function)

    assert (await source.get_token("c")).access_token == "eu"
    assert source.per_connection is False


async def test_an_object_that_is_called_is_a_function() -> None:
    class Vault:
        async def __call__(self, connection_id: str) -> str:
            return threading.current_thread().name

    source = CallableToken(Vault())

    assert (await source.get_token("c")).access_token == threading.current_thread().name
    assert source.per_connection is True


async def test_a_plain_function_runs_on_a_thread_of_its_own() -> None:
    names = [await CallableToken(lambda: threading.current_thread().name).get_token("c")]

    assert ["dromos-token-function"] == [name.access_token for name in names]


@pytest.mark.parametrize(
    ("given", "strategy"),
    [
        (None, None),
        (b"bytes", None),
        (5, None),
        ("", None),
        (f"{CANARY} {CANARY}", None),
        ({}, None),
        ({"access_token": f"{CANARY}\n"}, None),
        (f"{CANARY}\n{CANARY}", HEADER),
        (CANARY, BASIC),
    ],
)
async def test_what_is_no_token_is_malformed_and_unseen(given: Any, strategy: Any) -> None:
    error = await failure(CallableToken(lambda: given, strategy=strategy))

    assert isinstance(error, TokenError)
    assert error.malformed
    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(error)


async def test_a_mapping_fits_the_strategy() -> None:
    source = CallableToken(lambda: {"username": "u", "password": Secret(CANARY)}, strategy=BASIC)

    assert Token({"username": "u", "password": CANARY}, BASIC) == await source.get_token("c")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (PermanentError("no"), Verdict.PERMANENT),
        (InteractionRequired("sign in"), Verdict.INTERACTION),
        (TokenError("not now", status=503), Verdict.TRANSIENT),
        (OSError("net"), Verdict.TRANSIENT),
        (KeyError("x"), Verdict.BOUNDED),
    ],
)
async def test_what_a_function_raises_passes_as_it_is(raised: Exception, expected: Verdict) -> None:
    def blocking() -> str:
        raise raised

    async def later() -> str:
        raise raised

    for function in (blocking, later):
        assert raised is await failure(CallableToken(function))
        assert (expected, expected) == verdicts(raised)


async def test_an_assumed_lifetime_counts_from_the_question() -> None:
    source = CallableToken(lambda: "text", assume_lifetime=60, wall=lambda: 1000.0)
    told_by_jwt = CallableToken(lambda: jwt(exp=5000), assume_lifetime=60, wall=lambda: 1000.0)
    whole = CallableToken(
        lambda: Token({"access_token": "t"}, HEADER), assume_lifetime=60, wall=lambda: 1000.0
    )

    token = await source.get_token("c")

    assert (1060.0, 60.0) == (token.expires_at, token.lifetime)
    assert (await told_by_jwt.get_token("c")).expires_at == 5000
    assert Token({"access_token": "t"}, HEADER, 1060.0, 60.0) == await whole.get_token("c")


async def test_a_function_that_hangs_is_given_up() -> None:
    release = threading.Event()
    source = CallableToken(lambda: str(release.wait(10)), timeout=0.02)

    error = await failure(source)

    release.set()
    assert "took over 0.02 s" in str(error)
    assert (Verdict.TRANSIENT, Verdict.TRANSIENT) == verdicts(error)


async def test_an_async_function_is_not_cut_short() -> None:
    async def later() -> str:
        await asyncio.sleep(0.05)
        return "done"

    assert (await CallableToken(later, timeout=0.01).get_token("c")).access_token == "done"


@pytest.mark.parametrize(
    "function",
    [None, "text", dict, lambda a, b: "", lambda *, a: "", iter],
    ids=["none", "text", "class", "two arguments", "a keyword", "no signature"],
)
def test_what_can_be_no_token_function_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=r"^function must "):
        CallableToken(function)


@pytest.mark.parametrize(
    "options",
    [{"assume_lifetime": 0}, {"timeout": 0}, {"timeout": "1"}, {"credential": ""}, {"strategy": 1}],
)
def test_options_are_checked_and_named(options: Mapping[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must "):
        CallableToken(lambda: "", **options)


async def test_a_function_is_asked_once_for_all_connections_through_the_cache() -> None:
    calls: list[float] = []

    def function() -> str:
        calls.append(time.monotonic())
        return "text"

    cache = cache_for(CallableToken(function), judge=lambda error, worked: Verdict.PERMANENT)

    grants = await asyncio.gather(*(cache.obtain(f"c{n}", need=Need.DIAL) for n in range(20)))

    assert {"text"} == {grant.token.access_token for grant in grants}
    assert len(calls) == 1
    await cache.aclose()
