"""Refresh tokens that change with every use: none is used twice, and none is lost."""

import asyncio
import base64
import contextlib
import gc
import json
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from dromos import InteractionRequired
from dromos._core.schedule import Need
from dromos._core.verdict import Stage as Where
from dromos._core.verdict import judge as verdict_of
from dromos.errors import TokenError
from dromos.model import Token, Verdict
from dromos.oauth._http import NoAnswer
from dromos.oauth.cache import Grant, TokenCache, cache_for
from dromos.oauth.device_code import DeviceCode, DevicePrompt
from dromos.oauth.refresh_token import RefreshToken
from dromos.oauth.store import MemoryStore, StoredGrant
from dromos.redaction import Secret
from tests.driver.harness import Stage
from tests.oauth.rotating_server import (
    DEVICE_URL,
    TOKEN_URL,
    Server,
    SlowStore,
    provider_of,
    wall,
)

pytestmark = pytest.mark.looptime


def judge(error: Exception, worked: bool) -> Verdict:
    return verdict_of(error, stage=Where.TOKEN, worked=worked, rejected=False)


def cache_of(provider: RefreshToken) -> TokenCache:
    return cache_for(provider, judge=judge, wall=wall)


async def dial(cache: TokenCache, connection_id: str = "c") -> Grant:
    return await cache.obtain(connection_id, need=Need.DIAL)


async def renew(cache: TokenCache, held: Grant) -> Grant:
    return await cache.obtain("c", need=Need.RENEW, generation=held.lease.generation)


async def name_of(token: Awaitable[Token | None]) -> str:
    found = await token
    assert found is not None
    return found.access_token


def now() -> float:
    return asyncio.get_running_loop().time()


async def failure(doing: Awaitable[object]) -> TokenError:
    with pytest.raises(TokenError) as caught:
        await doing
    return caught.value


# --- One refresh ----------------------------------------------------------------------------------


async def test_a_refresh_token_buys_a_token_and_the_next_refresh_token() -> None:
    server, store = Server(), SlowStore()
    provider = provider_of(server, store=store)

    token = await provider.get_token()

    assert ("at-1", wall() - 0.1 + 3600, 3600.0) == (
        token.access_token,
        pytest.approx(token.expires_at),
        token.lifetime,
    )
    assert "rt-1" == store.kept
    assert [{"grant_type": "refresh_token", "refresh_token": "rt-0", "client_id": "agent"}] == (
        server.forms
    )


async def test_each_refresh_uses_what_the_one_before_brought() -> None:
    server = Server()
    provider = provider_of(server)

    names = [await name_of(provider.refresh_connection()) for _ in range(4)]

    assert ["at-1", "at-2", "at-3", "at-4"] == names
    assert ["rt-0", "rt-1", "rt-2", "rt-3"] == server.used_tokens()


async def test_a_token_that_lives_is_not_bought_again() -> None:
    server = Server(life=60)
    provider = provider_of(server)
    for _ in range(5):
        assert "at-1" == await name_of(provider.get_token())
        await asyncio.sleep(10)

    await asyncio.sleep(11)

    assert "at-2" == await name_of(provider.get_token())
    assert 2 == server.posts


async def test_two_hundred_callers_make_one_request() -> None:
    server = Server()
    provider = provider_of(server)

    names = await asyncio.gather(
        *(name_of(provider.refresh_connection(f"c{number}")) for number in range(200))
    )

    assert {"at-1"} == set(names)
    assert 1 == server.posts


@pytest.mark.parametrize("given", [None, "", 7, "not a token"])
async def test_a_server_that_gives_no_new_refresh_token_means_the_old_one(given: object) -> None:
    server, store = Server(rotates=False, extra={"refresh_token": given}), SlowStore()
    provider = provider_of(server, store=store)

    for _ in range(3):
        await provider.refresh_connection()

    assert ["rt-0"] * 3 == server.used_tokens()
    assert "rt-0" == store.kept


@pytest.mark.parametrize(
    ("options", "extra", "code"),
    [
        ({}, {"token_type": "mac"}, None),
        ({}, {"token_type": "N_A"}, None),
        ({}, {"access_token": None}, None),
        ({}, {"access_token": "a b"}, None),
        ({"dpop": True}, {"token_type": "Bearer"}, None),
        ({"scope": "read write", "require_scope": True}, {"scope": "read"}, "insufficient_scope"),
    ],
    ids=["mac", "N_A", "none", "spaces", "not bound", "less scope"],
)
async def test_a_refresh_token_beside_a_token_of_no_use_is_kept(
    options: dict[str, Any], extra: dict[str, Any], code: str | None
) -> None:
    server, store = Server(extra=extra), SlowStore()
    provider = provider_of(server, store=store, **options)

    error = await failure(provider.get_token())

    assert (code, True) == (error.code, error.malformed)
    assert "rt-1" == store.kept
    assert await provider.current_token() is None
    server.extra = {}
    assert "at-2" == await name_of(provider.get_token())
    assert ["rt-0", "rt-1"] == server.used_tokens()


async def test_without_a_refresh_token_nobody_is_asked() -> None:
    server = Server()
    with pytest.raises(ValueError, match="give refresh_token, or a store"):
        provider_of(server, None)
    provider = provider_of(server, None, store=MemoryStore())

    error = await failure(provider.get_token())

    assert ("no_refresh_token", "refresh") == (error.code, error.step)
    assert 0 == server.posts


# --- An answer that is lost -----------------------------------------------------------------------


async def test_a_lost_answer_is_asked_for_once_more() -> None:
    server = Server(rotates=False, lost=1)
    provider = provider_of(server)

    assert "at-2" == await name_of(provider.get_token())

    assert ["rt-0", "rt-0"] == server.used_tokens()
    assert 1.9 <= server.times[1] - server.times[0] <= 3


async def test_a_server_that_has_rotated_meanwhile_says_so() -> None:
    server = Server(lost=1)
    provider = provider_of(server)

    error = await failure(provider.get_token())

    assert ("invalid_grant", "refresh", "rotation_answer_lost") == (
        error.code,
        error.step,
        error.suberror,
    )
    assert "consent" in str(error)
    assert Verdict.INTERACTION is judge(error, True)
    assert 2 == server.posts


async def test_two_lost_answers_are_bad_weather() -> None:
    server, store = Server(rotates=False, lost=2), SlowStore()
    provider = provider_of(server, store=store)

    error = await failure(provider.get_token())

    assert Verdict.TRANSIENT is judge(error, False)
    assert 2 == server.posts
    assert "at-3" == await name_of(provider.get_token())


async def test_a_request_that_never_left_is_not_repeated_by_itself() -> None:
    server = Server(answers=[NoAnswer(reason="no connection", sent=False, started=0)])
    provider = provider_of(server)

    error = await failure(provider.get_token())

    assert Verdict.TRANSIENT is judge(error, False)
    assert 1 == server.posts
    assert "at-1" == await name_of(provider.get_token())


# --- Who shares a store ---------------------------------------------------------------------------


async def test_what_another_process_has_rotated_is_adopted() -> None:
    server, store = Server(), SlowStore()
    ours, theirs = provider_of(server, store=store), provider_of(server, store=store)
    assert "at-1" == await name_of(ours.get_token())
    assert "at-1" == await name_of(theirs.get_token())

    assert "at-2" == await name_of(theirs.refresh_connection())

    assert "at-2" == await name_of(ours.refresh_connection())
    assert 2 == server.posts


async def test_what_is_rotated_by_another_process_right_now_is_waited_for() -> None:
    server, store = Server(), SlowStore()
    providers = [provider_of(server, store=store) for _ in range(10)]
    for provider in providers:
        await provider.get_token()

    names = await asyncio.gather(*(name_of(each.refresh_connection()) for each in providers))

    assert {"at-2"} == set(names)
    assert [2, 1] == [server.posts, server.most_at_once]


async def test_two_caches_of_two_processes_make_one_request_a_round() -> None:
    server, store = Server(life=60), SlowStore()
    caches = [cache_of(provider_of(server, store=store)) for _ in range(2)]
    held = [await dial(cache) for cache in caches]
    for number in range(2, 10):
        await asyncio.sleep(31)
        held = await asyncio.gather(*map(renew, caches, held))
        assert {f"at-{number}"} == {grant.token.access_token for grant in held}

    assert 9 == server.posts


async def test_an_adopted_token_that_has_expired_is_renewed() -> None:
    server, store = Server(life=10), SlowStore()
    ours, theirs = provider_of(server, store=store), provider_of(server, store=store)
    await ours.get_token()
    await theirs.refresh_connection()
    await asyncio.sleep(11)

    assert "at-2" == await name_of(ours.refresh_connection())
    assert ["rt-0", "rt-1"] == server.used_tokens()


class Lockless(SlowStore):
    """A store of somebody who thought that a lock is for others."""

    @contextlib.asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        yield


async def test_a_refusal_makes_a_store_be_read_again_that_has_no_lock() -> None:
    server, store = Server(is_strict=False), Lockless()
    ours, theirs = provider_of(server, store=store), provider_of(server, store=store)

    early = asyncio.create_task(ours.get_token())
    await asyncio.sleep(0.05)
    late = asyncio.create_task(theirs.get_token())

    assert "at-1" == await name_of(early)
    assert "at-1" == await name_of(late)
    assert ["rt-0", "rt-0"] == server.used_tokens()


async def test_a_refusal_is_answered_with_the_refresh_token_that_came_meanwhile() -> None:
    server, store = Server(is_strict=False, life=0.01), Lockless()
    ours, theirs = provider_of(server, store=store), provider_of(server, store=store)

    early = asyncio.create_task(ours.refresh_connection())
    await asyncio.sleep(0.05)
    late = asyncio.create_task(theirs.refresh_connection())

    assert "at-1" == await name_of(early)
    assert "at-2" == await name_of(late)
    assert ["rt-0", "rt-0", "rt-1"] == server.used_tokens()


async def test_a_refusal_without_news_in_the_store_stands() -> None:
    server, store = Server(is_dead=True), SlowStore()
    provider = provider_of(server, store=store)

    error = await failure(provider.get_token())

    assert ("invalid_grant", "refresh", None) == (error.code, error.step, error.suberror)
    assert 1 == server.posts


# --- First refresh tokens -------------------------------------------------------------------------


async def test_a_restart_goes_on_with_what_descends_from_the_first_one() -> None:
    server, store = Server(), SlowStore()
    for number in range(1, 4):
        assert f"at-{number}" == await name_of(provider_of(server, store=store).get_token())
        store._grant = expired(store)

    assert ["rt-0", "rt-1", "rt-2"] == server.used_tokens()


def expired(store: SlowStore) -> StoredGrant:
    kept = store._grant
    assert kept is not None
    return StoredGrant(refresh_token=kept.refresh_token, dpop_key=kept.dpop_key, seed=kept.seed)


async def test_a_new_consent_replaces_what_descends_from_an_old_one() -> None:
    server, store = Server(), SlowStore()
    await provider_of(server, "rt-0", store=store).get_token()

    provider = provider_of(server, "consented-anew", store=store)

    assert await provider.current_token() is None
    assert "at-2" == await name_of(provider.get_token())
    assert ["rt-0", "consented-anew"] == server.used_tokens()
    assert "rt-2" == store.kept


async def test_who_was_given_no_first_one_keeps_the_mark_of_who_was() -> None:
    server, store = Server(), SlowStore()
    given, bare = provider_of(server, store=store), provider_of(server, None, store=store)
    await given.get_token()
    await bare.get_token()
    await bare.refresh_connection()

    restarted = provider_of(server, store=store)
    await restarted.current_token()
    await restarted.refresh_connection()

    assert ["rt-0", "rt-1", "rt-2"] == server.used_tokens()


async def test_nothing_in_a_store_tells_the_first_one() -> None:
    store = SlowStore()
    await provider_of(Server(), "canary-7f3a", store=store).get_token()

    assert "canary" not in str(store.saves[-1].seed)


# --- A store that fails ---------------------------------------------------------------------------


def disk_is_full() -> TokenError:
    return TokenError("the token store can't be written: No space left on device")


async def test_what_could_not_be_saved_is_not_handed_out_and_not_lost() -> None:
    server, store = Server(), SlowStore()
    provider = provider_of(server, store=store)
    store.errors = [disk_is_full() for _ in range(3)]

    for _ in range(3):
        assert "No space left" in str(await failure(provider.get_token()))
        assert await provider.current_token() is None
        assert 1 == server.posts

    assert "at-1" == await name_of(provider.get_token())
    assert ("rt-1", 1) == (store.kept, server.posts)
    assert "at-2" == await name_of(provider.refresh_connection())
    assert ["rt-0", "rt-1"] == server.used_tokens()


async def test_what_could_not_be_saved_is_saved_though_its_token_has_expired() -> None:
    server, store = Server(life=60), SlowStore()
    provider = provider_of(server, store=store)
    store.errors = [disk_is_full()]
    await failure(provider.get_token())
    await asyncio.sleep(61)

    assert "at-2" == await name_of(provider.get_token())

    assert ["rt-0", "rt-1"] == server.used_tokens()


async def test_a_session_outlives_a_disk_that_is_full() -> None:
    server, store = Server(life=600), SlowStore()
    it = Stage(tokens=provider_of(server, store=store))  # type: ignore[arg-type]
    task = it.start()
    await asyncio.sleep(10)
    store.errors = [disk_is_full() for _ in range(3)]

    await asyncio.sleep(440)

    assert not task.done()
    assert not store.errors
    assert (2, "rt-2") == (server.posts, store.kept)
    await it.cancel()


async def test_a_new_consent_is_not_overwritten_by_what_could_not_be_saved() -> None:
    server, store = Server(), SlowStore()
    provider = provider_of(server, store=store)
    await provider.get_token()
    store.errors = [disk_is_full()]
    await failure(provider.refresh_connection())
    await store.save(StoredGrant(refresh_token=Secret("consented-anew"), seed=store.saves[0].seed))

    await provider.refresh_connection()

    assert ["rt-0", "rt-1", "consented-anew"] == server.used_tokens()
    assert "rt-3" == store.kept


async def test_a_store_that_can_not_be_read_costs_no_request() -> None:
    class Broken(SlowStore):
        async def load(self) -> StoredGrant | None:
            raise TokenError("it holds no grant of ours", malformed=True)

    server = Server()
    provider = provider_of(server, store=Broken())

    assert "no grant of ours" in str(await failure(provider.get_token()))
    assert 0 == server.posts


# --- A store for each connection ------------------------------------------------------------------


async def test_each_connection_may_have_a_grant_of_its_own() -> None:
    server, stores = Server(), dict[str, SlowStore]()

    def store_of(connection_id: str) -> SlowStore:
        stores[connection_id] = SlowStore()
        return stores[connection_id]

    provider = provider_of(server, None, store=store_of)
    for name in "ab":
        await failure(provider.get_token(name))
        await stores[name].save(StoredGrant(refresh_token=Secret(f"{name}-0")))
    cache = cache_of(provider)

    grants = await asyncio.gather(*(dial(cache, name) for name in "abab"))

    assert grants[:2] == grants[2:]
    assert ["a-0", "b-0"] == sorted(server.used_tokens())
    assert 2 == server.most_at_once
    assert {"rt-1", "rt-2"} == {store.kept for store in stores.values()}
    assert await provider.credentials_mark("a") != await provider.credentials_mark("b")


async def test_one_refresh_token_is_not_for_many_stores() -> None:
    with pytest.raises(ValueError, match="can't be given with many stores"):
        provider_of(Server(), "rt-0", store=lambda _: MemoryStore())


# --- Waiters that go ------------------------------------------------------------------------------


async def direct(provider: RefreshToken) -> Callable[[], Awaitable[object]]:
    return provider.refresh_connection


async def cached(provider: RefreshToken) -> Callable[[], Awaitable[object]]:
    cache = cache_of(provider)
    return lambda: dial(cache)


@pytest.mark.parametrize("through", [direct, cached])
async def test_waiters_that_go_at_any_step_leave_one_request_and_a_grant_that_lives(
    through: Callable[[RefreshToken], Awaitable[Callable[[], Awaitable[object]]]],
) -> None:
    steps, was_done = 0, False
    while not was_done:
        server, store = Server(took=0), SlowStore()
        provider = provider_of(server, store=store)
        ask = await through(provider)
        waiters = [asyncio.ensure_future(ask()) for _ in range(5)]
        for _ in range(steps):
            await asyncio.sleep(0)
        was_done = all(waiter.done() for waiter in waiters)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.wait(waiters)
        await asyncio.sleep(1)

        assert server.posts == (0 if steps == 0 else 1), steps
        assert store.kept == (None if steps == 0 else "rt-1")
        assert "at-1" == await name_of(provider.get_token())
        assert 1 == server.posts
        assert "at-2" == await name_of(provider.refresh_connection())
        steps += 1

    assert steps > 10


async def test_who_comes_after_all_waiters_have_gone_joins_the_refresh() -> None:
    server = Server(took=3)
    provider = provider_of(server)
    waiter = asyncio.ensure_future(provider.refresh_connection())
    await asyncio.sleep(1)
    waiter.cancel()
    await asyncio.sleep(1)

    assert "at-1" == await name_of(provider.refresh_connection())
    assert 1 == server.posts


async def test_a_loop_that_cancels_everything_loses_no_lock() -> None:
    server, store = Server(took=3), SlowStore()
    provider = provider_of(server, store=store)
    waiter = asyncio.ensure_future(provider.refresh_connection())
    await asyncio.sleep(1)
    (rotation,) = (
        task for task in asyncio.all_tasks() if task.get_name() == "dromos-token-rotation"
    )
    rotation.cancel()
    await asyncio.wait([waiter])

    async with asyncio.timeout(1), store.lock():
        pass


async def test_closing_waits_for_the_refresh_and_for_its_saving() -> None:
    server, store = Server(took=5), SlowStore()
    async with provider_of(server, store=store) as provider:
        waiter = asyncio.ensure_future(provider.refresh_connection())
        await asyncio.sleep(1)
        waiter.cancel()

    assert 5 <= now() <= 5.1
    assert "rt-1" == store.kept


async def test_closing_waits_no_longer_than_ten_seconds() -> None:
    server, store = Server(took=25), SlowStore()
    provider = provider_of(server, store=store)
    waiter = asyncio.ensure_future(provider.refresh_connection())
    await asyncio.sleep(1)

    await provider.aclose()

    assert 11 <= now() <= 11.1
    assert "at-1" == await name_of(waiter)
    assert "rt-1" == store.kept


async def test_closing_what_does_nothing_takes_no_time() -> None:
    provider = provider_of(Server())
    await provider.aclose()
    await provider.get_token()
    before = now()

    await provider.aclose()

    assert before == now()


@pytest.mark.looptime(False)
def test_a_loop_that_has_ended_is_not_kept() -> None:
    provider = provider_of(Server(took=0))
    loops = list[weakref.ref[asyncio.AbstractEventLoop]]()

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await provider.get_token()
        await provider.refresh_connection()

    for _ in range(3):
        asyncio.run(main())
    gc.collect()

    assert [None] * 3 == [each() for each in loops]


# --- Bound to a key -------------------------------------------------------------------------------


def key_of(headers: dict[str, str]) -> dict[str, str]:
    """The public key in a proof."""
    head = headers["dpop"].split(".")[0]
    found: dict[str, str] = json.loads(base64.urlsafe_b64decode(head + "==="))["jwk"]
    return found


async def test_a_key_is_kept_with_its_grant_and_used_again_after_a_restart() -> None:
    server, store = Server(), SlowStore()
    first = await provider_of(server, store=store, dpop=True).get_token()
    store._grant = expired(store)

    second = await provider_of(server, store=store, dpop=True).get_token()
    adopted = await provider_of(server, store=store, dpop=True).get_token()

    assert key_of(server.headers[0]) == key_of(server.headers[1])
    assert "d" not in key_of(server.headers[0])
    assert ["dpop"] * 3 == [each.strategy.type for each in (first, second, adopted)]
    assert 1 == len({each.credentials["dpop_key"] for each in (first, second, adopted)})
    assert 2 == server.posts


async def test_each_proof_is_another_one() -> None:
    server = Server(lost=1, rotates=False)
    await provider_of(server, dpop=True).get_token()

    assert 2 == len({headers["dpop"] for headers in server.headers})


# --- A person who has to allow it -----------------------------------------------------------------


class Person:
    """Sees prompts."""

    def __init__(self) -> None:
        self.saw: list[DevicePrompt] = []

    async def __call__(self, prompt: DevicePrompt) -> None:
        self.saw.append(prompt)


def device(server: Server, person: Person, **options: Any) -> DeviceCode:
    provider = DeviceCode(
        person,
        token_url=TOKEN_URL,
        device_authorization_url=DEVICE_URL,
        client_id="agent",
        transport=server,
        **options,
    )
    provider._client.wall = server.wall
    return provider


def pending() -> tuple[int, dict[str, Any]]:
    return 400, {"error": "authorization_pending"}


async def test_a_person_is_asked_once_and_then_it_is_refreshed() -> None:
    server, person, store = Server(life=60), Person(), SlowStore()
    server.answers = [pending(), pending()]
    provider = device(server, person, store=store)

    assert "at-1" == await name_of(provider.get_token())
    await asyncio.sleep(61)
    assert "at-2" == await name_of(provider.get_token())
    await asyncio.sleep(61)
    restarted = device(server, person, store=store)
    assert "at-3" == await name_of(restarted.get_token())

    assert 1 == len(person.saw)
    assert ["rt-1", "rt-2"] == server.used_tokens()
    assert "rt-3" == store.kept


async def test_two_hundred_callers_show_a_person_one_code() -> None:
    server, person = Server(), Person()
    server.answers = [pending()] * 3
    cache = cache_of(device(server, person))

    grants = await asyncio.gather(*(dial(cache, f"c{number}") for number in range(200)))

    assert {"at-1"} == {grant.token.access_token for grant in grants}
    assert 1 == len(person.saw)


async def test_who_goes_while_a_person_types_does_not_stop_them() -> None:
    server, person = Server(), Person()
    server.answers = [pending()] * 3
    provider = device(server, person)
    waiter = asyncio.ensure_future(provider.get_token())
    await asyncio.sleep(7)
    waiter.cancel()
    await asyncio.sleep(30)

    assert "at-1" == await name_of(provider.get_token())
    assert 1 == len(person.saw)


async def test_a_refused_refresh_token_ends_the_session_and_the_next_one_asks_again() -> None:
    server, person, store = Server(life=600), Person(), SlowStore()
    provider = device(server, person, store=store)
    it = Stage(tokens=provider)  # type: ignore[arg-type]
    task = it.start()
    await asyncio.sleep(100)
    assert not task.done()
    server.is_dead = True

    # The open link is left alone until the far side ends it.
    await asyncio.sleep(1000)
    assert not task.done()
    it.far.close(4401, "expired")
    with pytest.raises(InteractionRequired) as caught:
        await task

    assert "invalid_grant" == caught.value.code
    assert 1 == len(person.saw)
    assert store.kept is None
    await asyncio.sleep(31)  # a failure is latched for so long
    it.start()
    await asyncio.sleep(100)
    assert 2 == len(person.saw)
    assert it.link.far.closed is None
    await it.cancel()


async def test_a_person_who_says_no_ends_the_session_without_another_question() -> None:
    server, person = Server(), Person()
    server.answers = [(400, {"error": "access_denied"})]
    it = Stage(tokens=device(server, person))  # type: ignore[arg-type]

    with pytest.raises(InteractionRequired):
        await it.start()

    assert (1, 1) == (len(person.saw), server.posts)
    await it.bridge.close()


async def test_a_person_who_does_nothing_is_not_waited_for_for_ever() -> None:
    server, person = Server(), Person()
    server.answers = [pending()] * 1000
    it = Stage(tokens=device(server, person))  # type: ignore[arg-type]

    with pytest.raises(InteractionRequired) as caught:
        await it.start()

    assert "expired_token" == caught.value.code
    assert 590 <= now() <= 620
    assert (1, 119) == (len(person.saw), server.posts)


async def test_nobody_who_reads_a_log_sees_the_code() -> None:
    server, person = Server(), Person()
    await device(server, person).get_token()

    (prompt,) = person.saw
    assert "CODE-1" == prompt.user_code
    assert "CODE-1" not in repr(prompt)
