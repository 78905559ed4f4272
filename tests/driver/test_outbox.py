"""What becomes of messages that were given to be sent, with an outbox and without."""

import asyncio
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from dromos import (
    Connection,
    HandshakeError,
    MessageTooBig,
    NotConnected,
    Outbox,
    PermanentError,
    SendBufferFull,
)
from dromos._driver.outbox import Entry, Ledger
from dromos.events import (
    BridgeEvent,
    Connected,
    DeliveryUnknown,
    HandedOver,
    LinkLost,
    MessagesUnsent,
)
from dromos.testing.memory import HANG, FarEnd
from tests.driver.harness import URL, Stage, Tokens, until

pytestmark = pytest.mark.looptime


async def quiet(link: FarEnd) -> None:
    await link.wait_closed()


def stage(outbox: Outbox | None = None, **options: Any) -> Stage:
    options.setdefault("far_side", quiet)
    return Stage(outbox=outbox or Outbox(), **options)


def connect(it: Stage, **options: Any) -> Connection:
    return it.bridge.connect("c-1", URL, **options)


# --- Without one ----------------------------------------------------------------------------------


async def test_without_an_outbox_the_loss_of_a_link_says_how_many_were_not_confirmed() -> None:
    it = Stage(far_side=quiet, ping_interval=5)
    it.start()
    await until(lambda: it.handler.sends)
    for number in range(7):
        await it.handler.sends[0](str(number))
    await asyncio.sleep(10)
    for number in range(3):
        await it.handler.sends[0](str(number))
    it.far.drop()
    await until(lambda: it.of(LinkLost))
    await it.cancel()

    lost = it.of(LinkLost)[0]
    assert (10, 3) == (lost.sent, lost.unconfirmed)


# --- Kept until there is a link -------------------------------------------------------------------


async def test_messages_wait_for_a_link_and_go_out_in_order() -> None:
    it = stage(dial_latency=5)
    async with connect(it) as connection:
        for number in range(10):
            await connection.send(str(number))
        assert 0 == asyncio.get_running_loop().time(), "nothing waits for the link"
        assert 10 == connection.snapshot().outbox_unsent
        await asyncio.sleep(10)
        assert (0, 0) == _depths(connection)

    assert [str(number) for number in range(10)] == it.far.received


async def test_on_connect_speaks_before_what_waits() -> None:
    it = stage(dial_latency=5)

    async def hello(send: Any) -> None:
        await send("hello")
        await asyncio.sleep(1)
        await send("subscribe")

    async with connect(it, on_connect=hello) as connection:
        await connection.send("work")
        await asyncio.sleep(10)

    assert ["hello", "subscribe", "work"] == it.far.received


async def test_a_handlers_send_keeps_messages_as_well() -> None:
    it = stage()
    it.start()
    await until(lambda: it.handler.sends)
    send = it.handler.sends[0]
    it.far.drop()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    send("between links")
    send(bytearray(b"copied"))
    await until(lambda: len(it.of(Connected)) == 2)
    await asyncio.sleep(1)
    await it.cancel()

    assert ["between links", b"copied"] == it.far.received


async def test_messages_wait_while_the_far_side_reads_slowly() -> None:
    it = stage(Outbox(max_messages=1000, max_bytes=2**24))
    async with connect(it) as connection:
        await connection.wait_open()
        it.far.stop_reading()
        for number in range(400):
            asyncio.get_running_loop().create_task(connection.send(f"{number:04}" + "x" * 1000))
        await asyncio.sleep(1)
        waiting = connection.snapshot().outbox_unsent
        it.far.start_reading()
        await asyncio.sleep(5)

    assert 100 < waiting < 400
    assert list(range(400)) == [int(message[:4]) for message in it.far.received]


async def test_messages_that_wait_too_long_are_reported_unsent() -> None:
    it = stage(Outbox(ttl=30))
    it.dialer.then(HANG, HANG, HANG)
    async with connect(it) as connection:
        await connection.send("one")
        await asyncio.sleep(10)
        await connection.send("two")
        await asyncio.sleep(21)

        [event] = it.of(MessagesUnsent)
        assert ("expired", 1, ("one",)) == (event.reason, event.count, event.messages)
        assert 31 >= it.event_times[it.events.index(event)] >= 30
        assert 1 == connection.snapshot().outbox_unsent
        assert "one" not in repr(event)


async def test_what_is_unsent_at_the_close_is_reported() -> None:
    it = stage()
    it.dialer.then(HANG)
    async with connect(it) as connection:
        await connection.send("one")

    [event] = it.of(MessagesUnsent)
    assert ("closed", ("one",)) == (event.reason, event.messages)


async def test_a_failure_carries_what_was_unsent_and_does_not_show_it() -> None:
    it = stage(dial_latency=1)
    it.dialer.then(HandshakeError("gone", status=410))
    with pytest.raises(PermanentError) as raised:  # noqa: PT012 - leaving the block raises
        async with connect(it) as connection:
            await connection.send("my secret plan")
            await asyncio.sleep(10)

    error = raised.value
    assert (("my secret plan",), ()) == (error.unsent, error.unknown)
    assert "secret" not in repr(error) + str(error)


# --- Confirmed, or unknown ------------------------------------------------------------------------


async def test_a_ping_a_second_later_confirms() -> None:
    it = stage(latency=0.1)
    async with connect(it, ping_interval=None) as connection:
        await connection.wait_open()
        await connection.send("hello")
        assert (0, 1) == _depths(connection)
        await asyncio.sleep(1.1)
        assert (0, 1) == _depths(connection)
        await asyncio.sleep(0.2)
        assert (0, 0) == _depths(connection)
        pings = len(it.far.pings)
        await asyncio.sleep(10)
        assert pings == len(it.far.pings), "nothing is asked when nothing is unconfirmed"


async def test_a_ping_goes_out_after_256_messages() -> None:
    it = stage()
    async with connect(it, ping_interval=None) as connection:
        await connection.wait_open()
        before = len(it.far.pings)
        for number in range(256):
            await connection.send(str(number))
        await asyncio.sleep(0.01)

        assert 1 == len(it.far.pings) - before
        assert (0, 0) == _depths(connection)


async def test_a_link_that_dies_leaves_what_was_not_confirmed_unknown() -> None:
    it = stage()
    async with connect(it) as connection:
        await connection.wait_open()
        await connection.send("surely")
        await asyncio.sleep(2)
        await connection.send("perhaps")
        it.far.drop()
        await asyncio.sleep(10)

        [event] = it.of(DeliveryUnknown)
        assert (1, 1, ("perhaps",), False) == (
            event.link,
            event.count,
            event.messages,
            event.resent,
        )
        assert "perhaps" not in repr(event)
        assert [] == it.far.received, "it is not repeated"
        assert 1 == connection.snapshot().counters.unknown


async def test_unknown_messages_are_sent_again_on_demand_before_all_others() -> None:
    it = stage(Outbox(resend_unknown=True))
    async with connect(it) as connection:
        await connection.wait_open()
        await connection.send("one")
        await connection.send("two")
        it.far.drop()
        await asyncio.sleep(0.01)
        await connection.send("three")
        await asyncio.sleep(10)

    assert [True] == [event.resent for event in it.of(DeliveryUnknown)]
    assert ["one", "two", "three"] == it.far.received
    assert [] == it.of(MessagesUnsent)


async def test_an_answered_close_confirms_where_no_ping_is_answered() -> None:
    async def deaf(link: FarEnd) -> None:
        link.answer_pings = False
        await link.wait_closed()

    it = stage(far_side=deaf)
    async with connect(it) as connection:
        await connection.wait_open()
        await connection.send("last words")

    assert [] == it.of(DeliveryUnknown)
    assert ["last words"] == it.far.received


async def test_a_close_that_is_not_answered_leaves_it_unknown() -> None:
    it = stage()
    async with connect(it) as connection:
        await connection.wait_open()
        it.far.go_silent()
        await connection.send("last words")

    assert [("last words",)] == [event.messages for event in it.of(DeliveryUnknown)]


async def test_a_close_that_crosses_ours_confirms_nothing() -> None:
    """The far side closed before it had read what we sent."""
    it = stage(latency=1)
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        await connection.send("last words")
        it.far.close(4000)

    assert [("last words",)] == [event.messages for event in it.of(DeliveryUnknown)]


async def test_nor_does_one_with_the_same_code_from_a_far_side_that_answers_pings() -> None:
    it = stage(latency=1)
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(5)
        await connection.send("last words")
        it.far.close(1000)

    assert [("last words",)] == [event.messages for event in it.of(DeliveryUnknown)]


async def test_a_failure_carries_what_is_unknown() -> None:
    it = stage()
    with pytest.raises(PermanentError) as raised:  # noqa: PT012 - leaving the block raises
        async with connect(it) as connection:
            await connection.wait_open()
            await connection.send("perhaps")
            it.far.close(1008)
            await asyncio.sleep(10)

    assert ((), ("perhaps",)) == (raised.value.unsent, raised.value.unknown)


async def test_a_hand_over_leaves_nothing_unknown() -> None:
    it = stage(tokens=Tokens(lifetime=10), latency=0.05)
    sent = 0
    async with connect(it) as connection:
        while len(it.of(HandedOver)) < 5:
            await connection.send(str(sent))
            sent += 1
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)
        assert (0, 0) == _depths(connection)

    received = [message for link in it.dialer.links for message in link.far.received]
    assert [str(number) for number in range(sent)] == received
    assert [] == it.of(DeliveryUnknown)


async def test_a_drain_waits_for_what_is_unsent_and_unconfirmed() -> None:
    it = stage(dial_latency=5, latency=1)
    async with connect(it) as connection:
        await connection.send("early")
        await connection.drain()
        assert asyncio.get_running_loop().time() >= 7

    assert ["early"] == it.far.received
    assert [] == it.of(MessagesUnsent) + it.of(DeliveryUnknown)


# --- When it is full ------------------------------------------------------------------------------


async def test_a_full_outbox_refuses_by_count_and_by_bytes() -> None:
    it = stage(Outbox(max_messages=3, max_bytes=100))
    it.dialer.then(HANG)
    async with connect(it) as connection:
        await connection.send("x" * 90)
        with pytest.raises(SendBufferFull, match="outbox keeps 1 messages of 90 bytes"):
            await connection.send("x" * 11)
        await connection.send("a")
        await connection.send("b")
        with pytest.raises(SendBufferFull):
            await connection.send("c")
        with pytest.raises(MessageTooBig):
            await connection.send("x" * 101)


async def test_unconfirmed_messages_count_as_well() -> None:
    it = stage(Outbox(max_messages=3))
    async with connect(it) as connection:
        await connection.wait_open()
        it.far.answer_pings = False
        for number in range(3):
            await connection.send(str(number))
        with pytest.raises(SendBufferFull, match="3 of them written and not confirmed"):
            await connection.send("4")


async def test_a_full_outbox_may_drop_the_oldest_and_says_so() -> None:
    it = stage(Outbox(max_messages=3, when_full="drop_oldest"), dial_latency=5)
    async with connect(it) as connection:
        for number in range(10):
            await connection.send(str(number))
        await asyncio.sleep(10)

    dropped = [message for event in it.of(MessagesUnsent) for message in event.messages]
    assert [str(number) for number in range(7)] == dropped
    assert ["7", "8", "9"] == it.far.received


async def test_what_was_written_is_not_dropped() -> None:
    it = stage(Outbox(max_messages=2, when_full="drop_oldest"))
    async with connect(it) as connection:
        await connection.wait_open()
        it.far.answer_pings = False
        await connection.send("one")
        await connection.send("two")
        with pytest.raises(SendBufferFull):
            await connection.send("three")

    assert [] == it.of(MessagesUnsent)


async def test_a_full_outbox_may_have_send_wait_for_room() -> None:
    it = stage(Outbox(max_messages=3, when_full="wait"), dial_latency=5)
    async with connect(it) as connection:
        await asyncio.gather(*(connection.send(str(number)) for number in range(10)))
        await asyncio.sleep(10)

    assert [str(number) for number in range(10)] == it.far.received


async def test_the_wait_for_room_has_an_end() -> None:
    it = stage(Outbox(max_messages=1, when_full="wait"))
    it.dialer.then(HANG)
    async with connect(it) as connection:
        await connection.send("one")
        with pytest.raises(SendBufferFull):
            await connection.send("two", timeout=3)
        assert 3 == asyncio.get_running_loop().time()
        late = asyncio.create_task(connection.send("three"))
        await asyncio.sleep(1)
        await connection.close()
        with pytest.raises(NotConnected):
            await late


async def test_a_handlers_send_does_not_wait_for_room() -> None:
    it = stage(Outbox(max_messages=1, when_full="wait"))
    it.start()
    await until(lambda: it.handler.sends)
    it.far.answer_pings = False
    it.handler.sends[0]("one")
    with pytest.raises(SendBufferFull):
        it.handler.sends[0]("two")
    await it.cancel()


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_messages": 0}, ValueError),
        ({"max_messages": 1.5}, TypeError),
        ({"max_bytes": -1}, ValueError),
        ({"ttl": 0}, ValueError),
        ({"ttl": "soon"}, TypeError),
        ({"when_full": "panic"}, ValueError),
        ({"resend_unknown": 1}, TypeError),
    ],
)
def test_an_outbox_that_can_not_work_is_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        Outbox(**options)


@pytest.mark.parametrize("wrong", [True, Outbox, {"ttl": 1}, "yes"])
def test_something_else_than_an_outbox_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="outbox must be an Outbox"):
        Stage(outbox=wrong)


# --- The ledger's books balance -------------------------------------------------------------------


class Books:
    """Drives a ledger with any sequence of moves, and knows where each message must be."""

    def __init__(self, rules: Outbox) -> None:
        self.told: list[BridgeEvent] = []
        self.ledger = Ledger(rules, self.told.append)
        self.rules = rules
        self.count = 0
        self.accepted: list[str] = []
        self.confirmed: set[str] = set()
        self.link = 1
        self.written: list[str] = []
        self.on_link: list[str] = []

    def send(self, size: int) -> None:
        message = f"{self.count}".ljust(size, ".")
        self.count += 1
        try:
            entry = self.ledger.admit(message, len(message))
        except (SendBufferFull, MessageTooBig):
            return
        self.accepted.append(message)
        self.ledger.wait(entry)

    def write(self) -> None:
        entry: Entry | None = self.ledger.next()
        if entry is not None:
            self.on_link.append(str(entry.message))
            self.written.append(str(entry.message))
            self.ledger.wrote(entry, link=self.link, number=len(self.on_link))

    def confirm(self, share: int) -> None:
        upto = len(self.on_link) * share // 10
        self.ledger.confirm(self.link, upto)
        self.confirmed |= set(self.on_link[:upto])

    def lose(self) -> None:
        self.ledger.lose(self.link)
        self.link += 1
        self.on_link = []

    def check(self) -> None:
        assert self.ledger.count <= self.rules.max_messages
        kept = [*self.ledger.unsent, *(e for d in self.ledger._written.values() for e in d)]
        assert len(kept) == self.ledger.count
        assert sum(entry.size for entry in kept) == self.ledger._size <= self.rules.max_bytes

    def close(self) -> None:
        unsent = set(self.ledger.close())
        told_unsent = _messages(self.told, MessagesUnsent)
        unknown = _messages(self.told, DeliveryUnknown, resent=False) | set(self.ledger.unknown)
        assert unsent <= told_unsent
        assert not told_unsent & set(self.written), "what was written is not unsent"
        assert not self.confirmed & (told_unsent | unknown)
        assert set(self.accepted) == self.confirmed | told_unsent | unknown
        assert 0 == len(self.ledger.unsent)


def _messages(told: list[BridgeEvent], kind: type[Any], **facts: Any) -> set[str]:
    return {
        message
        for event in told
        if isinstance(event, kind) and all(getattr(event, k) == v for k, v in facts.items())
        for message in event.messages
    }


MOVES = some.one_of(
    some.tuples(some.just("send"), some.integers(1, 40)),
    some.tuples(some.just("write")),
    some.tuples(some.just("write")),
    some.tuples(some.just("confirm"), some.integers(0, 10)),
    some.tuples(some.just("lose")),
    some.tuples(some.just("sleep"), some.integers(1, 20)),
)


@settings(max_examples=400, deadline=None)
@given(
    moves=some.lists(MOVES, max_size=60),
    when_full=some.sampled_from(get_args(Outbox.__annotations__["when_full"]) or ("error",)),
    resend=some.booleans(),
    ttl=some.sampled_from([None, 5.0, 30.0]),
)
def test_every_message_is_confirmed_or_reported_and_the_bounds_hold(
    moves: list[tuple[Any, ...]], when_full: Any, resend: bool, ttl: float | None
) -> None:
    rules = Outbox(
        max_messages=8, max_bytes=150, ttl=ttl, when_full=when_full, resend_unknown=resend
    )
    now = 0.0

    class Clock(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return now

    async def play() -> None:
        nonlocal now
        books = Books(rules)
        for name, *arguments in moves:
            if name == "sleep":
                now += arguments[0]
                await asyncio.sleep(0)
            else:
                move: Callable[..., None] = getattr(books, name)
                move(*arguments)
            books.check()
        books.close()

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(play())


def _depths(connection: Connection) -> tuple[int, int]:
    shot = connection.snapshot()
    return shot.outbox_unsent, shot.outbox_unconfirmed


async def test_a_ping_that_goes_astray_is_followed_by_another() -> None:
    it = stage()
    async with connect(it) as connection:
        await connection.wait_open()
        await asyncio.sleep(0.5)
        it.far.answer_pings = False
        await connection.send("hello")
        await asyncio.sleep(5)
        assert (0, 1) == _depths(connection)
        it.far.answer_pings = True
        await asyncio.sleep(1.1)

        assert (0, 0) == _depths(connection)
