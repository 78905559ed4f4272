"""One question to a token endpoint, and its answer read into what was issued, or an error.

Nothing here raises: a frame that holds a parsed answer must never be part of a traceback.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlencode

from dromos.errors import TokenError
from dromos.model import AuthStrategy, Token
from dromos.oauth._answers import fields
from dromos.oauth._checks import ServerUrl, bearer_problem
from dromos.oauth._client import Client, Identified, Pairs, clock_skew
from dromos.oauth._discovery import located
from dromos.oauth._expiry import duration, retry_after
from dromos.oauth._flow import Flow
from dromos.oauth._http import Answer, NoAnswer, Outcome, Request
from dromos.oauth._text import clean, error_code, origin_of
from dromos.redaction import Secret, is_sensitive

__all__ = [
    "ANSWER_LOST",
    "Asking",
    "Issued",
    "Sent",
    "ask",
    "issued",
    "post",
    "told_of",
    "unusable",
]

_log: Final = logging.getLogger("dromos.oauth")

_SHORTEST_SECRET: Final = 6  # a shorter one would cut ordinary words out of messages
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_LONGEST_CLAIMS: Final = 4096
_MOST_NUMBERS: Final = 16
# What a wrong clock looks like from outside; a refresh token that is refused is just that.
_CLOCK_CODES: Final = frozenset({"invalid_client", "invalid_dpop_proof"})
# oidc-provider, certified as it is, says invalid_grant to both.
_NOT_ONLY_THE_GRANT: Final = (
    "; a wrong clock is the usual reason, and a DPoP proof or a client certificate that is "
    "missing another"
)
ANSWER_LOST: Final = "answer_lost"
"""The code of an error after which nobody knows what the server has done."""

_FORM: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 1000  # a hundred thousand would block the loop for a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is asked of an endpoint.

    Attributes:
        step: `"token"`, `"refresh"` or `"device"`.
        subject: For a person: what is asked for.
        form: Makes the form's fields, given Unix time: anew for each request, since
            what is signed must not be sent twice.
        presented: Reads the fields that somebody else makes, anew for each request as well.
        signs: Whether the form itself depends on our clock.
        endpoint: The endpoint's name in the metadata.
        secrets: What no message may repeat, beside what is sent.
    """

    step: str
    subject: str
    form: Callable[[float], Pairs] = field(repr=False)
    presented: Callable[[], Flow[Pairs]] | None = field(default=None, repr=False)
    signs: bool = False
    endpoint: str = "token_endpoint"
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What a token endpoint issued.

    Attributes:
        token: The access token, or why it can't be used.
        refresh_token: What buys the next one, or None.  It counts even where the access
            token can't be used: the one before may be dead.
    """

    token: Token | TokenError
    refresh_token: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a message about an answer may say, and what it must not."""

    asking: Asking
    origin: str
    request_id: str
    secrets: tuple[str, ...] = field(repr=False)


def ask(client: Client, asking: Asking) -> Flow[Issued | TokenError]:
    """Ask a token endpoint, and read what it issued."""
    outcome = yield from post(client, asking)
    return outcome if isinstance(outcome, TokenError) else issued(client, *outcome)


def post(client: Client, asking: Asking) -> Flow[tuple[Answer, Sent] | TokenError]:
    """Send one question, and return the success that answered it.

    Twice at most it is asked again at once: with the nonce that the server wants to
    find in a proof (RFC 9449, 8), and with the server's own time in what we sign.
    """
    where = yield from located(client, asking.endpoint)
    if isinstance(where, TokenError):
        return where
    may_correct, may_use_nonce = True, True
    while True:
        who, request, sent = yield from _posed(client, asking, where)
        outcome: Outcome = yield request
        if isinstance(outcome, NoAnswer):
            return _unanswered(outcome, sent)
        nonce = outcome.headers.get("dpop-nonce")
        if nonce and len(nonce) <= 1024 and client.proof_key is not None:
            client.nonces[where.origin] = nonce
        failure = _failure(outcome, sent)
        if failure is None:
            return outcome, sent
        if failure.code == "use_dpop_nonce" and nonce and may_use_nonce:
            may_use_nonce = False
            continue
        is_clock = _is_about_time(failure, asking, who, client)
        if is_clock and may_correct and client.correct_clock(outcome):
            may_correct = False
            continue
        if outcome.status in (404, 405, 410):
            client.metadata = None  # the endpoint may have moved
        return failure


def _posed(
    client: Client, asking: Asking, where: ServerUrl
) -> Flow[tuple[Identified, Request, Sent]]:
    who = yield from client.identified(where)
    if asking.presented is None:
        return who, *_question(client, asking, where, who, ())
    return who, *_question(client, asking, where, who, (yield from asking.presented()))


def _question(
    client: Client, asking: Asking, where: ServerUrl, who: Identified, presented: Pairs
) -> tuple[Request, Sent]:
    form = [*asking.form(client.now()), *presented, *who.fields]
    headers = client.wire.headers()
    headers["content-type"] = _FORM
    if who.authorization is not None:
        headers["authorization"] = who.authorization
    proof = client.proof("POST", where)
    if proof is not None:
        headers["dpop"] = proof
    request = Request(
        method="POST",
        url=where.url,
        headers=tuple(headers.items()),
        body=urlencode(form).encode(),
        deadline=client.timeout,
    )
    hidden = [value for name, value in form if is_sensitive(name)]
    hidden += [*who.secrets, *client.wire.secrets, *asking.secrets]
    sent = Sent(
        asking=asking,
        origin=where.origin,
        request_id=headers["x-request-id"],
        secrets=tuple(value for value in hidden if len(value) >= _SHORTEST_SECRET),
    )
    return request, sent


def _is_about_time(failure: TokenError, asking: Asking, who: Identified, client: Client) -> bool:
    signs = who.signs or asking.signs or client.proof_key is not None
    codes = _CLOCK_CODES | {"invalid_grant"} if asking.signs else _CLOCK_CODES
    return signs and failure.code in codes


# --- Successes ------------------------------------------------------------------------------------


def issued(client: Client, answer: Answer, sent: Sent) -> Issued | TokenError:
    """Read what was issued; an error without it if the answer can't be read."""
    told = None if answer.flaw else told_of(answer)
    if told is None:
        what = "it is not a JSON object" if answer.body.strip() else "it is empty"
        return unusable(answer, sent, answer.flaw or what, code=ANSWER_LOST)
    refresh = told.get("refresh_token")
    return Issued(
        token=_token_or_problem(client, told, answer, sent),
        refresh_token=None if bearer_problem(refresh) else Secret(str(refresh)),
    )


def _token_or_problem(
    client: Client, told: Mapping[str, Any], answer: Answer, sent: Sent
) -> Token | TokenError:
    problem = _token_problem(client, told)
    if problem:
        return unusable(answer, sent, problem)
    granted = told.get("scope")
    scopes = tuple(granted.split()) if isinstance(granted, str) and granted.strip() else None
    lacking = set(client.scope) - set(client.scope if scopes is None else scopes)
    if lacking and client.require_scope:
        what = f"it grants less than was asked for: not {sorted(lacking)}"
        return unusable(answer, sent, what, code="insufficient_scope")
    if lacking:
        _say_once(client, f"{sent.origin} grants less than was asked for: not {sorted(lacking)}")
    if told.get("token_type") is None:
        _say_once(
            client, f"{sent.origin} does not say what type its tokens have; Bearer is assumed"
        )
    return _token(client, told, answer, scopes or client.scope or None)


def _token(
    client: Client, told: Mapping[str, Any], answer: Answer, scopes: tuple[str, ...] | None
) -> Token:
    credentials = {"access_token": told["access_token"]}
    strategy = AuthStrategy("oauth2")
    if client.proof_key is not None:
        credentials["dpop_key"] = client.proof_key.to_jwk()
        strategy = AuthStrategy("dpop")
    # Counted from the moment the request began, so that it is never too long.
    lifetime = duration(told.get("expires_in")) or client.assume_lifetime
    return Token(
        credentials,
        strategy=strategy,
        expires_at=None if lifetime is None else answer.started + lifetime,
        lifetime=lifetime,
        scopes=scopes,
        clock_skew=clock_skew(answer),
    )


def _token_problem(client: Client, told: Mapping[str, Any]) -> str | None:
    problem = bearer_problem(told.get("access_token"))
    if problem:
        return f"its access_token {problem}" if told.get("access_token") else "no access_token"
    # RFC 6749, 7.1: a token whose type is not understood must not be used.  A missing
    # type is taken for Bearer, which it is in practice.
    kind = told.get("token_type")
    expected = "bearer" if client.proof_key is None else "dpop"
    if kind is None and client.proof_key is None:
        return None
    if not isinstance(kind, str) or kind.lower() != expected:
        return f"its token_type is not {'Bearer' if expected == 'bearer' else 'DPoP'}"
    return None


def told_of(answer: Answer) -> Mapping[str, Any] | None:
    """Return an answer's fields: JSON, or a form, as some servers still have it."""
    if answer.headers.get("content-type", "").lower().startswith(_FORM):
        text = answer.body.decode("utf-8", "replace")
        try:
            return dict(parse_qsl(text, max_num_fields=_MOST_FIELDS)) if "=" in text else None
        except ValueError:
            return None
    return fields(answer)


def _say_once(client: Client, what: str) -> None:
    if what not in client.said:
        client.said.add(what)
        _log.warning("%s", what)


# --- Failures -------------------------------------------------------------------------------------


def _failure(answer: Answer, sent: Sent) -> TokenError | None:
    if not 200 <= answer.status < 300:
        return _refusal(answer, sent, told_of(answer) or {})
    told = None if answer.flaw else told_of(answer)
    # GitHub and Slack say 200 to everything, and put the error inside.
    if told is not None and told.get("error") and not told.get("access_token"):
        return _refusal(answer, sent, told)
    return None


def _refusal(answer: Answer, sent: Sent, told: Mapping[str, Any]) -> TokenError:
    """Return the error for an answer that says no."""
    code = error_code(told.get("error"), secrets=sent.secrets)
    text = clean(told.get("error_description") or told.get("message"), secrets=sent.secrets)
    about = _about(answer, sent)
    if 300 <= answer.status < 400:
        where = origin_of(answer.headers.get("location", ""))
        about += f", a redirect to {where}, and redirects are not followed"
    elif code or text:
        about += f" ({': '.join(filter(None, (code, text)))})"
    if code == "invalid_grant" and sent.asking.step == "token":
        about += _NOT_ONLY_THE_GRANT
    claims = told.get("claims")
    return TokenError(
        about,
        status=answer.status,
        code=code,
        retry_after=retry_after(answer.headers, at=answer.at),
        step=sent.asking.step,
        origin=sent.origin,
        suberror=error_code(told.get("suberror"), secrets=sent.secrets),
        error_codes=_numbers(told.get("error_codes")),
        claims=claims if _is_showable(claims, sent) else None,
        correlation_id=_correlation(answer, sent, told),
    )


def unusable(answer: Answer, sent: Sent, problem: str, *, code: str | None = None) -> TokenError:
    """Return the error for a success that holds nothing we can use."""
    return TokenError(
        f"{_about(answer, sent)}, but the answer can't be used: {problem}",
        status=answer.status,
        code=code,
        step=sent.asking.step,
        malformed=True,
        origin=sent.origin,
        correlation_id=_correlation(answer, sent, {}),
    )


def _unanswered(outcome: NoAnswer, sent: Sent) -> TokenError:
    """Return the error for an answer that did not come."""
    error = TokenError(
        f"no answer from the authorization server at {sent.origin} to "
        f"{sent.asking.subject}: {outcome.reason}",
        code=outcome.code or (ANSWER_LOST if outcome.sent else None),
        step=sent.asking.step,
        origin=sent.origin,
        correlation_id=sent.request_id,
    )
    error.__cause__ = outcome.cause()
    return error


def _about(answer: Answer, sent: Sent) -> str:
    return (
        f"the authorization server at {sent.origin} answered {answer.status} "
        f"to {sent.asking.subject}"
    )


def _is_showable(claims: object, sent: Sent) -> bool:
    # JSON escapes what does not print, so nothing real is lost.
    if not isinstance(claims, str) or len(claims) > _LONGEST_CLAIMS or not claims.isprintable():
        return False
    return not any(secret in claims for secret in sent.secrets)


def _numbers(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    listed = cast("list[object]", value)[:_MOST_NUMBERS]
    return tuple(one for one in listed if type(one) is int and 0 <= one < 10**7)


def _correlation(answer: Answer, sent: Sent, told: Mapping[str, Any]) -> str:
    names = ("x-correlation-id", "x-ms-request-id", "x-request-id")
    offered = [told.get("correlation_id"), *(answer.headers.get(name) for name in names)]
    for value in offered:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            continue
        if not any(secret in value for secret in sent.secrets):
            return value
    return sent.request_id
