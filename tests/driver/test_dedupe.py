"""Far sides that say the same on both links of a hand-over."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from dromos import Send
from dromos._driver.overlap import AFTERWARDS, WINDOW, Overlap
from dromos.events import DuplicatesDropped, HandedOver, HandlerFailed
from dromos.model import Message
from dromos.testing.memory import FarEnd
from tests.driver.harness import URL, Notes, PlainNotes, Stage, Tokens, until


class FanOut:
    """Sends each number to all open links, as a server does that knows sessions, not links."""

    def __init__(self, every: float = 0.01) -> None:
        self.links: list[FarEnd] = []
        self.sent = 0
        self.every = every
        self.silent_new_links = False

    async def __call__(self, link: FarEnd) -> None:
        self.links.append(link)
        if len(self.links) == 1:
            await self.publish()
        await link.wait_closed()

    async def publish(self) -> None:
        while any(link.closed is None for link in self.links):
            for link in self.links:
                link.send(str(self.sent))
            self.sent += 1
            await asyncio.sleep(self.every)


class SlowToTakeOver(Notes):
    async def on_handover(self, send: Send) -> None:
        self.calls.append(("handover", send.link))
        await asyncio.sleep(0.5)


class PlainSlowToTakeOver(PlainNotes, SlowToTakeOver):
    pass


def in_order(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.looptime
@pytest.mark.parametrize("handler", [Notes, PlainNotes, SlowToTakeOver, PlainSlowToTakeOver])
@pytest.mark.parametrize("latency", [0.0, 0.05])
async def test_each_message_is_delivered_once_and_in_order(
    handler: Callable[[], Notes], latency: float
) -> None:
    far_side = FanOut()
    it = Stage(
        tokens=Tokens(lifetime=10),
        handler=handler(),
        far_side=far_side,
        latency=latency,
        dedupe=int,
    )
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 10)
    await asyncio.sleep(1)
    heard = list(it.handler.messages)
    await it.cancel()

    assert in_order(len(heard)) == heard
    assert far_side.sent - len(heard) < 20
    assert 0 < sum(event.count for event in it.of(DuplicatesDropped)) or not latency


@pytest.mark.looptime
async def test_once_nothing_is_compared_what_is_read_together_is_taken_together() -> None:
    it = Stage(tokens=Tokens(lifetime=100), far_side=FanOut(), dedupe=int)
    it.start()
    await until(lambda: it.of(HandedOver))
    await asyncio.sleep(AFTERWARDS + 1)

    batch = it.link._batch
    assert batch is not None
    assert batch.add == it.link._deliver
    await it.cancel()


@pytest.mark.looptime
async def test_without_it_both_are_delivered() -> None:
    it = Stage(
        tokens=Tokens(lifetime=10), handler=SlowToTakeOver(), far_side=FanOut(), latency=0.05
    )
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 1)
    await asyncio.sleep(3)
    heard = list(it.handler.messages)
    await it.cancel()

    assert len(heard) > len(set(heard))


@pytest.mark.looptime
async def test_a_message_that_repeats_itself_is_no_copy() -> None:
    """Only what came on the link before hides one, and each of them hides one only."""

    class Ticks(FanOut):
        async def publish(self) -> None:
            while True:
                for link in self.links:
                    link.send("tick")
                self.sent += 1
                await asyncio.sleep(0.1)

    far_side = Ticks()
    it = Stage(tokens=Tokens(lifetime=10), far_side=far_side, latency=0.02, dedupe=hash)
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 5)
    await asyncio.sleep(1)
    heard = len(it.handler.messages)
    await it.cancel()

    assert heard in (far_side.sent, far_side.sent - 1), "one may be under way"


@pytest.mark.looptime
async def test_a_dedupe_that_raises_loses_nothing() -> None:
    def broken(message: Message) -> Hashable:
        raise ValueError("no key in this")

    far_side = FanOut()
    it = Stage(tokens=Tokens(lifetime=10), far_side=far_side, latency=0.05, dedupe=broken)
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 1)
    await asyncio.sleep(1)
    heard = set(it.handler.messages)
    await it.cancel()

    assert set(in_order(len(heard))) == heard
    assert {"dedupe"} == {event.method for event in it.of(HandlerFailed)}


@pytest.mark.looptime
async def test_a_successor_that_fails_hides_nothing() -> None:
    class Picky(SlowToTakeOver):
        async def on_handover(self, send: Send) -> None:
            await super().on_handover(send)
            if send.link < 4:
                raise ValueError("not yet")

    far_side = FanOut()
    it = Stage(
        tokens=Tokens(lifetime=10), handler=Picky(), far_side=far_side, latency=0.05, dedupe=int
    )
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 2)
    await asyncio.sleep(1)
    heard = list(it.handler.messages)
    await it.cancel()

    assert in_order(len(heard)) == heard


@pytest.mark.looptime
async def test_an_answer_that_comes_on_both_links_is_taken_once_and_never_iterated() -> None:
    async def far_side(link: FarEnd) -> None:
        links.append(link)
        async for _ in link:
            await until(lambda: len(links) == 2)
            await asyncio.sleep(0.1)
            for each in reversed(links):
                each.send("answer")

    links: list[FarEnd] = []
    it = Stage(tokens=Tokens(lifetime=100), far_side=far_side, dedupe=hash)

    async def slow(send: Send) -> None:
        await asyncio.sleep(0.5)

    async with it.bridge.connect("c-1", URL, on_handover=slow) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        request = asyncio.create_task(connection.request("?", correlate=lambda _: "one"))
        await asyncio.sleep(0.1)
        await connection.renew()

        assert "answer" == await request
        await asyncio.sleep(1)
        await connection.close()
        assert [] == [message async for message in connection]


def overlap(key: Callable[[Message], Hashable] = int) -> Overlap:
    def fail(error: Exception) -> None:
        raise error

    return Overlap(key, fail)


def admitted(it: Overlap, link: int, *numbers: int, now: float = 0.0) -> list[int]:
    return [n for n in numbers if it.admits(link, str(n), now=now, behind=False)]


def test_nothing_is_remembered_outside_of_an_overlap() -> None:
    it = overlap()

    assert [1, 1, 2] == admitted(it, 1, 1, 1, 2)
    assert not it.is_on


def test_the_window_is_bounded() -> None:
    it = overlap()
    it.begin(1)
    admitted(it, 1, *range(WINDOW + 10))

    assert list(range(10)) == admitted(it, 2, *range(20))


def test_copies_are_looked_for_until_some_seconds_after_the_old_link_has_ended() -> None:
    it = overlap()
    it.begin(1)
    admitted(it, 1, 1, 2, 3)
    it.ended(1, now=100.0)

    assert [] == admitted(it, 2, 1, now=100.0)
    assert it.is_on
    assert [2] == admitted(it, 2, 2, now=100.0 + AFTERWARDS)
    assert not it.is_on


def test_who_is_behind_has_more_time() -> None:
    it = overlap()
    it.begin(1)
    admitted(it, 1, 1, 2)
    it.ended(1, now=0.0)

    assert not it.admits(2, "1", now=1000.0, behind=True)
    assert [] == admitted(it, 2, 2, now=1001.0)


def test_it_is_over_once_every_copy_has_come() -> None:
    it = overlap()
    it.begin(1)
    admitted(it, 1, 1, 2)
    it.ended(1, now=0.0)
    admitted(it, 2, 1, 2, 3)

    assert [3] == admitted(it, 2, 3)
    assert not it.is_on


def test_three_links_may_overlap() -> None:
    it = overlap()
    it.begin(1)
    admitted(it, 1, 1, 2, 3)
    it.begin(2)

    assert [4] == admitted(it, 2, 2, 3, 4)
    assert [5] == admitted(it, 3, 1, 4, 5)


@pytest.mark.parametrize("wrong", ["id", 3])
def test_a_dedupe_that_can_not_be_called_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="dedupe must be callable"):
        Stage(dedupe=wrong)
