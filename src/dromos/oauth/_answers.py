"""The gateway's answers, read into tokens or errors.

Nothing here raises: a frame that holds a parsed body must never be part of a
traceback.  Sources: the reference gateway's behaviour, byte by byte, in
`tests/oauth/test_answers.py`.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from dromos.errors import InteractionRequired, TokenError
from dromos.model import AuthStrategy, Token
from dromos.oauth._checks import bearer_problem
from dromos.oauth._expiry import duration, moment, retry_after, to_local
from dromos.oauth._http import Answer, NoAnswer
from dromos.oauth._text import clean, error_code, origin_of

__all__ = ["Asked", "Reading", "fields", "no_answer", "read_token", "refusal", "unusable"]

_FIELDS: Final[Mapping[str, tuple[tuple[str | None, str], ...]]] = {
    # strategy: (config key that names a credential field, default field)
    "oauth2": ((None, "access_token"),),
    "header": (("credential_field", "api_key"),),
    "query_param": (("credential_field", "api_key"),),
    "basic_auth": (("username_field", "username"), ("password_field", "password")),
    "hmac_payload": (("secret_field", "api_secret"),),
    "aws_sigv4": ((None, "access_key"), (None, "secret_key"), (None, "session_token")),
    "api_key": (("credential_field", "api_key"),),
    "hmac": (("secret_field", "api_secret"),),
    "subprotocol": (("credential_field", "access_token"),),
    "cookie": (("credential_field", "session"),),
}
# strategy: (config key of the texts that name credential fields as `{field}`, and the default)
_TEMPLATES: Final[Mapping[str, tuple[str, str]]] = {
    "first_message": ("template", "{access_token}"),
    "headers": ("headers", ""),
}
# Never a credential for the far side: what buys new tokens, who the user is, and
# what the gateway computed, which changes while the credentials stay the same.
_NEVER: Final = frozenset({"refresh_token", "id_token", "expires_at", "expires_in", "expired"})
_NOT_CREDENTIALS: Final = _NEVER | {"strategy", "credentials", "expiry", "scope", "token_type"}

_KEY: Final = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer is the answer to.

    Attributes:
        step: `"token"`, `"refresh"`, `"check"`, `"request"` or `"providers"`.
        subject: For a person: what was asked for.
        connection_id: None where the question was about no connection.
        origin: Of the gateway.
        secrets: What we sent, and no message may repeat.
    """

    step: str
    subject: str
    connection_id: str | None
    origin: str
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Asked(step={self.step!r}, connection_id={self.connection_id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A token, and what else its answer told.

    Attributes:
        token: With the credentials that its strategy needs, and no others.
        mark: Tells whether two readings hold the same credentials; not secret.
        refreshable: True if the answer held a refresh token.
        lifetime: Seconds from issue to expiry, as the provider said; None if it did not.
    """

    token: Token
    mark: bytes
    refreshable: bool
    lifetime: float | None


def fields(answer: Answer) -> Mapping[str, Any] | None:
    """Return an answer's JSON object, or None if it is none."""
    try:
        value: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def read_token(answer: Answer, asked: Asked) -> Reading | TokenError:
    """Read a token from a success, or say why there is none in it."""
    if answer.flaw:
        return unusable(answer, asked, answer.flaw)
    root = fields(answer)
    if root is None:
        what = "it is not a JSON object" if answer.body.strip() else "it is empty"
        return unusable(answer, asked, what)
    if isinstance(root.get("token"), dict):  # the nexus-grpc gateway
        root = _object(root["token"])
    found = _token(root, answer)
    return unusable(answer, asked, found) if isinstance(found, str) else found


def _token(root: Mapping[str, Any], answer: Answer) -> Reading | str:
    """Read a token, or say what it lacks."""
    held = _object(root.get("credentials"))
    strategy = _strategy(root, held)
    if strategy is None:
        return "it holds no token"
    if not held:
        held = {key: root[key] for key in root.keys() - _NOT_CREDENTIALS}
    if strategy.type == "oauth2":
        problem = _oauth2_problem(root, held)
        if problem:
            return problem
        credentials: dict[str, Any] = {"access_token": _either("access_token", held, root)}
    else:
        credentials = _needed(strategy, held)
        if not credentials:
            return "it holds no credentials"
    lifetime = duration(held.get("expires_in")) or duration(root.get("expires_in"))
    token = Token(
        credentials=credentials,
        strategy=strategy,
        expires_at=_expiry(root, held, answer),
        lifetime=lifetime,
    )
    mark = _mark(credentials)
    if mark is None:
        return "its credentials are nested too deeply"
    return Reading(
        token=token,
        mark=mark,
        refreshable=bool(_either("refresh_token", held, root)),
        lifetime=lifetime,
    )


def _strategy(root: Mapping[str, Any], held: Mapping[str, Any]) -> AuthStrategy | None:
    given = _object(root.get("strategy"))
    kind = given.get("type")
    if isinstance(kind, str) and kind:
        return AuthStrategy(kind, _object(given.get("config")))
    # Gateways of winter 2025/26 dropped it, and had OAuth2 connections only.
    return AuthStrategy("oauth2") if _either("access_token", held, root) else None


def _oauth2_problem(root: Mapping[str, Any], held: Mapping[str, Any]) -> str | None:
    value = _either("access_token", held, root)
    if not value:
        return "it holds no access_token"
    problem = bearer_problem(value)
    if problem:
        return f"its access_token {problem}"
    # RFC 6749, 7.1: a token whose type is not understood must not be used.  A
    # missing type is taken for Bearer, which it is in practice.
    kind = _either("token_type", held, root)
    if kind is not None and (not isinstance(kind, str) or kind.lower() != "bearer"):
        return "its token_type is not Bearer"
    return None


def _needed(strategy: AuthStrategy, held: Mapping[str, Any]) -> dict[str, Any]:
    names = _named_in_text(strategy, held) or _named(strategy)
    if not names:
        return {key: value for key, value in held.items() if key not in _NEVER}
    kept = {name: held[name] for name in names if name in held}
    # If the field is missing, the strategy says so, and knows which; here an
    # empty map would read as "no token".
    return kept or {name: None for name in names if held}


def _named(strategy: AuthStrategy) -> list[str]:
    names: list[str] = []
    for config_key, default in _FIELDS.get(strategy.type, ()):
        named = strategy.config.get(config_key) if config_key else None
        names.append(named if isinstance(named, str) and named else default)
    return names


def _named_in_text(strategy: AuthStrategy, held: Mapping[str, Any]) -> list[str]:
    if strategy.type not in _TEMPLATES:
        return []
    config_key, default = _TEMPLATES[strategy.type]
    texts = list(_texts(strategy.config.get(config_key) or default))
    # What looks like a field and is none is in braces twice: it keeps one value too many.
    return [name for name in held if any(f"{{{name}}}" in text for text in texts)]


def _texts(value: object) -> Iterator[str]:
    """Yield the strings in a JSON value; its depth is the sender's choice, so not by recursion."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += cast("dict[str, object]", one).values()
        elif isinstance(one, list):
            waiting += cast("list[object]", one)


def _expiry(root: Mapping[str, Any], held: Mapping[str, Any], answer: Answer) -> float | None:
    """Return the token's expiry on the local clock."""
    said = (
        moment(held.get("expires_at"))
        or moment(root.get("expires_at"))
        or moment(root.get("expiry"))
    )
    # `expires_in` says nothing here: in a stored token it counts from its issue, whenever that was.
    expiry = None if said is None else to_local(said, answer.headers, at=answer.at)
    if held.get("expired") is True or root.get("expired") is True:
        return answer.at if expiry is None else min(expiry, answer.at)
    return expiry


def _object(value: object) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one in place of anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _either(key: str, *places: Mapping[str, Any]) -> Any:
    return next((place[key] for place in places if place.get(key) is not None), None)


def _mark(credentials: Mapping[str, Any]) -> bytes | None:
    try:
        text = json.dumps(credentials, sort_keys=True, default=repr)
    except RecursionError:  # writing takes a little more of the stack than reading did
        return None
    return hmac.digest(_KEY, text.encode(errors="surrogatepass"), hashlib.sha256)


def unusable(answer: Answer, asked: Asked, problem: str) -> TokenError:
    """Return the error for a success that holds nothing we can use."""
    return TokenError(
        f"the gateway at {asked.origin} answered {answer.status} to {asked.subject}, "
        f"but the answer can't be used: {problem}",
        status=answer.status,
        step=asked.step,
        malformed=True,
        source="gateway",
        origin=asked.origin,
    )


def no_answer(outcome: NoAnswer, asked: Asked) -> TokenError:
    """Return the error for an answer that did not come."""
    error = TokenError(
        f"no answer from the gateway at {asked.origin} to {asked.subject}: {outcome.reason}",
        code=outcome.code,
        step=asked.step,
        source="gateway",
        origin=asked.origin,
    )
    error.__cause__ = outcome.cause()
    return error


def refusal(answer: Answer, asked: Asked) -> TokenError | InteractionRequired:
    """Return the error for an answer that is not a success.

    The class follows the status alone: the reference gateway strips the body
    from nearly every refusal.
    """
    code, text = _envelope(answer, asked.secrets)
    about = f"the gateway at {asked.origin} answered {answer.status} to {asked.subject}"
    if answer.status == 409 and asked.step in ("token", "refresh"):
        return InteractionRequired(
            f"{about}: the connection needs attention; a person has to give consent again, "
            f"which makes a new connection id",
            connection_id=asked.connection_id,
            code=code,
        )
    # The gateway turns each refusal of its broker into a 502, and tells the broker's status inside.
    status = _inner_status(answer) if code == "broker_error" else answer.status
    if 300 <= status < 400:
        where = origin_of(answer.headers.get("location", ""))
        about += f", a redirect to {where}, and redirects are not followed"
    elif status == 404 and answer.body.strip().lower() == b"404 page not found":
        # Go's router, not the gateway: an unknown connection has an empty body.
        code = "wrong_url"
        about += ": there is no such path; is the base URL right?"
    elif code or text:
        about += f" ({': '.join(filter(None, (code, text)))})"
    return TokenError(
        about + _doubt(status, code, asked, is_page=bool(answer.body.strip())),
        status=status,
        code=code,
        retry_after=retry_after(answer.headers, at=answer.at),
        step=asked.step,
        source="gateway",
        origin=asked.origin,
    )


def _doubt(status: int, code: str | None, asked: Asked, *, is_page: bool) -> str:
    """Ask what a person should look at, where a refusal does not say so itself.

    The reference gateway refuses an id that it does not know with a bare 400 or 404.  What
    answers with a page of text may be no gateway; nor is a WebSocket's far side (426).
    """
    if code is not None or asked.connection_id is None:
        return ""
    if status in (405, 426, 501):
        return " (is this the gateway's address?)"
    if status not in (400, 404):
        return ""
    place = "is this the gateway's address, and " if is_page else ""
    return f" ({place}does it know that connection id?)"


def _inner_status(answer: Answer) -> int:
    inner = (fields(answer) or {}).get("status")
    if isinstance(inner, int) and 400 <= inner < 500:
        return inner
    return answer.status


def _envelope(answer: Answer, ours: Iterable[str]) -> tuple[str | None, str]:
    """Return the code and text of an error body, each cleaned; five shapes are about."""
    body = fields(answer)
    if body is None:
        head = answer.body[:1024].decode("utf-8", "replace")
        is_page = head.lstrip().startswith(("<", "{", "["))
        return None, "" if is_page else clean(head, secrets=ours)
    code = error_code(body.get("error"), secrets=ours) or error_code(body.get("code"), secrets=ours)
    text = body.get("message") or body.get("detail") or body.get("error_description")
    return code, clean(text, secrets=ours)
