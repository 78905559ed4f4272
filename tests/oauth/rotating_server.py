"""A token endpoint without a network, which rotates refresh tokens and remembers each request."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from dromos.oauth._http import Answer, NoAnswer, Outcome, Request
from dromos.oauth.refresh_token import RefreshToken
from dromos.oauth.store import MemoryStore, StoredGrant
from dromos.testing.clock import EPOCH

TOKEN_URL = "https://as.example/token"
DEVICE_URL = "https://as.example/device"


def wall() -> float:
    """The wall clock, which goes with the loop's."""
    return EPOCH + asyncio.get_running_loop().time()


@dataclass
class Server:
    """Issues `at-1` with `rt-1`, then `at-2` with `rt-2`, ...; what is used twice ends the grant.

    Attributes:
        rotates: Whether a refresh brings a new refresh token.
        is_strict: Whether a replay ends the grant, the newest tokens included.
        life: `expires_in`.
        took: Seconds for each answer; 0 takes a few steps of the loop.
        extra: Changes of each answer; None takes a field away.
        answers: Take the place of the next answers to token requests, one by one: a status
            with fields, or what came in place of an answer.
        lost: How many of the next answers are lost on their way.
        wall: The server's clock.
    """

    rotates: bool = True
    is_strict: bool = True
    life: float = 3600.0
    took: float = 0.1
    extra: dict[str, Any] = field(default_factory=dict)
    answers: list[tuple[int, dict[str, Any]] | NoAnswer] = field(default_factory=list)
    lost: int = 0
    wall: Callable[[], float] = wall
    during: Callable[[], Awaitable[None]] | None = None
    forms: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    prompts: int = 0
    at_once: int = 0
    most_at_once: int = 0
    issued: int = 0
    used: set[str] = field(default_factory=set)
    is_dead: bool = False

    @property
    def posts(self) -> int:
        """How many requests the token endpoint got."""
        return len(self.forms)

    def used_tokens(self) -> list[str]:
        """The refresh tokens that were presented, in order."""
        return [form["refresh_token"] for form in self.forms if "refresh_token" in form]

    async def send(self, request: Request, /) -> Outcome:
        started = self.wall()
        form = dict(parse_qsl(request.body.decode()))
        if request.url == DEVICE_URL:
            return self._answer(200, self._prompt(), started)
        self.forms.append(form)
        self.headers.append(dict(request.headers))
        self.times.append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for _ in range(3):
                await asyncio.sleep(self.took / 3)
            if self.answers:
                given = self.answers.pop(0)
                if isinstance(given, NoAnswer):
                    return given
                return self._answer(*given, started)
            status, told = self._act(form)
            if self.during is not None:
                await self.during()
        finally:
            self.at_once -= 1
        if self.lost:
            self.lost -= 1
            return NoAnswer(reason="the exchange broke off", sent=True, started=started)
        return self._answer(status, told, started)

    def _prompt(self) -> dict[str, Any]:
        self.prompts += 1
        self.is_dead = False
        return {
            "device_code": f"device-{self.prompts}",
            "user_code": f"CODE-{self.prompts}",
            "verification_uri": "https://as.example/activate",
            "expires_in": 600,
            "interval": 5,
        }

    def _act(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        old = form.get("refresh_token")
        if old is not None:
            if old in self.used and self.is_strict:
                self.is_dead = True
            if self.is_dead or old in self.used:
                return 400, {"error": "invalid_grant"}
            if self.rotates:
                self.used.add(old)
        self.issued += 1
        told: dict[str, Any] = {
            "access_token": f"at-{self.issued}",
            "token_type": "DPoP" if "dpop" in self.headers[-1] else "Bearer",
            "expires_in": self.life,
        }
        if self.rotates or old is None:
            told["refresh_token"] = f"rt-{self.issued}"
        told |= self.extra
        return 200, {name: value for name, value in told.items() if value is not None}

    def _answer(self, status: int, told: dict[str, Any], started: float) -> Answer:
        return Answer(
            status=status,
            headers={"content-type": "application/json"},
            body=json.dumps(told).encode(),
            started=started,
            at=self.wall(),
        )


def provider_of(server: Server, refresh_token: str | None = "rt-0", **options: Any) -> RefreshToken:
    """A provider that asks this server, in the server's time."""
    provider = RefreshToken(
        refresh_token, **{"token_url": TOKEN_URL, "client_id": "agent", **options}, transport=server
    )
    provider._client.wall = server.wall
    return provider


class SlowStore(MemoryStore):
    """Takes a few steps of the loop for everything, as a database does; fails if told to."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []
        self.saves: list[StoredGrant] = []

    async def load(self) -> StoredGrant | None:
        await asyncio.sleep(0)
        return await super().load()

    async def save(self, grant: StoredGrant, /) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        await super().save(grant)
        self.saves.append(grant)
        await asyncio.sleep(0)

    @property
    def kept(self) -> str | None:
        """The refresh token in it."""
        kept = None if self._grant is None else self._grant.refresh_token
        return None if kept is None else kept.reveal()
