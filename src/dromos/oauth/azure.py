"""Tokens from azure-identity's credentials, or any other that azure-core's protocols describe."""

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from dromos.errors import BridgeError, InteractionRequired, PermanentError, TokenError
from dromos.model import Seconds, Token, seconds
from dromos.oauth._checks import bearer_problem
from dromos.oauth._expiry import moment, retry_after
from dromos.oauth._thread import OneThread, in_place_of, kinds, late, shown, untrusted

__all__ = ["AzureToken"]

_ABOUT: Final = "the Azure credential"


class AzureToken:
    """Tokens from an Azure credential, such as `azure.identity.DefaultAzureCredential()`.

    A credential of `azure.identity` blocks, so it is called on a thread of its
    own; one of `azure.identity.aio` is called in the bridge's loop.  Azure's
    credentials keep their tokens, and issue another one when they see fit: from
    their `refresh_on` on, or five minutes before the end.

    Args:
        credential: Has `get_token_info(*scopes)` or `get_token(*scopes)`.  Closing it is
            yours.
        *scopes: What to ask for, such as `"https://vault.azure.net/.default"`.
        timeout: Seconds for one token, the credential's own retries included. Default 60.
        wall: The wall clock, as Unix time; for tests.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there is no scope, or an empty one.
    """

    per_connection = False
    _kind = "?"  # for a repr amid the constructor

    def __init__(
        self,
        credential: object,
        *scopes: str,
        timeout: Seconds = 60,
        wall: Callable[[], float] = time.time,  # noqa: TID251  # the seam to the outer world
    ) -> None:
        method = getattr(credential, "get_token_info", None) or getattr(
            credential, "get_token", None
        )
        if isinstance(credential, type) or not callable(method):
            kind = type(credential).__name__
            raise TypeError(f"credential must have get_token_info() or get_token(); {kind} has not")
        if not all(isinstance(scope, str) for scope in scopes):
            raise TypeError("scopes must be str")
        if not scopes or not all(scopes):
            raise ValueError("scopes must hold at least one, and no empty one")
        self._kind = type(credential).__name__
        self._method: Final[Callable[..., Any]] = method
        self._scopes: Final = scopes
        self._claims: str | None = None
        self._takes_map: Final = hasattr(credential, "get_token_info")
        self._timeout: Final = seconds("timeout", timeout, above=0)
        self._thread: Final = OneThread("dromos-token-azure", deadline=self._timeout)
        self._wall: Final = wall

    def __repr__(self) -> str:
        return f"AzureToken({self._kind})"

    async def get_token(self, connection_id: str, /) -> Token:
        """Return the credential's token.

        Raises:
            InteractionRequired: If a person has to sign in.
            PermanentError: If the credential can't be used here at all.
            TokenError: If there is no usable token.
        """
        outcome = await self._ask()
        if isinstance(outcome, Token):
            return outcome
        raise outcome

    async def _ask(self) -> Token | BridgeError:
        """Return a token, or the error to raise: where no frame of Azure's is in sight."""
        if not inspect.iscoroutinefunction(self._method):
            given = await self._thread.call(self._called, what=_ABOUT)
        else:
            given = self._called()
        return await self._awaited(given) if inspect.isawaitable(given) else self._read(given)

    def claims_challenged(self, connection_id: str, claims: str, /) -> None:
        """Ask for the next token with these claims: continuous access evaluation."""
        self._claims = claims

    def _called(self) -> object:
        claims, self._claims = self._claims, None
        options: dict[str, Any] = {}
        if claims is not None:
            options = {"options": {"claims": claims}} if self._takes_map else {"claims": claims}
        try:
            return self._method(*self._scopes, **options)
        except Exception as error:
            return _judged(error, at=self._wall())

    async def _awaited(self, given: Any) -> Token | BridgeError:
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                return self._read(await given)
        except Exception as error:
            is_late = isinstance(error, TimeoutError) and limit.expired()
            return late(_ABOUT, self._timeout) if is_late else _judged(error, at=self._wall())

    def _read(self, given: object) -> Token | BridgeError:
        """Read an `AccessToken` or `AccessTokenInfo`, or say what is wrong with it."""
        if isinstance(given, BridgeError):
            return given
        token = getattr(given, "token", None)
        problem = bearer_problem(token)
        kind = getattr(given, "token_type", "Bearer")
        if not problem and (not isinstance(kind, str) or kind.lower() != "bearer"):
            problem = "is not a Bearer token"
        if problem:
            return TokenError(f"{_ABOUT} gave a token that {problem}", malformed=True)
        # `refresh_on` is not needed: whoever asks after it gets the next token.
        return Token(
            {"access_token": str(token)}, expires_at=moment(getattr(given, "expires_on", None))
        )


def _judged(error: Exception, *, at: float) -> BridgeError:
    """Return our error for azure-core's.

    Args:
        error: What the credential raised.
        at: Unix time, for a `Retry-After` that is a date.
    """
    names = kinds(error)
    if "AzureError" not in names or untrusted(error) is not None:
        return in_place_of(error, _ABOUT)
    message = f"{_ABOUT} failed: {shown(error)}"
    if "AuthenticationRequiredError" in names:
        return InteractionRequired(f"{message}; a person has to sign in")
    if "CredentialUnavailableError" in names:
        return PermanentError(message)
    if names & {"ServiceRequestError", "ServiceResponseError"}:
        return TokenError(message)
    status, wait = _status(error), retry_after(_headers(error), at=at)
    # A refused credential, or no status: secrets and roles take time to propagate.
    is_bare = "ClientAuthenticationError" in names or status is None or 200 <= status < 300
    return TokenError(message, status=status, retry_after=wait, malformed=is_bare)


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _headers(error: Exception) -> Mapping[str, str]:
    found = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(found, Mapping):
        return {}
    headers = cast("Mapping[object, object]", found)
    return {str(name).lower(): str(value) for name, value in headers.items()}
