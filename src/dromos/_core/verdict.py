"""How much hope each failure leaves: three tables, each row with its source.

Sources: [spec] the specification; [design] section 6 of the design; [rfc] the
RFC named; [iana] the WebSocket close code registry; [peers] what the reconnecting
clients in use do and what their users reported; [gateway] the token gateway as
it behaves.
"""

import enum
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from dromos.errors import (
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    PermanentError,
    TokenError,
)
from dromos.model import Verdict

__all__ = [
    "CLOSE_CODES",
    "GATEWAY_STATUSES",
    "GRANT_CODES",
    "GRANT_STATUSES",
    "UPGRADE_STATUSES",
    "Stage",
    "asked_to_wait",
    "judge",
]

T, L, A, B, U, P = (
    Verdict.TRANSIENT,
    Verdict.LIMITED,
    Verdict.AUTHENTICATION,
    Verdict.BOUNDED,
    Verdict.INTERACTION,
    Verdict.PERMANENT,
)

RATE_LIMIT_WAIT: Final = 10.0
"""Seconds to wait at least where the far side limits the rate and names no time. [design]"""


class Stage(enum.Enum):
    """Where a failure happened."""

    TOKEN = "token"
    DIAL = "dial"
    LINK = "link"
    GREETING = "greeting"


CLOSE_CODES: Final[Mapping[int, Verdict]] = MappingProxyType(
    {
        1000: T,  # [design] a peer that restarts says goodbye politely
        1001: T,  # [rfc 6455 7.4.1] going away: a deploy
        1002: L,  # [peers] often a middlebox; repeated, it is incompatibility
        1003: P,  # [rfc 6455 7.4.1] unsupported data: the same message would be refused again
        1004: T,  # [rfc 6455 7.4.1] reserved, never sent legitimately
        1005: T,  # [rfc 6455 7.4.1] a CLOSE without a code
        1006: T,  # [rfc 6455 7.4.1] no CLOSE at all
        1007: L,  # [peers] may be one bad message
        1008: P,  # [spec] policy violation; the token's expiry and reasons about it excepted
        1009: L,  # [peers] the same message would loop
        1010: P,  # [rfc 6455 7.4.1] a missing extension stays missing
        1011: T,  # [design] one bug of a server must not stop a fleet
        1012: T,  # [iana] service restart
        1013: T,  # [iana] try again later
        1014: T,  # [iana] bad gateway
        1015: L,  # [peers] a certificate that is refused: expired ones heal, a wrong CA doesn't
        3000: A,  # [iana] unauthorized
        3003: P,  # [iana] forbidden
        3008: T,  # [iana] timeout
        4001: A,  # [peers] unauthorized, by custom
        4003: P,  # [peers] forbidden
        4004: P,  # [peers] not found, or bad token
        4008: T,  # [peers] rate limited
        4400: P,  # [peers] bad request: HTTP's numbers above 4000
        4401: A,  # [peers] unauthorized
        4403: P,  # [peers] forbidden
        4404: P,  # [peers] not found
        4406: P,  # [peers] subprotocol not acceptable
        4408: T,  # [peers] timeout
        4409: L,  # [peers] another session: resolves once that one has expired
        4422: P,  # [peers] unprocessable
        4429: T,  # [design] rate limited
        4499: T,  # [peers] terminated
        4500: T,  # [peers] server error
        4503: T,  # [peers] unavailable
        4504: T,  # [peers] gateway timeout
    }
)
"""Verdict by close code; a code that isn't here is transient, and watched for flapping. [peers]"""

UPGRADE_STATUSES: Final[Mapping[int, Verdict]] = MappingProxyType(
    {
        101: L,  # [rfc 6455 4.1] a wrong accept key or subprotocol: a proxy, or misconfiguration
        400: L,  # [peers] some gateways answer it during deploys
        401: A,  # [rfc 9110 15.5.2]
        402: P,  # [rfc 9110 15.5.3]
        403: A,  # [design] scope or firewall: another token once, then limited
        404: L,  # [peers] routes vanish during deploys
        405: P,  # [rfc 9110 15.5.6]
        406: P,  # [rfc 9110 15.5.7]
        407: P,  # [rfc 9110 15.5.8] the proxy's own password
        408: T,  # [rfc 9110 15.5.9]
        409: L,  # [peers] session conflict
        410: P,  # [rfc 9110 15.5.11] gone
        411: P,  # [rfc 9110 15.5.12]
        415: P,  # [rfc 9110 15.5.16]
        421: T,  # [rfc 9110 15.5.20] a new TCP connection cures it
        423: L,  # [peers] locked, like a conflict
        425: T,  # [rfc 8470 5.2] too early
        426: P,  # [rfc 9110 15.5.22] version mismatch
        429: T,  # [rfc 6585 4]
        431: P,  # [rfc 6585 5]
        451: P,  # [rfc 7725 3]
        501: P,  # [rfc 9110 15.6.2]
        505: P,  # [rfc 9110 15.6.6]
    }
)
"""Verdict by status of the upgrade.  Others: 2xx and 3xx limited, 4xx permanent, 5xx transient."""

GATEWAY_STATUSES: Final[Mapping[int, Verdict]] = MappingProxyType(
    {
        400: P,  # [gateway] the id is not one of its own
        401: T,  # [gateway] its own key is wrong, or a proxy's: operators mend that
        403: B,  # [gateway] not active (yet), or its key is wrong
        404: B,  # [gateway] unknown connection
        405: P,  # [gateway] wrong URL
        408: T,  # [rfc 9110 15.5.9]
        409: U,  # [gateway] attention required
        421: T,  # [rfc 9110 15.5.20]
        425: T,  # [rfc 8470 5.2]
        429: T,  # [rfc 6585 4] from a proxy in front of it
        501: P,  # [rfc 9110 15.6.2]
        505: P,  # [rfc 9110 15.6.6]
    }
)
"""Verdict by the gateway's status.  Others: 3xx and 4xx permanent, 5xx transient."""

GRANT_CODES: Final[Mapping[str, Verdict]] = MappingProxyType(
    {
        "invalid_request": P,  # [rfc 6749 5.2] configuration
        "unsupported_grant_type": P,  # [rfc 6749 5.2]
        "unauthorized_client": P,  # [rfc 6749 5.2]
        "invalid_scope": P,  # [rfc 6749 5.2]
        "invalid_target": P,  # [rfc 8707 2]
        "unsupported_token_type": P,  # [rfc 7009 2.2.1]
        "invalid_client": B,  # [peers] new secrets take time to propagate
        "invalid_grant": B,  # [rfc 6749 5.2] a refresh grant says U by itself
        "interaction_required": U,  # [openid core 3.1.2.6]
        "login_required": U,  # [openid core 3.1.2.6]
        "consent_required": U,  # [openid core 3.1.2.6]
        "account_selection_required": U,  # [openid core 3.1.2.6]
        "mfa_required": U,  # [peers]
        "invalid_rapt": U,  # [peers] Google's re-authentication
        "rapt_required": U,  # [peers]
        "access_denied": P,  # [rfc 6749 4.1.2.1] in the device flow a person said no: U
        "insufficient_scope": P,  # [design] less was granted than the user requires
        "issuer_mismatch": P,  # [rfc 8414 3.3] somebody else's metadata
        "endpoint_refused": P,  # [design] metadata that lead elsewhere, or into the clear
        "no_endpoint": P,  # [rfc 8414 2] nothing to ask
        "expired_token": U,  # [rfc 8628 3.5] a new device code is needed
        "no_refresh_token": U,  # [design] nobody has consented yet, or the consent is gone
        "server_error": T,  # [rfc 6749 4.1.2.1] at any status
        "temporarily_unavailable": T,  # [rfc 6749 4.1.2.1] at any status
        "internal_failure": T,  # [peers]
        "invalid_dpop_proof": B,  # [rfc 9449 5] the clock
        "same_token_returned": P,  # [design] the refused token came back
        "wrong_url": P,  # [gateway] a 404 that is about the path; or no request can be made of it
        "expired_token_returned": T,  # [peers] a clock that is ahead
    }
)
"""Verdict by the error code in an answer; it goes before the status."""

GRANT_STATUSES: Final[Mapping[int, Verdict]] = MappingProxyType(
    {
        401: B,  # [rfc 6749 5.2] invalid_client without a body
        403: P,  # [peers] transient where Retry-After is present
        404: B,  # [peers]
        405: B,  # [peers]
        407: P,  # [rfc 9110 15.5.8]
        408: T,  # [rfc 9110 15.5.9]
        410: B,  # [peers]
        421: T,  # [rfc 9110 15.5.20]
        425: T,  # [rfc 8470 5.2]
        429: T,  # [rfc 6585 4]
        501: P,  # [rfc 9110 15.6.2]
        505: P,  # [rfc 9110 15.6.6]
    }
)
"""Verdict by status of a token endpoint.  Others: 3xx and 4xx permanent, 5xx transient."""

# [peers] 1008 is what several servers send for an expired or bad token.
_TOKEN_WORDS: Final = ("token", "expire", "unauthor", "authentic", "credential", "jwt")


def judge(error: Exception, *, stage: Stage, worked: bool, rejected: bool) -> Verdict:
    """Return the verdict on a failure.

    Args:
        error: What happened.
        stage: Where.
        worked: Whether the session has had a token before.
        rejected: Whether a token of this session was refused since the last stable link.
    """
    match error:
        case InteractionRequired():
            return U
        case PermanentError():
            return P
        case TokenError():
            return _of_token(error, worked=worked)
        case HandshakeError():
            return _of_upgrade(error, rejected=rejected)
        case ConnectionClosed():
            return _of_close(error)
        case _:
            return _of_foreign(error, stage)


def asked_to_wait(error: Exception) -> float | None:
    """Seconds that the far side asked for, or that a rate limit deserves, or None."""
    match error:
        case HandshakeError(retry_after=float(asked)) | TokenError(retry_after=float(asked)):
            return asked
        case HandshakeError(status=429) | TokenError(status=429):
            return RATE_LIMIT_WAIT
        case ConnectionClosed(code=1013, reason=reason) if reason.strip().isdecimal():
            # [peers] some servers put the seconds in the reason.
            return max(RATE_LIMIT_WAIT, float(reason.strip()[:6]))
        case ConnectionClosed(code=1013 | 4008 | 4429):
            return RATE_LIMIT_WAIT
        case _:
            return None


def _of_close(error: ConnectionClosed) -> Verdict:
    if error.code == 1008 and any(word in error.reason.lower() for word in _TOKEN_WORDS):
        return A
    return CLOSE_CODES.get(error.code, T)


def _of_upgrade(error: HandshakeError, *, rejected: bool) -> Verdict:
    if error.status is None:
        return L if _certificate_refused(error) else T
    if error.status == 403:
        challenge = error.headers.get("www-authenticate", "")
        if "insufficient_scope" in challenge:
            return P  # [rfc 6750 3.1] no token of this grant will do
        return L if rejected else A
    return UPGRADE_STATUSES.get(error.status) or _by_class(error.status, below_400=L)


def _of_token(error: TokenError, *, worked: bool) -> Verdict:
    by_code = GRANT_CODES.get(error.code or "")
    if (error.code, error.step) in (("invalid_grant", "refresh"), ("access_denied", "device")):
        return U  # [rfc 6749 5.2] the refresh token is gone, or [rfc 8628 3.5] a person refused
    if by_code is not None:
        return by_code
    if error.malformed:
        # [gateway] it answers 200 and nothing while its broker is ill.
        return T if error.source == "gateway" and not worked else B
    if error.status is None:
        return B if _certificate_refused(error) else T
    if error.source == "gateway":
        if error.status == 403 and worked:
            return T  # [gateway] it was active before: its own key, or its allowlist
        return GATEWAY_STATUSES.get(error.status) or _by_class(error.status, below_400=P)
    if error.status == 403 and error.retry_after is not None:
        return T
    return GRANT_STATUSES.get(error.status) or _by_class(error.status, below_400=P)


def _of_foreign(error: Exception, stage: Stage) -> Verdict:
    if isinstance(error, OSError | TimeoutError) or stage in (Stage.LINK, Stage.GREETING):
        return T
    # [design] a user's provider that raises something else; for a dial the same
    # thought: a defect repeats, yet it may be the weather.
    return B if stage is Stage.TOKEN else L


def _by_class(status: int, *, below_400: Verdict) -> Verdict:
    if status >= 500:
        return T
    return P if status >= 400 else below_400


def _certificate_refused(error: BaseException) -> bool:
    # By name: this package may not import ssl.
    return any(type(cause).__name__ == "SSLCertVerificationError" for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
