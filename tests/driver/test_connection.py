"""The session as an object, in virtual time."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dromos import (
    Connection,
    ConnectionClosed,
    HandshakeError,
    MessageTooBig,
    NotConnected,
    PermanentError,
    ReceivePaused,
    RetryPolicy,
    Send,
    TokenError,
)
from dromos.events import (
    AttemptFailed,
    Connected,
    DepartureAnnounced,
    Disconnected,
    HandedOver,
    LinkLost,
    LinkOpened,
    MessagesDropped,
    RetryScheduled,
    SessionEnded,
)
from dromos.testing.memory import HANG, FarEnd, MemoryLink
from tests.driver.harness import URL, Stage, Tokens, until

pytestmark = pytest.mark.looptime

GONE = HandshakeError("gone", status=410)


def connect(it: Stage, **options: Any) -> Connection:
    return it.bridge.connect("c-1", URL, **options)


async def stream(link: FarEnd) -> None:
    """Send numbers for as long as the link is open."""
    number = 0
    while link.closed is None:
        link.send(str(number))
        number += 1
        await asyncio.sleep(0.1)


async def quiet(link: FarEnd) -> None:
    await link.wait_closed()


# --- The block ------------------------------------------------------------------------------------


async def test_what_is_sent_comes_back_and_is_iterated() -> None:
    it = Stage()
    async with connect(it) as connection:
        await connection.send("hello")
        async for message in connection:
            assert "hello" == message
            break

    assert "closed" == connection.state
    assert 1000 == it.far.closed.code  # type: ignore[union-attr]


async def test_entering_returns_at_once() -> None:
    it = Stage()
    it.dialer.then(HANG)

    async with connect(it) as connection:
        assert 0 == asyncio.get_running_loop().time()
        assert "authorizing" == connection.state
        assert connection.link is None


async def test_iteration_goes_on_across_links_and_hand_overs() -> None:
    it = Stage(tokens=Tokens(lifetime=10), far_side=None)
    heard: list[Any] = []

    async with connect(it) as connection:

        async def iterate() -> None:
            async for message in connection:
                heard.append(message)  # noqa: PERF401 - read meanwhile

        task = asyncio.create_task(iterate())
        await connection.wait_open()
        it.far.send("one")
        await until(lambda: it.of(HandedOver))
        it.far.send("two")
        await asyncio.sleep(0.1)
        it.far.drop()
        await until(lambda: len(it.of(Connected)) == 2)
        it.far.send("three")
        await asyncio.sleep(1)
        await connection.close()
        await task

    assert ["one", "two", "three"] == heard


async def test_a_failure_is_raised_by_the_iteration() -> None:
    it = Stage()
    it.dialer.then(GONE)

    with pytest.raises(PermanentError) as raised:  # noqa: PT012 - leaving the block raises
        async with connect(it) as connection:
            async for _ in connection:
                pass

    assert GONE is raised.value.__cause__
    assert raised.value is connection.error


@pytest.mark.parametrize(
    "wait",
    [
        lambda connection: connection.send("hello"),
        lambda connection: connection.request("hello", correlate=len),
        lambda connection: connection.wait_open(),
        lambda connection: connection.recv(),
    ],
    ids=["send", "request", "wait_open", "recv"],
)
async def test_a_failure_is_raised_by_whatever_waits(wait: Callable[[Connection], Any]) -> None:
    it = Stage(dial_latency=1)
    it.dialer.then(GONE)

    async with connect(it) as connection:
        with pytest.raises(PermanentError):
            await wait(connection)


async def test_a_failure_that_nobody_saw_is_raised_by_leaving_the_block() -> None:
    it = Stage()
    it.dialer.then(GONE)

    with pytest.raises(PermanentError):
        async with connect(it):
            await asyncio.sleep(60)


async def test_an_error_of_the_blocks_own_goes_before_it() -> None:
    it = Stage()
    it.dialer.then(GONE)

    with pytest.raises(LookupError):  # noqa: PT012 - leaving the block raises
        async with connect(it):
            await asyncio.sleep(60)
            raise LookupError


async def test_an_error_in_the_block_closes_the_session() -> None:
    it = Stage()

    with pytest.raises(LookupError):  # noqa: PT012 - leaving the block raises
        async with connect(it) as connection:
            await connection.wait_open()
            raise LookupError

    assert it.far.closed is not None
    assert [None] == [event.error for event in it.of(SessionEnded)]


async def test_cancelling_the_block_closes_the_session() -> None:
    it = Stage()
    entered = asyncio.Event()

    async def use() -> None:
        async with connect(it) as connection:
            await connection.wait_open()
            entered.set()
            await connection.recv()

    task = asyncio.create_task(use())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert 1000 == it.far.closed.code  # type: ignore[union-attr]
    assert 1 == len(asyncio.all_tasks()), "nothing is left behind"


async def test_cancelling_the_close_as_well_ends_it_at_once() -> None:
    it = Stage(far_side=quiet)

    async def use() -> None:
        async with connect(it) as connection:
            await connection.wait_open()
            it.far.answer_close = False

    task = asyncio.create_task(use())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert 1 == len(asyncio.all_tasks())


async def test_closing_twice_and_at_once_from_two_tasks_is_fine() -> None:
    it = Stage()
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.gather(connection.close(4000, "enough"), connection.close())
        await connection.close()

    assert (4000, "enough") == (it.far.closed.code, it.far.closed.reason)  # type: ignore[union-attr]


async def test_closing_takes_no_longer_than_a_far_side_and_a_handler_may() -> None:
    it = Stage(far_side=quiet, close_timeout=2)

    async def hang(error: Exception | None) -> None:
        await asyncio.sleep(100)

    loop = asyncio.get_running_loop()
    async with connect(it, on_disconnect=hang) as connection:
        await connection.wait_open()
        it.far.answer_close = False
        began = loop.time()
        await connection.close()

    assert loop.time() - began <= 4.5


async def test_a_connection_is_entered_once() -> None:
    it = Stage()
    async with connect(it) as connection:
        with pytest.raises(RuntimeError, match="once"):
            await connection.__aenter__()


async def test_nothing_works_before_it_is_entered() -> None:
    connection = connect(Stage())

    for use in (connection.recv, connection.wait_open, connection.close, connection.renew):
        with pytest.raises(RuntimeError, match="enter the connection first"):
            await use()
    with pytest.raises(RuntimeError, match="enter the connection first"):
        await connection.send("hello")
    assert "closed" == connection.state


async def test_the_bridge_closes_its_connections() -> None:
    it = Stage()
    async with connect(it) as connection:
        await connection.wait_open()
        await it.bridge.close()

        assert [] == [message async for message in connection]
    with pytest.raises(RuntimeError, match="the bridge is closed"):
        connect(it)


# --- Receiving ------------------------------------------------------------------------------------


async def test_a_second_consumer_is_refused_and_the_first_goes_on() -> None:
    it = Stage(far_side=stream)
    heard: list[Any] = []

    async def iterate(connection: Connection) -> None:
        async for message in connection:
            heard.append(message)  # noqa: PERF401 - read meanwhile

    async with connect(it) as connection:
        task = asyncio.create_task(iterate(connection))
        await until(lambda: heard)
        with pytest.raises(RuntimeError, match="already"):
            async for _ in connection:
                pass
        with pytest.raises(RuntimeError, match="already"):
            await connection.recv()
        await asyncio.sleep(1)
        await connection.close()
        await task

    assert [str(number) for number in range(len(heard))] == heard
    assert 9 < len(heard)


async def test_iteration_may_begin_again_after_a_break() -> None:
    it = Stage(far_side=stream)
    async with connect(it) as connection:
        async for message in connection:
            assert "0" == message
            break
        gc.collect()
        async for message in connection:
            assert "1" == message
            break
        assert "2" == await connection.recv()


async def test_recv_gives_up_in_time() -> None:
    it = Stage(far_side=quiet)
    async with connect(it) as connection:
        with pytest.raises(TimeoutError):
            await connection.recv(timeout=3)

        assert 3 == asyncio.get_running_loop().time()
        await connection.close()
        with pytest.raises(NotConnected):
            await connection.recv()


async def test_what_has_arrived_is_iterated_after_the_close() -> None:
    it = Stage(far_side=stream)
    async with connect(it) as connection:
        await asyncio.sleep(2.05)
        await connection.close()

        assert [str(number) for number in range(21)] == [message async for message in connection]


async def test_a_consumer_that_is_slow_stops_the_reading_and_loses_nothing() -> None:
    async def flood(link: FarEnd) -> None:
        for number in range(3000):
            link.send(f"{number:08}")
            await link.drain()
        await link.wait_closed()

    it = Stage(far_side=flood)
    async with connect(it, ping_interval=1, ping_timeout=1) as connection:
        await asyncio.sleep(60)
        assert connection.snapshot().receive_queue <= 64 + 1
        assert not it.link.is_reading
        heard = [await connection.recv() for _ in range(3000)]

    assert [f"{number:08}" for number in range(3000)] == heard
    assert 1 == len(it.dialer.links), "a slow consumer is no reason to lose the link"


async def test_messages_of_a_lost_link_do_not_keep_the_next_one_waiting() -> None:
    """Otherwise a consumer that sends while its queue is full would wait for itself."""

    async def flood(link: FarEnd) -> None:
        for number in range(100):
            link.send(str(number))
        await link.wait_closed()

    it = Stage(far_side=quiet)
    it.dialer.then(flood)
    async with connect(it) as connection:
        await asyncio.sleep(1)
        it.link.abort()  # as an engine does whose write fails
        await asyncio.sleep(20)
        assert 2 == connection.link
        await connection.send("I am still here")
        heard = [await connection.recv() for _ in range(64)]

    assert ["I am still here"] == it.far.received
    assert [str(number) for number in range(64)] == heard


async def test_receive_false_discards_and_counts() -> None:
    it = Stage(far_side=stream)
    async with connect(it, receive=False) as connection:
        await asyncio.sleep(30.05)
        assert it.link.is_reading
        assert 301 == connection.snapshot().counters.received
        assert 0 == connection.snapshot().receive_queue
        with pytest.raises(RuntimeError, match="receive=False"):
            aiter(connection)


async def test_a_close_bounds_what_nobody_will_iterate() -> None:
    async def flood(link: FarEnd) -> None:
        while link.closed is None:
            link.send("x" * 10_000)
            await asyncio.sleep(0.001)

    it = Stage(far_side=flood)
    it_closed: list[int] = []
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(1)
        await connection.close()
        it_closed.append(len([message async for message in connection]))

    assert it_closed[0] <= 2 * 104 + 1
    assert isinstance(sum(event.count for event in it.of(MessagesDropped)), int)


# --- Sending --------------------------------------------------------------------------------------


async def test_send_waits_for_an_open_link() -> None:
    it = Stage(dial_latency=5)
    async with connect(it) as connection:
        await connection.send("early")

        assert 5 <= asyncio.get_running_loop().time() < 6
        assert "early" == await connection.recv()


async def test_send_fails_where_no_link_opens_in_time() -> None:
    it = Stage()
    it.dialer.then(HANG)
    async with connect(it) as connection:
        with pytest.raises(NotConnected, match="not sent"):
            await connection.send("early", timeout=3)

        assert 3 == asyncio.get_running_loop().time()


async def test_sends_that_waited_keep_their_order() -> None:
    it = Stage(dial_latency=1)
    async with connect(it) as connection:
        await asyncio.gather(*(connection.send(str(number)) for number in range(20)))
        await asyncio.sleep(1)

    assert [str(number) for number in range(20)] == it.far.received


async def test_sends_wait_for_on_connect_but_its_own_do_not() -> None:
    it = Stage()

    async def on_connect(send: Send) -> None:
        await connection.send("hello")
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.send("subscribe"))
        await asyncio.sleep(2)
        await send("subscribed")

    async with connect(it, on_connect=on_connect) as connection:
        await connection.send("work")
        await asyncio.sleep(1)

    assert ["hello", "subscribe", "subscribed", "work"] == it.far.received


async def test_a_send_in_the_middle_of_a_hand_over_goes_to_the_link_that_serves() -> None:
    it = Stage(tokens=Tokens(lifetime=10), latency=0.05)
    sent = 0
    async with connect(it, receive=False) as connection:
        while len(it.of(HandedOver)) < 3:
            await connection.send(str(sent))
            sent += 1
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)

    received = [message for link in it.dialer.links for message in link.far.received]
    assert [str(number) for number in range(sent)] == received


async def test_a_send_waits_while_the_far_side_goes_away() -> None:
    it = Stage()
    async with connect(it) as connection:
        await asyncio.sleep(60)
        it.far.close(1001)
        await asyncio.sleep(0.1)
        assert it.of(DepartureAnnounced)
        assert "open" == connection.state
        await connection.send("after")
        await asyncio.sleep(1)

    assert ["after"] == it.dialer.links[1].far.received
    assert 1 == len(it.of(Disconnected)), "when we closed it"


async def test_sending_what_can_not_be_sent_is_refused_at_once_and_the_link_stays() -> None:
    it = Stage(send_size_limit=10)
    async with connect(it) as connection:
        for wrong in (None, 7, ["a"], {"a": 1}):
            with pytest.raises(TypeError, match="str or bytes-like"):
                await connection.send(wrong)  # type: ignore[arg-type]
        with pytest.raises(MessageTooBig):
            await connection.send("x" * 11)
        with pytest.raises(TypeError, match="timeout"):
            await connection.send("x", timeout="soon")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="timeout"):
            await connection.send("x", timeout=-1)
        await connection.send("fine")
        await connection.close()
        with pytest.raises(NotConnected, match="closed"):
            await connection.send("late")

    assert ["fine"] == it.far.received


async def test_a_handlers_send_from_another_thread_is_refused_and_the_link_stays() -> None:
    it = Stage()
    it.start()
    await until(lambda: it.handler.sends)
    send = it.handler.sends[0]
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            send("x")
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    await send("fine")
    await asyncio.sleep(1)
    await it.cancel()

    assert "another thread" in str(raised[0])
    assert ["fine"] == it.far.received


async def test_sending_from_another_loop_is_refused() -> None:
    it = Stage()
    async with connect(it) as connection:
        await connection.wait_open()

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(connection.send("x"))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        await connection.send("fine")


# --- Requests -------------------------------------------------------------------------------------


def number_of(message: Any) -> str | None:
    """What `3: …` is about."""
    head, colon, _ = message.partition(":")
    return head if colon else None


async def answering(link: FarEnd) -> None:
    """Answer each request after a second, and chatter meanwhile."""
    async for message in link:
        link.send("chatter")
        asyncio.get_running_loop().call_later(1, link.send, f"{number_of(message)}: yes")


async def test_requests_get_their_answers_and_the_rest_is_iterated() -> None:
    it = Stage(far_side=answering)
    async with connect(it) as connection:
        answers = await asyncio.gather(
            *(connection.request(f"{n}: please", correlate=number_of) for n in range(5))
        )
        await connection.close()
        rest = [message async for message in connection]

    assert [f"{number}: yes" for number in range(5)] == answers
    assert ["chatter"] * 5 == rest


async def test_a_request_may_be_made_in_on_connect() -> None:
    it = Stage(far_side=answering)
    answers: list[Any] = []

    async def on_connect(send: Send) -> None:
        answers.append(await connection.request("1: subscribe", correlate=number_of))

    async with connect(it, on_connect=on_connect) as connection:
        await connection.wait_open()

    assert ["1: yes"] == answers


async def test_a_request_that_is_not_answered_gives_up_in_time() -> None:
    it = Stage(far_side=quiet)
    async with connect(it) as connection:
        with pytest.raises(TimeoutError):
            await connection.request("1: please", correlate=number_of, timeout=3)
        it.far.send("1: late")

        assert "1: late" == await connection.recv()


async def test_pending_requests_settle_when_their_link_dies() -> None:
    it = Stage(far_side=quiet)
    async with connect(it) as connection:
        requests = [
            asyncio.create_task(connection.request(f"{n}: please", correlate=number_of))
            for n in range(3)
        ]
        await asyncio.sleep(1)
        it.far.drop()
        await asyncio.sleep(0.1)

        assert all(isinstance(task.exception(), ConnectionClosed) for task in requests)


async def test_pending_requests_settle_when_the_connection_is_closed() -> None:
    it = Stage(far_side=quiet)
    async with connect(it) as connection:
        task = asyncio.create_task(connection.request("1: please", correlate=number_of))
        await asyncio.sleep(1)
    with pytest.raises((ConnectionClosed, NotConnected)):
        await task


async def test_a_request_fails_at_once_while_reading_is_paused() -> None:
    async def flood(link: FarEnd) -> None:
        while link.closed is None:
            link.send("x")
            await link.drain()

    it = Stage(far_side=flood)
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        with pytest.raises(ReceivePaused, match="not sent"):
            await connection.request("1: please", correlate=number_of)

        assert began == asyncio.get_running_loop().time()
        assert [] == it.far.received


async def test_bad_requests_are_refused_before_anything_is_sent() -> None:
    it = Stage(far_side=quiet)
    async with connect(it) as connection:
        await connection.wait_open()
        with pytest.raises(TypeError, match="correlate"):
            await connection.request("x", correlate="id")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="None"):
            await connection.request("x", correlate=number_of)
        with pytest.raises(TypeError, match="hash"):
            await connection.request("x", correlate=lambda message: [message])
        task = asyncio.create_task(connection.request("1: a", correlate=number_of))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="pending already"):
            await connection.request("1: b", correlate=number_of)
        await asyncio.sleep(1)
        task.cancel()

    assert ["1: a"] == it.far.received


async def test_a_correlate_that_raises_on_a_message_does_not_lose_it() -> None:
    it = Stage(far_side=answering)

    def picky(message: Any) -> str | None:
        if message == "chatter":
            raise ValueError("not for me")
        return number_of(message)

    async with connect(it) as connection:
        assert "1: yes" == await connection.request("1: please", correlate=picky)
        assert "chatter" == await connection.recv()


# --- What it looks like ---------------------------------------------------------------------------


async def test_a_snapshot_says_it_all_and_does_not_change() -> None:
    it = Stage(tokens=Tokens(lifetime=3600), latency=0.05)
    async with connect(it, ping_interval=1) as connection:
        first = connection.snapshot()
        await connection.send("hello")
        await asyncio.sleep(5)
        shot = connection.snapshot()

    assert ("authorizing", None, 0) == (first.state, first.link, first.counters.links)
    assert ("open", 1, 0) == (shot.state, shot.link, shot.attempts)
    assert 0.1 == pytest.approx(shot.latency)
    assert it.clock() + 3600 - 5 == pytest.approx(shot.token_expires_at, abs=1)
    assert it.clock() - 5 == pytest.approx(shot.link_since, abs=1)
    assert ("c-1", 1) == (shot.connection_id, shot.session)
    assert None is first.link_since
    counters = shot.counters
    assert (1, 1, 1, 1) == (counters.attempts, counters.links, counters.sent, counters.received)
    assert 1 == shot.receive_queue
    with pytest.raises(AttributeError):
        shot.link = 2  # type: ignore[misc]


async def test_a_bridge_shows_all_of_its_running_sessions() -> None:
    it = Stage(tokens=Tokens(lifetime=3600))
    async with it.bridge:
        assert () == it.bridge.snapshots()
        async with it.bridge.connect("c-1", URL) as one, it.bridge.connect("c-2", URL) as two:
            await one.wait_open()
            await two.wait_open()
            shots = it.bridge.snapshots()
            assert [one.snapshot(), two.snapshot()] == list(shots)
            assert ["c-1", "c-2"] == [shot.connection_id for shot in shots]
            assert [URL, URL] == [shot.endpoint for shot in shots]
        assert () == it.bridge.snapshots()


async def test_a_census_is_what_the_snapshots_add_up_to() -> None:
    async def says_two(link: FarEnd) -> None:
        link.send("one")
        link.send("two")
        await link.wait_closed()

    it = Stage(tokens=Tokens(lifetime=3600), far_side=says_two)
    async with it.bridge:
        assert {} == it.bridge.census().states
        async with it.bridge.connect("c-1", URL) as one, it.bridge.connect("c-2", URL) as two:
            await one.wait_open()
            await two.send("hello")
            await asyncio.sleep(1)
            census, shots = it.bridge.census(), it.bridge.snapshots()
            assert {"open": 2} == census.states
            assert (4, 1) == (census.received, census.sent)
            assert 4 == sum(shot.counters.received for shot in shots)
            assert 1 == sum(shot.counters.sent for shot in shots)
            assert min(shot.token_expires_at or 0.0 for shot in shots) == census.token_expires_at
            assert it.clock() == census.at
            # What came on a link that ended is told by its end.
            it.far.drop()
            await asyncio.sleep(0.1)
            assert 2 == it.bridge.census().received
        assert ({}, 0, None) == (
            it.bridge.census().states,
            it.bridge.census().received,
            it.bridge.census().token_expires_at,
        )


async def test_the_bytes_on_the_wire_go_from_the_census_to_the_end_of_the_link() -> None:
    it = Stage()
    async with it.bridge:
        assert (None, None) == (it.bridge.census().bytes_received, it.bridge.census().bytes_sent)
        async with it.bridge.connect("c-1", URL) as connection:
            await connection.wait_open()
            await connection.send("x" * 1000)
            await anext(aiter(connection))
            census = it.bridge.census()
            it.far.drop()
            await until(lambda: it.of(LinkLost))

    [lost] = it.of(LinkLost)
    assert 1000 < census.bytes_received <= lost.bytes_received < 1100
    assert 1000 < census.bytes_sent <= lost.bytes_sent < 1100


async def test_a_link_that_does_not_tell_its_bytes_makes_none_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(MemoryLink, "wire_bytes")
    it = Stage()
    async with it.bridge, it.bridge.connect("c-1", URL) as connection:
        await connection.wait_open()
        assert it.bridge.census().bytes_received is None
        it.far.drop()
        await until(lambda: it.of(LinkLost))

    assert it.of(LinkLost)[0].bytes_received is None


async def test_a_snapshot_says_when_the_next_attempt_is_due_and_why() -> None:
    it = Stage(retry_policy=RetryPolicy(min_backoff=8))
    busy = HandshakeError("busy", status=503)
    it.dialer.then(busy, busy)
    async with connect(it) as connection:
        await until(lambda: connection.state == "waiting")
        shot = connection.snapshot()
        assert shot.next_attempt_at is not None
        assert busy is shot.last_error
        await until(lambda: len(it.dialer.dials) == 2)

        assert shot.next_attempt_at == pytest.approx(it.clock(), abs=0.6)
        assert 1 == shot.attempts


async def test_a_snapshot_says_when_its_last_error_was_and_goes_on_saying_so_once_open() -> None:
    it = Stage(retry_policy=RetryPolicy(min_backoff=8))
    busy = HandshakeError("busy", status=503)
    it.dialer.then(busy)
    async with connect(it) as connection:
        assert connection.snapshot().last_error_at is None
        await until(lambda: connection.state == "waiting")
        failed = it.of(AttemptFailed)[0]
        await connection.wait_open(3600)
        shot = connection.snapshot()

    assert (busy, failed.at) == (shot.last_error, shot.last_error_at)
    assert failed.at < shot.since


async def test_a_snapshot_counts_what_the_backoff_counts() -> None:
    """A link that was open for a moment clears nothing, and the next wait shows that."""
    it = Stage(retry_policy=RetryPolicy(min_backoff=8), far_side=None)
    busy = HandshakeError("busy", status=503)
    it.dialer.then(busy, busy, busy)
    async with connect(it) as connection:
        await connection.wait_open(3600)
        assert 0 == connection.snapshot().attempts
        it.far.drop()
        await until(lambda: connection.state == "waiting")

        scheduled = it.of(RetryScheduled)[-1]
        assert 4 == scheduled.failures == connection.snapshot().attempts


async def test_events_come_from_now_on_and_the_oldest_are_dropped_and_counted() -> None:
    it = Stage(latency=0.01)
    async with connect(it, ping_interval=1, ping_timeout=1) as connection:
        await connection.wait_open()
        stream = connection.events()
        seen: list[Any] = []
        task = asyncio.create_task(_collect(connection.events(), seen))
        await asyncio.sleep(1000)
        await connection.close()
        await task

    late = [event async for event in stream]
    assert 256 == len(late)
    assert len(seen) - 256 == stream.dropped
    assert isinstance(late[-1], SessionEnded)
    assert not [event for event in seen if isinstance(event, LinkOpened)], "from now on"


async def _collect(stream: AsyncIterator[Any], into: list[Any]) -> None:
    async for event in stream:
        into.append(event)  # noqa: PERF401 - read meanwhile


async def test_wait_open_says_which_link_and_gives_up_in_time() -> None:
    it = Stage(dial_latency=5)
    async with connect(it) as connection:
        with pytest.raises(TimeoutError):
            await connection.wait_open(timeout=2)
        assert 1 == await connection.wait_open()
        await connection.close()
        with pytest.raises(NotConnected):
            await connection.wait_open()


async def test_callbacks_follow_the_handlers_rules() -> None:
    it = Stage(tokens=Tokens(lifetime=100))
    calls: list[Any] = []
    async with connect(
        it,
        on_connect=lambda send: calls.append(("connect", send.link)),
        on_handover=lambda send: calls.append(("handover", send.link)),
        on_disconnect=lambda error: calls.append(("disconnect", error)),
    ) as connection:
        await until(lambda: it.of(HandedOver))
        await connection.send("x")

    assert [("connect", 1), ("handover", 2), ("disconnect", None)] == calls


async def test_callbacks_that_can_not_be_called_are_refused() -> None:
    it = Stage()
    for name in ("on_connect", "on_handover", "on_disconnect", "on_token_refresh"):
        with pytest.raises(TypeError, match=name):
            connect(it, **{name: "x"})
    with pytest.raises(TypeError, match="receive"):
        connect(it, receive="yes")
    with pytest.raises(TypeError, match="unknown session options: sped"):
        connect(it, sped=1)


async def test_a_callback_may_close_its_own_connection() -> None:
    it = Stage()

    async def enough(send: Send) -> None:
        await connection.close()

    async with connect(it, on_connect=enough) as connection:
        assert [] == [message async for message in connection]


# --- Renewal --------------------------------------------------------------------------------------


async def test_renew_hands_over_to_a_link_with_a_new_token() -> None:
    it = Stage(tokens=Tokens(lifetime=3600), latency=0.05)
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        await connection.renew()

        assert 2 == connection.link
        assert 1 == len(it.tokens.refreshes)
        assert [] == it.of(Disconnected)


async def test_renewing_while_renewing_is_one_renewal() -> None:
    it = Stage(tokens=Tokens(lifetime=3600, takes=0.5), latency=0.05)
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        await asyncio.gather(*(connection.renew() for _ in range(5)))

        assert 2 == connection.link
        assert 1 == len(it.tokens.refreshes)


async def test_renew_right_after_the_open_waits_its_second() -> None:
    it = Stage(tokens=Tokens(lifetime=3600))
    async with connect(it) as connection:
        await connection.wait_open()
        await connection.renew()

        assert 2 == connection.link


@pytest.mark.parametrize("why", ["token", "dial"])
async def test_renew_raises_what_it_failed_with_and_the_link_stays(why: str) -> None:
    error = TokenError("busy", status=503) if why == "token" else HandshakeError("x", status=503)
    it = Stage(tokens=Tokens(lifetime=3600))
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        if why == "token":
            it.tokens.refresh_errors.append(error)
        else:
            it.dialer.then(error)
        with pytest.raises(type(error)):
            await connection.renew()

        assert 1 == connection.link
        assert [] == it.of(Disconnected)


async def test_renew_without_a_link_says_so() -> None:
    it = Stage()
    it.dialer.then(HANG)
    async with connect(it) as connection:
        with pytest.raises(NotConnected, match="renew"):
            await connection.renew()


async def test_renew_raises_if_the_link_is_lost_meanwhile() -> None:
    it = Stage(tokens=Tokens(lifetime=3600, takes=2))
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        task = asyncio.create_task(connection.renew())
        await asyncio.sleep(1)
        it.far.drop()
        with pytest.raises(NotConnected, match="lost"):
            await task


async def test_renew_with_keep_renews_in_memory() -> None:
    it = Stage(tokens=Tokens(lifetime=3600), renewal="keep")
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        await connection.renew()

        assert 1 == connection.link
        assert 1 == len(it.tokens.refreshes)


# --- Drain ----------------------------------------------------------------------------------------


async def test_drain_waits_until_the_far_side_has_everything() -> None:
    it = Stage(latency=2, far_side=quiet)
    async with connect(it) as connection:
        await connection.send("last words")
        task = asyncio.create_task(connection.drain())
        await asyncio.sleep(0.1)
        with pytest.raises(NotConnected, match="drained"):
            await connection.send("more")
        await task

    assert ["last words"] == it.far.received
    assert 0 == it.events[-1].__class__.__name__.count("Unknown")


async def test_drain_gives_up_in_time_and_closes_all_the_same() -> None:
    it = Stage(far_side=quiet)
    async with connect(it) as connection:
        await connection.wait_open()
        it.far.stop_reading()
        await connection.send("last words")
        with pytest.raises(TimeoutError, match="confirmed within 3 s"):
            await connection.drain(timeout=3)

        assert "closed" == connection.state


async def test_a_request_does_not_notice_a_hand_over() -> None:
    it = Stage(far_side=answering, tokens=Tokens(lifetime=3600))
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        request = asyncio.create_task(connection.request("1: please", correlate=number_of))
        await asyncio.sleep(0.5)
        await connection.renew()
        assert not request.done()

        assert "1: yes" == await request
        assert 2 == connection.link
        await asyncio.sleep(0.1)
        assert it.dialer.links[0].far.closed is not None


async def test_a_request_that_is_not_answered_holds_a_hand_over_up_for_a_second() -> None:
    it = Stage(far_side=quiet, tokens=Tokens(lifetime=3600))
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        request = asyncio.create_task(connection.request("1: please", correlate=number_of))
        await connection.renew()
        it.far.send("on the new link")
        await asyncio.sleep(0.9)
        assert it.dialer.links[0].far.closed is None
        await asyncio.sleep(0.2)

        assert it.dialer.links[0].far.closed is not None
        assert isinstance(request.exception(), ConnectionClosed)
        assert "on the new link" == await connection.recv()


async def test_a_close_with_a_full_queue_hears_the_far_sides_answer() -> None:
    async def flood(link: FarEnd) -> None:
        for number in range(100):
            link.send(str(number))
        await link.wait_closed()

    it = Stage(far_side=flood)
    async with connect(it) as connection:
        await asyncio.sleep(1)
        await connection.close()
        assert 1 == asyncio.get_running_loop().time(), "it does not wait for a timeout"

        assert [str(number) for number in range(100)] == [m async for m in connection]


@pytest.mark.parametrize("how", ["bridge", "failure"])
async def test_an_end_with_a_full_queue_does_not_wait_for_the_consumer(how: str) -> None:
    async def flood(link: FarEnd) -> None:
        for number in range(70):
            link.send(str(number))
        await link.wait_closed()

    it = Stage(far_side=flood)
    connection = connect(it)
    await connection.__aenter__()
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    if how == "bridge":
        await it.bridge.close()
    else:
        it.link.far.close(1008)
        it.link.resume_reading()
        await asyncio.sleep(0.1)
        with pytest.raises(PermanentError):
            await connection.wait_open()
    assert loop.time() - began < 0.2

    assert [str(number) for number in range(70)] == [await connection.recv() for _ in range(70)]
    with pytest.raises((PermanentError, NotConnected)):
        await connection.recv()
