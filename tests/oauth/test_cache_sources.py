"""The token cache before sources that only have `get_token`, and before those that say more."""

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest

from dromos._core.schedule import Need
from dromos._core.verdict import Stage
from dromos._core.verdict import judge as verdict_of
from dromos.errors import PermanentError, TokenError
from dromos.model import Token, Verdict
from dromos.oauth.cache import Grant, TokenCache
from tests.oauth.fake_provider import EPOCH, wall

pytestmark = pytest.mark.looptime


def judge(error: Exception, worked: bool) -> Verdict:
    return verdict_of(error, stage=Stage.TOKEN, worked=worked, rejected=False)


@dataclass
class Source:
    """Issues `s1`, `s2`, ...: all that the contract asks for."""

    life: float | None = 3600.0
    errors: list[Exception] = field(default_factory=list)
    issues: list[float] = field(default_factory=list)
    same: str | None = None

    async def get_token(self, connection_id: str, /) -> Token:
        self.issues.append(now())
        await asyncio.sleep(0.1)
        if self.errors:
            raise self.errors.pop(0)
        name = self.same or f"s{len(self.issues)}"
        expires = None if self.life is None else wall() + self.life
        return Token({"access_token": name}, expires_at=expires)


@dataclass
class Marked(Source):
    """The same, and tells its credentials from others."""

    secret: str = "one"

    async def credentials_mark(self, connection_id: str, /) -> bytes:
        return self.secret.encode()


def now() -> float:
    return asyncio.get_running_loop().time()


def cache_of(source: object) -> TokenCache:
    return TokenCache(source, judge=judge, wall=wall)  # type: ignore[arg-type]


async def dial(cache: TokenCache, connection_id: str = "c", *, is_patient: bool = False) -> Grant:
    return await cache.obtain(connection_id, need=Need.DIAL, is_patient=is_patient)


async def renew(cache: TokenCache, held: Grant) -> Grant:
    return await cache.obtain("c", need=Need.RENEW, generation=held.lease.generation)


async def replace(cache: TokenCache, refused: Grant) -> Grant:
    return await cache.obtain("c", need=Need.REPLACE, generation=refused.lease.generation)


def name_of(grant: Grant) -> str:
    return grant.token.access_token


# --- Sources that only issue ----------------------------------------------------------------------


async def test_a_source_is_asked_once_by_two_hundred_callers():
    source = Source()
    cache = cache_of(source)

    grants = await asyncio.gather(*(dial(cache) for _ in range(200)))

    assert {"s1"} == set(map(name_of, grants))
    assert 1 == len(source.issues)


async def test_two_hundred_callers_at_expiry_make_one_more_question():
    source = Source(life=60.0)
    cache = cache_of(source)
    held = await dial(cache)
    await asyncio.sleep(61)

    grants = await asyncio.gather(*(renew(cache, held) for _ in range(200)))

    assert {"s2"} == set(map(name_of, grants))
    assert 2 == len(source.issues)


async def test_the_first_token_is_no_refresh_and_the_next_one_is():
    cache = cache_of(Source())
    refreshes: list[float] = []

    held = await cache.obtain("c", need=Need.DIAL, on_refresh=lambda: refreshes.append(now()))
    assert [] == refreshes
    await asyncio.sleep(60)
    await cache.obtain(
        "c",
        need=Need.RENEW,
        generation=held.lease.generation,
        on_refresh=lambda: refreshes.append(now()),
    )

    assert 1 == len(refreshes)


async def test_a_refused_token_is_replaced_no_sooner_than_the_floor():
    source = Source()
    cache = cache_of(source)
    held = await dial(cache)

    grant = await replace(cache, held)

    assert "s2" == name_of(grant)
    assert 30.0 <= source.issues[1] - source.issues[0]


async def test_a_source_that_gives_the_refused_token_again_has_no_other_one():
    cache = cache_of(Source(same="s"))
    held = await dial(cache)

    with pytest.raises(TokenError) as caught:
        await replace(cache, held)

    assert "same_token_returned" == caught.value.code


async def test_a_source_that_keeps_its_token_while_it_is_good_is_asked_again_later():
    source = Source(same="s")
    cache = cache_of(source)
    held = await dial(cache)
    await asyncio.sleep(1800)

    again = await renew(cache, held)

    assert held.lease.generation == again.lease.generation
    assert 2 == len(source.issues)


@pytest.mark.parametrize("life", [-1.0, 0.0, 0.5, 1.0, 2.0, 5.0])
async def test_a_short_life_makes_no_loop(life: float):
    source = Source(life=life)
    cache = cache_of(source)
    while now() < 60:
        with contextlib.suppress(TokenError):
            await dial(cache)
        await asyncio.sleep(0.05)

    gaps = [b - a for a, b in zip(source.issues, source.issues[1:], strict=False)]
    assert min(gaps) >= 1.0


async def test_a_failure_with_hope_is_asked_again():
    source = Source(errors=[OSError("no route")])
    cache = cache_of(source)
    with pytest.raises(OSError, match="no route"):
        await dial(cache)

    assert "s2" == name_of(await dial(cache))


async def test_a_short_life_is_warned_of_once(caplog: pytest.LogCaptureFixture):
    cache = cache_of(Source(life=10.0))
    held = await dial(cache)
    for _ in range(3):
        await asyncio.sleep(8)
        held = await renew(cache, held)

    assert ["tokens live only 10 s: each connection is renewed about every 5 s"] == [
        record.getMessage() for record in caplog.records
    ]


# --- Latches --------------------------------------------------------------------------------------


def refused() -> TokenError:
    return TokenError("configuration", status=400, code="invalid_scope")


def invalid_client() -> TokenError:
    return TokenError("who?", status=401, code="invalid_client")


async def test_a_permanent_failure_is_not_asked_again_in_ten_minutes_by_anybody():
    source = Marked(errors=[refused() for _ in range(9)])
    cache = cache_of(source)
    while now() < 600:
        cache.join("c")
        with pytest.raises(TokenError):
            await dial(cache)
        cache.leave("c")
        await asyncio.sleep(0.5)

    assert 1 == len(source.issues)


async def test_new_credentials_open_the_latch():
    source = Marked(errors=[refused()])
    cache = cache_of(source)
    with pytest.raises(TokenError):
        await dial(cache)
    source.secret = "two"

    assert "s2" == name_of(await dial(cache))


async def test_credentials_that_change_during_the_question_open_the_latch():
    source = Marked(errors=[refused()])
    cache = cache_of(source)
    asking = asyncio.ensure_future(dial(cache))
    await asyncio.sleep(0.05)
    source.secret = "two"
    with pytest.raises(TokenError):
        await asking

    assert "s2" == name_of(await dial(cache))


async def test_a_client_that_was_never_known_is_latched_as_well():
    source = Marked(errors=[invalid_client() for _ in range(9)])
    cache = cache_of(source)
    for _ in range(20):
        with pytest.raises(TokenError):
            await dial(cache)
        await asyncio.sleep(60)

    assert 1 == len(source.issues)


async def test_a_patient_session_asks_again_for_a_client_that_is_not_known_yet():
    source = Marked(errors=[invalid_client()])
    cache = cache_of(source)
    with pytest.raises(TokenError):
        await dial(cache, is_patient=True)

    assert "s2" == name_of(await dial(cache, is_patient=True))


async def test_patience_does_not_open_what_is_hopeless():
    source = Marked(errors=[refused(), refused()])
    cache = cache_of(source)
    for _ in range(3):
        with pytest.raises(TokenError):
            await dial(cache, is_patient=True)

    assert 1 == len(source.issues)


async def test_a_client_that_was_known_is_asked_again():
    source = Marked(life=60.0)
    cache = cache_of(source)
    held = await dial(cache)
    await asyncio.sleep(61)
    source.errors.append(invalid_client())
    with pytest.raises(TokenError):
        await renew(cache, held)

    assert "s3" == name_of(await renew(cache, held))


async def test_a_latch_without_a_mark_opens_after_half_a_minute():
    source = Source(errors=[PermanentError("no"), PermanentError("no")])
    cache = cache_of(source)
    for _ in range(5):
        with pytest.raises(PermanentError):
            await dial(cache)
    await asyncio.sleep(31)
    with pytest.raises(PermanentError):
        await dial(cache)

    assert 2 == len(source.issues)


async def test_a_latch_that_never_opens_is_kept_once_for_a_connection():
    source = Marked(errors=[refused() for _ in range(9)])
    cache = cache_of(source)
    for _ in range(50):
        cache.join("c")
        with pytest.raises(TokenError):
            await dial(cache)
        cache.leave("c")

    assert [] == cache._ghosts


# --- What a source may say of itself --------------------------------------------------------------


async def test_connections_that_share_a_token_share_one_question():
    source = Source()
    source.per_connection = False  # type: ignore[attr-defined]
    cache = cache_of(source)

    grants = await asyncio.gather(*(dial(cache, f"c{n}") for n in range(200)))

    assert {"s1"} == set(map(name_of, grants))
    assert 1 == len(source.issues)
    assert cache.current("another") is grants[0]


async def test_a_shared_token_is_kept_until_the_last_session_has_left():
    source = Source()
    source.per_connection = False  # type: ignore[attr-defined]
    cache = cache_of(source)
    cache.join("a")
    cache.join("b")
    await dial(cache, "a")

    cache.leave("a")
    assert cache.current("b") is not None
    cache.leave("b")

    assert cache.current("b") is None


async def test_a_source_that_wants_to_be_read_is_read_before_each_dial():
    class File(Source):
        always_read = True
        text = "one"

        async def get_token(self, connection_id: str, /) -> Token:
            self.issues.append(now())
            return Token({"access_token": self.text}, expires_at=EPOCH + 1e6)

        async def refresh_connection(self, connection_id: str, /) -> Token:
            raise TokenError("not ours to issue", code="refresh_not_supported", step="refresh")

    source = File()
    cache = cache_of(source)
    assert "one" == name_of(await dial(cache))
    source.text = "two"
    assert "one" == name_of(await dial(cache))  # within the same second

    await asyncio.sleep(1.5)

    assert "two" == name_of(await dial(cache))
    assert 2 == len(source.issues)


async def test_a_source_may_ask_for_a_longer_wait():
    class Slow(Source):
        longest_wait = 900.0

        async def get_token(self, connection_id: str, /) -> Token:
            await asyncio.sleep(800)
            return await super().get_token(connection_id)

    assert "s1" == name_of(await dial(cache_of(Slow())))


async def test_what_is_no_token_is_a_malformed_answer():
    class Odd(Source):
        async def get_token(self, connection_id: str, /) -> Token:
            return "token"  # type: ignore[return-value]

    with pytest.raises(TokenError, match="returned str instead of a Token") as caught:
        await dial(cache_of(Odd()))

    assert caught.value.malformed
