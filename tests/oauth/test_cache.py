"""The token cache, in virtual time."""

import asyncio
import gc
import math
import traceback
import weakref
from typing import Any

import pytest

from dromos._core import schedule
from dromos._core.schedule import Need
from dromos.errors import InteractionRequired, PermanentError, TokenError
from dromos.model import AuthStrategy, Token
from dromos.oauth.cache import Grant, TokenCache, _sleep_until, cache_for
from tests.oauth.fake_provider import (
    EPOCH,
    FakeProvider,
    cache_of,
    judge,
    name_of,
    unavailable,
    unsupported,
    wall,
)

pytestmark = pytest.mark.looptime


@pytest.fixture
def provider() -> FakeProvider:
    # Fixtures run outside virtual time, which starts at zero with the test.
    return FakeProvider(expires_at=EPOCH + 3600)


@pytest.fixture
def cache(provider: FakeProvider) -> TokenCache:
    return cache_of(provider)


async def dial(cache: TokenCache) -> Grant:
    return await cache.obtain("c", need=Need.DIAL)


async def renew(cache: TokenCache, held: Grant) -> Grant:
    return await cache.obtain("c", need=Need.RENEW, generation=held.lease.generation)


async def replace(cache: TokenCache, refused: Grant) -> Grant:
    return await cache.obtain("c", need=Need.REPLACE, generation=refused.lease.generation)


def now() -> float:
    return asyncio.get_running_loop().time()


# --- Dialling -------------------------------------------------------------------------------------


async def test_the_first_dial_reads_the_token_and_the_second_needs_no_network(
    cache: TokenCache, provider: FakeProvider
):
    first = await dial(cache)
    second = await dial(cache)

    assert "t1" == name_of(first)
    assert first is second is cache.current("c")
    assert (1, 0) == (len(provider.reads), len(provider.refreshes))
    assert 1 == first.lease.generation


async def test_nothing_is_held_of_a_connection_nobody_asked_for(cache: TokenCache):
    assert cache.current("c") is None


async def test_a_token_that_never_expires_is_never_asked_for_again(
    cache: TokenCache, provider: FakeProvider
):
    provider.expire_in(None)
    await dial(cache)
    await asyncio.sleep(10 * 86_400)

    await dial(cache)

    assert 1 == len(provider.reads)


async def test_a_token_with_too_little_life_is_read_again_and_then_refreshed(
    cache: TokenCache, provider: FakeProvider
):
    await dial(cache)
    await asyncio.sleep(3580)

    grant = await dial(cache)

    assert "t2" == name_of(grant)
    assert (2, 1) == (len(provider.reads), len(provider.refreshes))
    assert 2 == grant.lease.generation


async def test_a_token_that_another_process_renewed_is_adopted_without_a_refresh(
    cache: TokenCache, provider: FakeProvider
):
    await dial(cache)
    await asyncio.sleep(3580)
    provider.issue()

    assert "t2" == name_of(await dial(cache))
    assert [] == provider.refreshes


async def test_an_expired_token_is_refreshed_at_the_first_dial(
    cache: TokenCache, provider: FakeProvider
):
    provider.expire_in(-5)

    assert "t2" == name_of(await dial(cache))


async def test_r6_a_token_with_little_life_is_used_if_the_refresh_fails(
    cache: TokenCache, provider: FakeProvider
):
    provider.expire_in(20)
    provider.lifetime = 3600
    provider.refresh_errors.append(unavailable())

    assert "t1" == name_of(await dial(cache))
    assert 1 == len(provider.refreshes)


async def test_r6_a_token_with_little_life_is_used_if_the_reading_fails(
    cache: TokenCache, provider: FakeProvider
):
    await dial(cache)
    await asyncio.sleep(3580)
    provider.read_errors.append(unavailable())

    assert "t1" == name_of(await dial(cache))


async def test_r6_a_token_with_little_life_is_used_inside_the_floor(
    cache: TokenCache, provider: FakeProvider
):
    provider.expire_in(20)
    provider.lifetime = 3600
    provider.refresh_errors.append(unavailable())
    await dial(cache)
    await asyncio.sleep(2)

    assert "t1" == name_of(await dial(cache))
    assert 1 == len(provider.refreshes)


async def test_r6_does_not_hide_that_only_a_person_can_help(
    cache: TokenCache, provider: FakeProvider
):
    provider.expire_in(20)
    provider.lifetime = 3600
    provider.refresh_errors.append(InteractionRequired("consent"))

    with pytest.raises(InteractionRequired):
        await dial(cache)


async def test_an_expired_token_whose_refresh_fails_is_that_failure(
    cache: TokenCache, provider: FakeProvider
):
    provider.expire_in(-5)
    provider.refresh_errors.append(unavailable())

    with pytest.raises(TokenError, match="no luck") as caught:
        await dial(cache)

    assert 502 == caught.value.status


async def test_r12_a_source_that_returns_an_expired_token_is_an_error_with_the_skew(
    cache: TokenCache, provider: FakeProvider
):
    provider.life = -40.0
    provider.expire_in(-40)

    with pytest.raises(TokenError, match="expired 40 s ago") as caught:
        await dial(cache)

    assert "expired_token_returned" == caught.value.code
    assert 1 == len(provider.refreshes)


async def test_an_expired_token_that_can_t_be_refreshed_is_an_error(
    cache: TokenCache, provider: FakeProvider
):
    provider.expire_in(-5)
    provider.refresh_errors.append(unsupported())

    with pytest.raises(TokenError) as caught:
        await dial(cache)

    assert "expired_token_returned" == caught.value.code


async def test_a_dial_after_an_expired_one_waits_for_the_floor(
    cache: TokenCache, provider: FakeProvider
):
    provider.life = 40.0
    provider.expire_in(-5)
    provider.lifetime = 40.0
    provider.refresh_errors.append(unavailable())
    with pytest.raises(TokenError):
        await dial(cache)

    assert "t2" == name_of(await dial(cache))
    assert 10.0 <= provider.refreshes[1] - provider.refreshes[0] < 11.0


async def test_two_readings_are_a_second_apart(cache: TokenCache, provider: FakeProvider):
    provider.read_errors += [unavailable(), unavailable()]
    for _ in range(2):
        with pytest.raises(TokenError):
            await dial(cache)
    await dial(cache)

    assert [1.0, 1.0] == [b - a for a, b in zip(provider.reads, provider.reads[1:], strict=False)]


# --- Renewing -------------------------------------------------------------------------------------


async def test_a_renewal_reads_first_and_then_refreshes(cache: TokenCache, provider: FakeProvider):
    held = await dial(cache)

    grant = await renew(cache, held)

    assert "t2" == name_of(grant)
    assert (2, 1) == (len(provider.reads), len(provider.refreshes))


async def test_a_renewal_adopts_what_another_process_renewed(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    await asyncio.sleep(3000)
    provider.issue()

    assert "t2" == name_of(await renew(cache, held))
    assert [] == provider.refreshes


async def test_a_session_that_lags_behind_gets_the_newer_token_without_network(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    await renew(cache, held)

    assert "t2" == name_of(await renew(cache, held))
    assert (2, 1) == (len(provider.reads), len(provider.refreshes))


async def test_a_stale_copy_does_not_replace_a_newer_token(
    cache: TokenCache, provider: FakeProvider
):
    await asyncio.sleep(100)
    held = await dial(cache)
    provider.current, provider.expires_at = "t0", wall() + 5
    provider.refresh_errors.append(unavailable())

    with pytest.raises(TokenError):
        await renew(cache, held)

    current = cache.current("c")
    assert current is not None
    assert "t1" == name_of(current)


async def test_a_failed_renewal_keeps_the_token(cache: TokenCache, provider: FakeProvider):
    held = await dial(cache)
    provider.refresh_errors.append(unavailable())

    with pytest.raises(TokenError):
        await renew(cache, held)

    assert held == cache.current("c")
    assert held == await dial(cache)


async def test_a_renewal_whose_reading_fails_does_not_refresh(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.read_errors.append(unavailable())

    with pytest.raises(TokenError):
        await renew(cache, held)

    assert [] == provider.refreshes


async def test_a_renewal_inside_the_floor_gets_what_it_has(
    cache: TokenCache, provider: FakeProvider
):
    held = await renew(cache, await dial(cache))
    reads = len(provider.reads)

    assert held == await renew(cache, held)
    assert (reads, 1) == (len(provider.reads), len(provider.refreshes))

    await asyncio.sleep(schedule.floor(held.lease))
    assert "t3" == name_of(await renew(cache, held))


async def test_a_connection_that_can_t_be_refreshed_keeps_its_token_and_is_asked_once(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.refresh_errors.append(unsupported())

    for _ in range(5):
        assert held == await renew(cache, held)
        await asyncio.sleep(60)

    assert 1 == len(provider.refreshes)


async def test_a_connection_that_could_not_be_refreshed_is_tried_again_with_new_credentials(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.refresh_errors.append(unsupported())
    await renew(cache, held)
    await asyncio.sleep(60)
    provider.issue()
    held = await renew(cache, held)
    assert "t2" == name_of(held)

    assert "t3" == name_of(await renew(cache, held))


async def test_a_renewal_without_a_generation_means_the_current_one(
    cache: TokenCache, provider: FakeProvider
):
    await dial(cache)

    assert "t2" == name_of(await cache.obtain("c", need=Need.RENEW))


async def test_the_expiry_in_the_strategy_s_settings_is_not_what_makes_a_token_another(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.expire_in(7200)
    provider.refresh_errors.append(unavailable())

    with pytest.raises(TokenError):
        await renew(cache, held)

    assert held == cache.current("c")


async def test_another_way_to_present_the_same_credentials_is_another_token(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    token = Token({"access_token": "t1"}, strategy=AuthStrategy("header"), expires_at=wall() + 9999)
    provider.token = lambda: token  # type: ignore[method-assign]

    grant = await renew(cache, held)

    assert held.lease.generation + 1 == grant.lease.generation


async def test_a_sliding_session_prolongs_the_same_token_by_its_refresh(
    cache: TokenCache, provider: FakeProvider
):
    provider.rotates = False
    held = await dial(cache)
    await asyncio.sleep(3000)

    grant = await renew(cache, held)

    assert held.lease.generation == grant.lease.generation
    assert held.lease.expires_at is not None
    assert grant.lease.expires_at is not None
    assert held.lease.expires_at + 3000 == pytest.approx(grant.lease.expires_at, abs=1)


async def test_a_lease_that_ran_out_is_not_made_endless_by_an_answer_without_an_expiry(
    cache: TokenCache, provider: FakeProvider
):
    provider.rotates = False
    provider.life = None
    await dial(cache)
    await asyncio.sleep(3700)
    provider.expire_in(None)

    with pytest.raises(TokenError) as caught:
        await dial(cache)

    assert "expired_token_returned" == caught.value.code


async def test_a_lease_that_ran_out_is_prolonged_by_a_reading(
    cache: TokenCache, provider: FakeProvider
):
    await dial(cache)
    await asyncio.sleep(3700)
    provider.expire_in(3600)

    grant = await dial(cache)

    assert ("t1", 1) == (name_of(grant), grant.lease.generation)
    assert [] == provider.refreshes


# --- Replacing ------------------------------------------------------------------------------------


async def test_a_refused_token_is_replaced_by_a_refresh(cache: TokenCache, provider: FakeProvider):
    grant = await replace(cache, await dial(cache))

    assert "t2" == name_of(grant)
    assert 1 == len(provider.refreshes)


async def test_a_refused_token_is_replaced_by_one_that_differs_even_if_it_ends_earlier(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.life = 100
    provider.issue()

    assert "t2" == name_of(await replace(cache, held))
    assert [] == provider.refreshes


async def test_a_source_that_only_has_the_refused_token_is_an_error(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.rotates = False

    with pytest.raises(TokenError) as caught:
        await replace(cache, held)

    assert "same_token_returned" == caught.value.code
    assert cache.current("c") is None


async def test_a_refused_token_that_can_t_be_refreshed_is_an_error(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.refresh_errors.append(unsupported())

    with pytest.raises(TokenError) as caught:
        await replace(cache, held)

    assert "same_token_returned" == caught.value.code


async def test_a_refused_token_is_never_dialled_with_again(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.refresh_errors += [unavailable(), unavailable()]
    for ask in (replace(cache, held), dial(cache)):
        with pytest.raises(TokenError):
            await ask

    assert "t2" == name_of(await dial(cache))


async def test_a_refused_token_is_not_kept_in_the_clear(cache: TokenCache, provider: FakeProvider):
    held = await dial(cache)
    provider.refresh_errors.append(unavailable())
    with pytest.raises(TokenError):
        await replace(cache, held)

    kept = [getattr(cache._entries["c"], name) for name in cache._entries["c"].__slots__]
    assert not any(isinstance(value, str | Token | Grant) for value in kept)
    assert cache.current("c") is None


async def test_19_a_late_refusal_of_an_old_token_keeps_the_newer_one(
    cache: TokenCache, provider: FakeProvider
):
    old = await dial(cache)
    new = await renew(cache, old)
    asked = (len(provider.reads), len(provider.refreshes))

    assert new == await replace(cache, old)
    assert new == cache.current("c")
    assert asked == (len(provider.reads), len(provider.refreshes))


async def test_19_a_refusal_of_the_fresh_token_as_well_is_a_second_refresh_and_no_third(
    cache: TokenCache, provider: FakeProvider
):
    second = await replace(cache, await dial(cache))
    provider.rotates = False

    with pytest.raises(TokenError) as caught:
        await replace(cache, second)

    assert "same_token_returned" == caught.value.code
    assert 2 == len(provider.refreshes)


async def test_a_refusal_that_arrives_while_the_token_is_read_is_not_overlooked(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    await asyncio.sleep(10)
    renewing = asyncio.ensure_future(renew(cache, held))
    await asyncio.sleep(provider.took / 2)

    assert "t2" == name_of(await replace(cache, held))
    assert "t2" == name_of(await renewing)
    assert 1 == len(provider.refreshes)


async def test_a_refresh_that_must_wait_for_the_floor_reads_again_before_it(
    cache: TokenCache, provider: FakeProvider
):
    held = await renew(cache, await dial(cache))
    replacing = asyncio.ensure_future(replace(cache, held))
    await asyncio.sleep(5)
    provider.issue()

    assert "t3" == name_of(await replacing)
    assert 1 == len(provider.refreshes)


# --- One flight, many waiters ---------------------------------------------------------------------


async def test_9_two_hundred_callers_at_expiry_make_one_refresh(
    cache: TokenCache, provider: FakeProvider
):
    await dial(cache)
    await asyncio.sleep(3700)

    grants = await asyncio.gather(*(dial(cache) for _ in range(200)))

    assert {"t2"} == {name_of(grant) for grant in grants}
    assert (2, 1) == (len(provider.reads), len(provider.refreshes))


@pytest.mark.parametrize("need", [Need.RENEW, Need.REPLACE])
async def test_9_two_hundred_sessions_with_the_same_token_make_one_refresh(
    cache: TokenCache, provider: FakeProvider, need: Need
):
    held = await dial(cache)

    grants = await asyncio.gather(
        *(cache.obtain("c", need=need, generation=held.lease.generation) for _ in range(200))
    )

    assert {"t2"} == {name_of(grant) for grant in grants}
    assert (2, 1) == (len(provider.reads), len(provider.refreshes))


async def test_two_hundred_renewals_that_change_nothing_are_one_reading(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    provider.refresh_errors.append(unsupported())
    await renew(cache, held)
    await asyncio.sleep(60)
    reads = len(provider.reads)

    await asyncio.gather(*(renew(cache, held) for _ in range(200)))

    assert reads + 1 == len(provider.reads)


async def test_a_failure_is_told_to_every_waiter(cache: TokenCache, provider: FakeProvider):
    provider.read_errors.append(unavailable())

    told = await asyncio.gather(*(dial(cache) for _ in range(200)), return_exceptions=True)

    assert {(TokenError, 502)} == {(type(one), getattr(one, "status", None)) for one in told}
    assert 200 == len({id(one) for one in told})  # a traceback of its own for each
    assert 1 == len(provider.reads)


async def test_a_dial_that_waits_for_a_renewal_takes_its_token(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    await asyncio.sleep(3580)
    renewing = asyncio.ensure_future(renew(cache, held))
    await asyncio.sleep(0)

    assert "t2" == name_of(await dial(cache))
    assert "t2" == name_of(await renewing)
    assert 1 == len(provider.refreshes)


async def test_a_dial_that_waits_for_a_renewal_that_fails_dials_with_what_there_is(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    await asyncio.sleep(3580)
    provider.refresh_errors.append(unavailable())
    renewing = asyncio.ensure_future(renew(cache, held))
    await asyncio.sleep(0)

    assert "t1" == name_of(await dial(cache))
    with pytest.raises(TokenError):
        await renewing


async def test_a_renewal_that_waits_for_a_dial_asks_once_more_if_it_brought_nothing_new(
    cache: TokenCache, provider: FakeProvider
):
    provider.expire_in(None)
    dialling = asyncio.ensure_future(dial(cache))
    await asyncio.sleep(0)

    grant = await cache.obtain("c", need=Need.RENEW, generation=1)

    assert "t1" == name_of(await dialling)
    assert "t2" == name_of(grant)


async def test_10_cancelling_every_waiter_keeps_the_refresh(
    cache: TokenCache, provider: FakeProvider
):
    await dial(cache)
    await asyncio.sleep(3700)
    waiters = [asyncio.ensure_future(dial(cache)) for _ in range(20)]
    await asyncio.sleep(provider.took * 1.5)
    assert 1 == provider.at_once

    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await asyncio.sleep(1)

    current = cache.current("c")
    assert current is not None
    assert "t2" == name_of(current)
    assert (1, 0) == (len(provider.refreshes), provider.was_cut)


async def test_a_failure_that_nobody_waits_for_any_more_is_not_reported_as_lost(
    cache: TokenCache, provider: FakeProvider
):
    lost: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    provider.read_errors.append(unavailable())
    waiter = asyncio.ensure_future(dial(cache))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)

    await asyncio.sleep(1)
    gc.collect()

    assert [] == lost


async def test_two_connections_do_not_wait_for_each_other(
    cache: TokenCache, provider: FakeProvider
):
    start = now()
    await asyncio.gather(*(cache.obtain(f"c{n}", need=Need.DIAL) for n in range(50)))

    assert provider.took == pytest.approx(now() - start)


async def test_the_refresh_is_told_once_to_the_call_that_set_it_off(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)
    told: list[int] = []

    def teller(number: int) -> Any:
        def tell() -> None:
            assert 0 == provider.at_once
            told.append(number)

        return tell

    await asyncio.gather(
        *(
            cache.obtain("c", need=Need.RENEW, generation=held.lease.generation, on_refresh=tell)
            for tell in map(teller, range(5))
        )
    )

    assert [0] == told


async def test_a_reading_alone_is_no_refresh_to_tell(cache: TokenCache):
    told: list[None] = []

    await cache.obtain("c", need=Need.DIAL, on_refresh=lambda: told.append(None))

    assert [] == told


# --- Latches --------------------------------------------------------------------------------------


async def test_28_a_failure_without_hope_is_repeated_without_network_for_thirty_seconds(
    cache: TokenCache, provider: FakeProvider
):
    provider.read_errors.append(InteractionRequired("consent", connection_id="c", code="x"))
    with pytest.raises(InteractionRequired) as first:
        await dial(cache)
    start = now()
    while now() < start + 29:
        with pytest.raises(InteractionRequired) as again:
            await dial(cache)
        assert ("c", "x", "consent") == (
            again.value.connection_id,
            again.value.code,
            str(again.value),
        )
        assert first.value is not again.value
        await asyncio.sleep(1)
    assert 1 == len(provider.reads)

    await asyncio.sleep(2)
    assert "t1" == name_of(await dial(cache))


@pytest.mark.parametrize("worked", [True, False])
async def test_the_judge_knows_whether_it_ever_worked(
    cache: TokenCache, provider: FakeProvider, worked: bool
):
    if worked:
        await dial(cache)
        await asyncio.sleep(3700)
    reads = len(provider.reads)
    provider.read_errors += [unavailable(404), unavailable(404)]

    for _ in range(2):
        with pytest.raises(TokenError):
            await dial(cache)

    assert (2 if worked else 1) == len(provider.reads) - reads


async def test_a_latch_does_not_take_away_a_valid_token(cache: TokenCache, provider: FakeProvider):
    held = await dial(cache)
    provider.refresh_errors.append(PermanentError("no"))
    with pytest.raises(PermanentError):
        await renew(cache, held)

    assert held == await dial(cache)
    with pytest.raises(PermanentError):
        await renew(cache, held)
    assert 1 == len(provider.refreshes)


async def test_a_latch_outlives_its_connection_so_that_a_loop_of_sessions_does_not_hammer(
    cache: TokenCache, provider: FakeProvider
):
    provider.read_errors = [PermanentError("no")]
    with pytest.raises(PermanentError):
        await dial(cache)
    for _ in range(100):
        cache.join("c")
        with pytest.raises(PermanentError):
            await dial(cache)
        cache.leave("c")
    assert 1 == len(provider.reads)

    await asyncio.sleep(31)
    cache.join("another")

    assert "TokenCache(1 connections)" == repr(cache)
    assert "t1" == name_of(await dial(cache))


async def test_the_last_session_of_a_connection_takes_the_token_along(
    cache: TokenCache, provider: FakeProvider
):
    cache.join("c")
    cache.join("c")
    await dial(cache)

    cache.leave("c")
    assert cache.current("c") is not None
    cache.leave("c")
    cache.leave("never seen")

    assert cache.current("c") is None


async def test_a_provider_that_never_returns_a_token_is_given_up(
    cache: TokenCache, provider: FakeProvider
):
    provider.took = 10_000.0

    with pytest.raises(TimeoutError):
        await dial(cache)

    assert 60.0 == pytest.approx(asyncio.get_running_loop().time())


async def test_a_refresh_that_hangs_is_not_cut_but_nobody_waits_for_it_for_ever(
    cache: TokenCache, provider: FakeProvider
):
    await dial(cache)
    hanging = asyncio.Event()

    async def hang(connection_id: str) -> Any:
        provider.refreshes.append(asyncio.get_running_loop().time())
        await hanging.wait()
        provider.issue()
        return provider.token()

    provider.refresh_connection = hang  # type: ignore[method-assign]
    grant = await dial(cache)
    began = asyncio.get_running_loop().time()
    with pytest.raises(TokenError, match="180 s"):
        await renew(cache, grant)
    assert 180.0 == pytest.approx(asyncio.get_running_loop().time() - began)

    hanging.set()
    newer = await renew(cache, grant)

    assert "t2" == name_of(newer)
    assert 1 == len(provider.refreshes)


# --- Providers that misbehave ---------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "t1", {"access_token": "t1"}, 3])
async def test_a_provider_that_returns_no_token_is_a_malformed_answer(
    cache: TokenCache, provider: FakeProvider, given: Any
):
    provider.token = lambda: given  # type: ignore[method-assign]

    with pytest.raises(TokenError, match="instead of a Token") as caught:
        await dial(cache)

    assert caught.value.malformed
    assert "token" == caught.value.step


def circular() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


def deep() -> Any:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    "odd", [{1: 2, "b": 3}, circular(), deep()], ids=["keys", "circle", "deep"]
)
@pytest.mark.parametrize("where", ["credentials", "config"])
async def test_3_a_token_that_is_no_json_is_a_malformed_answer_and_in_no_frame(
    cache: TokenCache, provider: FakeProvider, odd: Any, where: str
):
    secret = {"access_token": "CANARY-5f3a", **({"odd": odd} if where == "credentials" else {})}
    token = Token(secret, AuthStrategy("mine", {"odd": odd} if where == "config" else {}))
    provider.token = lambda: token  # type: ignore[method-assign]

    with pytest.raises(TokenError, match="plain JSON") as caught:
        await dial(cache)

    assert caught.value.malformed
    frames = traceback.walk_tb(caught.value.__traceback__)
    ours = [frame for frame, _ in frames if "/dromos/" in frame.f_code.co_filename]
    assert ours
    for frame in ours:
        assert "_mark" != frame.f_code.co_name
    assert caught.value.__context__ is None
    assert (token == Token({"access_token": "x"})) is False


async def test_a_refresh_that_returns_no_token_is_a_malformed_answer(
    cache: TokenCache, provider: FakeProvider
):
    held = await dial(cache)

    async def nothing(connection_id: str) -> Any:
        return None

    provider.refresh_connection = nothing  # type: ignore[method-assign]
    with pytest.raises(TokenError) as caught:
        await renew(cache, held)

    assert (True, "refresh") == (caught.value.malformed, caught.value.step)


@pytest.mark.parametrize("error", [OSError("x"), ValueError("x"), KeyError("x")])
async def test_a_foreign_exception_passes_unchanged(
    cache: TokenCache, provider: FakeProvider, error: Exception
):
    provider.read_errors.append(error)

    with pytest.raises(type(error)) as caught:
        await dial(cache)

    assert error is caught.value


async def test_a_cancellation_from_inside_the_provider_kills_nobody(
    cache: TokenCache, provider: FakeProvider
):
    provider.read_errors.append(asyncio.CancelledError())

    told = await asyncio.gather(*(dial(cache) for _ in range(3)), return_exceptions=True)

    assert [TokenError] * 3 == [type(one) for one in told]
    assert "t1" == name_of(await dial(cache))


async def test_12_a_refresh_that_always_returns_expired_tokens_is_no_loop(
    cache: TokenCache, provider: FakeProvider
):
    provider.life = provider.lifetime = 0.0
    provider.expire_in(0)
    start = now()

    while now() < start + 60:
        with pytest.raises(TokenError):
            await dial(cache)

    assert len(provider.refreshes) <= 61


# --- The wall clock -------------------------------------------------------------------------------


async def test_13_a_suspend_that_only_the_wall_clock_saw_makes_the_token_due(
    provider: FakeProvider,
):
    slept = 0.0
    cache = TokenCache(provider, judge=judge, wall=lambda: wall() + slept)
    await dial(cache)

    slept = 8 * 3600.0
    provider.life = 9 * 3600.0

    assert "t2" == name_of(await dial(cache))


@pytest.mark.parametrize("step", [-86_400.0, -3600.0])
async def test_13_a_wall_clock_stepped_back_does_not_make_a_token_live_longer(
    provider: FakeProvider, step: float
):
    stepped = 0.0
    cache = TokenCache(provider, judge=judge, wall=lambda: wall() + stepped)
    await dial(cache)
    stepped = step
    await asyncio.sleep(3700)

    assert "t2" == name_of(await dial(cache))


# --- Ends -----------------------------------------------------------------------------------------


async def test_closing_waits_for_a_refresh_in_flight(provider: FakeProvider):
    provider.took = 4.0
    cache = cache_of(provider)
    held = await dial(cache)
    waiter = asyncio.ensure_future(renew(cache, held))
    await asyncio.sleep(5)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)

    await cache.aclose()

    assert (1, 0) == (len(provider.ended), provider.was_cut)
    with pytest.raises(RuntimeError, match="closed"):
        await dial(cache)


async def test_closing_waits_ten_seconds_and_not_longer(provider: FakeProvider):
    cache = cache_of(provider)
    held = await dial(cache)
    provider.took = 50.0
    waiter = asyncio.ensure_future(renew(cache, held))
    await asyncio.sleep(51)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    start = now()

    await cache.aclose()

    assert 10.0 == pytest.approx(now() - start)
    assert 1 == provider.was_cut


async def test_closing_cuts_a_reading_at_once(provider: FakeProvider):
    provider.took = 60.0
    cache = cache_of(provider)
    waiter = asyncio.ensure_future(dial(cache))
    await asyncio.sleep(1)
    start = now()

    await cache.aclose()

    assert 0.0 == pytest.approx(now() - start)
    with pytest.raises(RuntimeError, match="closed"):
        await waiter


async def test_one_bridge_that_closes_does_not_cut_another_bridge_s_refresh(
    provider: FakeProvider,
):
    one = cache_for(provider, judge=judge, wall=wall)
    two = cache_for(provider, judge=judge, wall=wall)
    held = await dial(one)
    provider.took = 20.0
    ours = asyncio.ensure_future(renew(one, held))
    await asyncio.sleep(21)
    theirs = asyncio.ensure_future(renew(two, held))
    await asyncio.sleep(0)
    ours.cancel()

    await one.aclose()

    assert "t2" == name_of(await theirs)
    assert (1, 0) == (len(provider.refreshes), provider.was_cut)


async def test_one_bridge_that_closes_while_it_reads_leaves_the_reading_to_the_other(
    provider: FakeProvider,
):
    one = cache_for(provider, judge=judge, wall=wall)
    two = cache_for(provider, judge=judge, wall=wall)
    provider.took = 5.0
    ours = asyncio.ensure_future(dial(one))
    await asyncio.sleep(1)
    theirs = asyncio.ensure_future(dial(two))
    await asyncio.sleep(1)
    ours.cancel()

    await one.aclose()

    assert "t1" == name_of(await theirs)
    assert 2 == len(provider.reads)


async def test_a_forgotten_connection_starts_afresh_but_keeps_its_floor(
    cache: TokenCache, provider: FakeProvider
):
    await renew(cache, await dial(cache))
    cache.forget("c")
    assert cache.current("c") is None
    provider.expire_in(-5)
    provider.lifetime = 3600.0

    assert "t3" == name_of(await dial(cache))
    assert 30.0 <= provider.refreshes[1] - provider.refreshes[0] < 31.0


async def test_nothing_is_kept_of_a_forgotten_connection_after_its_floor(
    cache: TokenCache, provider: FakeProvider
):
    cache.forget("never seen")
    await dial(cache)
    await renew(cache, await dial(cache))
    cache.forget("c")
    assert "1 connections" in repr(cache)

    await asyncio.sleep(31)
    cache.join("another")

    assert "TokenCache(1 connections)" == repr(cache)


async def test_a_connection_without_a_refresh_is_forgotten_at_once(cache: TokenCache):
    await dial(cache)

    cache.forget("c")

    assert "TokenCache(0 connections)" == repr(cache)


async def test_a_connection_that_is_used_again_is_not_dropped_by_its_forgetting(
    cache: TokenCache, provider: FakeProvider
):
    await renew(cache, await dial(cache))
    cache.forget("c")
    grant = await dial(cache)

    await asyncio.sleep(60)

    assert grant == cache.current("c")


async def test_a_connection_in_flight_is_not_forgotten(cache: TokenCache, provider: FakeProvider):
    waiter = asyncio.ensure_future(dial(cache))
    await asyncio.sleep(0)

    cache.forget("c")

    assert "t1" == name_of(await waiter)
    assert cache.current("c") is not None


# --- One book for each provider and loop ----------------------------------------------------------


async def test_caches_of_one_provider_share_what_they_know(provider: FakeProvider):
    one = cache_for(provider, judge=judge, wall=wall)
    two = cache_for(provider, judge=judge, wall=wall)

    assert (await dial(one)) is (await dial(two))
    assert 1 == len(provider.reads)


async def test_equal_providers_are_still_two(provider: FakeProvider):
    other = FakeProvider()
    other.expire_in(3600)

    await dial(cache_for(provider, judge=judge, wall=wall))
    await dial(cache_for(other, judge=judge, wall=wall))

    assert (1, 1) == (len(provider.reads), len(other.reads))


async def test_a_provider_is_not_kept_alive(provider: FakeProvider):
    class Mine(FakeProvider):
        pass

    mine = Mine()
    mine.expire_in(3600)
    await dial(cache_for(mine, judge=judge, wall=wall))
    gone = weakref.ref(mine)

    del mine
    gc.collect()

    assert gone() is None


async def test_a_provider_that_can_t_be_referred_to_weakly_is_shared_while_it_is_used():
    class Slotted:
        __slots__ = ("reads",)

        def __init__(self) -> None:
            self.reads = 0

        async def get_token(self, connection_id: str, /) -> Token:
            self.reads += 1
            return Token({"access_token": "t1"})

        async def refresh_connection(self, connection_id: str, /) -> Token:
            raise AssertionError

    provider = Slotted()
    one = cache_for(provider, judge=judge, wall=wall)
    two = cache_for(provider, judge=judge, wall=wall)

    await dial(one)
    await dial(two)

    assert 1 == provider.reads


def test_each_loop_has_a_cache_of_its_own():
    provider = FakeProvider()

    async def once() -> Grant:
        return await dial(cache_for(provider, judge=judge))

    asyncio.run(once())
    asyncio.run(once())

    assert 2 == len(provider.reads)


async def test_a_remainder_too_small_to_move_a_clock_does_not_spin():
    await asyncio.sleep(1e6)
    moment = math.nextafter(asyncio.get_running_loop().time(), math.inf)

    async with asyncio.timeout(1):
        await _sleep_until(moment)
