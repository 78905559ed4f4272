"""What a hostile review of the session as an object has found, each in its smallest form."""

import asyncio
from typing import Any

import pytest

from dromos import Connection, NotConnected, Outbox, PermanentError, Send
from dromos.events import Connected, DeliveryUnknown, HandedOver
from dromos.testing.memory import HANG, FarEnd
from tests.driver.harness import URL, Stage, Tokens, until

pytestmark = pytest.mark.looptime


def connect(it: Stage, **options: Any) -> Connection:
    return it.bridge.connect("c-1", URL, **options)


async def quiet(link: FarEnd) -> None:
    await link.wait_closed()


async def flood(link: FarEnd) -> None:
    while link.closed is None:
        link.send("x" * 100)
        await link.drain()


async def test_a_consumer_that_is_stuck_does_not_collect_a_link_with_each_hand_over() -> None:
    it = Stage(tokens=Tokens(lifetime=100), far_side=flood)
    async with connect(it) as connection:
        await asyncio.sleep(10_000)
        open_links = [link for link in it.dialer.links if link.far.closed is None]
        assert len(open_links) <= 3
        assert connection.snapshot().receive_queue <= 4 * 64


async def test_what_on_connect_sends_through_the_connection_goes_to_its_own_link() -> None:
    async def answer(link: FarEnd) -> None:
        async for message in link:
            if message.endswith("?"):  # type: ignore[arg-type]
                link.send(message)

    it = Stage(tokens=Tokens(lifetime=100), far_side=answer)

    async def subscribe(send: Send) -> None:
        await connection.send(f"subscribe {send.link}")
        await connection.request(f"{send.link}?", correlate=lambda message: message)

    async with connect(it, on_connect=subscribe) as connection:
        await until(lambda: len(it.of(HandedOver)) == 2)

    assert [[f"subscribe {n}", f"{n}?"] for n in (1, 2, 3)] == [
        link.far.received for link in it.dialer.links
    ]


async def test_what_on_connect_has_started_waits_for_the_next_link_like_all_others() -> None:
    it = Stage(far_side=quiet)
    started: list[asyncio.Task[None]] = []

    async def work() -> None:
        for number in range(100):
            await connection.send(f"work {number}")
            await asyncio.sleep(0.5)

    async def on_connect(send: Send) -> None:
        if not started:
            started.append(asyncio.create_task(work()))
        await asyncio.sleep(1)
        await send("auth")

    async with connect(it, on_connect=on_connect) as connection:
        await asyncio.sleep(5)
        it.far.drop()
        await until(lambda: len(it.of(Connected)) == 2)
        await asyncio.sleep(5)
        started[0].cancel()

    assert "auth" == it.far.received[0]


@pytest.mark.parametrize("name", ["close", "drain", "recv", "wait_open", "renew"])
async def test_nothing_is_done_from_another_loop(name: str) -> None:
    it = Stage()
    async with connect(it) as connection:
        await connection.wait_open()

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(getattr(connection, name)())

        await asyncio.to_thread(elsewhere)
        await connection.send("fine")


async def test_a_send_after_the_end_is_refused_by_the_outbox() -> None:
    it = Stage(outbox=Outbox(), far_side=quiet)
    it.start()
    await until(lambda: it.handler.sends)
    await it.cancel()

    with pytest.raises(NotConnected, match="over"):
        it.handler.sends[0]("late")


async def test_a_drain_raises_what_the_session_failed_with() -> None:
    it = Stage(outbox=Outbox(), far_side=quiet, latency=1)
    async with connect(it) as connection:
        await connection.wait_open()
        await connection.send("important")
        it.far.close(1008)
        with pytest.raises(PermanentError) as raised:
            await connection.drain()

        assert ("important",) == raised.value.unknown


async def test_a_drain_that_is_cancelled_leaves_the_connection_as_it_was() -> None:
    it = Stage(far_side=quiet, latency=1)
    async with connect(it) as connection:
        await connection.send("one")
        task = asyncio.create_task(connection.drain())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        await connection.send("two")
        await asyncio.sleep(2)

    assert ["one", "two"] == it.far.received


async def test_a_far_side_may_answer_the_last_ping_alone() -> None:
    async def lazy(link: FarEnd) -> None:
        link.answer_pings = False
        seen = 0
        while link.closed is None:
            await asyncio.sleep(1.5)
            if len(link.pings) > seen:
                seen = len(link.pings)
                link.pong(link.pings[-1])

    it = Stage(outbox=Outbox(), far_side=lazy, tokens=Tokens(lifetime=3600))

    async def hello(send: Send) -> None:
        await send("hello")

    async with connect(it, on_connect=hello) as connection:
        await connection.wait_open()
        await asyncio.sleep(10)
        await connection.renew()

        assert 2 == connection.link
        assert connection.latency is not None


async def test_a_request_without_a_link_says_that_it_was_not_sent() -> None:
    it = Stage()
    it.dialer.then(HANG)
    async with connect(it) as connection:
        with pytest.raises(NotConnected, match="not sent"):
            await connection.request("x", correlate=len, timeout=3)


async def test_a_close_with_a_wrong_code_changes_nothing() -> None:
    it = Stage()
    async with connect(it) as connection:
        await connection.wait_open()
        with pytest.raises(ValueError, match="code"):
            await connection.close(1006)
        await connection.send("fine")

        assert "fine" == await connection.recv()


@pytest.mark.parametrize("wait", ["wait_open", "send"])
async def test_a_callback_does_not_wait_for_a_link_that_comes_after_it(wait: str) -> None:
    it = Stage(far_side=quiet)
    raised: list[str] = []

    async def on_disconnect(error: Exception | None) -> None:
        if error is not None:
            try:
                await (connection.wait_open() if wait == "wait_open" else connection.send("x"))
            except NotConnected as refusal:
                raised.append(str(refusal))

    async with connect(it, on_disconnect=on_disconnect) as connection:
        await connection.wait_open()
        it.far.drop()
        await until(lambda: connection.link == 2)

    assert ["no link is open, and the next one is greeted after this callback"] == raised


async def test_a_close_right_after_entering_is_heard_at_once() -> None:
    it = Stage(tokens=Tokens(takes=1000))
    async with connect(it) as connection:
        await connection.close()

    assert 0 == asyncio.get_running_loop().time()


async def test_who_waits_for_room_is_not_overtaken() -> None:
    it = Stage(
        outbox=Outbox(max_messages=2, when_full="wait"), far_side=quiet, dial_latency=1, latency=0.1
    )
    async with connect(it) as connection:

        async def send(name: str) -> None:
            for number in range(5):
                await connection.send(f"{name}{number}")

        await asyncio.gather(send("a"), send("b"))
        await asyncio.sleep(5)

    for name in "ab":
        numbers = [message for message in it.far.received if message.startswith(name)]  # type: ignore[arg-type]
        assert [f"{name}{number}" for number in range(5)] == numbers


async def test_an_old_links_unknown_messages_are_not_the_last_ones() -> None:
    it = Stage(outbox=Outbox(), far_side=quiet, tokens=Tokens(lifetime=100))
    with pytest.raises(PermanentError) as raised:  # noqa: PT012 - leaving the block raises
        async with connect(it) as connection:
            await connection.wait_open()
            await asyncio.sleep(5)
            it.far.go_silent()
            await connection.send("perhaps")
            await connection.renew()
            await until(lambda: it.of(DeliveryUnknown))
            await asyncio.sleep(20)
            it.far.close(1008)
            await asyncio.sleep(5)

    assert () == raised.value.unknown


async def test_the_same_answer_twice_on_one_link_is_no_copy() -> None:
    """dedupe hides what came on the other link, and nothing else."""

    async def answer(link: FarEnd) -> None:
        async for _ in link:
            link.send("ok")
            await asyncio.sleep(0.1)
            link.send("ok")

    it = Stage(far_side=answer, tokens=Tokens(lifetime=3600), dedupe=hash)
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        it.dialer.then(HANG)
        renewal = asyncio.create_task(connection.renew())
        await asyncio.sleep(0.1)
        assert "ok" == await connection.request("?", correlate=lambda _: 1)

        assert "ok" == await connection.recv(timeout=1)
        renewal.cancel()
