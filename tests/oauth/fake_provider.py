"""A token provider in virtual time, which remembers how it was treated."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from dromos.errors import PermanentError, TokenError
from dromos.model import Token, Verdict
from dromos.oauth.cache import Grant, TokenCache

EPOCH = 1_795_402_541.0


def wall() -> float:
    """The wall clock, which goes with the loop's."""
    return EPOCH + asyncio.get_running_loop().time()


def judge(error: Exception, worked_before: bool) -> Verdict:
    """A small copy of the real tables: enough to tell hope from none."""
    if isinstance(error, PermanentError):
        return Verdict.PERMANENT
    if isinstance(error, TokenError) and (
        error.status == 400 or error.code == "same_token_returned"
    ):
        return Verdict.PERMANENT
    if isinstance(error, TokenError) and error.status in (403, 404):
        return Verdict.TRANSIENT if worked_before else Verdict.PERMANENT
    return Verdict.TRANSIENT


@dataclass
class FakeProvider:
    """Issues `t1`, `t2`, ...; each may be told to fail.

    `read_errors` and `refresh_errors` are used up one by one.
    """

    life: float | None = 3600.0
    took: float = 0.1
    current: str = "t1"
    expires_at: float | None = None
    lifetime: float | None = None
    rotates: bool = True
    read_errors: list[BaseException] = field(default_factory=list)
    refresh_errors: list[BaseException] = field(default_factory=list)
    on_reading: Callable[[], None] | None = None
    reads: list[float] = field(default_factory=list)
    refreshes: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    was_cut: int = 0
    _issued: int = 1

    def expire_in(self, seconds: float | None) -> None:
        """Let the current token live so much longer."""
        self.expires_at = None if seconds is None else wall() + seconds

    def issue(self) -> None:
        """Issue another token, as another process may."""
        self._issued += 1
        self.current = f"t{self._issued}"
        self.expire_in(self.life)

    def token(self) -> Token:
        return Token(
            {"access_token": self.current}, expires_at=self.expires_at, lifetime=self.lifetime
        )

    async def get_token(self, connection_id: str, /) -> Token:
        self.reads.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.took)
        if self.on_reading is not None:
            self.on_reading()
        if self.read_errors:
            raise self.read_errors.pop(0)
        return self.token()

    async def refresh_connection(self, connection_id: str, /) -> Token:
        self.refreshes.append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.took)
            if self.refresh_errors:
                raise self.refresh_errors.pop(0)
            if self.rotates:
                self.issue()
            else:
                self.expire_in(self.life)
            return self.token()
        except asyncio.CancelledError:
            self.was_cut += 1
            raise
        finally:
            self.at_once -= 1
            self.ended.append(asyncio.get_running_loop().time())


def unavailable(status: int = 502) -> TokenError:
    return TokenError("no luck", status=status, source="gateway")


def unsupported() -> TokenError:
    return TokenError("no refresh", status=400, code="refresh_not_supported", step="refresh")


def cache_of(provider: object) -> TokenCache:
    return TokenCache(provider, judge=judge, wall=wall)  # type: ignore[arg-type]


def name_of(grant: Grant) -> str:
    return grant.token.access_token
