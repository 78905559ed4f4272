"""What is secret, by name, and how a secret is kept from showing."""

import functools
import hmac
import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn, TypeVar, cast

__all__ = [
    "REDACTED",
    "SENSITIVE",
    "Secret",
    "header_secrets",
    "is_sensitive",
    "unseen",
    "without",
]

F = TypeVar("F", bound=Callable[..., Any])

REDACTED: Final = "<redacted>"

_SHORTEST: Final = 6

SENSITIVE: Final = frozenset(
    {
        # form fields and JSON keys of token requests and answers
        "access_token",
        "refresh_token",
        "id_token",
        "token",
        "client_secret",
        "assertion",
        "client_assertion",
        "subject_token",
        "actor_token",
        "code",
        "code_verifier",
        "device_code",
        "user_code",
        "verification_uri_complete",
        "password",
        # credentials of strategies
        "api_key",
        "api_secret",
        "apikey",
        "secret",
        "secret_key",
        "session_token",
        "signature",
        "private_key",
        "dpop_key",
        # headers
        "authorization",
        "authentication_info",
        "proxy_authorization",
        "proxy_authentication_info",
        "cookie",
        "cookie2",
        "set_cookie",
        "set_cookie2",
        "dpop",
        "x_api_key",
        "x_auth_token",
        "x_csrf_token",
        "x_amz_security_token",
        "sec_websocket_protocol",
        # parameters of signed URLs
        "x_amz_signature",
        "x_amz_credential",
        "sig",
    }
)
"""Names whose values are secret wherever they stand: in a form, a JSON object, a header
or a query.  In lower case, with `_` for `-`.  A credential of a strategy is secret
whatever its name."""


def is_sensitive(name: str) -> bool:
    """Whether a value of this name is secret, in any spelling of the name."""
    return name.lower().replace("-", "_") in SENSITIVE


def header_secrets(value: str) -> Iterator[str]:
    """Yield a header's value and the parts of it that are secret alone."""
    yield value
    scheme, _, credentials = value.partition(" ")
    yield credentials.strip()
    for parameter in re.split(r"[;,\s]\s*", value):
        yield parameter.partition("=")[2].strip('"')
    if scheme.lower() == "basic":
        try:
            login = b64decode(credentials, validate=True).decode()
        except ValueError:
            return
        yield login
        yield login.partition(":")[2]


def without(text: str, secrets: Iterable[object]) -> str:
    """Return a text without secrets; what is no `str`, or too short to be told apart, stays."""
    known = [secret for secret in secrets if isinstance(secret, str) and len(secret) >= _SHORTEST]
    known += [json.dumps(secret)[1:-1] for secret in known]
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
        # Whoever repeats it may have cut it.
        start = next((n for n in range(len(secret), _SHORTEST, -1) if text.endswith(secret[:n])), 0)
        text = text[:-start] + REDACTED if start else text
    return text


def unseen(function: F) -> F:
    """Have a function raise errors without its frames, which hold its arguments in the clear.

    For constructors that take secrets: a crash reporter shows the variables of frames, and
    a message that names the argument says what is to be known.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except Exception as error:
            problem = error.with_traceback(None)
        del arguments, options
        problem.__context__ = None
        if problem.__cause__ is not None:
            problem.__cause__.__traceback__ = None
        raise problem

    return cast("F", call)


class Secret:
    """A text that does not show itself: not in a `repr`, a log line, a pickle or a copy.

    Python can't wipe it from memory; who holds it can drop it.

    Args:
        value: The text, or another `Secret`.

    Raises:
        TypeError: If `value` is neither.
    """

    __slots__ = ("_value",)

    @unseen
    def __init__(self, value: "str | Secret") -> None:
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a secret must be a str, not {type(text).__name__}")
        self._value = text

    def reveal(self) -> str:
        """Return the text in the clear."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __format__(self, spec: str, /) -> str:
        # A width or precision would tell something of a value that is not there.
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = self._value, other._value
        return hmac.compare_digest(
            mine.encode(errors="surrogatepass"), theirs.encode(errors="surrogatepass")
        )

    # A hash, or the order of a set, would be a fingerprint.
    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise TypeError("a secret can't be copied or pickled")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret can't be copied or pickled")

    def __deepcopy__(self, memo: object, /) -> NoReturn:
        raise TypeError("a secret can't be copied or pickled")
