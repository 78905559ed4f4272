"""Whatever tokens live like and sessions ask for: the cache never hammers and never mixes up."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import looptime
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dromos._core import schedule
from dromos._core.schedule import Need
from dromos.errors import BridgeError, InteractionRequired, PermanentError
from dromos.model import Token
from dromos.oauth.cache import READ_FLOOR, Grant, TokenCache
from tests.oauth.fake_provider import judge, unavailable, unsupported, wall

LIVES = st.sampled_from([None, -5.0, 0.0, 0.4, 1.0, 2.0, 5.0, 60.0, 119.0, 300.0, 3600.0, 3e8])
# Weighted: a failure without hope ends most of what a walk could still show.
ERRORS = st.sampled_from(
    [None] * 8
    + [unavailable] * 3
    + [unsupported, OSError, asyncio.CancelledError]
    + [lambda: PermanentError("p"), lambda: InteractionRequired("u")]
)


@dataclass(frozen=True)
class Issue:
    """What the far end does at one refresh, or behind our back."""

    life: float | None
    says_lifetime: bool
    is_same: bool
    took: float


@dataclass(frozen=True)
class Ask:
    """What one session does."""

    after: float
    need: Need
    is_late: bool
    gives_up_after: float | None


ISSUES = st.builds(
    Issue,
    life=LIVES,
    says_lifetime=st.booleans(),
    is_same=st.booleans(),
    took=st.sampled_from([0.0, 0.05, 3.0, 40.0]),
)
ASKS = st.builds(
    Ask,
    after=st.sampled_from([0.0, 0.0, 0.1, 0.9, 1.0, 10.0, 31.0, 300.0, 4000.0]),
    need=st.sampled_from(Need),
    is_late=st.booleans(),
    gives_up_after=st.sampled_from([None] * 6 + [0.0, 0.02, 5.0]),
)


@dataclass
class World:
    """A provider that does as the test drew, and checks how it is treated."""

    issues: list[Issue]
    errors: list[Any]
    cache: TokenCache = field(init=False)
    number: int = 0
    token: Token = field(init=False)
    took: float = 0.05
    refreshing: int = 0
    reading: int = 0
    refreshed_at: float | None = None
    refreshes: int = 0
    read_at: float | None = None
    refused: set[str] = field(default_factory=set)
    names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = TokenCache(self, judge=judge, wall=wall)
        self.issue()

    def issue(self) -> None:
        made = self.issues.pop(0) if self.issues else Issue(60.0, False, False, 0.05)
        if not made.is_same:
            self.number += 1
        expiry = None if made.life is None else wall() + made.life
        self.took = made.took
        self.token = Token(
            {"access_token": f"t{self.number}"},
            expires_at=expiry,
            lifetime=made.life if made.says_lifetime else None,
        )

    def fail(self) -> None:
        made = self.errors.pop(0) if self.errors else None
        if made is not None:
            raise made()

    async def get_token(self, connection_id: str, /) -> Token:
        assert self.reading == self.refreshing == 0
        self.reading += 1
        try:
            await asyncio.sleep(self.took)
            self.fail()
            return self.token
        finally:
            self.reading -= 1

    async def refresh_connection(self, connection_id: str, /) -> Token:
        now = asyncio.get_running_loop().time()
        assert self.reading == self.refreshing == 0, "never two at once"
        if self.refreshed_at is not None:
            floor = schedule.floor(self.cache._entries["c"].lease)
            assert floor >= READ_FLOOR
            assert now >= self.refreshed_at + floor, "never closer than the floor"
        self.refreshed_at = now
        self.refreshes += 1
        self.refreshing += 1
        try:
            await asyncio.sleep(self.took)
            self.fail()
            self.issue()
            return self.token
        finally:
            self.refreshing -= 1

    def check(self, grant: Grant, ask: Ask) -> None:
        name = grant.token.access_token
        known = self.names.setdefault(grant.lease.generation, name)
        assert name == known, "one generation, one token"


def play(story: Coroutine[Any, Any, None]) -> None:
    """Run a story in virtual time."""
    loop = looptime.new_event_loop(start=0)
    try:
        loop.run_until_complete(story)
    finally:
        loop.close()


async def session(world: World, ask: Ask) -> None:
    await asyncio.sleep(ask.after)
    held = world.cache.current("c")
    generation = None if held is None else held.lease.generation
    if generation is not None and ask.is_late:
        generation -= 1
    if ask.need is Need.REPLACE and held is not None and not ask.is_late:
        world.refused.add(held.token.access_token)
    told: list[float] = []
    asking = world.cache.obtain(
        "c",
        need=ask.need,
        generation=generation,
        on_refresh=lambda: told.append(asyncio.get_running_loop().time()),
    )
    try:
        async with asyncio.timeout(ask.gives_up_after):
            grant = await asking
    except TimeoutError:
        event("gave up")
    except (BridgeError, OSError) as error:
        event(f"{ask.need.value}: {type(error).__name__} {getattr(error, 'code', '')}")
    else:
        event(f"{ask.need.value}: granted")
        world.check(grant, ask)
        if ask.need is Need.DIAL:
            assert grant.token.access_token not in world.refused or len(world.refused) > 4
    assert len(told) <= 1


@settings(max_examples=400, deadline=None)
@given(
    issues=st.lists(ISSUES, min_size=4, max_size=12),
    errors=st.lists(ERRORS, max_size=20),
    asks=st.lists(ASKS, min_size=1, max_size=40),
    in_a_row=st.booleans(),
)
def test_refreshes_are_never_two_at_once_and_never_closer_than_the_floor(
    issues: list[Issue], errors: list[Any], asks: list[Ask], in_a_row: bool
):
    async def story() -> None:
        world = World(issues, errors)
        if in_a_row:
            for ask in asks:
                await session(world, ask)
        else:
            await asyncio.gather(*(session(world, ask) for ask in asks))
        await world.cache.aclose()
        event(f"refreshes: {min(world.refreshes, 5)}")

    play(story())


@settings(max_examples=60, deadline=None)
@given(life=LIVES, says_lifetime=st.booleans(), is_same=st.booleans(), need=st.sampled_from(Need))
def test_12_sessions_that_ask_without_pause_refresh_at_most_once_a_floor(
    life: float | None, says_lifetime: bool, is_same: bool, need: Need
):
    async def story() -> None:
        issue = Issue(life, says_lifetime, is_same, 0.0)
        world = World([issue] * 10_000, [])
        loop = asyncio.get_running_loop()
        asked = 0
        while loop.time() < 40 and asked < 300:
            asked += 1
            await session(world, Ask(0.0, need, False, 40.0))
            await asyncio.sleep(0.2)  # the driver never asks again at once
        assert world.refreshes <= 42
        await world.cache.aclose()

    play(story())


@settings(max_examples=50, deadline=None)
@given(
    need=st.sampled_from(Need),
    life=st.sampled_from([2.0, 60.0, 3600.0]),
    cancelled=st.integers(min_value=0, max_value=200),
)
def test_9_10_two_hundred_waiters_make_one_refresh_however_many_give_up(
    need: Need, life: float, cancelled: int
):
    async def story() -> None:
        world = World([Issue(life, True, False, 1.0)] * 4, [])
        held = await world.cache.obtain("c", need=Need.DIAL)
        if need is Need.DIAL:
            await asyncio.sleep(life + 1)
        generation = held.lease.generation
        waiters = [
            asyncio.ensure_future(world.cache.obtain("c", need=need, generation=generation))
            for _ in range(200)
        ]
        await asyncio.sleep(1.5)
        assert 1 == world.refreshing
        for waiter in waiters[:cancelled]:
            waiter.cancel()
        told = await asyncio.gather(*waiters, return_exceptions=True)
        await asyncio.sleep(1)

        assert 1 == world.refreshes
        assert {"t2"} >= {one.token.access_token for one in told if isinstance(one, Grant)}
        assert 200 - cancelled == sum(isinstance(one, Grant) for one in told)
        current = world.cache.current("c")
        assert current is not None
        assert "t2" == current.token.access_token
        await world.cache.aclose()

    play(story())
