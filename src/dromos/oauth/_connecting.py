"""Asking for a new connection: what is sent, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from dromos.errors import TokenError
from dromos.oauth._answers import Asked, fields, unusable
from dromos.oauth._http import Answer

__all__ = ["ConnectionRequest", "connection_request", "wanted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRequest:
    """A connection that waits for a person's consent.

    Attributes:
        auth_url: Where the person gives it.  Its query holds `state`, so `repr` cuts it.
        connection_id: What the connection is called from now on.
        state: Signed by the gateway, valid for ten minutes; masked in `repr`.
        scopes: What will be asked for.
        provider_id: The provider's record at the gateway; None if it was not told.
    """

    auth_url: str
    connection_id: str
    state: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    provider_id: str | None = None

    def __repr__(self) -> str:
        parts = urlsplit(self.auth_url)
        where = f"{parts.scheme}://{parts.hostname}{parts.path}"
        return (
            f"ConnectionRequest(auth_url={where!r}, connection_id={self.connection_id!r}, "
            f"state=<redacted>, scopes={self.scopes!r}, provider_id={self.provider_id!r})"
        )


def wanted(
    *,
    user_id: object,
    provider_name: str | None,
    provider_id: str | None,
    scopes: Sequence[str],
    return_url: object,
) -> dict[str, Any]:
    """Return the request's JSON object.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If not exactly one provider is named, or a text is empty.
    """
    if (provider_name is None) == (provider_id is None):
        raise ValueError("exactly one of provider_name and provider_id must be given")
    if isinstance(scopes, str) or not all(isinstance(scope, str) for scope in scopes):
        raise TypeError("scopes must be a sequence of str")
    texts = {
        "user_id": user_id,
        "return_url": return_url,
        **(
            {"provider_id": provider_id}
            if provider_name is None
            else {"provider_name": provider_name}
        ),
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")
        if not text.strip():
            raise ValueError(f"{name} must not be empty")
    return {**texts, "scopes": list(scopes)}


def connection_request(answer: Answer, asked: Asked) -> ConnectionRequest | TokenError:
    """Read the gateway's answer; its two variants spell the names differently."""
    body = fields(answer) or {}
    url, name = body.get("authUrl"), body.get("connection_id") or body.get("connectionId")
    if not isinstance(url, str) or not isinstance(name, str) or not url or not name:
        return unusable(answer, asked, "it lacks authUrl or connection_id")
    try:
        urlsplit(url)
    except ValueError:
        return unusable(answer, asked, "its authUrl is not a URL")
    state = body.get("state")
    given: object = body.get("scopes")
    scopes = cast("list[object]", given) if isinstance(given, list) else []
    provider = body.get("provider_id") or body.get("providerId")
    return ConnectionRequest(
        auth_url=url,
        connection_id=name,
        state=state if isinstance(state, str) else "",
        scopes=tuple(str(scope) for scope in scopes),
        provider_id=provider if isinstance(provider, str) else None,
    )
