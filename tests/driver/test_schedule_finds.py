"""What the random schedules found, each in its smallest form."""

import asyncio
from typing import Any

import pytest

from dromos import Send
from dromos.events import DeliveryUnknown, HandedOver, LinkLost, MessagesDropped, RenewalFailed
from dromos.model import Outbox
from dromos.testing.memory import HANG, FarEnd
from tests.driver.harness import Notes, Stage, Tokens, until

pytestmark = pytest.mark.looptime


def stage(**options: Any) -> Stage:
    """A session whose tokens live 100 s and are renewed 30 s early."""
    options.setdefault("tokens", Tokens(lifetime=100))
    options.setdefault("refresh_buffer", 30)
    return Stage(**options)


class Refusing(Notes):
    """Fails the first hand-overs, and has a method of its own for them."""

    def __init__(self, failures: int = 1, hello: str = "") -> None:
        super().__init__()
        self.failures = failures
        self.hello = hello

    async def on_handover(self, send: Send) -> None:
        if self.hello:
            await send(self.hello)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not yet")


async def test_a_close_of_the_same_code_that_crosses_ours_confirms_nothing() -> None:
    async def far_side(link: FarEnd) -> None:
        await link.wait_closed()

    it = stage(far_side=far_side, latency=0.05, outbox=Outbox())
    task = it.start()
    await asyncio.sleep(1)
    it.far.stop_reading()
    await it.handler.sends[0]("not read")
    it.far.close(1000)
    it.handler.sends[0].close()
    await asyncio.wait([task])

    assert [] == it.far.received
    assert [("not read",)] == [event.messages for event in it.of(DeliveryUnknown)]


async def test_what_a_let_go_link_takes_with_it_is_sent_again_at_once() -> None:
    class Handler(Refusing):
        async def on_handover(self, send: Send) -> None:
            it.dialer.links[-1].far.stop_reading()
            await super().on_handover(send)

    it = stage(handler=Handler(hello="hello"), outbox=Outbox(resend_unknown=True))
    it.start()
    await until(lambda: it.of(DeliveryUnknown))
    await asyncio.sleep(1)
    first = it.dialer.links[0].far
    assert "hello" in first.received
    await it.handler.sends[0]("not stuck behind it")
    await asyncio.sleep(1)
    assert "not stuck behind it" in first.received
    await it.cancel()


async def test_what_was_to_be_sent_again_is_unknown_when_the_session_ends() -> None:
    it = stage(outbox=Outbox(resend_unknown=True))
    task = it.start()
    await until(lambda: it.handler.sends)
    it.far.stop_reading()
    await it.handler.sends[0]("perhaps")
    it.tokens.get_errors = [OSError("down")] * 9
    it.far.drop()
    await until(lambda: it.of(DeliveryUnknown))
    it.handler.sends[0].close()
    await asyncio.wait([task])

    told = [(event.messages, event.resent) for event in it.of(DeliveryUnknown)]
    assert [(("perhaps",), True), (("perhaps",), False)] == told


async def test_a_link_that_never_came_to_serve_is_closed_however_much_it_brings() -> None:
    async def far_side(link: FarEnd) -> None:
        if len(it.dialer.links) == 2:
            for number in range(200):
                link.send(str(number))
        await link.wait_closed()

    it = stage(far_side=far_side, handler=Refusing())
    it.start()
    await until(lambda: it.of(HandedOver))

    assert [2, 1] == [event.link for event in it.of(LinkLost)]
    assert 200 == sum(event.count for event in it.of(MessagesDropped))
    await it.cancel()


async def test_what_comes_on_a_link_whose_on_connect_failed_is_counted() -> None:
    class Handler(Notes):
        async def on_connect(self, send: Send) -> None:
            await super().on_connect(send)
            if send.link == 1:
                raise RuntimeError("not yet")

    async def far_side(link: FarEnd) -> None:
        if len(it.dialer.links) == 1:
            await asyncio.sleep(0.05)
            for number in range(200):
                link.send(str(number))
        await link.wait_closed()

    it = stage(far_side=far_side, handler=Handler(), latency=0.1)
    it.start()
    await until(lambda: len(it.handler.sends) == 2 and it.of(LinkLost))

    assert 200 == sum(event.count for event in it.of(MessagesDropped))
    await it.cancel()


async def test_a_token_that_a_link_was_closed_over_is_not_dialled_with_again() -> None:
    it = stage(max_link_age=5, latency=0.01)
    it.start()
    await until(lambda: it.handler.sends)
    it.dialer.then(HANG)
    await until(lambda: it.dialer.dials[1:])
    it.far.close(4401)
    await until(lambda: it.dialer.dials[2:])

    tokens = [dict(dial.headers)["Authorization"] for dial in it.dialer.dials]
    assert ["Bearer t1", "Bearer t1", "Bearer t2"] == tokens
    await it.cancel()


class Fanout:
    """A far side that says the same on all links that are open."""

    def __init__(self) -> None:
        self.open: list[FarEnd] = []

    async def __call__(self, link: FarEnd) -> None:
        self.open.append(link)
        await link.wait_closed()
        self.open.remove(link)

    def say(self, message: str) -> None:
        for link in self.open:
            link.send(message)


def same(message: Any) -> Any:
    return message


async def test_a_link_that_ended_before_its_turn_still_hides_its_copies() -> None:
    far_side = Fanout()
    it = stage(far_side=far_side, dedupe=same, latency=0.1, max_link_age=1)
    it.start()
    await until(lambda: it.of(HandedOver))
    # The first link ends late, and what the second one brought waits for that.
    it.dialer.links[0].far.go_silent()
    await until(lambda: it.dialer.links[2:])
    far_side.say("once")
    await until(lambda: len(it.of(LinkLost)) == 2)
    assert [2, 1] == [event.link for event in it.of(LinkLost)]
    await asyncio.sleep(5)

    assert ["once"] == it.handler.messages
    await it.cancel()


async def test_three_links_that_overlap_bring_three_copies_and_one_is_delivered() -> None:
    far_side = Fanout()
    it = stage(far_side=far_side, dedupe=same, latency=0.6, max_link_age=1)
    it.start()
    await until(lambda: len(far_side.open) == 3)
    far_side.say("once")
    await asyncio.sleep(5)

    assert ["once"] == it.handler.messages
    await it.cancel()


async def test_the_late_end_of_a_failed_successor_does_not_hide_the_next_one() -> None:
    far_side = Fanout()
    it = stage(far_side=far_side, handler=Refusing(), dedupe=same, latency=0.3)
    it.bridge._random.random = lambda: 0.0  # type: ignore[method-assign]
    it.start()
    await until(lambda: it.of(RenewalFailed))
    # The next one is dialled while the failed one still closes.
    await until(lambda: len(it.dialer.links) == 3 and it.of(LinkLost))
    far_side.say("once")
    await asyncio.sleep(5)

    assert ["once"] == it.handler.messages
    await it.cancel()


async def test_a_far_side_that_says_nothing_makes_nothing_grow() -> None:
    it = stage(far_side=Fanout(), dedupe=same, max_link_age=1)
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 60)

    (session,) = it.bridge._sessions.values()
    assert session._lane._overlap is not None
    assert len(session._lane._overlap._heard) <= 16
    await it.cancel()


async def test_a_request_that_waits_for_its_answer_makes_no_third_link() -> None:
    async def far_side(link: FarEnd) -> None:
        await link.wait_closed()

    def kept() -> int:
        return sum(not link._over and not link._sent_close for link in it.dialer.links)

    it = stage(far_side=far_side, max_link_age=1, dial_latency=1, latency=0.3)
    async with it.bridge.connect("c-1", it.endpoint) as connection:
        await connection.wait_open()
        await asyncio.sleep(0.9)
        asking = asyncio.create_task(connection.request("q", correlate=same, timeout=60))
        most = 0
        for _ in range(200):
            await asyncio.sleep(0.05)
            session = next(iter(it.bridge._sessions.values()))
            dials = sum(record.link is None for record in session._links)
            most = max(most, kept() + dials)
        asking.cancel()

    assert 2 == most
