"""Credentials for AWS Signature Version 4, from botocore."""

import datetime
import importlib
import importlib.util
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from dromos.errors import BridgeError, InteractionRequired, PermanentError, TokenError
from dromos.model import AuthStrategy, Seconds, Token, seconds
from dromos.oauth._text import error_code
from dromos.oauth._thread import OneThread, in_place_of, kinds, shown, untrusted

__all__ = ["AwsCredentials"]

_ABOUT: Final = "botocore"
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


class AwsCredentials:
    """Credentials from botocore or boto3, presented by the strategy `aws_sigv4`.

    botocore blocks, so it is called on a thread of its own.  It keeps its
    credentials, and renews temporary ones ten to fifteen minutes before they expire.

    Args:
        session_or_credentials: A botocore or boto3 `Session`, or `Credentials` of
            botocore.  None (default): what botocore's own search finds
            (`pip install "dromos[aws]"`).
        service: The service to sign for, such as `"execute-api"`.
        region: Its region, such as `"eu-central-1"`.
        timeout: Seconds for one answer, botocore's own retries included. Default 60.

    Raises:
        ImportError: If botocore is to be asked, and is not installed.
        TypeError: If an argument has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
    """

    per_connection = False
    _kind = "?"  # for a repr amid the constructor

    def __init__(
        self,
        session_or_credentials: object = None,
        *,
        service: str,
        region: str,
        timeout: Seconds = 60,
    ) -> None:
        self._source: Any = _checked_source(session_or_credentials)
        self._kind = type(self._source).__name__ if self._source else "botocore's own"
        self._strategy: Final = AuthStrategy(
            "aws_sigv4", {"service": _label("service", service), "region": _label("region", region)}
        )
        self._thread: Final = OneThread(
            "dromos-token-aws", deadline=seconds("timeout", timeout, above=0)
        )

    def __repr__(self) -> str:
        return f"AwsCredentials({self._kind})"

    async def get_token(self, connection_id: str, /) -> Token:
        """Return the credentials of now.

        Raises:
            InteractionRequired: If a person has to sign in again.
            PermanentError: If there are no credentials.
            TokenError: If they can't be had now.
        """
        outcome = await self._thread.call(self._fetch, what=_ABOUT)
        if isinstance(outcome, Token):
            return outcome
        raise outcome

    def _fetch(self) -> Token | BridgeError:
        """Return credentials, or the error to raise: where no frame of botocore's is in sight."""
        try:
            found = self._credentials()
            if found is None:
                return PermanentError(f"{_ABOUT} found no credentials")
            return self._token(*_frozen(found))
        except Exception as error:
            return _judged(error)

    def _credentials(self) -> Any:
        if self._source is None:
            # Importing it takes a tenth of a second, so not in the loop.
            self._source = importlib.import_module("botocore.session").get_session()
        find = getattr(self._source, "get_credentials", None)
        return self._source if find is None else find()

    def _token(self, frozen: Any, expiry: object) -> Token | BridgeError:
        """Read frozen credentials, or say what is wrong with them."""
        held = {
            "access_key": getattr(frozen, "access_key", None),
            "secret_key": getattr(frozen, "secret_key", None),
            "session_token": getattr(frozen, "token", None),
        }
        if held["session_token"] is None:
            del held["session_token"]
        for name, value in held.items():
            if not isinstance(value, str) or not value:
                return TokenError(f"{_ABOUT} gave no usable {name}", malformed=True)
        expires_at = expiry.timestamp() if isinstance(expiry, datetime.datetime) else None
        return Token(held, self._strategy, expires_at)


def _checked_source(source: object) -> object:
    if source is None:
        if importlib.util.find_spec("botocore") is None:
            raise ImportError('AwsCredentials needs botocore: pip install "dromos[aws]"')
        return None
    has_any = hasattr(source, "get_credentials") or hasattr(source, "get_frozen_credentials")
    if isinstance(source, type) or not has_any:
        kind = type(source).__name__
        raise TypeError(
            "session_or_credentials must have get_credentials() or "
            f"get_frozen_credentials(); {kind} has not"
        )
    return source


def _label(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not _LABEL.fullmatch(value):
        raise ValueError(f"{name} must be of letters, digits, - and _")
    return value


def _frozen(credentials: Any) -> tuple[Any, object]:
    """Return credentials that belong together, and their expiry where botocore knows one.

    It has no public name for the expiry, and another thread may renew the
    credentials between two looks.  It publishes the credentials before the expiry,
    so an expiry seen between two equal looks is theirs, or an earlier one.
    """
    frozen = credentials.get_frozen_credentials()
    while True:
        expiry: object = getattr(credentials, "_expiry_time", None)
        again = credentials.get_frozen_credentials()
        if again == frozen:
            return frozen, expiry
        frozen = again


# ---------------------------------------------------------------- verdicts

_NOTHING_THERE: Final = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "ConfigNotFound",
        "ConfigParseError",
        "InvalidConfigError",
        "UnknownCredentialError",
        "InfiniteLoopConfigError",
        "LoginInsufficientPermissions",
    }
)
_SIGN_IN: Final = frozenset(
    {
        "SSOError",
        "LoginError",
        "TokenRetrievalError",
        "NoAuthTokenError",
        "RefreshWithMFAUnsupportedError",
    }
)
_HEALS: Final = frozenset(
    {
        "CredentialRetrievalError",
        "MetadataRetrievalError",
        "HTTPClientError",
        "ConnectionError",
    }
)
_THROTTLED: Final = ("throttl", "requestlimitexceeded", "toomanyrequests", "slowdown")


def _judged(error: Exception) -> BridgeError:
    """Return our error for botocore's."""
    names = kinds(error)
    message = f"{_ABOUT} gave no credentials: {shown(error)}"
    if untrusted(error) is not None:
        return in_place_of(error, _ABOUT)
    if names & _NOTHING_THERE:
        return PermanentError(message)
    if names & _SIGN_IN:
        return InteractionRequired(f"{message}; a person has to sign in again")
    if names & _HEALS:
        return TokenError(message)
    if "ClientError" in names:
        return _of_service(error, message)
    if isinstance(error, RuntimeError) and "still expired" in str(error):
        return TokenError(message, code="expired_token_returned")
    return in_place_of(error, _ABOUT)


def _of_service(error: Exception, message: str) -> TokenError:
    """Return the error for a refusal of AWS STS or the like."""
    answer = _mapping(getattr(error, "response", None))
    code = error_code(_mapping(answer.get("Error")).get("Code"))
    status = _mapping(answer.get("ResponseMetadata")).get("HTTPStatusCode")
    status = status if isinstance(status, int) else None
    if any(word in (code or "").lower() for word in _THROTTLED):
        status = 429  # STS says so with 400
    heals = status is not None and (status in (408, 429) or status >= 500)
    # Roles and policies take time to propagate, so a refusal is bounded.
    return TokenError(message, status=status, code=code, malformed=not heals)


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
