"""What the gateway knows: its connections, and the tokens that it gave out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from dromos.model import AuthStrategy

__all__ = ["ConnectionRecord", "Expiry", "IssuedToken", "Status"]

Status: TypeAlias = Literal["active", "pending", "failed", "attention"]
Expiry: TypeAlias = Literal["rfc3339", "number", "string", "absent"]


@dataclass(slots=True, kw_only=True)
class IssuedToken:
    """An access token that this gateway gave out.

    Attributes:
        access_token: Its string.
        connection_id: The connection that it was issued for.
        issued_at: Unix time.
        lifetime: Seconds that it was issued for; None never expires.
        expires_at: Unix time; None never expires.
        revoked: True if the far side no longer takes it, whatever its expiry.
    """

    access_token: str
    connection_id: str
    issued_at: float
    lifetime: float | None
    expires_at: float | None
    revoked: bool = False


@dataclass(slots=True, kw_only=True)
class ConnectionRecord:
    """What the gateway knows of one connection.  Its settings may be changed at any time.

    Attributes:
        connection_id: Its name.
        status: As in the gateway's database.
        lifetime: Seconds that the next token is issued for; None never expires.
        strategy: How the token is to be presented.
        rotate: Whether each refresh gives a new refresh token.  A provider that
            does not can be refreshed once: the gateway loses the refresh token.
        expiry: How the expiry is told: `"rfc3339"` as the gateway computes it,
            `"number"` and `"string"` as some providers' answers make it, or
            `"absent"`.
        offset: Hours east of UTC in which the expiry is told.
        revokes_old: Whether a refresh makes the token before it worthless at once.
        extra: More members of `credentials`.
        static: The credentials of a connection that is not OAuth; None for OAuth.
        token: The current token; of a static connection, its first secret.
        refresh_token: The current refresh token; None if there is none (any more).
        refreshes: How many refreshes succeeded.
        refresh_attempts: How many were asked for.
    """

    connection_id: str
    status: Status = "active"
    lifetime: float | None = 3600.0
    strategy: AuthStrategy = field(default_factory=lambda: AuthStrategy("oauth2"))
    rotate: bool = True
    expiry: Expiry = "rfc3339"
    offset: float = 0.0
    revokes_old: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    static: Mapping[str, Any] | None = None
    token: IssuedToken | None = None
    refresh_token: str | None = None
    refreshes: int = 0
    refresh_attempts: int = 0
