"""The token cache: arbitrates between the sessions that share a token provider.

For each connection there is at most one *flight*: a task that asks the
provider, owned by nobody's session.  Sessions wait for it, and may stop waiting
without harm.  A flight always reads the current token before it has a new one
issued, because another process may have done so already.

What the cache promises:

* one flight at a time for a connection, so never two refreshes at once;
* two refreshes start at least `schedule.floor` apart, whatever came of them;
* a token that a far side refused is never handed out again, though only a keyed
  hash of it is kept;
* the same credentials read again are the same token: neither their generation
  nor their lease changes, so that a source that shifts its dates can't keep a
  token alive for ever.  One case prolongs the lease: a later expiry that comes
  with a refresh, or for a lease that has run out.  A server with sliding
  sessions says so that the same token lives on;
* a failure that leaves no hope is latched: not tried again until the credentials that
  it was about have changed, or for `LATCH` seconds where the provider can't tell;
* a source that has no current token to read, because each question has one issued,
  is asked no more often than a provider is asked for a refresh.
"""

import asyncio
import copy
import hashlib
import heapq
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dromos._core import schedule
from dromos._core.schedule import Lease, Need
from dromos.errors import BridgeError, PermanentError, TokenError
from dromos.interfaces import TokenProvider, TokenSource
from dromos.model import Token, Verdict
from dromos.oauth._registry import Registry
from dromos.oauth._source import Source

__all__ = ["Grant", "Judge", "Lease", "Need", "TokenCache", "cache_for"]

Judge: TypeAlias = Callable[[Exception, bool], Verdict]
"""How much hope an error leaves; the flag says whether this connection ever had a token."""

LATCH: Final = 30.0
"""Seconds for which a failure without hope is repeated without asking again, where the
provider can't tell whether its credentials have changed."""

READ_FLOOR: Final = 1.0
"""Seconds between two readings of a token, unless a refresh is about to follow."""

TICK: Final = 0.001
"""The shortest sleep that is worth its while, in seconds."""

LONGEST_READ: Final = 60.0
"""Seconds for a provider to return a token it has; the gateway client's own limit is 10."""

LONGEST_GOODBYE: Final = 10.0
"""Seconds that `aclose` leaves a refresh to end: cut short, its outcome is unknown."""

SHORT_LIFE: Final = 30.0
"""Seconds: tokens that live less than this are warned of, once."""

_KEPT_REFUSALS: Final = 4

_FINAL: Final = frozenset({Verdict.PERMANENT, Verdict.INTERACTION})

_KEY: Final = secrets.token_bytes(32)

_log: Final = logging.getLogger("dromos.oauth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A token and its lease."""

    token: Token
    lease: Lease


@dataclass(slots=True, kw_only=True)
class _Flight:
    owner: "TokenCache"
    need: Need
    generation: int
    task: "asyncio.Task[Grant | Exception]" = field(init=False)
    waiting: int = 0
    is_refreshing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latch:
    """A failure that is repeated without asking again.

    Attributes:
        error: What is raised.
        until: Loop time; infinite if `mark` tells when to ask again.
        mark: Of the credentials that the failure was about.
        is_final: False if only a session that wants its first token at once should end.
    """

    error: Exception
    until: float
    mark: bytes | None
    is_final: bool


@dataclass(slots=True, kw_only=True)
class _Entry:
    """What is known of one connection.  At most one token, and no history."""

    grant: Grant | None = None
    lease: Lease | None = None  # the last one, kept when its token was dropped
    mark: bytes | None = None  # of the last token
    refused: tuple[bytes, ...] = ()
    generation: int = 0
    is_refreshable: bool = True
    has_worked: bool = False
    read_at: float | None = None
    refreshed_at: float | None = None
    latch: _Latch | None = None
    flight: _Flight | None = None
    sessions: int = 0
    has_warned: bool = False


class TokenCache:
    """Hands out one provider's tokens in one event loop.

    Make it with `cache_for`: caches of the same provider then share what they
    know, and each has its own judge and its own end.

    Args:
        provider: Where tokens come from.
        judge: Says how much hope an error leaves.
        wall: The wall clock, as Unix time.
        entries: What `cache_for` found to be known already.
        pin: Whatever has to be held as long as that is used.
    """

    def __init__(
        self,
        provider: TokenProvider | TokenSource,
        *,
        judge: Judge,
        wall: Callable[[], float] = time.time,  # noqa: TID251  # the seam to the outer world
        entries: dict[str, _Entry] | None = None,
        pin: object = None,
    ) -> None:
        self._source = Source(provider)
        self._judge = judge
        self._wall = wall
        self._entries: dict[str, _Entry] = {} if entries is None else entries
        self._pin = pin
        self._is_closed = False
        self._ghosts: list[tuple[float, int, str, _Entry]] = []

    def __repr__(self) -> str:
        return f"TokenCache({len(self._entries)} connections)"

    def current(self, connection_id: str) -> Grant | None:
        """Return the token held for a connection, expired or not; None if there is none."""
        entry = self._entries.get(self._source.key(connection_id))
        return None if entry is None else entry.grant

    async def obtain(
        self,
        connection_id: str,
        *,
        need: Need,
        generation: int | None = None,
        on_refresh: Callable[[], None] | None = None,
        is_patient: bool = False,
    ) -> Grant:
        """Return a token that meets a need.

        Cancelling this stops the waiting, never the flight.

        Args:
            connection_id: Whose token.
            need: `DIAL` for a token with enough life left; `RENEW` for a newer one
                than the session has; `REPLACE` for another one than was refused.
            generation: For `RENEW` the one the session has, for `REPLACE` the
                refused one.  None means the current one.
            on_refresh: Called just before a refresh that this call set off.
            is_patient: Whether the session goes on though it never had a token.

        Returns:
            The grant.  After `RENEW` its generation may be the same: the token
            can't be refreshed, or it is too early for another try, and it is
            still valid.

        Raises:
            PermanentError: What the provider raised; it is latched.
            TokenError: The provider gave no token; with the code
                `expired_token_returned` an expired one, with
                `same_token_returned` none but the refused one.
            RuntimeError: If the cache is closed.
        """
        entry = self._entries.setdefault(self._source.key(connection_id), _Entry())
        if generation is None:
            generation = entry.generation
        if need is Need.REPLACE:
            self._refuse(entry, generation)
        while True:
            if self._is_closed:
                raise RuntimeError("the token cache is closed")
            at_hand = self._at_hand(entry, need, generation)
            if at_hand is not None:
                return at_hand
            if entry.flight is None and entry.latch is not None:
                await self._ask_latch(connection_id, entry, entry.latch, is_patient)
                continue
            flight = entry.flight
            is_mine = flight is None
            if flight is None:
                flight = self._start(connection_id, entry, need, generation, on_refresh)
            flight.waiting += 1
            try:
                landed, _ = await asyncio.wait((flight.task,), timeout=self._source.longest_wait)
            finally:
                flight.waiting -= 1
            if not landed:
                limit = self._source.longest_wait
                raise TokenError(f"no answer of the token provider within {limit:g} s")
            if flight.task.cancelled():
                continue  # its owner closed, or somebody cancels every task of the loop
            outcome = flight.task.result()
            if isinstance(outcome, Grant):
                if flight.need is need and generation <= flight.generation:
                    return outcome
            elif is_mine:
                raise outcome
            else:
                usable = self._unexpired(entry) if need is Need.DIAL else None
                if usable is None:
                    raise _again(outcome)
                return usable

    def challenge(self, connection_id: str, claims: str) -> None:
        """Tell the provider what the far side wants the next token to be issued with.

        Args:
            connection_id: Whose token was refused.
            claims: As JSON.
        """
        self._source.challenge(connection_id, claims)

    def join(self, connection_id: str) -> None:
        """Note that a session of this connection begins.  Call `leave` once for each."""
        self._sweep()
        self._entries.setdefault(self._source.key(connection_id), _Entry()).sessions += 1

    def leave(self, connection_id: str) -> None:
        """Note that a session of this connection has ended; the last one takes the token along."""
        entry = self._entries.get(self._source.key(connection_id))
        if entry is None:
            return
        entry.sessions -= 1
        if entry.sessions <= 0:
            self.forget(connection_id)

    def forget(self, connection_id: str) -> None:
        """Drop a connection's token and all that is known of it.

        For a connection without a session.  A flight is left to end.  What keeps
        us from asking too often is remembered for as long as it matters, so that
        somebody who starts sessions in a loop does not hammer the provider.
        """
        self._sweep()
        key = self._source.key(connection_id)
        entry = self._entries.get(key)
        if entry is None or entry.flight is not None:
            return
        until = self._next_refresh(entry)
        if entry.latch is not None:
            until = max(until, entry.latch.until)
        if until <= self._clocks()[0]:
            del self._entries[key]
            return
        kept = _Entry(
            lease=entry.lease,
            generation=entry.generation,
            refreshed_at=entry.refreshed_at,
            latch=entry.latch,
            has_worked=entry.has_worked,
            has_warned=entry.has_warned,
        )
        self._entries[key] = kept
        if until < float("inf"):
            # No timer: a session that has ended leaves none behind.
            heapq.heappush(self._ghosts, (until, id(kept), key, kept))

    def _sweep(self) -> None:
        """Drop what was remembered of forgotten connections and matters no more."""
        now = asyncio.get_running_loop().time()
        while self._ghosts and self._ghosts[0][0] <= now:
            _, _, key, kept = heapq.heappop(self._ghosts)
            _drop(self._entries, key, kept)

    async def aclose(self) -> None:
        """End what this cache started.

        A refresh in flight has ten seconds to end, and more while another cache
        of the provider waits for it.
        """
        self._is_closed = True
        mine = [
            entry.flight
            for entry in self._entries.values()
            if entry.flight is not None and entry.flight.owner is self
        ]
        refreshing = [flight.task for flight in mine if flight.is_refreshing]
        if refreshing:
            await asyncio.wait(refreshing, timeout=LONGEST_GOODBYE)
        left = [
            flight
            for flight in mine
            if not flight.task.done() and not (flight.is_refreshing and flight.waiting)
        ]
        for flight in left:
            flight.task.cancel()
        if left:
            await asyncio.wait([flight.task for flight in left], timeout=1)

    # --- What is at hand ---------------------------------------------------------------------

    def _at_hand(self, entry: _Entry, need: Need, generation: int) -> Grant | None:
        """Return a grant that meets the need as it is."""
        held = self._unexpired(entry)
        if held is None:
            return None
        if need is Need.DIAL:
            is_known = not self._source.always_read or self._was_just_read(entry)
            return held if is_known and self._is_worth_a_dial(held) else None
        if held.lease.generation > generation:
            return held
        is_idle = entry.flight is None and entry.latch is None
        if need is Need.RENEW and is_idle and not self._may_refresh(entry):
            return held  # asked again too soon, and what it has is still good
        return None

    def _unexpired(self, entry: _Entry) -> Grant | None:
        grant = entry.grant
        if grant is None:
            return None
        now, wall = self._clocks()
        return None if schedule.is_expired(grant.lease, now=now, wall=wall) else grant

    def _is_worth_a_dial(self, grant: Grant) -> bool:
        now, wall = self._clocks()
        left = schedule.remaining(grant.lease, now=now, wall=wall)
        return left >= schedule.least_to_dial(grant.lease)

    def _was_just_read(self, entry: _Entry) -> bool:
        return entry.read_at is not None and self._clocks()[0] < entry.read_at + READ_FLOOR

    def _next_refresh(self, entry: _Entry) -> float:
        """The earliest loop time at which a refresh may start."""
        if entry.refreshed_at is None:
            return float("-inf")
        return entry.refreshed_at + schedule.floor(entry.lease)

    def _may_refresh(self, entry: _Entry) -> bool:
        return self._clocks()[0] >= self._next_refresh(entry)

    def _clocks(self) -> tuple[float, float]:
        return asyncio.get_running_loop().time(), self._wall()

    def _refuse(self, entry: _Entry, generation: int) -> None:
        """Drop the refused token, unless it has been replaced meanwhile."""
        if entry.mark is None or generation < entry.generation or entry.mark in entry.refused:
            return
        # It goes at once: a flight that is under way must not hand it out either.
        entry.refused = (*entry.refused, entry.mark)[-_KEPT_REFUSALS:]
        entry.grant = None

    async def _ask_latch(
        self, connection_id: str, entry: _Entry, latch: _Latch, is_patient: bool
    ) -> None:
        """Raise what is latched, or open the latch."""
        is_shut = self._clocks()[0] < latch.until and (latch.is_final or not is_patient)
        if is_shut and latch.mark is not None:
            is_shut = await self._source.credentials_mark(connection_id) == latch.mark
        if is_shut:
            raise _again(latch.error)
        if entry.latch is latch:
            entry.latch = None

    # --- The flight --------------------------------------------------------------------------

    def _start(
        self,
        connection_id: str,
        entry: _Entry,
        need: Need,
        generation: int,
        on_refresh: Callable[[], None] | None,
    ) -> _Flight:
        # Known before it starts: a loop may run a task's first steps at once.
        flight = entry.flight = _Flight(owner=self, need=need, generation=generation)
        cycle = self._fly(connection_id, entry, flight, on_refresh)
        # The one task outside the driver: it belongs to no session and outlives its waiters.
        loop = asyncio.get_running_loop()
        flight.task = loop.create_task(cycle, name="dromos-token-flight")

        def landed(_: object) -> None:
            entry.flight = None

        flight.task.add_done_callback(landed)
        return flight

    async def _fly(
        self,
        connection_id: str,
        entry: _Entry,
        flight: _Flight,
        on_refresh: Callable[[], None] | None,
    ) -> Grant | Exception:
        """Run a cycle; what it raises is returned, since perhaps nobody waits any more."""
        mark = None
        try:
            # Asked before the question that it is about: credentials may change meanwhile.
            mark = await self._source.credentials_mark(connection_id)
            grant = await self._cycle(connection_id, entry, flight, on_refresh)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Something inside the provider was cancelled; nobody asked us to stop.
            return TokenError("the token provider was cancelled from within")
        except Exception as error:
            self._latch(entry, error, mark)
            return error
        entry.latch = None
        entry.has_worked = True
        return grant

    def _latch(self, entry: _Entry, error: Exception, mark: bytes | None) -> None:
        verdict = self._judge(error, entry.has_worked)
        is_final = isinstance(error, PermanentError) or verdict in _FINAL
        # What heals at times ends a session that never had a token, and so must not be
        # asked again by the next one, unless the credentials have changed.
        is_first = verdict is Verdict.BOUNDED and not entry.has_worked and mark is not None
        if is_final or is_first:
            until = self._clocks()[0] + LATCH if mark is None else float("inf")
            entry.latch = _Latch(error=_again(error), until=until, mark=mark, is_final=is_final)

    async def _cycle(
        self,
        connection_id: str,
        entry: _Entry,
        flight: _Flight,
        on_refresh: Callable[[], None] | None,
    ) -> Grant:
        """Read the current token; if it won't do, have another one issued."""
        need, generation = flight.need, flight.generation
        while True:
            if self._source.can_read:
                try:
                    await self._read(connection_id, entry, need)
                except Exception as error:
                    return self._make_do(entry, need, error)
                found = self._fulfilled(entry, need, generation)
                if found is not None:
                    return found
            if not entry.is_refreshable:
                return self._unrefreshable(entry, need)
            if self._may_refresh(entry):
                break
            held = self._unexpired(entry)
            if held is not None and need is not Need.REPLACE:
                return held
            await _sleep_until(self._next_refresh(entry))

        try:
            await self._refresh(connection_id, entry, flight, on_refresh)
        except Exception as error:
            if isinstance(error, TokenError) and error.code == "refresh_not_supported":
                entry.is_refreshable = False
                return self._unrefreshable(entry, need)
            return self._make_do(entry, need, error)
        held = self._unexpired(entry)
        if held is None:
            raise self._unusable(entry)
        return held

    async def _read(self, connection_id: str, entry: _Entry, need: Need) -> None:
        loop = asyncio.get_running_loop()
        may_refresh = entry.is_refreshable and self._may_refresh(entry)
        if entry.read_at is not None and (need is Need.DIAL or not may_refresh):
            await _sleep_until(entry.read_at + READ_FLOOR)
        entry.read_at = loop.time()
        async with asyncio.timeout(LONGEST_READ):
            token = await self._source.read(connection_id)
        if token is not None:
            self._adopt(entry, token, is_fresh=False, need=need)

    async def _refresh(
        self,
        connection_id: str,
        entry: _Entry,
        flight: _Flight,
        on_refresh: Callable[[], None] | None,
    ) -> None:
        entry.refreshed_at = asyncio.get_running_loop().time()
        is_first = entry.generation == 0
        if on_refresh is not None and not is_first:
            on_refresh()
        flight.is_refreshing = True
        try:
            token = await self._source.issue(connection_id)
        finally:
            flight.is_refreshing = False
        self._adopt(entry, token, is_fresh=True, need=flight.need)

    # --- What came of it ---------------------------------------------------------------------

    def _adopt(self, entry: _Entry, token: Token, *, is_fresh: bool, need: Need) -> None:
        """Take over what the provider gave, unless it was refused or is older."""
        mark = _mark(token)
        if mark is None:
            raise TokenError(
                "the token provider returned a token whose credentials or settings are not "
                "plain JSON values",
                malformed=True,
            )
        if mark in entry.refused:
            return
        now, wall = self._clocks()
        is_known = mark == entry.mark and entry.lease is not None
        lease = schedule.lease(
            generation=entry.generation if is_known else entry.generation + 1,
            expires_wall=token.expires_at,
            lifetime=token.lifetime,
            now=now,
            wall=wall,
        )
        left = schedule.remaining(lease, now=now, wall=wall)
        held = entry.grant
        if held is not None:
            held_left = schedule.remaining(held.lease, now=now, wall=wall)
            if is_known and not (_is_later(lease, held.lease) and (is_fresh or held_left <= 0)):
                return
            is_older = held.lease.expires_at is not None and left < held_left
            if not is_known and not is_fresh and is_older and need is not Need.REPLACE:
                return  # read from a stale copy
        if not is_known:
            entry.generation = lease.generation
            entry.is_refreshable = True
            self._warn_of_short_life(entry, lease)
        entry.mark = mark
        entry.lease = lease
        entry.grant = Grant(token=token, lease=lease)

    def _warn_of_short_life(self, entry: _Entry, lease: Lease) -> None:
        if entry.has_warned or lease.lifetime is None or lease.lifetime >= SHORT_LIFE:
            return
        entry.has_warned = True
        _log.warning(
            "tokens live only %.3g s: each connection is renewed about every %.3g s",
            lease.lifetime,
            max(schedule.floor(lease), lease.lifetime / 2),
        )

    def _fulfilled(self, entry: _Entry, need: Need, generation: int) -> Grant | None:
        """Return the grant if reading alone met the need."""
        held = self._unexpired(entry)
        if held is None:
            return None
        if need is Need.DIAL:
            return held if self._is_worth_a_dial(held) else None
        return held if held.lease.generation > generation else None

    def _make_do(self, entry: _Entry, need: Need, error: Exception) -> Grant:
        """Dial with what there is if the provider has a bad moment; else raise."""
        held = self._unexpired(entry)
        is_hopeless = isinstance(error, PermanentError)
        if held is None or need is not Need.DIAL or is_hopeless:
            raise error
        return held

    def _unrefreshable(self, entry: _Entry, need: Need) -> Grant:
        held = self._unexpired(entry)
        if held is None or need is Need.REPLACE:
            raise self._unusable(entry)
        return held

    def _unusable(self, entry: _Entry) -> TokenError:
        """Say why nothing that the provider gave can be handed out."""
        if entry.grant is None:
            return TokenError(
                "the far side refused this token, and the provider has no other one",
                code="same_token_returned",
                step="refresh",
            )
        now, wall = self._clocks()
        late = -schedule.remaining(entry.grant.lease, now=now, wall=wall)
        return TokenError(
            f"the provider returned a token that expired {late:.0f} s ago; "
            f"if it was just issued, the clocks differ by at least that",
            code="expired_token_returned",
            step="refresh",
        )


_Entries: TypeAlias = dict[str, _Entry]
_shared: Final[Registry[_Entries]] = Registry()


def cache_for(
    provider: TokenProvider | TokenSource,
    *,
    judge: Judge,
    wall: Callable[[], float] = time.time,  # noqa: TID251  # the seam to the outer world
) -> TokenCache:
    """Return a cache for a provider, which shares all it knows with the provider's others.

    Call it in the event loop that the cache will serve.  What is known lasts as
    long as the provider, or, if that can't be referred to weakly, as long as
    one of its caches.
    """
    loop = asyncio.get_running_loop()
    entries, pin = _shared.find(provider, loop, dict[str, _Entry])
    return TokenCache(provider, judge=judge, wall=wall, entries=entries, pin=pin)


def _is_later(told: Lease, held: Lease) -> bool:
    # Compared as dates, so that a stepped clock does not look like a longer life.
    if told.expires_wall is None or held.expires_wall is None:
        return False
    return told.expires_wall > held.expires_wall


async def _sleep_until(moment: float) -> None:
    loop = asyncio.get_running_loop()
    # A timer may fire early by the clock's resolution, and a floor is a floor.  But
    # what is left then may be too little to move a clock at all.
    while (left := moment - loop.time()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(max(left, TICK))


def _mark(token: Token) -> bytes | None:
    """Return what tells whether two tokens are the same, and tells nothing else.

    None if nothing does.  It does not raise, since its frame holds the credentials.
    """
    told = [token.strategy.type, dict(token.strategy.config), dict(token.credentials)]
    try:
        text = json.dumps(told, sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):
        return None
    return hmac.digest(_KEY, text.encode(errors="surrogatepass"), hashlib.sha256)


def _again(error: Exception) -> Exception:
    """Return an error for another waiter: the same in all but its traceback."""
    if not isinstance(error, BridgeError):
        return error
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again


def _drop(entries: dict[str, _Entry], key: str, kept: _Entry) -> None:
    in_use = kept.flight is not None or kept.grant is not None or kept.sessions
    if entries.get(key) is kept and not in_use:
        del entries[key]
