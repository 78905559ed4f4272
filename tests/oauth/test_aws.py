"""AWS credentials from botocore's own objects, and what they sign."""

import asyncio
import datetime
import logging
import threading
from typing import Any

import pytest
from botocore import exceptions as aws
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.session import Session

from dromos import auth
from dromos.errors import InteractionRequired, PermanentError, TokenError
from dromos.model import Handshake, Verdict
from dromos.oauth import AwsCredentials
from tests.oauth.clouds import CANARY, Calls, failure, through_the_cache, verdicts

T, B, P, U = Verdict.TRANSIENT, Verdict.BOUNDED, Verdict.PERMANENT, Verdict.INTERACTION


def source(given: Any, **options: Any) -> AwsCredentials:
    return AwsCredentials(given, service="execute-api", region="eu-west-1", **options)


def fixed() -> Credentials:
    return Credentials("AKIDEXAMPLE", CANARY, f"{CANARY}-session")


class Raising:
    """Credentials that can't be had."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_frozen_credentials(self) -> Any:
        raise self.error


async def test_credentials_sign_a_handshake():
    token = await source(fixed()).get_token("c")
    made = auth.apply(
        Handshake(url="wss://abc.execute-api.eu-west-1.amazonaws.com/x"), token, 1.8e9
    )
    headers = dict(made.headers)

    assert ("aws_sigv4", None) == (token.strategy.type, token.expires_at)
    assert f"{CANARY}-session" == headers["X-Amz-Security-Token"]
    assert "/eu-west-1/execute-api/aws4_request" in headers["Authorization"]


async def test_a_pair_without_a_session():
    token = await source(Credentials("a", CANARY)).get_token("c")

    assert {"access_key", "secret_key"} == set(token.credentials)


async def test_credentials_that_are_renewed_tell_until_when():
    calls = Calls()
    expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)

    def refresh() -> dict[str, str]:
        calls.note()
        return {
            "access_key": "a",
            "secret_key": CANARY,
            "token": "t",
            "expiry_time": expiry.isoformat(),
        }

    credentials = RefreshableCredentials.create_from_metadata(
        {
            "access_key": "old",
            "secret_key": "old",
            "token": "old",
            "expiry_time": datetime.datetime.now(datetime.UTC).isoformat(),
        },
        refresh_using=refresh,
        method="test",
    )
    token = await source(credentials).get_token("c")

    assert ("a", pytest.approx(expiry.timestamp())) == (
        token.credentials["access_key"],
        token.expires_at,
    )
    assert 1 == calls.count


async def test_a_session_finds_what_the_environment_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)

    for given in (Session(), None):
        token = await source(given).get_token("c")
        assert "from-env" == token.credentials["access_key"]


async def test_an_environment_without_credentials_is_permanent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))

    error = await failure(source(Session()))

    assert isinstance(error, PermanentError)
    assert "no credentials" in str(error)


async def test_two_hundred_sessions_make_one_call():
    calls = Calls()

    class Counted:
        def get_frozen_credentials(self) -> Any:
            calls.note()
            return fixed().get_frozen_credentials()

    assert 1 == len(await through_the_cache(source(Counted())))
    assert calls.count <= 2  # it looks twice, so that a renewal in between is noticed


def client_error(code: str, status: int) -> aws.ClientError:
    return aws.ClientError(
        {
            "Error": {"Code": code, "Message": CANARY},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },  # type: ignore[typeddict-item]
        "AssumeRole",
    )


ROWS: list[tuple[Exception, type[Exception], Verdict, Verdict]] = [
    (aws.NoCredentialsError(), PermanentError, P, P),
    (aws.PartialCredentialsError(provider="env", cred_var=CANARY), PermanentError, P, P),
    (aws.CredentialRetrievalError(provider="p", error_msg=CANARY), TokenError, T, T),
    (aws.ConnectTimeoutError(endpoint_url=f"https://h/{CANARY}"), TokenError, T, T),
    (aws.ReadTimeoutError(endpoint_url=f"https://h/{CANARY}"), TokenError, T, T),
    (aws.EndpointConnectionError(endpoint_url=f"https://h/{CANARY}"), TokenError, T, T),
    (aws.SSOTokenLoadError(error_msg=CANARY), InteractionRequired, U, U),
    (aws.UnauthorizedSSOTokenError(), InteractionRequired, U, U),
    (aws.TokenRetrievalError(provider="sso", error_msg=CANARY), InteractionRequired, U, U),
    (client_error("Throttling", 400), TokenError, T, T),
    (client_error("AccessDenied", 403), TokenError, B, B),
    (client_error("InternalFailure", 500), TokenError, T, T),
    (
        RuntimeError(
            "Credentials were refreshed, but the refreshed credentials are still expired."
        ),
        TokenError,
        T,
        T,
    ),
    (OSError(CANARY), TokenError, T, T),
    (KeyError(CANARY), TokenError, B, B),
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
        error = await failure(source(Raising(raised)))

    assert isinstance(error, kept)
    assert (first, later) == verdicts(error)
    assert CANARY not in caplog.text


async def test_credentials_that_hang_are_given_up():
    release = threading.Event()

    class Hanging:
        def get_frozen_credentials(self) -> Any:
            release.wait(20)

    error = await failure(source(Hanging(), timeout=0.05))
    release.set()

    assert (T, T) == verdicts(error)


@pytest.mark.parametrize("held", [("", "s"), ("a", None), (5, "s")])
async def test_credentials_with_holes_are_malformed(held: tuple[Any, Any]):
    class Odd:
        def get_frozen_credentials(self) -> Any:
            return Credentials(*held).get_frozen_credentials()

    assert (B, B) == verdicts(await failure(source(Odd())))


def test_one_loop_after_another():
    held = source(fixed())

    assert 2 == len([asyncio.run(held.get_token("c")) for _ in range(2)])


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="session_or_credentials must have"):
        source(object())
    with pytest.raises(ValueError, match="region"):
        AwsCredentials(fixed(), service="s", region="no such\nregion")
    with pytest.raises(TypeError, match="service"):
        AwsCredentials(fixed(), service=None, region="r")  # type: ignore[arg-type]
    assert "AwsCredentials(Credentials)" == repr(source(fixed()))
    assert not AwsCredentials.per_connection
