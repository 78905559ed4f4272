"""Tokens from google-auth's credentials."""

import contextvars
import datetime
import functools
import logging
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast
from urllib.parse import urlsplit

from dromos.errors import BridgeError, InteractionRequired, PermanentError, TokenError
from dromos.model import Seconds, Token, seconds
from dromos.oauth._checks import bearer_problem, is_loopback
from dromos.oauth._expiry import retry_after
from dromos.oauth._http import LARGEST_BODY
from dromos.oauth._text import error_code
from dromos.oauth._thread import OneThread, in_place_of, kinds, shown, untrusted

if TYPE_CHECKING:
    import httpx2

__all__ = ["GoogleCredentials", "GoogleRequest", "GoogleToken"]

_ABOUT: Final = "google-auth's refresh"


class GoogleCredentials(Protocol):
    """What we need of `google.auth.credentials.Credentials`."""

    token: Any
    expiry: Any

    def refresh(self, request: Any, /) -> object:
        """Have a token issued, over this request."""
        ...


class GoogleResponse(Protocol):
    """`google.auth.transport.Response`."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def data(self) -> bytes: ...


GoogleRequest: TypeAlias = Callable[..., GoogleResponse]
"""`google.auth.transport.Request`: called with url, method, body, headers and timeout."""


class GoogleToken:
    """Tokens from google-auth's credentials, such as `google.auth.default()[0]`.

    google-auth blocks, so it is called on a thread of its own.  It brings no
    transport: its requests go out over httpx2, without the environment's
    proxies, and no redirect is followed.  Credentials that need a client
    certificate, or a proxy, need a `request` of google-auth's.

    Args:
        credentials: From `google.auth`; every connection gets their tokens.
        scopes: What to ask for, where the credentials need scopes and have none.
            None (default) leaves them as they are.
        request: Sends google-auth's requests, in place of ours:
            `google.auth.transport.requests.Request()`, for one.
        timeout: Seconds for a whole refresh, google-auth's own retries included.
            Default 60.
        wall: The wall clock, as Unix time; for tests.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
    """

    per_connection = False
    _kind = "?"  # for a repr amid the constructor

    def __init__(
        self,
        credentials: GoogleCredentials,
        *,
        scopes: Sequence[str] | None = None,
        request: GoogleRequest | None = None,
        timeout: Seconds = 60,
        wall: Callable[[], float] = time.time,  # noqa: TID251  # the seam to the outer world
    ) -> None:
        if isinstance(credentials, type) or not callable(getattr(credentials, "refresh", None)):
            kind = type(credentials).__name__
            raise TypeError(f"credentials must be google-auth's, with refresh(), not {kind}")
        if request is not None and not callable(request):
            raise TypeError(f"request must be callable or None, not {type(request).__name__}")
        self._credentials: Final = _scoped(credentials, _checked_scopes(scopes))
        self._kind = type(self._credentials).__name__
        self._request: Final = request
        self._wall: Final = wall
        self._thread: Final = OneThread(
            "dromos-token-google", deadline=seconds("timeout", timeout, above=0)
        )

    def __repr__(self) -> str:
        return f"GoogleToken({self._kind})"

    async def get_token(self, connection_id: str, /) -> Token:
        """Return the credentials' token, a new one if that has expired.

        Raises:
            InteractionRequired: If a person has to sign in again.
            PermanentError: If there are no credentials.
            TokenError: If there is no usable token.
        """
        return await self._ask("token")

    async def refresh_connection(self, connection_id: str, /) -> Token:
        """Have a new token issued, and return it.

        Raises:
            InteractionRequired: If a person has to sign in again.
            PermanentError: If there are no credentials.
            TokenError: If there is no usable token.
        """
        return await self._ask("refresh")

    async def _ask(self, step: str) -> Token:
        fetch = functools.partial(self._fetch, step)
        outcome = await self._thread.call(fetch, what=_ABOUT)
        if isinstance(outcome, Token):
            return outcome
        raise outcome

    def _fetch(self, step: str) -> Token | BridgeError:
        """Return a token, or the error to raise: where no frame of google-auth's is in sight."""
        if step == "token":
            held = self._held()
            if isinstance(held, Token) and (held.expires_at or 0) > self._wall():
                return held
        exchange = _Exchange(self._request or _Request())
        try:
            self._credentials.refresh(exchange)
        except Exception as error:
            is_user = bool(getattr(self._credentials, "refresh_token", None))
            return _judged(error, exchange, is_user=is_user, at=self._wall())
        held = self._held()
        if isinstance(held, Token):
            return held
        return TokenError(f"{_ABOUT} gave a token that {held}", step=step, malformed=True)

    def _held(self) -> Token | str:
        """Return the token that the credentials hold, or what is wrong with it."""
        token, expiry = self._credentials.token, self._credentials.expiry
        problem = bearer_problem(token)
        if problem:
            return problem
        return Token({"access_token": str(token)}, expires_at=_unix(expiry))


def _checked_scopes(scopes: object) -> tuple[str, ...] | None:
    if scopes is None:
        return None
    if isinstance(scopes, str) or not isinstance(scopes, Sequence):
        raise TypeError(f"scopes must be a sequence of str or None, not {type(scopes).__name__}")
    names = tuple(cast("Sequence[object]", scopes))
    if not all(isinstance(name, str) for name in names):
        raise TypeError("scopes must hold str only")
    if not names or not all(names):
        raise ValueError("scopes must not be empty, or hold an empty one")
    return cast("tuple[str, ...]", names)


def _scoped(credentials: Any, scopes: tuple[str, ...] | None) -> GoogleCredentials:
    # `google.auth.credentials.with_scopes_if_required`, without importing it.
    if scopes and getattr(credentials, "requires_scopes", False):
        credentials = credentials.with_scopes(list(scopes))
    return cast("GoogleCredentials", credentials)


def _unix(expiry: object) -> float | None:
    """Return an expiry as Unix time; google-auth tells it in UTC, without saying so."""
    if not isinstance(expiry, datetime.datetime):
        return None
    return (expiry if expiry.tzinfo else expiry.replace(tzinfo=datetime.UTC)).timestamp()


# ---------------------------------------------------------------- verdicts


def _judged(error: Exception, exchange: "_Exchange", *, is_user: bool, at: float) -> BridgeError:
    """Return our error for google-auth's.

    Args:
        error: What `refresh` raised.
        exchange: The requests that it made, the last of which tells the status.
        is_user: Whether the credentials are a person's.
        at: Unix time, for a `Retry-After` that is a date.
    """
    names = kinds(error)
    if isinstance(error, BridgeError) or "GoogleAuthError" not in names or _distrusted(error):
        return in_place_of(error, _ABOUT)
    message = f"{_ABOUT} failed: {shown(error)}"
    if "DefaultCredentialsError" in names:
        return PermanentError(message)
    code = _code(error)
    if _needs_person(error, code, is_user=is_user):
        return InteractionRequired(f"{message}; a person has to sign in again", code=code)
    status, wait = exchange.status, retry_after(exchange.headers, at=at)
    if getattr(error, "retryable", False) or names & {"TransportError", "TimeoutError"}:
        # Its word counts for more than a code, and a status only where that agrees.
        heals = status if status in (408, 429) or (status or 0) >= 500 else None
        return TokenError(message, status=heals, retry_after=wait)
    # A success, or no request at all: nothing tells more than that there is no token.
    # The step stays "token": an invalid_grant of a service account is bounded (its clock).
    is_bare = status is None or 200 <= status < 300
    return TokenError(message, status=status, code=code, retry_after=wait, malformed=is_bare)


def _distrusted(error: Exception) -> bool:
    return untrusted(error) is not None


def _code(error: Exception) -> str | None:
    """Return the OAuth code in the answer that google-auth keeps beside its text."""
    for part in error.args[1:]:
        if isinstance(part, Mapping):
            answer = cast("Mapping[str, object]", part)
            # Google's sub-error tells what to do where the error itself does not.
            subtype = error_code(answer.get("error_subtype"))
            return subtype if subtype in _REAUTH else error_code(answer.get("error"))
    return None


_REAUTH: Final = frozenset({"invalid_rapt", "rapt_required"})


def _needs_person(error: Exception, code: str | None, *, is_user: bool) -> bool:
    if code in _REAUTH or "ReauthFailError" in kinds(error):
        return True
    if code == "invalid_grant":
        return is_user  # RFC 6749, 5.2: the refresh token is gone
    return is_user and "reauthentication is needed" in str(error).lower()


# ---------------------------------------------------------------- requests


class _Exchange:
    """Passes google-auth's requests on, and remembers what the last answer said.

    google-auth keeps neither status nor `Retry-After` in its errors.
    """

    def __init__(self, request: GoogleRequest) -> None:
        self._request = request
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return "_Exchange()"

    def __call__(self, *arguments: Any, **options: Any) -> GoogleResponse:
        self.status, self.headers = None, {}
        response = self._request(*arguments, **options)
        self.status = response.status
        self.headers = {
            name.lower(): value
            for name, value in response.headers.items()
            if name.lower() in ("retry-after", "date")
        }
        return response

    def __getattr__(self, name: str) -> Any:
        # google-auth looks for `session` to mount a client certificate on.
        return getattr(self._request, name)


class _TransportError(OSError):
    """In place of google-auth's, for credentials that only look like its own."""


class _Response:
    """An answer as google-auth wants it."""

    def __init__(self, status: int, headers: "httpx2.Headers", data: bytes) -> None:
        self.status: Final = status
        self.headers: Final = headers
        self.data: Final = data

    def __repr__(self) -> str:
        return f"_Response({self.status})"


class _Request:
    """google-auth's requests over httpx2: each on a connection of its own.

    A transport rather than a client: no redirects, no cookies, no environment, no log line.
    Plain http is let through where nothing secret is sent: the metadata servers have no other.
    """

    def __repr__(self) -> str:
        return "_Request()"

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **options: object,
    ) -> _Response:
        """Send a request and return its answer.

        Raises:
            PermanentError: If google-auth wants what we don't do, such as a client certificate,
                or would send a secret in the clear to another machine.
            TransportError: google-auth's, if no answer came; without a context, whose frames
                hold the headers.
        """
        if options:
            del url, body, headers
            raise PermanentError(
                f"google-auth asks for {', '.join(sorted(options))}, which needs a transport of "
                "its own: give request=google.auth.transport.requests.Request()"
            )
        if _is_exposed(url, body, headers):
            del url, body, headers
            raise PermanentError(
                "google-auth would send a secret over plain http to another machine: "
                "the credentials' token_uri, or the like, must be https"
            )
        quiet = _QUIET.set(True)
        try:
            outcome = _sent(url, method, body, headers, _LONGEST if timeout is None else timeout)
        finally:
            _QUIET.reset(quiet)
            del url, body, headers
        if isinstance(outcome, _Response):
            return outcome
        raise outcome


_LONGEST: Final = 30.0
"""Seconds for one request."""


def _is_exposed(url: str, body: bytes | str | None, headers: Mapping[str, str] | None) -> bool:
    """Whether a request has something in it that must not be read on its way."""
    parts = urlsplit(url)
    if parts.scheme != "http" or is_loopback(parts.hostname or ""):
        return False
    return bool(body) or any(name.lower() == "authorization" for name in headers or {})


def _sent(
    url: str,
    method: str,
    body: bytes | str | None,
    headers: Mapping[str, str] | None,
    timeout: float,
) -> _Response | Exception:
    """Return what came of a request: an error is a value, so that no frame of ours is in it."""
    import httpx2

    _silence_httpcore()
    limits = httpx2.Timeout(min(timeout, _LONGEST))
    request = httpx2.Request(
        method,
        url,
        headers=dict(headers or {}),
        content=body,
        extensions={"timeout": limits.as_dict()},
    )
    try:
        transport = httpx2.HTTPTransport(
            verify=_context(request.url.scheme == "https"),
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        with closing(transport), closing(transport.handle_request(request)) as response:
            data = _read(response, until=time.monotonic() + _LONGEST)
            if isinstance(data, bytes):
                return _Response(response.status_code, response.headers, data)
            return _broken(f"the answer {data}")
    except (httpx2.HTTPError, OSError) as error:
        refused = untrusted(error)
        return _broken(f"no answer came ({type(error).__name__})", refused)


def _read(response: "httpx2.Response", *, until: float) -> bytes | str:
    """Read a body as far as it may go, or say what was wrong with it."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > LARGEST_BODY:
            return "was over 1 MiB"
        if time.monotonic() > until:
            return f"took over {_LONGEST:g} s"
    return bytes(body)


def _broken(message: str, refused: str | None = None) -> Exception:
    module = sys.modules.get("google.auth.exceptions")
    error: Exception = getattr(module, "TransportError", _TransportError)(message)
    if refused is not None:
        # A new one: the real one's traceback leads through frames that hold the headers.
        error.__cause__ = ssl.SSLCertVerificationError(1, refused)
    return error


@functools.cache
def _context(is_secure: bool) -> ssl.SSLContext:
    import httpx2

    if is_secure:
        return httpx2.create_ssl_context(trust_env=False)
    # For http:// only: loading the CA store takes 60 ms, and trusting nobody is safe.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# As in `_http`: httpcore2 shows response headers at DEBUG and offers no logger to replace.
_QUIET: Final[contextvars.ContextVar[bool]] = contextvars.ContextVar(
    "dromos_google_quiet", default=False
)


def _not_ours(_: logging.LogRecord) -> bool:
    return not _QUIET.get()


@functools.cache
def _silence_httpcore() -> None:
    for part in ("connection", "http11", "http2", "proxy", "socks"):
        logging.getLogger(f"httpcore2.{part}").addFilter(_not_ours)
