"""Thousands of sessions and their tokens, in virtual time: who asks when, and how often."""

import asyncio
from collections import Counter

import pytest

from dromos import Token
from dromos.testing.clock import EPOCH
from dromos.testing.virtual import VirtualTime
from tests.driver.harness import URL, Notes, until

IDS = 1000


class Source:
    """Counts the questions that are under way for each connection, and when each was asked."""

    def __init__(self, lifetime: float | None = None, takes: float = 0.5) -> None:
        self.lifetime = lifetime
        self.takes = takes
        self.first: Counter[str] = Counter()
        self.held: dict[str, Token] = {}
        self.refreshed_at: list[float] = []
        self.under_way: Counter[str] = Counter()
        self.most_at_once = 0

    async def get_token(self, connection_id: str) -> Token:
        if connection_id in self.held:
            return self.held[connection_id]
        self.first[connection_id] += 1
        return await self._issue(connection_id)

    async def refresh_connection(self, connection_id: str) -> Token:
        self.refreshed_at.append(asyncio.get_running_loop().time())
        return await self._issue(connection_id)

    async def _issue(self, connection_id: str) -> Token:
        self.under_way[connection_id] += 1
        self.most_at_once = max(self.most_at_once, self.under_way[connection_id])
        await asyncio.sleep(self.takes)
        self.under_way[connection_id] -= 1
        now = asyncio.get_running_loop().time()
        expires = None if self.lifetime is None else EPOCH + now + self.lifetime
        text = f"{connection_id}-{now}"
        token = Token({"access_token": text}, expires_at=expires, lifetime=self.lifetime)
        self.held[connection_id] = token
        return token


@pytest.mark.slow  # two thousand whole sessions
def test_sessions_of_one_connection_share_one_question_however_many_there_are() -> None:
    time, source = VirtualTime(), Source()

    async def story() -> None:
        async with (
            time.bridge(source, ping_interval=None) as bridge,
            bridge.supervise(attempt_rate=1e6) as one,
            bridge.supervise(attempt_rate=1e6) as other,
        ):
            for number in range(IDS):
                one.start(f"c-{number}", URL, Notes())
                other.start(f"c-{number}", URL, Notes())
            await until(lambda: len(time.far_side.links) == 2 * IDS)

    time.run(story())

    assert 1 == source.most_at_once
    assert [1] * IDS == list(source.first.values())


WAVE = 5000
LIFETIME = 640.0
WINDOW = 300.0
"""Seconds: the default `refresh_buffer`, which is under half the lifetime."""


@pytest.mark.timeout(600)
@pytest.mark.slow  # five thousand whole sessions, for six minutes of their time
def test_tokens_that_were_issued_in_one_second_are_renewed_spread_out() -> None:
    time, source = VirtualTime(), Source(LIFETIME, takes=0.0)

    async def story() -> None:
        options = {"ping_interval": None, "renewal": "keep"}
        async with (
            time.bridge(source, **options) as bridge,
            bridge.supervise(attempt_rate=WAVE) as group,
        ):
            for number in range(WAVE):
                group.start(f"c-{number}", URL, Notes())
            await asyncio.sleep(1.5)
            assert WAVE == len(time.far_side.links)
            assert WAVE == sum(source.first.values())
            await asyncio.sleep(LIFETIME - WINDOW + 1)

    time.run(story())

    renewed = source.refreshed_at
    assert WAVE == len(renewed)
    # R3: early by up to a tenth of the window, so that the buffer is never cut into.
    assert LIFETIME - 1.1 * WINDOW <= min(renewed)
    assert max(renewed) <= LIFETIME - WINDOW + 1.5
    a_second = Counter(int(at) for at in renewed)
    even = WAVE / (0.1 * WINDOW)
    assert max(a_second.values()) <= 1.5 * even, "bunched"
    assert 0.1 * WINDOW <= len(a_second)
