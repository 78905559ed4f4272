"""Tokens from azure-identity's credentials: real values and real errors of azure-core."""

import asyncio
import logging
import threading
import time
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.identity import AuthenticationRequiredError, CredentialUnavailableError

from dromos.errors import InteractionRequired, PermanentError, TokenError
from dromos.model import Verdict
from dromos.oauth import AzureToken
from tests.oauth.clouds import CANARY, Calls, failure, through_the_cache, verdicts

T, B, P, U = Verdict.TRANSIENT, Verdict.BOUNDED, Verdict.PERMANENT, Verdict.INTERACTION
SCOPE = "https://far.example/.default"


class Credential:
    """A credential of the older kind."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = Calls()
        self.error = error
        self.asked: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.calls.note()
        self.asked.append((scopes, options))
        if self.error is not None:
            raise self.error
        return AccessToken(CANARY, int(time.time()) + 3600)


class NewCredential(Credential):
    """One of the newer kind, which has both methods."""

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        self.calls.note()
        self.asked.append((scopes, options))
        return AccessTokenInfo(CANARY, int(time.time()) + 3600)


class AsyncCredential(Credential):
    """One of azure.identity.aio's kind."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:  # type: ignore[override]
        self.calls.note(may_be_loop=True)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return AccessToken(CANARY, int(time.time()) + 3600)


@pytest.mark.parametrize("kind", [Credential, NewCredential, AsyncCredential])
async def test_a_token_with_its_expiry(kind: type[Credential]):
    credential = kind()
    token = await AzureToken(credential, SCOPE).get_token("c")

    assert (CANARY, "oauth2") == (token.access_token, token.strategy.type)
    assert token.expires_at is not None
    assert 3590 < token.expires_at - time.time() <= 3600
    if credential.asked:
        assert (SCOPE,) == credential.asked[0][0]


async def test_two_hundred_sessions_make_one_call():
    credential = Credential()

    assert {str([CANARY])} == await through_the_cache(AzureToken(credential, SCOPE))
    assert 1 == credential.calls.count


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Credential, {"claims": "{}"}),
        (NewCredential, {"claims": "{}"}),
    ],
)
async def test_claims_are_asked_for_once(kind: type[Credential], wanted: dict[str, str]):
    credential = kind()
    source = AzureToken(credential, SCOPE)
    source.claims_challenged("c", "{}")

    await source.get_token("c")
    await source.get_token("c")

    first, second = (options for _, options in credential.asked)
    assert wanted == first
    assert not second


class Response:
    """As much of an answer as azure-core's errors look at."""

    reason = "no"
    content_type = "text/plain"

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code = status
        self.headers = headers

    def text(self, encoding: str | None = None) -> str:
        return CANARY


def refused(status: int, **headers: str) -> HttpResponseError:
    answer = Response(status, {name.replace("_", "-"): value for name, value in headers.items()})
    return HttpResponseError(CANARY, response=answer)  # type: ignore[arg-type]


ROWS: list[tuple[Exception, type[Exception], Verdict, Verdict]] = [
    (ServiceRequestError(CANARY), TokenError, T, T),
    (ServiceResponseError(CANARY), TokenError, T, T),
    (AuthenticationRequiredError(scopes=[SCOPE]), InteractionRequired, U, U),
    (CredentialUnavailableError(CANARY), PermanentError, P, P),
    (ClientAuthenticationError(CANARY), TokenError, B, B),
    (refused(429, retry_after="7"), TokenError, T, T),
    (refused(503), TokenError, T, T),
    (refused(400), TokenError, P, P),
    (AzureError(CANARY), TokenError, B, B),
    (OSError(CANARY), TokenError, T, T),
    (ValueError(CANARY), TokenError, B, B),
]


@pytest.mark.parametrize("kind", [Credential, AsyncCredential])
@pytest.mark.parametrize(("raised", "kept", "first", "later"), ROWS, ids=lambda value: None)
async def test_each_error_has_its_verdict(
    kind: type[Credential],
    raised: Exception,
    kept: type[Exception],
    first: Verdict,
    later: Verdict,
    caplog: pytest.LogCaptureFixture,
):
    with caplog.at_level(logging.DEBUG, logger="dromos"):
        error = await failure(AzureToken(kind(raised), SCOPE))

    assert isinstance(error, kept)
    assert (first, later) == verdicts(error)
    assert CANARY not in caplog.text
    if isinstance(raised, HttpResponseError) and raised.status_code == 429:
        assert 7.0 == getattr(error, "retry_after", None)


@pytest.mark.parametrize("given", [None, "token", AccessToken("", 1), AccessToken("a b", 1), 5])
async def test_what_is_no_token_is_malformed(given: object):
    credential = Credential()
    credential.get_token = lambda *scopes, **options: given  # type: ignore[assignment, method-assign]

    error = await failure(AzureToken(credential, SCOPE))

    assert (B, B) == verdicts(error)


async def test_a_credential_that_hangs_is_given_up_and_does_not_block_the_loop():
    release = threading.Event()

    class Hanging(Credential):
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            release.wait(20)
            raise OSError

    source = AzureToken(Hanging(), SCOPE, timeout=0.05)
    error = await failure(source)
    release.set()

    assert (T, T) == verdicts(error)
    assert "0.05 s" in str(error)


async def test_a_waiter_that_goes_does_no_harm():
    credential = Credential()
    source = AzureToken(credential, SCOPE)
    waiting = asyncio.ensure_future(source.get_token("c"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert CANARY == (await source.get_token("c")).access_token


def test_one_loop_after_another():
    source = AzureToken(Credential(), SCOPE)

    assert [CANARY] * 2 == [asyncio.run(source.get_token("c")).access_token for _ in range(2)]


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="credential must have"):
        AzureToken(object(), SCOPE)
    with pytest.raises(TypeError, match="scope"):
        AzureToken(Credential(), 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        AzureToken(Credential(), SCOPE, timeout=0)
    assert "AzureToken(Credential)" == repr(AzureToken(Credential(), SCOPE))
    assert not AzureToken.per_connection
