"""What every dialer's links do, real or in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol

import pytest
from tests.dialers.recorder import Recorder, facts

from dromos.dialers._frames import LONGEST_REASON
from dromos.errors import ConnectionClosed, HandshakeError, NotConnected
from dromos.interfaces import Dialer, Limits, Link, WireBytes
from dromos.model import Handshake, Message


class Far(Protocol):
    """The far side's end of a link, as the contract's tests use it."""

    pings: list[bytes]
    answer_close: bool

    async def receive(self) -> Message: ...
    async def wait_closed(self) -> ConnectionClosed: ...
    def send(self, message: Message, *, fragments: int = 1) -> None: ...
    def ping(self, payload: bytes = b"") -> None: ...
    def close(self, code: int = 1000, reason: str = "") -> None: ...
    def drop(self) -> None: ...
    def stop_reading(self) -> None: ...
    def start_reading(self) -> None: ...


class World(Protocol):
    """A dialer and its far side."""

    dialer: Dialer
    handshake: Handshake

    def at_once(self, action: Callable[[Far], None]) -> None:
        """Have the far side do this as soon as the next link is open."""

    def hang(self) -> None:
        """Have the far side not answer the next dial."""

    async def far(self) -> Far:
        """Return the far end of the next link."""
        ...


Open = Callable[..., Awaitable[tuple[Link, Recorder, Far]]]


async def turns() -> None:
    """Let both ends do what they would do without being asked."""
    for _ in range(20):
        await asyncio.sleep(0)


class LinkContract:
    """Subclass it with a fixture `world`."""

    @pytest.fixture
    async def open(self, world: World) -> AsyncIterator[Open]:
        links: list[tuple[Link, Recorder]] = []

        async def open_(limits: Limits | None = None) -> tuple[Link, Recorder, Far]:
            recorder = Recorder()
            link = await world.dialer.dial(world.handshake, recorder, limits or Limits())
            links.append((link, recorder))
            return link, recorder, await world.far()

        yield open_

        for link, recorder in links:
            link.abort()
            await recorder.closed()
            assert recorder.calls[-1][0] == "closed", "nothing is called after on_closed"
            assert len(recorder.all("closed")) == 1

    # Messages

    async def test_messages_of_both_kinds_arrive_whole_and_in_order(self, open: Open) -> None:
        sent: list[Message] = ["", "grüße ✓", b"", bytes(range(256)), "a" * 100_000, b"b" * 70_000]
        link, recorder, far = await open()

        for message in sent:
            far.send(message)
        await recorder.until(lambda: len(recorder.messages) == len(sent))

        assert sent == recorder.messages
        assert len(sent) == link.received

    async def test_a_message_in_fragments_arrives_as_one(self, open: Open) -> None:
        _, recorder, far = await open()

        far.send("grüße ✓ und mehr", fragments=7)
        far.send(b"0123456789", fragments=3)
        await recorder.until(lambda: len(recorder.messages) == 2)

        assert ["grüße ✓ und mehr", b"0123456789"] == recorder.messages

    async def test_deliver_can_be_replaced(self, open: Open) -> None:
        link, recorder, far = await open()
        delivered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        link.deliver_to(delivered.set_result)
        far.send("hello")

        assert "hello" == await delivered
        assert [] == recorder.messages

    @pytest.mark.parametrize("fragments", [1, 3])
    async def test_what_deliver_raises_is_told_and_the_link_goes_on(
        self, open: Open, fragments: int
    ) -> None:
        link, recorder, far = await open()
        error = LookupError("oops")

        def fail(_: Message) -> None:
            link.deliver_to(recorder.on_message)
            raise error

        link.deliver_to(fail)
        far.send("first", fragments=fragments)
        far.send("second")
        await recorder.first("message")

        assert [("deliver_failed", error), ("message", "second")] == recorder.calls

    async def test_everything_sendable_is_sent(self, open: Open) -> None:
        link, _, far = await open()

        views = (memoryview(b"a view")[2:], memoryview(b"e v e n")[::2])
        for message in ("text ✓", b"bytes", bytearray(b"array"), *views):
            link.send(message)

        assert "text ✓" == await far.receive()
        assert [b"bytes", b"array", b"view", b"even"] == [await far.receive() for _ in range(4)]

    @pytest.mark.parametrize("message", [None, 7, ["a"]])
    async def test_nothing_else_is_sent(self, open: Open, message: Any) -> None:
        link, _, far = await open()

        with pytest.raises(TypeError):
            link.send(message)

        link.send("still open")
        assert "still open" == await far.receive()

    @pytest.mark.parametrize("length", [0, 1, 70_000])
    async def test_a_text_that_utf8_has_no_bytes_for_is_not_sent(
        self, open: Open, length: int
    ) -> None:
        link, _, far = await open()

        with pytest.raises(UnicodeEncodeError):
            link.send("x" * length + "\ud800")

        link.send("still open")
        assert "still open" == await far.receive()

    # Pings

    async def test_a_ping_is_answered_with_its_payload(self, open: Open) -> None:
        link, recorder, far = await open()

        link.ping(b"abc")

        assert b"abc" == await recorder.first("pong")
        assert [b"abc"] == far.pings

    async def test_a_ping_holds_125_bytes_at_most(self, open: Open) -> None:
        link, recorder, _ = await open()

        with pytest.raises(ValueError, match="125"):
            link.ping(bytes(126))

        link.ping(bytes(125))
        assert bytes(125) == await recorder.first("pong")

    async def test_the_far_sides_pings_are_nothing_to_the_listener(self, open: Open) -> None:
        _, recorder, far = await open()

        far.ping(b"x")
        far.send("after")
        await recorder.first("message")

        assert [("message", "after")] == recorder.calls

    # Ends

    @pytest.mark.parametrize("code", [1000, 1011, 1013, 3000, 4999])
    async def test_the_far_sides_close_is_reported(self, open: Open, code: int) -> None:
        _, recorder, far = await open()

        far.close(code, "tschüß")

        assert (code, "tschüß", True) == await recorder.closed()
        assert code == (await far.wait_closed()).code
        assert [] == recorder.all("going_away")

    async def test_a_message_is_refused_from_the_far_sides_close_on(self, open: Open) -> None:
        link, recorder, far = await open()
        refused: list[bool] = []

        def answer(_: Message) -> None:
            link.deliver_to(recorder.on_message)
            asyncio.get_running_loop().call_soon(try_to_send)

        def try_to_send() -> None:
            try:
                link.send("an answer")
            except NotConnected:
                refused.append(True)
            else:
                asyncio.get_running_loop().call_soon(try_to_send)

        link.deliver_to(answer)
        far.send("last words")
        far.close(4000)
        await recorder.closed()
        await asyncio.sleep(0)

        assert [True] == refused

    async def test_an_empty_close_is_1005_and_answered_with_1000(self, open: Open) -> None:
        _, recorder, far = await open()

        far.close(1005)

        assert (1005, "", True) == await recorder.closed()

    async def test_our_close_is_ours_once_answered(self, open: Open) -> None:
        link, recorder, far = await open()

        link.close(4000, "done")
        link.close(4001, "again")

        assert (4000, "done", False) == await recorder.closed()
        error = await far.wait_closed()
        assert (4000, "done", True) == (error.code, error.reason, error.by_peer)

    async def test_messages_are_delivered_until_our_close_is_answered(self, open: Open) -> None:
        link, recorder, far = await open()
        far.answer_close = False

        link.close()
        with pytest.raises(NotConnected):
            link.send("not sent")
        far.send("late")
        await recorder.first("message")
        far.close()

        assert (1000, "", False) == await recorder.closed()
        assert ["late"] == recorder.messages

    async def test_a_drop_after_our_close_is_1006_and_ours(self, open: Open) -> None:
        link, recorder, far = await open()
        far.answer_close = False

        link.close()
        far.drop()

        code, _, by_peer = await recorder.closed()
        assert (1006, False) == (code, by_peer)

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70_000])
    async def test_a_code_that_must_not_be_sent_is_refused(self, open: Open, code: int) -> None:
        link, _, far = await open()

        with pytest.raises(ValueError, match="code"):
            link.close(code)

        link.send("still open")
        assert "still open" == await far.receive()

    async def test_a_long_reason_is_cut_between_characters(self, open: Open) -> None:
        link, recorder, far = await open()

        link.close(4000, "✓" * 100)

        assert (4000, "✓" * (LONGEST_REASON // 3), False) == await recorder.closed()
        assert "✓" * (LONGEST_REASON // 3) == (await far.wait_closed()).reason

    async def test_a_drop_is_1006(self, open: Open) -> None:
        _, recorder, far = await open()

        far.drop()

        code, reason, by_peer = await recorder.closed()
        assert (1006, True) == (code, by_peer)
        assert reason

    async def test_abort_ends_the_link_at_once(self, open: Open) -> None:
        link, recorder, far = await open()

        link.abort()
        link.abort()
        with pytest.raises(NotConnected):
            link.send("nothing")

        assert (1006, "aborted", False) == await recorder.closed()
        assert 1006 == (await far.wait_closed()).code

    async def test_nothing_is_delivered_after_abort(self, open: Open) -> None:
        link, recorder, far = await open()

        far.send("one")
        await recorder.first("message")
        far.send("two")
        link.abort()
        await recorder.closed()

        assert ["one"] == recorder.messages

    async def test_after_the_end_every_method_is_harmless(self, open: Open) -> None:
        link, recorder, far = await open()
        far.close(4001)
        await recorder.closed()

        with pytest.raises(NotConnected):
            link.send("x")
        link.ping(b"x")
        link.close()
        link.abort()
        link.pause_reading()
        link.resume_reading()

        assert link.buffered >= 0
        assert link.idle_for() >= 0
        assert link.unacknowledged is None or link.unacknowledged >= 0
        assert len(recorder.all("closed")) == 1

    async def test_the_end_is_told_after_dial_returned(self, world: World, open: Open) -> None:
        world.at_once(lambda far: (far.send("bye"), far.close(4003))[0])

        link, recorder, _ = await open()
        early = recorder.all("closed")

        assert (4003, "", True) == await recorder.closed()
        assert [] == early
        assert ["bye"] == recorder.messages
        assert 1 == link.received

    # Going away

    @pytest.mark.parametrize("code", [1001, 1012])
    async def test_a_far_side_that_goes_away_is_not_answered_before_we_close(
        self, open: Open, code: int
    ) -> None:
        link, recorder, far = await open()

        far.close(code, "tschüß")
        assert (code, "tschüß", True) == await recorder.going_away()
        await turns()
        early = recorder.all("closed")
        link.close(4000, "not this")
        link.close(4001)

        assert (code, "tschüß", True) == await recorder.closed()
        assert (code, "tschüß", False) == facts(await far.wait_closed()), "it is echoed"
        assert [] == early
        assert 1 == len(recorder.all("going_away"))

    async def test_nothing_is_sent_to_a_far_side_that_goes_away(self, open: Open) -> None:
        link, recorder, far = await open()

        far.close(1001)
        await recorder.going_away()
        with pytest.raises(NotConnected):
            link.send("x")
        link.ping(b"x")
        link.close()

        assert (1001, "", False) == facts(await far.wait_closed())
        assert [] == far.pings

    async def test_what_follows_going_away_is_ignored(self, open: Open) -> None:
        link, recorder, far = await open()

        far.send("last words")
        far.close(1012)
        await recorder.going_away()
        far.ping(b"x")
        await turns()
        link.close()

        assert (1012, "", True) == await recorder.closed()
        assert ["message", "going_away", "closed"] == [name for name, _ in recorder.calls]
        assert 1 == link.received

    async def test_going_away_can_be_answered_at_once(self, open: Open) -> None:
        link, recorder, far = await open()
        recorder.then("going_away", link.close)

        far.close(1001, "deploy")

        assert (1001, "deploy", True) == await recorder.closed()
        assert (1001, "deploy", False) == facts(await far.wait_closed())

    @pytest.mark.parametrize("at_once", [True, False])
    async def test_abort_ends_a_link_that_goes_away_unanswered(
        self, open: Open, at_once: bool
    ) -> None:
        link, recorder, far = await open()
        if at_once:
            recorder.then("going_away", link.abort)

        far.close(1001, "deploy")
        await recorder.going_away()
        link.abort()
        link.close()

        assert (1001, "deploy", True) == await recorder.closed()
        assert 1006 == (await far.wait_closed()).code

    async def test_a_drop_while_the_far_side_goes_away_ends_the_link_as_announced(
        self, open: Open
    ) -> None:
        _, recorder, far = await open()

        far.close(1012, "deploy")
        await recorder.going_away()
        far.drop()

        assert (1012, "deploy", True) == await recorder.closed()

    async def test_after_our_close_nobody_goes_away(self, open: Open) -> None:
        link, recorder, far = await open()
        far.answer_close = False

        link.close(4000)
        far.close(1001, "deploy")

        assert (1001, "deploy", True) == await recorder.closed()
        assert [] == recorder.all("going_away")

    async def test_going_away_is_heard_once_reading_is_resumed(self, open: Open) -> None:
        link, recorder, far = await open()

        link.pause_reading()
        far.close(1001)
        for _ in range(5):
            link.send("ping-pong")
            await far.receive()
        early = list(recorder.calls)
        link.resume_reading()
        await recorder.going_away()
        link.pause_reading()
        link.close()

        assert (1001, "", True) == await recorder.closed()
        assert [] == early

    async def test_an_answer_does_not_wait_for_a_far_side_that_does_not_read(
        self, open: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("dialers._link", "dialers._protocol_link", "testing.memory"):
            monkeypatch.setattr(f"dromos.{module}.LINGER", 0.05)
        link, recorder, far = await open()

        far.stop_reading()
        while not recorder.all("pause_writing"):
            link.send(bytes(65536))
            await asyncio.sleep(0)
        far.close(1001)
        await recorder.going_away()
        link.close()

        assert (1001, "", True) == await recorder.closed()

    # CLOSEs that cross

    @pytest.mark.parametrize("answer", [4000, 1005])
    async def test_a_close_of_our_code_or_of_none_answers_ours(
        self, open: Open, answer: int
    ) -> None:
        link, recorder, far = await open()
        far.answer_close = False

        link.close(4000, "done")
        far.close(answer)

        assert (4000, "done", False) == await recorder.closed()

    async def test_a_close_of_another_code_has_crossed_ours(self, open: Open) -> None:
        link, recorder, far = await open()
        far.answer_close = False

        link.close(4000, "done")
        far.close(4009, "thrown out")

        assert (4009, "thrown out", True) == await recorder.closed()

    # Limits

    async def test_a_message_of_the_limit_passes_and_one_byte_more_does_not(
        self, open: Open
    ) -> None:
        _, recorder, far = await open(Limits(message_size=1000))

        far.send("x" * 1000)
        far.send(b"x" * 1001)
        far.send("never seen")
        code, _, by_peer = await recorder.closed()

        assert (1009, False) == (code, by_peer)
        assert ["x" * 1000] == recorder.messages

    async def test_the_limit_counts_all_fragments(self, open: Open) -> None:
        _, recorder, far = await open(Limits(message_size=1000))

        far.send("x" * 1000, fragments=9)
        far.send("y" * 1001, fragments=9)
        far.send("never seen")
        code, _, by_peer = await recorder.closed()

        assert (1009, False) == (code, by_peer)
        assert ["x" * 1000] == recorder.messages

    async def test_fragments_have_a_limit_too(self, open: Open) -> None:
        _, recorder, far = await open(Limits(fragments=10))

        far.send("0123456789", fragments=10)
        far.send("0123456789a", fragments=11)
        code, _, by_peer = await recorder.closed()

        assert (1009, False) == (code, by_peer)
        assert ["0123456789"] == recorder.messages
        assert 1009 == (await far.wait_closed()).code

    # Back-pressure

    async def test_nothing_arrives_while_reading_is_paused(self, open: Open) -> None:
        link, recorder, far = await open()

        link.pause_reading()
        link.pause_reading()
        far.send("one")
        far.send("two")
        for _ in range(5):
            link.send("ping-pong")
            await far.receive()
        before = list(recorder.messages)
        link.resume_reading()
        link.resume_reading()
        await recorder.until(lambda: len(recorder.messages) == 2)

        assert [] == before
        assert ["one", "two"] == recorder.messages

    async def test_writing_pauses_when_the_far_side_does_not_read(self, open: Open) -> None:
        link, recorder, far = await open()

        far.stop_reading()
        while not recorder.all("pause_writing"):
            link.send(bytes(65536))
            await asyncio.sleep(0)
        unacknowledged, buffered = link.unacknowledged, link.buffered
        far.start_reading()
        await recorder.first("resume_writing")

        assert buffered > 0
        assert unacknowledged is None or unacknowledged > 0

    async def test_abort_does_not_wait_for_a_far_side_that_does_not_read(self, open: Open) -> None:
        link, recorder, far = await open()

        far.stop_reading()
        while not recorder.all("pause_writing"):
            link.send(bytes(65536))
            await asyncio.sleep(0)
        link.close()
        link.abort()

        assert (1006, "aborted", False) == await recorder.closed()

    async def test_idle_for_starts_over_with_each_arrival(self, open: Open) -> None:
        link, recorder, far = await open()

        far.send("x")
        await recorder.first("message")

        assert 0 <= link.idle_for() < 10

    async def test_bytes_on_the_wire_are_told_until_the_end_where_the_kernel_knows(
        self, open: Open
    ) -> None:
        link, recorder, far = await open()
        before = link.wire_bytes()
        if before is None:
            pytest.skip("only Linux tells how many bytes a connection has carried")

        far.send(b"a" * 5000)
        await recorder.first("message")
        link.send(b"b" * 3000)
        await far.receive()
        after = link.wire_bytes()
        ends: list[WireBytes | None] = []
        recorder.then("closed", lambda: ends.append(link.wire_bytes()))
        far.close()
        await recorder.closed()

        assert 5000 <= after.received - before.received < 6000
        [end] = ends
        assert end.received >= after.received
        # What we wrote is acknowledged with the far side's CLOSE at the latest.
        assert 3000 <= end.sent - before.sent < 4000

    # Dialling

    async def test_a_cancelled_dial_leaves_nothing_behind(self, world: World) -> None:
        world.hang()
        tasks = asyncio.all_tasks()
        dial = asyncio.create_task(
            world.dialer.dial(world.handshake, Recorder(), Limits()), name="dial"
        )
        for _ in range(20):
            await asyncio.sleep(0)
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial

        ours = {t for t in asyncio.all_tasks() - tasks if "dromos" in repr(t.get_coro())}
        assert set() == ours

    async def test_a_dial_that_hangs_is_a_handshake_error(self, world: World) -> None:
        world.hang()

        with pytest.raises(HandshakeError, match="took over"):
            await world.dialer.dial(world.handshake, Recorder(), Limits())


class QuickContract(LinkContract):
    """What links do that can `write` without a look at the message."""

    async def test_write_writes_text_and_bytes(self, open: Open) -> None:
        link, _, far = await open()
        write: Any = getattr(link, "write")  # noqa: B009 - a link may be without

        write(1, "grüße ✓")
        write(2, b"bytes")

        assert ["grüße ✓", b"bytes"] == [await far.receive(), await far.receive()]

    @pytest.mark.parametrize("end", ["close", "abort"])
    async def test_write_refuses_where_send_does(self, open: Open, end: str) -> None:
        link, recorder, _ = await open()
        getattr(link, end)()
        for _ in range(2):
            with pytest.raises(NotConnected):
                getattr(link, "write")(1, "too late")  # noqa: B009
            await recorder.closed()

    async def test_write_refuses_once_the_far_side_goes_away(self, open: Open) -> None:
        link, recorder, far = await open()
        far.close(1001)
        await recorder.first("going_away")
        with pytest.raises(NotConnected):
            getattr(link, "write")(1, "too late")  # noqa: B009

    async def test_write_refuses_another_thread(self, open: Open) -> None:
        link, _, far = await open()
        with pytest.raises(RuntimeError):
            await asyncio.to_thread(getattr(link, "write"), 1, "from elsewhere")  # noqa: B009
        link.send("from here")

        assert "from here" == await far.receive()


class ReadsContract(QuickContract):
    """What links do that also know where a read ends."""

    @pytest.mark.parametrize("fragments", [1, 3])
    async def test_messages_are_taken_in_their_order(self, open: Open, fragments: int) -> None:
        link, recorder, far = await open()
        reads = _Reads()
        reads.follow(link)

        for message in ("a", b"b", "c"):
            far.send(message, fragments=fragments)
        await reads.until(3)

        assert ["a", b"b", "c"] == reads.taken
        assert 3 == link.received
        assert [] == recorder.calls

    async def test_what_came_before_a_close_is_taken_before_it_is_told(self, open: Open) -> None:
        link, recorder, far = await open()
        order: list[object] = []
        reads = _Reads(take=order.append)
        reads.follow(link)
        recorder.then("going_away", lambda: order.append("going_away"))

        for message in ("a", "b"):
            far.send(message)
        far.close(1001)
        await recorder.first("going_away")

        assert ["a", "b", "going_away"] == order

    @pytest.mark.parametrize("end", ["close", "abort"])
    async def test_whoever_takes_may_end_the_link(self, open: Open, end: str) -> None:
        link, recorder, far = await open()
        reads = _Reads(take=lambda _: getattr(link, end)())
        reads.follow(link)

        for message in ("a", "b"):
            far.send(message)
        far.close(1001)

        assert (await recorder.closed())[0] in {1000, 1001, 1006}
        assert "a" == reads.taken[0]

    async def test_deliver_to_ends_it_in_the_middle_of_a_read(self, open: Open) -> None:
        link, recorder, far = await open()

        def take(message: Message) -> None:
            if message == "last":
                link.deliver_to(recorder.on_message)

        reads = _Reads(take=take)
        reads.follow(link)

        for message in ("last", "next", "and next"):
            far.send(message)
        await recorder.until(lambda: len(recorder.messages) == 2)
        far.send("later")
        await recorder.until(lambda: len(recorder.messages) == 3)

        assert ["last"] == reads.taken
        assert ["next", "and next", "later"] == recorder.messages

    async def test_what_is_left_in_the_iterator_goes_where_deliver_to_says(
        self, open: Open
    ) -> None:
        link, recorder, far = await open()

        def take(messages: Iterator[Message]) -> None:
            recorder.on_message(f"first: {next(messages)!s}")
            link.deliver_to(recorder.on_message)

        getattr(link, "deliver_reads_to")(take)  # noqa: B009
        for message in ("a", "b", "c"):
            far.send(message)
        await recorder.until(lambda: len(recorder.messages) == 3)

        assert ["first: a", "b", "c"] == recorder.messages

    async def test_what_take_raises_is_told_and_the_rest_goes_on(self, open: Open) -> None:
        link, recorder, far = await open()
        error = LookupError("oops")

        def take(messages: Iterator[Message]) -> None:
            assert "bad" == next(messages)
            link.deliver_to(recorder.on_message)
            raise error

        getattr(link, "deliver_reads_to")(take)  # noqa: B009
        far.send("bad")
        far.send("good")
        await recorder.until(lambda: len(recorder.messages) == 1)

        assert [error] == recorder.all("deliver_failed")
        assert ["good"] == recorder.messages

    async def test_it_may_begin_again(self, open: Open) -> None:
        link, recorder, far = await open()
        reads, others = _Reads(), _Reads()
        reads.follow(link)
        far.send("a")
        await reads.until(1)
        link.deliver_to(recorder.on_message)
        far.send("b")
        await recorder.until(lambda: len(recorder.messages) == 1)
        others.follow(link)
        far.send("c")
        await others.until(1)

        assert (["a"], ["b"], ["c"]) == (reads.taken, recorder.messages, others.taken)


class _Reads:
    """Takes messages read by read, and notes each before it is passed on."""

    def __init__(self, *, take: Callable[[Message], object] = lambda _: None) -> None:
        self.taken: list[Message] = []
        self._take = take
        self._changed = asyncio.Event()

    async def until(self, count: int) -> None:
        while len(self.taken) < count:
            self._changed.clear()
            await self._changed.wait()

    def follow(self, link: Any) -> None:
        link.deliver_reads_to(self.take)

    def take(self, messages: Iterator[Message]) -> None:
        self._changed.set()
        for message in messages:
            self.taken.append(message)
            self._take(message)
