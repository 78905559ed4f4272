"""Numbers 9, 10, 11, 13, 19, 24, 25 and 28 of what a reviewer tries: grants, clocks and latches.

Some are tests of their own place, run here once more under their number.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from dromos import Bridge, Handler, PermanentError, Token
from dromos._core.schedule import Need
from dromos.errors import HandshakeError, TokenError
from dromos.oauth import ClientCredentials, FileToken, OAuthClient, RefreshToken
from dromos.oauth.cache import TokenCache
from dromos.testing import FarSide, Gateway
from dromos.testing.clock import on_loop_time
from tests.driver.harness import Stage, Tokens
from tests.oauth import test_file_token as files
from tests.oauth import test_real_rotation as real
from tests.oauth import test_rotation as rotation
from tests.oauth.fake_provider import FakeProvider, cache_of, name_of
from tests.oauth.rotating_server import TOKEN_URL, Server
from tests.oauth.test_file_token import world  # noqa: F401  # a fixture
from tests.oauth.test_real_rotation import clock, server, tap  # noqa: F401  # fixtures

HOUR, DAY = 3600.0, 86_400.0

# --- 9, 10, 11, 24, 25: grants, and the files that hold them --------------------------------------

test_09_two_hundred_callers_make_one_request = (
    real.test_two_hundred_callers_at_expiry_make_one_request_and_the_grant_lives
)
test_10_waiters_that_go_harm_nobody = real.test_waiters_that_go_during_the_refresh_harm_nobody
test_10_closing_waits_for_the_refresh = pytest.mark.looptime(
    rotation.test_closing_waits_for_the_refresh_and_for_its_saving
)
test_11_a_lost_answer_is_asked_for_once_more_and_then_a_person_is = (
    real.test_an_answer_lost_after_rotation_is_asked_for_once_more_and_then_a_person_is
)
test_24_a_file_open_to_others_is_told_once = files.test_a_file_open_to_others_is_told_once
test_24_the_kubelets_swap_is_followed = files.test_the_kubelets_swap_is_followed
test_24_what_is_no_regular_file_fails_at_once = (
    files.test_what_is_no_regular_file_fails_at_once_and_by_name
)
test_24_the_last_token_is_kept_until_it_expires = files.test_the_last_token_is_kept_until_it_expires
test_25_two_processes_make_one_request_a_round = (
    real.test_two_processes_make_one_request_a_round_and_the_grant_lives
)


# --- 13: clocks -----------------------------------------------------------------------------------


class ByOurClock(Tokens):
    """A provider whose dates are on our clock, as `Date` headers bring it about."""

    stage: Stage

    def issue(self) -> Token:
        token = super().issue()
        self.token = replace(token, expires_at=self.stage.clock() + HOUR)
        return self.token


def staged() -> Stage:
    tokens = ByOurClock(lifetime=HOUR)
    tokens.stage = Stage(tokens=tokens)
    return tokens.stage


@pytest.mark.looptime
@pytest.mark.parametrize("step", [HOUR, -HOUR, DAY, -DAY])
async def test_13_a_clock_that_is_set_makes_no_storm(step: float):
    stage = staged()
    stage.start()
    await asyncio.sleep(600)
    before = len(stage.tokens.gets) + len(stage.tokens.refreshes)

    stage.clock.step(step)
    await asyncio.sleep(120)

    assert stage.task is not None
    assert not stage.task.done()
    assert len(stage.tokens.gets) + len(stage.tokens.refreshes) - before <= 8
    assert len(stage.dialer.links) <= 4
    _no_dial_with_an_expired_token(stage)
    await stage.cancel()


@pytest.mark.looptime
async def test_13_eight_hours_of_sleep_make_no_storm_and_use_no_expired_token():
    stage = staged()
    stage.start()
    await asyncio.sleep(600)

    stage.clock.step(8 * HOUR)  # what a suspend looks like: the loop's clock stood still
    stage.far.go_silent()
    await asyncio.sleep(300)

    assert len(stage.tokens.refreshes) <= 3
    assert len(stage.dialer.links) <= 4
    assert stage.dialer.links[-1].far.closed is None
    _no_dial_with_an_expired_token(stage)
    await stage.cancel()


def _no_dial_with_an_expired_token(stage: Stage) -> None:
    used = [dict(link.far.handshake.headers)["Authorization"] for link in stage.dialer.links]
    newest = stage.tokens.token
    assert newest is not None
    assert f"Bearer {newest.access_token}" == used[-1]
    assert sorted(used) == used  # t1, t2, ...: never an older one again


# --- 19: rejections -------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_19_a_late_rejection_drops_the_token_it_is_about_and_no_newer_one():
    provider = FakeProvider(expires_at=None)
    cache: TokenCache = cache_of(provider)
    old = await cache.obtain("c", need=Need.DIAL)
    new = await cache.obtain("c", need=Need.REPLACE, generation=old.lease.generation)

    late = await cache.obtain("c", need=Need.REPLACE, generation=old.lease.generation)

    assert name_of(new) == name_of(late)
    assert 1 == len(provider.refreshes)


async def test_19_two_rejections_in_a_row_stop():
    async with Gateway() as gateway, FarSide(check=lambda request: False) as far:
        gateway.add("c", lifetime=HOUR)
        async with OAuthClient(gateway.url) as oauth, Bridge(oauth) as bridge:
            with pytest.raises(PermanentError, match="a fresh token was refused") as caught:
                await bridge.maintain_websocket("c", far.url, Agent())

        assert isinstance(caught.value.__cause__, HandshakeError)
        assert 2 == len(far.attempts)
        assert 1 == gateway.refreshes


# --- 28: latches ----------------------------------------------------------------------------------


class Agent(Handler):
    """Does nothing."""


async def supervised(provider: Any, *, minutes: float) -> list[str]:
    """Restart a session whenever it ends, as a supervisor would; how each one ended."""
    ends: list[str] = []
    bridge = on_loop_time(Bridge(provider))
    loop = asyncio.get_running_loop()
    end = loop.time() + minutes * 60
    while loop.time() < end:
        try:
            await bridge.maintain_websocket("c", "wss://far.example/ws", Agent())
        except PermanentError as error:
            ends.append(type(error).__name__)
        await asyncio.sleep(1)
    await bridge.close()
    return ends


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("code", "status"),
    [("invalid_scope", 400), ("unauthorized_client", 400), ("invalid_client", 401)],
)
async def test_28_a_refused_client_is_asked_once_until_its_secret_changes(code: str, status: int):
    endpoint = Server(answers=[(status, {"error": code})] * 3)
    secrets = ["old"]
    provider = ClientCredentials(
        token_url=TOKEN_URL, client_id="a", client_secret=lambda: secrets[0], transport=endpoint
    )

    ends = await supervised(provider, minutes=10)
    assert (1, 500) == (endpoint.posts, min(len(ends), 500))

    secrets[0] = "new"
    await supervised(provider, minutes=0.02)
    assert 2 == endpoint.posts


@pytest.mark.looptime
async def test_28_a_refused_refresh_token_is_asked_once_until_there_is_another():
    endpoint = Server(answers=[(400, {"error": "invalid_grant"})] * 3)
    rotating = RefreshToken("rt-0", token_url=TOKEN_URL, client_id="a", transport=endpoint)

    ends = await supervised(rotating, minutes=10)

    assert (1, {"InteractionRequired"}) == (endpoint.posts, set(ends))


@pytest.mark.looptime
async def test_28_a_source_that_can_t_tell_its_credentials_is_asked_every_half_minute():
    asked: list[float] = []

    class Refused:
        async def get_token(self, connection_id: str, /) -> Token:
            asked.append(asyncio.get_running_loop().time())
            raise TokenError("no", status=400, code="invalid_request")

    await supervised(Refused(), minutes=10)

    assert 18 <= len(asked) <= 21


async def test_28_a_missing_file_is_no_reason_to_ask_for_it_all_the_time(tmp_path: Any):
    """A file is cheap to look at, so its latch opens by itself: as soon as it is there."""
    source = FileToken(tmp_path / "token")
    bridge = Bridge(source)
    with pytest.raises(PermanentError):
        await bridge.maintain_websocket("c", "ws://127.0.0.1:1", Agent())
    (tmp_path / "token").write_text("t")
    async with FarSide() as far, Bridge(source) as again:
        session = asyncio.ensure_future(again.maintain_websocket("c", far.url, Agent()))
        link = await far.wait_for_link(1)
        await again.close()
        await session

    assert "t" == link.token
