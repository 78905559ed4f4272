"""A secret that a request presents: fixed, from a function, or from another source of tokens."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any, Final

from dromos.errors import TokenError
from dromos.model import Token
from dromos.oauth._checks import bearer_problem
from dromos.oauth._flow import Ask, Flow
from dromos.redaction import Secret

__all__ = ["Subject"]

_KEY: Final = secrets.token_bytes(32)


class Subject:
    """What is presented, read anew for each request.

    Args:
        name: The argument's name, for messages.
        value: A `str` or `Secret`, a callable, sync or async, that returns one, or an
            object with `get_token`, such as a `FileToken`.

    Raises:
        TypeError: If it is none of them.
        ValueError: If no token can look like it.
    """

    __slots__ = ("_function", "_name", "_value")

    def __init__(self, name: str, value: object) -> None:
        self._name = name
        self._value: Secret | None = None
        self._function: Callable[[], Any] | None = None
        get_token = getattr(value, "get_token", None)
        if callable(get_token):
            self._function = lambda: get_token("")
        elif callable(value):
            self._function = value
        elif isinstance(value, str | Secret):
            text = Secret(value).reveal().strip()
            if problem := bearer_problem(text):
                del text, value
                raise ValueError(f"{name} {problem}")
            self._value = Secret(text)
        else:
            raise TypeError(
                f"{name} must be a str, a Secret, a callable or an object with get_token, "
                f"not {type(value).__name__}"
            )

    def __repr__(self) -> str:
        return f"Subject({self._name!r})"

    def now(self) -> Flow[str]:
        """Return what is to be presented.

        Raises:
            TokenError: If a function returned what no token can be.
        """
        if self._function is None:
            assert self._value is not None
            return self._value.reveal()
        text = _text((yield Ask(function=self._function)))
        problem = bearer_problem(text)
        if problem is None:
            return str(text)
        del text
        raise TokenError(f"what was to be presented as {self._name} {problem}", malformed=True)

    def mark(self) -> Flow[bytes]:
        """Tell this from other secrets, without telling it."""
        return hmac.digest(_KEY, (yield from self.now()).encode(), hashlib.sha256)


def _text(value: object) -> object:
    if isinstance(value, Token):
        value = value.credentials.get("access_token")
    if isinstance(value, Secret):
        value = value.reveal()
    return value.strip() if isinstance(value, str) else value
