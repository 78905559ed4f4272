"""Tokens from google-auth's own credentials, which ask a real server on loopback."""

import asyncio
import datetime
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import exceptions as google
from google.oauth2 import credentials as user
from google.oauth2 import service_account

from dromos.errors import InteractionRequired, PermanentError, TokenError
from dromos.model import Verdict
from dromos.oauth import GoogleToken
from tests.oauth.clouds import CANARY, Calls, failure, through_the_cache, verdicts
from tests.oauth.token_server import TokenServer, refusal

T, B, P, U = Verdict.TRANSIENT, Verdict.BOUNDED, Verdict.PERMANENT, Verdict.INTERACTION
KEY = (
    rsa.generate_private_key(65537, 2048)
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


def account(server: TokenServer) -> Any:
    info = {
        "client_email": "agent@project.example",
        "private_key": KEY,
        "token_uri": f"{server.url}/token",
    }
    return service_account.Credentials.from_service_account_info(info)


def person(server: TokenServer) -> Any:
    return user.Credentials(
        None,
        refresh_token=CANARY,
        token_uri=f"{server.url}/token",
        client_id="a",
        client_secret=f"{CANARY}-secret",
    )


class Raising:
    """Credentials that fail."""

    token = None
    expiry = None

    def __init__(self, error: Exception) -> None:
        self.error = error

    def refresh(self, request: Any) -> None:
        raise self.error


async def test_a_service_account_signs_for_its_token(server: TokenServer):
    source = GoogleToken(account(server), scopes=["https://www.googleapis.com/auth/pubsub"])

    token = await source.get_token("c")

    assert "at-1" == token.access_token
    assert token.expires_at is not None
    assert 3500 < token.expires_at - time.time() <= 3600
    assert "urn:ietf:params:oauth:grant-type:jwt-bearer" == server.forms[0]["grant_type"]


async def test_a_token_that_lives_is_not_asked_for_again(server: TokenServer):
    source = GoogleToken(person(server))
    first = await source.get_token("c")

    assert first.access_token == (await source.get_token("c")).access_token
    assert "at-2" == (await source.refresh_connection("c")).access_token
    assert CANARY == server.forms[0]["refresh_token"]


async def test_two_hundred_sessions_make_one_request(server: TokenServer):
    assert {"['at-1']"} == await through_the_cache(GoogleToken(person(server)))
    assert 1 == len(server.forms)


async def test_a_person_s_refused_grant_needs_the_person(server: TokenServer):
    server.answers = [refusal("invalid_grant", error_description=CANARY)]

    error = await failure(GoogleToken(person(server)))

    assert isinstance(error, InteractionRequired)
    assert "invalid_grant" == error.code


async def test_a_service_account_s_refused_grant_may_be_its_clock(server: TokenServer):
    server.answers = [refusal("invalid_grant", error_description=CANARY)]

    error = await failure(GoogleToken(account(server), scopes=["s"]))

    assert (B, B) == verdicts(error)


async def test_reauthentication_needs_the_person(server: TokenServer):
    server.answers = [refusal("invalid_grant", error_subtype="invalid_rapt")]

    error = await failure(GoogleToken(account(server), scopes=["s"]))

    assert isinstance(error, InteractionRequired)
    assert "invalid_rapt" == error.code


ROWS: list[tuple[Exception, type[Exception], Verdict, Verdict]] = [
    (google.TransportError(CANARY), TokenError, T, T),
    (google.RefreshError(CANARY, retryable=True), TokenError, T, T),
    (google.RefreshError(CANARY), TokenError, B, B),
    (google.DefaultCredentialsError(CANARY), PermanentError, P, P),
    (google.ReauthFailError(CANARY), InteractionRequired, U, U),
    (OSError(CANARY), TokenError, T, T),
    (TypeError(CANARY), TokenError, B, B),
]


@pytest.mark.parametrize(("raised", "kept", "first", "later"), ROWS, ids=lambda value: None)
async def test_each_error_has_its_verdict(
    raised: Exception,
    kept: type[Exception],
    first: Verdict,
    later: Verdict,
    caplog: pytest.LogCaptureFixture,
):
    with caplog.at_level(logging.DEBUG, logger="dromos"):
        error = await failure(GoogleToken(Raising(raised)))

    assert isinstance(error, kept)
    assert (first, later) == verdicts(error)
    assert CANARY not in caplog.text


async def test_nobody_there_is_transient():
    class Gone:
        url = "http://127.0.0.1:1"

    error = await failure(GoogleToken(person(Gone()), timeout=20))  # type: ignore[arg-type]

    assert (T, T) == verdicts(error)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every name that is looked up: there are none."""
    asked: list[object] = []

    def look_up(host: object, *_: object, **__: object) -> object:
        asked.append(host)
        raise OSError("no names here")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("make", [person, lambda gone: account(gone).with_scopes(["s"])])
async def test_7_a_secret_does_not_go_in_the_clear_to_another_machine(
    looked_up: list[object], make: Any
):
    class Elsewhere:
        url = "http://login.example"

    error = await failure(GoogleToken(make(Elsewhere())))

    assert isinstance(error, PermanentError)
    assert "plain http" in str(error)
    assert [] == looked_up


async def test_7_a_metadata_server_may_be_asked_in_the_clear(looked_up: list[object]):
    class Metadata(Raising):
        headers: ClassVar[dict[str, str]] = {"Metadata-Flavor": "Google"}

        def refresh(self, request: Any) -> None:
            request("http://metadata.example/token", method="GET", headers=self.headers)

    error = await failure(GoogleToken(Metadata(OSError())))

    assert (T, T) == verdicts(error)
    assert ["metadata.example"] == looked_up
    Metadata.headers = {"Authorization": CANARY}
    assert isinstance(await failure(GoogleToken(Metadata(OSError()))), PermanentError)
    assert ["metadata.example"] == looked_up


async def test_the_environment_s_proxy_is_not_asked(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch
):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert "at-1" == (await GoogleToken(person(server)).get_token("c")).access_token


async def test_a_redirect_is_not_followed(server: TokenServer):
    from dromos.testing._loopback import Reply

    async with TokenServer() as elsewhere:
        location = (("Location", f"{elsewhere.url}/token"),)
        server.answers = [Reply(status=307, headers=location)] * 9
        await failure(GoogleToken(person(server)))

        assert [] == elsewhere.requests


async def test_credentials_that_hang_are_given_up():
    release = threading.Event()

    class Hanging(Raising):
        def refresh(self, request: Any) -> None:
            release.wait(20)

    error = await failure(GoogleToken(Hanging(OSError()), timeout=0.05))
    release.set()

    assert (T, T) == verdicts(error)


async def test_a_refresh_does_not_block_the_loop():
    calls = Calls()

    class Threaded(Raising):
        def refresh(self, request: Any) -> None:
            calls.note()
            self.token = CANARY
            self.expiry = datetime.datetime(2099, 1, 1)

    token = await GoogleToken(Threaded(OSError())).get_token("c")

    assert (CANARY, 4070908800.0) == (token.access_token, token.expires_at)


def test_one_loop_after_another():
    class Fixed(Raising):
        token = "t"

        def refresh(self, request: Any) -> None:
            pass

    source = GoogleToken(Fixed(OSError()))

    assert ["t"] * 2 == [asyncio.run(source.get_token("c")).access_token for _ in range(2)]


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="credentials must be google-auth's"):
        GoogleToken(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scopes"):
        GoogleToken(Raising(OSError()), scopes="one two")
    with pytest.raises(TypeError, match="request"):
        GoogleToken(Raising(OSError()), request=5)  # type: ignore[arg-type]
    assert "GoogleToken(Raising)" == repr(GoogleToken(Raising(OSError())))
    assert not GoogleToken.per_connection
