"""A scriptable token gateway on loopback, which answers as the real one does.

Bodies, statuses and quirks are those of the captured exchanges in the study of
the real gateway: a refresh that tells no expiry, errors without a body, an
expired token served with 200, and a connection that two refreshes at once destroy.
"""

import asyncio
import base64
import itertools
import json
import math
import secrets
import ssl as tls
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import quote, unquote

from dromos.model import AuthStrategy
from dromos.testing._loopback import HttpConnection, Loopback, Reply, Request, reset
from dromos.testing._records import ConnectionRecord, Expiry, IssuedToken, Status

__all__ = ["ConnectionRecord", "Gateway", "IssuedToken", "Route", "Status"]

Route: TypeAlias = Literal[
    "token", "refresh", "check-connection", "request-connection", "providers", "health"
]

JSON: Final = ("Content-Type", "application/json")
TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
REFUSED: Final[Mapping[Status, int]] = {"pending": 403, "failed": 403, "attention": 409}
METHODS: Final[Mapping[Route, str]] = {
    "token": "GET",
    "refresh": "POST",
    "check-connection": "GET",
    "request-connection": "POST",
    "providers": "GET",
    "health": "GET",
}


@dataclass(slots=True, kw_only=True)
class _Canned:
    remaining: int | None
    reply: Reply | None
    hang: float
    drip: float | None
    endless: bool
    nothing: bool
    reset: bool
    raw: bytes | None
    after: bool


class Gateway(Loopback):
    """A token gateway on real sockets, for tests and demonstrations.

        async with Gateway() as gateway:
            gateway.add("c-1", lifetime=8)
            OAuthClient(gateway.url)

    Tokens are fresh random strings.  A far side asks `is_valid` and `expires_at`.

    Args:
        refresh_takes: Seconds between a refresh's start and its end, in which a
            second one destroys the connection.  Default 0.01.
        host: Address to listen on.  Default `127.0.0.1`.
        port: Port to listen on.  Default 0: one that is free.
        ssl: A server's TLS context; None (default) speaks plain HTTP.
        clock: Returns Unix time.  Default `time.time`.

    Attributes:
        requests: Every request, in order.
        connections: The records, by connection id.
        providers: What `GET /v1/providers` lists: type, then name, then profile.
    """

    def __init__(
        self,
        *,
        refresh_takes: float = 0.01,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: tls.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(host=host, port=port, ssl=ssl, clock=clock)
        self.refresh_takes = refresh_takes
        self.requests: list[Request] = []
        self.connections: dict[str, ConnectionRecord] = {}
        self.providers: dict[str, dict[str, dict[str, Any]]] = {
            "oauth2": {"demo": _profile("a demonstration", scopes=["a", "b"])},
            "api_key": {"demo-key": _profile("a demonstration with a static key", scopes=None)},
        }
        self._issued: dict[str, IssuedToken] = {}
        self._spent: set[str] = set()
        self._canned: dict[Route | None, deque[_Canned]] = {}

    # --- Scripting ---------------------------------------------------------------------

    def add(
        self,
        connection_id: str,
        *,
        lifetime: float | None = 3600.0,
        strategy: AuthStrategy | str | None = None,
        credentials: Mapping[str, Any] | None = None,
        rotate: bool = True,
        refreshable: bool = True,
        expiry: Expiry = "rfc3339",
        offset: float = 0.0,
        revokes_old: bool = False,
        extra: Mapping[str, Any] | None = None,
        status: Status = "active",
    ) -> ConnectionRecord:
        """Add a connection, or replace the one of this id, and issue its first token.

        Args:
            connection_id: Its name.  The real gateway takes UUIDs only; this one, any name
                that was added.
            lifetime: Seconds that each token is issued for; None never expires.
            strategy: How to present the token.  Default `oauth2`, or with `credentials`
                the header `X-API-Key`.
            credentials: Makes the connection static: these, and no refresh.  A numeric
                `expires_in` among them gives it an expiry, as at the real gateway.
            rotate: Whether each refresh gives a new refresh token.
            refreshable: Whether there is a refresh token at all.
            expiry: How the expiry is told.
            offset: Hours east of UTC in which the expiry is told.
            revokes_old: Whether a refresh makes the token before it worthless at once.
            extra: More members of `credentials`.
            status: The state of the connection.
        """
        if isinstance(strategy, str):
            strategy = AuthStrategy(strategy)
        if strategy is None and credentials is not None:
            config = {"credential_field": "api_key", "header_name": "X-API-Key"}
            strategy = AuthStrategy("header", config)
        record = ConnectionRecord(
            connection_id=connection_id,
            status=status,
            lifetime=lifetime,
            strategy=strategy or AuthStrategy("oauth2"),
            rotate=rotate,
            expiry=expiry,
            offset=offset,
            revokes_old=revokes_old,
            extra=dict(extra or {}),
            static=None if credentials is None else dict(credentials),
        )
        self.connections[connection_id] = record
        if credentials is None:
            record.refresh_token = _fresh("rt") if refreshable else None
            self._issue(record)
        else:
            self._issue_static(record, credentials)
        return record

    def expire(self, connection_id: str, *, ago: float = 60.0) -> None:
        """Let the current token have expired `ago` seconds ago."""
        self._current(connection_id).expires_at = self.clock() - ago

    def revoke(self, connection_id: str) -> None:
        """Let the far side refuse the current token; the gateway goes on handing it out."""
        self._current(connection_id).revoked = True

    def rotate_now(self, connection_id: str) -> str:
        """Renew the token as if another client had asked for it, and return its string."""
        record = self.connections[connection_id]
        if record.rotate:
            self._spend(record)
        self._issue(record)
        assert record.token is not None
        return record.token.access_token

    def set_status(self, connection_id: str, status: Status) -> None:
        """Put a connection into another state, such as `"attention"`."""
        self.connections[connection_id].status = status

    def fail(
        self,
        route: Route | None = None,
        *,
        next: int | None = 1,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | Mapping[str, Any] = b"",
        hang: bool | float = False,
        drip: float | None = None,
        endless: bool = False,
        nothing: bool = False,
        reset: bool = False,
        raw: bytes | None = None,
        after: bool = False,
    ) -> None:
        """Queue a canned answer; queued ones are used up in order.

        Without `status`, `nothing`, `reset` or `raw`, the true answer is given, in the way
        that `hang`, `drip` and `endless` say.

        Args:
            route: Which requests it is for; None (default) for any.
            next: For how many requests; None until `heal`.
            status: The status of the answer.  A redirect is a status with a `Location`.
            headers: Headers of the answer.
            body: Its body; a mapping is sent as JSON.
            hang: True never answers; a number answers after so many seconds.
            drip: Send the answer a byte at a time, so many seconds apart.
            endless: Repeat the body for ever.
            nothing: Close the connection without an answer.
            reset: Reset the connection without an answer.
            raw: Send these bytes, which need not be HTTP, and close the connection.
            after: Do what the request asks for first, so that only the answer is lost.
        """
        if sum((status is not None, nothing, reset, raw is not None)) > 1:
            raise ValueError("give at most one of status, nothing, reset and raw")
        reply = None
        if status is not None:
            fields = tuple((headers or {}).items())
            if isinstance(body, Mapping):
                fields, body = (*fields, JSON), _json(body)
            body = body.encode() if isinstance(body, str) else body
            reply = Reply(status=status, headers=fields, body=body)
        canned = _Canned(
            remaining=next,
            reply=reply,
            hang=math.inf if hang is True else float(hang),
            drip=drip,
            endless=endless,
            nothing=nothing,
            reset=reset,
            raw=raw,
            after=after,
        )
        self._canned.setdefault(route, deque()).append(canned)

    def heal(self) -> None:
        """Forget the canned answers that are left."""
        self._canned.clear()

    # --- Observing ---------------------------------------------------------------------

    @property
    def refreshes(self) -> int:
        """How many refreshes succeeded, over all connections."""
        return sum(record.refreshes for record in self.connections.values())

    @property
    def refresh_attempts(self) -> int:
        """How many refreshes reached a connection, canned answers not counted."""
        return sum(record.refresh_attempts for record in self.connections.values())

    def count(self, route: Route) -> int:
        """Return how many requests a route has had, canned answers included."""
        return sum(1 for request in self.requests if _route(request.path)[0] == route)

    def access_token(self, connection_id: str) -> str:
        """Return a connection's current access token, in the clear."""
        return self._current(connection_id).access_token

    def is_valid(self, access_token: str) -> bool:
        """Whether a far side should take this token now: issued, not expired, not revoked."""
        issued = self._issued.get(access_token)
        return (
            issued is not None
            and not issued.revoked
            and (issued.expires_at is None or self.clock() < issued.expires_at)
        )

    def expires_at(self, access_token: str) -> float | None:
        """Return when a token expires as Unix time; None never expires.

        Raises:
            KeyError: If this gateway did not issue it.
        """
        return self._issued[access_token].expires_at

    def __repr__(self) -> str:
        return (
            f"<Gateway {self.url} requests={len(self.requests)} "
            f"connections={ {i: r.status for i, r in self.connections.items()} }>"
        )

    # --- Serving -----------------------------------------------------------------------

    async def _serve(self, http: HttpConnection) -> None:
        while (request := await http.read_request(self.clock)) is not None:
            self.requests.append(request)
            self._tell()
            if not await self._answer(http, request) or not http.next_cycle():
                return

    async def _answer(self, http: HttpConnection, request: Request) -> bool:
        """Answer one request; False if the connection is done with."""
        canned = self._take_canned(request)
        if canned is None:
            http.writer.write(http.encode(await self._act(request)))
            await http.writer.drain()
            return True
        done = await self._act(request) if canned.after else None
        if canned.hang == math.inf:
            await http.wait_closed_by_client()
            return False
        await asyncio.sleep(canned.hang)
        if canned.reset:
            reset(http.writer.transport)
            return False
        if canned.nothing:
            return False
        if canned.raw is not None:
            http.writer.write(canned.raw)
            await http.writer.drain()
            return False
        reply = canned.reply or done or await self._act(request)
        if canned.endless:
            await http.write_endless(reply)
            return False
        await _write(http, reply, canned.drip)
        return True

    def _take_canned(self, request: Request) -> _Canned | None:
        for route in (_route(request.path)[0], None):
            queue = self._canned.get(route)
            if not queue:
                continue
            canned = queue[0]
            if canned.remaining is not None:
                canned.remaining -= 1
                if canned.remaining <= 0:
                    queue.popleft()
            return canned
        return None

    async def _act(self, request: Request) -> Reply:
        route, argument = _route(request.path)
        if route is None:
            return Reply(status=404, headers=(TEXT,), body=b"404 page not found\n")
        if request.method != METHODS[route]:
            return Reply(status=405)
        if route == "token":
            return self._get_token(argument)
        if route == "refresh":
            return await self._refresh(argument)
        if route == "check-connection":
            # Whatever the token route refuses is "failed" here: pending, unknown, attention.
            answer = self._get_token(argument)
            return _ok({"status": "active" if answer.status == 200 else "failed"})
        if route == "request-connection":
            return self._request_connection(request.body)
        if route == "providers":
            listed = dict(sorted(self.providers.items()))
            return Reply(headers=(JSON,), body=_json(listed, sort=False))
        return _ok({"status": "healthy"})

    def _find(self, connection_id: str) -> ConnectionRecord | int:
        record = self.connections.get(connection_id)
        if record is not None:
            return record
        try:
            uuid.UUID(connection_id)
        except ValueError:
            return 400
        return 404

    def _get_token(self, connection_id: str) -> Reply:
        record = self._find(connection_id)
        if isinstance(record, int):
            return Reply(status=record)
        if record.status != "active":
            return Reply(status=REFUSED[record.status])
        return Reply(headers=(JSON,), body=_json(self._token_body(record), sort=False))

    def _token_body(self, record: ConnectionRecord) -> dict[str, Any]:
        credentials = dict(record.static or {}) | dict(record.extra)
        body: dict[str, Any] = {}
        if record.static is None and record.token is not None:
            # The gateway's struct: only these members reach the root, in this order.
            body["access_token"] = record.token.access_token
            if record.refresh_token is not None:
                body["refresh_token"] = record.refresh_token
            body["token_type"] = "Bearer"
            if "id_token" in record.extra:
                body["id_token"] = record.extra["id_token"]
            credentials |= body
        credentials |= self._told_expiry(record)
        strategy: dict[str, Any] = {"type": record.strategy.type}
        if record.strategy.config:
            strategy["config"] = dict(record.strategy.config)
        # Below the root, the gateway encodes maps: with their keys sorted.
        body["strategy"] = _sorted(strategy)
        body["credentials"] = _sorted(credentials)
        return body

    def _told_expiry(self, record: ConnectionRecord) -> dict[str, Any]:
        token = record.token
        if token is None or token.expires_at is None or record.expiry == "absent":
            return {}
        lifetime = _whole(token.lifetime or 0)
        if record.expiry == "string":
            return {"expires_in": str(lifetime)}
        if record.expiry == "number":
            return {"expires_at": int(token.expires_at)}
        zone = timezone(timedelta(hours=record.offset)) if record.offset else UTC
        # Seconds are cut off, not rounded, as by Go's RFC 3339.
        told = datetime.fromtimestamp(int(token.expires_at), zone).isoformat()
        return {
            "expires_at": told.replace("+00:00", "Z"),
            "expired": self.clock() >= token.expires_at,
            "expires_in": lifetime,
        }

    async def _refresh(self, connection_id: str) -> Reply:
        record = self._find(connection_id)
        if isinstance(record, int):
            return Reply(status=record)
        record.refresh_attempts += 1
        if record.status != "active":
            return Reply(status=404)
        if record.static is not None or record.refresh_token is None:
            return Reply(status=400)
        presented = record.refresh_token
        await asyncio.sleep(self.refresh_takes)
        if presented in self._spent:
            # The provider has seen this refresh token before; the gateway takes any 4xx
            # for the user's revocation, and the winner's connection is gone as well.
            record.status = "attention"
            self._tell()
            return Reply(status=409)
        if record.rotate:
            self._spend(record)
        else:
            record.refresh_token = None
        self._issue(record)
        record.refreshes += 1
        self._tell()
        assert record.token is not None
        body = {"access_token": record.token.access_token}
        if record.refresh_token is not None:
            body["refresh_token"] = record.refresh_token
        body["token_type"] = "Bearer"
        return Reply(headers=(JSON,), body=_json(body, sort=False))

    def _request_connection(self, body: bytes) -> Reply:
        asked = _object(body)
        if asked is None:
            return _error(400, "invalid_json", "invalid json")
        name, provider_id = asked.get("provider_name", ""), asked.get("provider_id")
        if not asked.get("return_url") or not (name or provider_id):
            return _error(400, "missing_fields", "return_url and provider are required")
        found = [
            profile["id"]
            for names in self.providers.values()
            for key, profile in names.items()
            if (profile["id"] == provider_id if provider_id else key.lower() == name.lower())
        ]
        if not found:
            more = {"provider_name": name}
            return _error(404, "provider_not_found", "provider not found", more)
        if len(found) > 1:
            return _error(409, "provider_ambiguous", "multiple providers matched")
        if not asked.get("user_id"):
            return _error(502, "broker_error", "broker returned status 400", {"status": 400})
        connection_id = str(uuid.uuid4())
        self.add(connection_id, status="pending")
        claims = _json({"connection_id": connection_id, "nonce": _fresh("n")})
        state = f"{base64.urlsafe_b64encode(claims).decode()}.{secrets.token_urlsafe(32)}"
        answer = {
            "authUrl": f"{self.url}/authorize?response_type=code&state={quote(state)}",
            "state": state,
            "scopes": asked.get("scopes"),
            "provider_id": found[0],
            "connection_id": connection_id,
        }
        return Reply(headers=(JSON,), body=_json(answer, sort=False))

    # --- Issuing -----------------------------------------------------------------------

    def _issue(self, record: ConnectionRecord) -> None:
        if record.revokes_old and record.token is not None:
            record.token.revoked = True
        now = self.clock()
        lifetime = record.lifetime
        record.token = IssuedToken(
            access_token=_fresh("at"),
            connection_id=record.connection_id,
            issued_at=now,
            lifetime=lifetime,
            expires_at=None if lifetime is None else now + lifetime,
        )
        self._issued[record.token.access_token] = record.token

    def _issue_static(self, record: ConnectionRecord, credentials: Mapping[str, Any]) -> None:
        now = self.clock()
        given = credentials.get("expires_in")
        lifetime = float(given) if isinstance(given, int | float) else None
        # A far side may be shown any of the strings: which one, the strategy decides.
        secret_values = [value for value in credentials.values() if isinstance(value, str)]
        record.token = IssuedToken(
            access_token=secret_values[0] if secret_values else "",
            connection_id=record.connection_id,
            issued_at=now,
            lifetime=lifetime,
            expires_at=None if lifetime is None else now + lifetime,
        )
        self._issued |= dict.fromkeys(secret_values, record.token)

    def _spend(self, record: ConnectionRecord) -> None:
        if record.refresh_token is not None:
            self._spent.add(record.refresh_token)
        record.refresh_token = _fresh("rt")

    def _current(self, connection_id: str) -> IssuedToken:
        token = self.connections[connection_id].token
        if token is None:
            raise KeyError(f"{connection_id} has no token")
        return token


_numbers = itertools.count(1)


def _fresh(kind: str) -> str:
    # The number tells them apart in a log of ours; the rest makes them secret.
    return f"{kind}-{next(_numbers)}-{secrets.token_urlsafe(16)}"


def _profile(description: str, *, scopes: list[str] | None) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "api_base_url": "",
        "user_info_endpoint": "",
        "scopes": scopes,
        "description": description,
        "category": "",
    }


def _route(path: str) -> tuple[Route | None, str]:
    """Return the route that a path belongs to, and its argument."""
    match [unquote(part) for part in path.split("/")[1:]]:
        case ["health"]:
            return "health", ""
        case ["v1", "token", name] if name:
            return "token", name
        case ["v1", "refresh", name] if name:
            return "refresh", name
        case ["v1", "check-connection", name] if name:
            return "check-connection", name
        case ["v1", "request-connection"]:
            return "request-connection", ""
        case ["v1", "providers"] | ["v1", "providers", "metadata"]:
            return "providers", ""
        case _:
            return None, ""


def _json(value: object, *, sort: bool = True) -> bytes:
    """Encode as Go's `encoding/json` does: compact, `&`, `<` and `>` escaped."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=sort, ensure_ascii=False)
    for character in "&<>\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _object(body: bytes) -> dict[str, Any] | None:
    """Return a JSON object whose members have the types that the gateway decodes, or None."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, Any]", value)
    texts = ("user_id", "provider_id", "provider_name", "return_url", "action")
    return members if all(isinstance(members.get(k, ""), str) for k in texts) else None


def _sorted(value: Any) -> Any:
    """Return a JSON value with the keys of all its objects sorted."""
    return json.loads(json.dumps(value, sort_keys=True))


def _whole(number: float) -> float:
    """Return an integer where that is the same number, as JSON encoders write it."""
    return int(number) if number == int(number) else number


def _ok(value: object) -> Reply:
    return Reply(headers=(JSON,), body=_json(value))


def _error(status: int, code: str, message: str, more: Mapping[str, Any] | None = None) -> Reply:
    body = {"error": code, "message": message, **(more or {})}
    return Reply(status=status, headers=(JSON,), body=_json(body))


async def _write(http: HttpConnection, reply: Reply, drip: float | None) -> None:
    data = http.encode(reply)
    if drip is None:
        http.writer.write(data)
        await http.writer.drain()
        return
    for byte in data:
        http.writer.write(bytes((byte,)))
        await http.writer.drain()
        await asyncio.sleep(drip)
