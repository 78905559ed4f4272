"""Ten sessions over twenty renewals each, on real sockets: no message is lost, moved or doubled."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest

from dromos import Bridge, Send
from dromos.events import BridgeEvent, HandedOver
from dromos.model import Message
from dromos.oauth import OAuthClient
from dromos.testing import FarSide, Gateway
from dromos.testing.far_side import FarLink

SESSIONS = 10
RATE = 500.0  # numbers a second and session, so 5,000 in all
RENEWALS = 20
LIFETIME = 3.0
"""Seconds of a token.  It is renewed after half of that at the latest, and after one second
at the earliest: so a busy machine may be a second late before the far side cuts a link off."""

TICK = 0.01
PATIENCE = 90.0

Choice = Callable[[Sequence[FarLink]], Sequence[FarLink]]


def newest(links: Sequence[FarLink]) -> Sequence[FarLink]:
    """The link that was opened last, from the moment its upgrade is answered."""
    return links[-1:]


def every(links: Sequence[FarLink]) -> Sequence[FarLink]:
    """All of them."""
    return links


class Numbers:
    """The far side's publisher: 0, 1, 2, ... to each session from its first link on.

    A number for which no link is open is counted all the same, and so lost.
    """

    def __init__(self, far: FarSide, choose: Choice) -> None:
        self.published = [0] * SESSIONS
        self.links: list[list[FarLink]] = [[] for _ in range(SESSIONS)]
        self._far = far
        self._choose = choose
        self._seen = 0
        self._began: dict[int, float] = {}

    async def run(self) -> None:
        """Publish in small batches until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            self._sort_links()
            for session in range(SESSIONS):
                if self.links[session]:
                    began = self._began.setdefault(session, now())
                    self._publish(session, until=int((now() - began) * RATE))
            await asyncio.sleep(TICK)

    def _sort_links(self) -> None:
        for link in self._far.links[self._seen :]:
            self.links[int(dict(link.request.query)["session"])].append(link)
        self._seen = len(self._far.links)

    def _publish(self, session: int, until: int) -> None:
        chosen = self._choose([link for link in self.links[session] if link.is_open])
        for number in range(self.published[session], until):
            for link in chosen:
                link.send(str(number))
        self.published[session] = max(self.published[session], until)


class Plain:
    """A handler of plain functions that notes what it is called with."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.disconnects: list[Exception | None] = []
        self.arrived = asyncio.Event()

    def on_connect(self, send: Send) -> None:
        pass

    def on_message(self, message: Message) -> Any:
        self.numbers.append(int(message))
        self.arrived.set()

    def on_disconnect(self, error: Exception | None) -> None:
        self.disconnects.append(error)

    async def wait_for(self, number: int) -> None:
        """Wait until a number has been delivered, the last one so far."""
        while not self.numbers or self.numbers[-1] != number:
            self.arrived.clear()
            await self.arrived.wait()


class Async(Plain):
    """The same with coroutines, one of which gives way to others."""

    async def on_message(self, message: Message) -> None:
        await asyncio.sleep(0)
        super().on_message(message)


class Tuning(Async):
    """Takes so long over a hand-over that the far side closes the old link in the middle of it."""

    async def on_handover(self, send: Send) -> None:
        await asyncio.sleep(0.75 * LIFETIME)


class Fleet:
    """One bridge, its sessions, and the world around them."""

    def __init__(self, choose: Choice, kinds: Sequence[type[Plain]], **options: Any) -> None:
        self.gateway = Gateway()
        self.far = FarSide(gateway=self.gateway, close_on_expiry=True)
        self.numbers = Numbers(self.far, choose)
        self.handlers = [kinds[session % len(kinds)]() for session in range(SESSIONS)]
        self.handed_over: Counter[str] = Counter()
        self.disconnects_before_the_end: list[Exception | None] = []
        self._options = options
        self._changed = asyncio.Event()

    def note(self, event: BridgeEvent) -> None:
        if isinstance(event, HandedOver):
            self.handed_over[event.connection_id] += 1
            self._changed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep all sessions up, and publish to them, until the end of the block.

        Once nothing is published any more, all of it is waited for.
        """
        async with (
            self.gateway,
            self.far,
            OAuthClient(self.gateway.url) as oauth,
            asyncio.TaskGroup() as group,
            Bridge(oauth, on_event=self.note) as bridge,
        ):
            for session, handler in enumerate(self.handlers):
                self._start(group, bridge, session, handler)
            publisher = group.create_task(self.numbers.run())
            yield
            publisher.cancel()
            await self._wait_until_delivered()
            self.disconnects_before_the_end = [
                error for handler in self.handlers for error in handler.disconnects
            ]
            # The bridge closes now, and delivers all that has come, doubles included.

    def _start(
        self, group: asyncio.TaskGroup, bridge: Bridge, session: int, handler: Plain
    ) -> None:
        self.gateway.add(f"c-{session}", lifetime=LIFETIME)
        url = f"{self.far.url}/ws?session={session}"
        group.create_task(bridge.maintain_websocket(f"c-{session}", url, handler, **self._options))

    async def wait_for_handovers(self, count: int) -> None:
        """Wait until each session has been handed over so often."""
        names = [f"c-{session}" for session in range(SESSIONS)]
        async with asyncio.timeout(PATIENCE):
            while any(self.handed_over[name] < count for name in names):
                self._changed.clear()
                await self._changed.wait()

    async def wait_for_numbers(self, count: float) -> None:
        """Wait until each session was sent so many: hand-overs may come a little sooner."""
        async with asyncio.timeout(PATIENCE):
            while min(self.numbers.published) < count:  # noqa: ASYNC110 - the clock publishes
                await asyncio.sleep(TICK)

    async def _wait_until_delivered(self) -> None:
        # Whatever is not there by then is lost; which number that is, is told below.
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                for handler, published in zip(self.handlers, self.numbers.published, strict=True):
                    await handler.wait_for(published - 1)

    # What came of it

    def doubles(self) -> int:
        """How many numbers were written to a second link as well; below zero, to none at all."""
        return sum(link.sent for link in self.far.links) - sum(self.numbers.published)

    def mistakes(self) -> list[str]:
        """The first wrong number of each session that has one."""
        found = [
            _first_mistake(session, handler.numbers, self.numbers.published[session])
            for session, handler in enumerate(self.handlers)
        ]
        return [mistake for mistake in found if mistake is not None]

    def sessions_without_overlap(self) -> list[int]:
        """The sessions of which a link was opened when the one before was closed already."""
        return [
            session
            for session, links in enumerate(self.numbers.links)
            if any(
                old.closed_at is not None and old.closed_at <= new.opened_at
                for old, new in pairwise(links)
            )
        ]


def _first_mistake(session: int, came: Sequence[int], published: int) -> str | None:
    for place, number in enumerate(came):
        if number != place:
            return f"session {session}: {number} in place of {place}, of {published}"
    if len(came) != published:
        return f"session {session}: the last is {len(came) - 1}, not {published - 1}"
    return None


@pytest.mark.slow  # tokens have to run out twenty times over: the sockets' clock can't be virtual
@pytest.mark.parametrize(
    ("choose", "options"), [(newest, {}), (every, {"dedupe": int})], ids=["newest", "dedupe"]
)
async def test_twenty_renewals_of_ten_sessions_lose_move_and_double_nothing(
    choose: Choice, options: dict[str, Any]
) -> None:
    fleet = Fleet(choose, [Plain, Async], **options)
    async with fleet.running():
        await fleet.wait_for_handovers(RENEWALS)
        await fleet.wait_for_numbers(RENEWALS * RATE)

    # First what a machine that stood still for a second would have caused.
    assert [] == fleet.disconnects_before_the_end
    assert [] == fleet.sessions_without_overlap()
    assert [] == fleet.mistakes()
    assert (choose is every) == (fleet.doubles() > 0)
    assert all(link.expires_at is not None for link in fleet.far.links)


@pytest.mark.slow  # tokens have to run out: the sockets' clock can't be virtual
async def test_a_link_that_is_closed_on_expiry_in_the_middle_of_a_hand_over_loses_nothing() -> None:
    fleet = Fleet(newest, [Tuning])
    async with fleet.running():
        await fleet.wait_for_handovers(3)

    assert [] == fleet.mistakes()
    assert [] == fleet.disconnects_before_the_end
    # All but the first: that one begins too early for its old link to expire meanwhile.
    assert 2 * SESSIONS <= sum(link.closed_with == 4401 for link in fleet.far.links)
