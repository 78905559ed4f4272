"""A fixed token, and what any plain text needs to become a token."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from dromos.errors import TokenError
from dromos.model import AuthStrategy, Token
from dromos.oauth._checks import bearer_problem
from dromos.oauth._expiry import moment
from dromos.redaction import REDACTED, Secret

__all__ = ["Shape", "StaticToken", "checked_strategy", "not_refreshable", "plain", "shape_of"]

LONGEST: Final = 16 * 1024
"""Characters of one credential."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    # strategy: (setting that names its one credential, default name)
    "oauth2": ("", "access_token"),
    "header": ("credential_field", "api_key"),
    "query_param": ("credential_field", "api_key"),
    "hmac_payload": ("secret_field", "api_secret"),
}
_OAUTH2: Final = AuthStrategy("oauth2")


class StaticToken:
    """A token that never changes, such as an API key, for every connection.

    If it is a JWT, its `exp` is read as a hint for scheduling, without a check
    of its signature.

    Args:
        token: A `str` or `Secret`, from which whitespace around it is stripped; or
            the strategy's credentials by name.
        strategy: How to present it.  None (default): as an OAuth 2.0 bearer token.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the token is empty, too long or holds characters that no token
            may have, or if the strategy takes more than one credential.
    """

    per_connection = False

    def __init__(
        self,
        token: str | Secret | Mapping[str, Any],
        *,
        strategy: AuthStrategy | None = None,
    ) -> None:
        try:
            chosen = checked_strategy(strategy)
            if isinstance(token, Mapping):
                made = from_mapping(token, chosen)
            else:
                made = shape_of(chosen, None).read(token)
        finally:
            del token  # Or a traceback that captures locals would show it.
        if isinstance(made, Problem):
            raise _refused("token", made)
        self._token = made

    def __repr__(self) -> str:
        return f"StaticToken({REDACTED})"

    async def get_token(self, connection_id: str, /) -> Token:
        """Return the token."""
        return self._token

    async def refresh_connection(self, connection_id: str, /) -> NoReturn:
        """Say that there is no other token.

        Raises:
            TokenError: Always, with the code `refresh_not_supported`.
        """
        raise not_refreshable("this token is fixed: there is no other one")


# ---------------------------------------------------------------- texts as tokens


class Problem(str):
    """What is wrong with a token, as the end of a sentence; it shows nothing of the token."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a text becomes a token.

    Attributes:
        strategy: How it is presented.
        credential: The name under which the strategy looks for it.
    """

    strategy: AuthStrategy
    credential: str

    def read(self, value: object) -> Token | Problem:
        """Return the token that a `str` or `Secret` is, or what is wrong with it."""
        text = plain(value)
        if text is None:
            return Problem(f"is not a str or Secret but {type(value).__name__}")
        problem = text_problem(text, self.strategy)
        if problem:
            return Problem(problem)
        expires_at, lifetime = _life(text)
        return Token({self.credential: text}, self.strategy, expires_at, lifetime)


def shape_of(strategy: AuthStrategy, credential: str | None) -> Shape:
    """Return how a text becomes a token for a strategy.

    Args:
        strategy: How it is presented.
        credential: The name of the credential.  None: the strategy's only one.

    Raises:
        TypeError: If `credential` is neither a `str` nor None.
        ValueError: If it is empty, or None where the strategy takes several.
    """
    if credential is None:
        setting, default = _FIELDS.get(strategy.type, ("", ""))
        named = strategy.config.get(setting) if setting else None
        credential = named if isinstance(named, str) and named else default
        if not credential:
            raise ValueError(
                f"strategy {strategy.type!r} does not take one text: give its credentials by name"
            )
    if not isinstance(credential, str):
        raise TypeError(f"credential must be a str or None, not {type(credential).__name__}")
    if not credential:
        raise ValueError("credential must not be empty")
    return Shape(strategy=strategy, credential=credential)


def checked_strategy(strategy: object) -> AuthStrategy:
    """Return a strategy, or OAuth 2.0's where it is None.

    Raises:
        TypeError: If it is anything else.
    """
    if strategy is None:
        return _OAUTH2
    if not isinstance(strategy, AuthStrategy):
        raise TypeError(f"strategy must be an AuthStrategy or None, not {type(strategy).__name__}")
    return strategy


def plain(value: object) -> str | None:
    """Return a `str` or `Secret` without the whitespace around it; None for anything else."""
    if isinstance(value, Secret):
        return value.reveal().strip()
    return value.strip() if isinstance(value, str) else None


def text_problem(text: str, strategy: AuthStrategy) -> str | None:
    """Say what is wrong with a credential, without showing it; None if nothing is."""
    if strategy.type == "oauth2":
        return bearer_problem(text)
    if not text:
        return "is empty"
    if len(text) > LONGEST:
        return "is over 16 KiB"
    return "holds a line break or another control character" if _CONTROL.search(text) else None


def from_mapping(values: Mapping[str, Any], strategy: AuthStrategy) -> Token | Problem:
    """Return the token that credentials by name are, or what is wrong with them."""
    if not all(isinstance(name, str) for name in values):
        return Problem("holds a name that is not a str")
    if not values:
        return Problem("holds no credentials")
    held = {k: v.reveal() if isinstance(v, Secret) else v for k, v in values.items()}
    expires_at = lifetime = None
    if strategy.type == "oauth2":
        text = held.get("access_token")
        problem = bearer_problem(text)
        if problem:
            return Problem(f"holds no usable access_token: it {problem}")
        expires_at, lifetime = _life(str(text))
    return Token(held, strategy, expires_at, lifetime)


def not_refreshable(message: str) -> TokenError:
    """Return the error for a source without another token; it says nothing against this one."""
    return TokenError(message, code="refresh_not_supported", step="refresh")


def _refused(name: str, problem: Problem) -> ValueError | TypeError:
    kind = TypeError if problem.startswith("is not a str") else ValueError
    return kind(f"{name} {problem}")


def _life(text: str) -> tuple[float | None, float | None]:
    """Return a JWT's expiry as Unix time and its lifetime in seconds, as far as it tells.

    A hint for scheduling, which the far side's word overrides (RFC 7519, 4.1.4
    and 4.1.6); no signature is checked.
    """
    claims = _claims(text)
    expiry, issue = _moment(claims.get("exp")), _moment(claims.get("iat"))
    if expiry is None:
        return None, None
    return expiry, expiry - issue if issue is not None and issue < expiry else None


def _moment(claim: object) -> float | None:
    is_number = isinstance(claim, int | float) and not isinstance(claim, bool)
    return moment(claim) if is_number else None


def _claims(text: str) -> Mapping[str, Any]:
    """Return what a signed JWT says (RFC 7515, 7.1), or nothing if it is none."""
    parts = text.split(".")
    if len(parts) != 3 or len(text) > LONGEST:
        return {}
    try:
        payload = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_")
        claims: object = json.loads(payload)
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return cast("Mapping[str, Any]", claims) if isinstance(claims, dict) else {}
