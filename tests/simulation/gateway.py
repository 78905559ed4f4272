"""A token gateway in virtual time, which answers as the real one does, its worst habit included.

Two refreshes of one connection at once use one refresh token twice; the provider
takes that for theft, and the connection is lost: 409 from then on.
"""

import asyncio
import datetime
import json
import random
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from dromos.oauth._http import Answer, NoAnswer, Outcome, Request
from tests.simulation.clocks import Clocks


@dataclass
class Connection:
    """What the gateway keeps of one connection."""

    name: str
    lifetime: float
    number: int = 0
    expires_at: float = 0.0
    refreshing: int = 0
    lost: bool = False
    asked: list[float] = field(default_factory=list)  # when, by the loop's clock
    refreshed: list[float] = field(default_factory=list)

    @property
    def token(self) -> str:
        return f"{self.name}.{self.number}"


class SimGateway:
    """The `Transport` of an `OAuthClient`: no network, and no thread."""

    def __init__(self, clocks: Clocks, rng: random.Random, *, latency: float, skew: float) -> None:
        self.connections: dict[str, Connection] = {}
        self.outage: str | None = None  # "down", "hang", "502", "503" or "empty"
        self.races = 0
        self.requests = 0
        self._clocks = clocks
        self._rng = rng
        self._latency = latency
        self._skew = skew

    def now(self) -> float:
        """Unix time by the gateway's own clock, which may be wrong."""
        return self._clocks.true() + self._skew

    def add(self, name: str, lifetime: float) -> Connection:
        """Let a person consent."""
        made = self.connections[name] = Connection(name, lifetime)
        self._issue(made)
        return made

    def _issue(self, connection: Connection) -> None:
        connection.number += 1
        connection.expires_at = self.now() + connection.lifetime

    def is_valid(self, token: str) -> bool:
        """Whether a far side that knows the true time takes this token."""
        name, _, number = token.rpartition(".")
        found = self.connections.get(name)
        if found is None or found.lost or int(number) != found.number:
            return False
        return self.now() < found.expires_at

    def revoke(self, name: str) -> None:
        """Let a token be refused, and be replaced by the next refresh."""
        self.connections[name].expires_at = self.now() - 1

    # --- The transport -----------------------------------------------------------------------

    async def send(self, request: Request, /) -> Outcome:
        """Answer one request, within its deadline."""
        started = self._clocks.wall()
        self.requests += 1
        try:
            async with asyncio.timeout(request.deadline):
                return await self._answer(request, started)
        except TimeoutError:
            reason = f"it took over {request.deadline:g} s"
            return NoAnswer(reason=reason, sent=True, started=started)

    async def _answer(self, request: Request, started: float) -> Outcome:
        _, _, path = request.url.partition("/v1/")
        verb, _, name = path.partition("/")
        connection = self.connections[name]
        loop = asyncio.get_running_loop()
        (connection.refreshed if verb == "refresh" else connection.asked).append(loop.time())
        match self.outage:
            case "down":
                return NoAnswer(reason="refused", sent=False, started=started)
            case "hang":
                await asyncio.sleep(1e6)
            case "502" | "503" as status:
                return self._reply(int(status), b"", started)
            case "empty":
                return self._reply(200, b"", started)
            case _:
                pass
        await asyncio.sleep(self._latency * self._rng.uniform(0.5, 3))
        if connection.lost:
            return self._reply(409, b"", started)
        if verb == "token":
            return self._reply(200, self._body(connection), started)
        return await self._refresh(connection, started)

    async def _refresh(self, connection: Connection, started: float) -> Outcome:
        connection.refreshing += 1
        try:
            if connection.refreshing > 1:
                self.races += 1
                connection.lost = True
            await asyncio.sleep(self._rng.uniform(0.1, 2.0))
        finally:
            connection.refreshing -= 1
        if connection.lost:
            return self._reply(409, b"", started)
        self._issue(connection)
        # As the real one: the provider's answer, without expiry, strategy or credentials.
        body = {"access_token": connection.token, "token_type": "Bearer", "refresh_token": "r"}
        return self._reply(200, json.dumps(body).encode(), started)

    def _body(self, connection: Connection) -> bytes:
        expiry = datetime.datetime.fromtimestamp(connection.expires_at, tz=datetime.UTC)
        credentials: dict[str, Any] = {
            "access_token": connection.token,
            "refresh_token": "r",
            "token_type": "Bearer",
            "expires_at": expiry.isoformat(),
            "expires_in": connection.lifetime,
            "expired": connection.expires_at <= self.now(),
        }
        return json.dumps({"strategy": {"type": "oauth2"}, "credentials": credentials}).encode()

    def _reply(self, status: int, body: bytes, started: float) -> Answer:
        headers = {"date": formatdate(self.now(), usegmt=True)}
        at = self._clocks.wall()
        return Answer(status=status, headers=headers, body=body, started=started, at=at)
