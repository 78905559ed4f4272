"""A read brings more and more while nobody pauses, and never too much."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from tests.dialers.loopback import CLOSE, TEXT, Peer, close_frame, frame
from tests.dialers.test_picows_link import linked

from dromos.dialers._batch import Batch
from dromos.dialers._reads import LEAST, MOST, SMALL, Reads
from dromos.model import Message


class Engine:
    """Lends a buffer of so many bytes, and finds messages of one size in it."""

    def __init__(self, size: int, *, each: int = 100) -> None:
        self.room = memoryview(bytearray(size))
        self.filled: list[int] = []
        self.received = 0
        self._each = each

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.filled.append(nbytes)
        self.received += nbytes // self._each

    def reads(self) -> Reads:
        return Reads(self, lambda: self.received)


def fill(reads: Reads) -> int:
    """Read as much as there is room for."""
    room: int = len(reads.get_buffer(-1))
    reads.buffer_updated(room)
    return room


@pytest.mark.parametrize("each", [1, 100, SMALL - 10])
def test_each_read_that_fills_its_portion_with_small_messages_doubles_it(each: int) -> None:
    reads = Engine(4 * MOST, each=each).reads()

    portions = [fill(reads) for _ in range(7)]

    assert [min(LEAST << n, MOST) for n in range(7)] == portions
    assert MOST == portions[-1]


@pytest.mark.parametrize("each", [SMALL + 1, 16_384, 10 * MOST])
def test_messages_that_are_not_small_come_in_small_portions(each: int) -> None:
    engine = Engine(4 * MOST)
    reads = engine.reads()
    before = [fill(reads) for _ in range(3)]

    engine._each = each
    fill(reads)

    assert [LEAST, 2 * LEAST, 4 * LEAST] == before
    assert [LEAST] * 3 == [fill(reads) for _ in range(3)]


def test_a_read_that_does_not_fill_its_portion_leaves_it() -> None:
    reads = Engine(4 * MOST).reads()

    reads.buffer_updated(LEAST - 1)

    assert LEAST == fill(reads)


def test_an_engine_may_lend_less() -> None:
    engine = Engine(100)
    reads = engine.reads()

    assert [100, 100] == [fill(reads) for _ in range(2)]
    assert LEAST == reads.portion
    assert [100, 100] == engine.filled


def test_whoever_comes_after_each_read_comes_after_the_engine() -> None:
    engine = Engine(100)
    reads, seen = engine.reads(), list[list[int]]()
    reads.after = lambda: seen.append([*engine.filled])

    reads.buffer_updated(1)
    reads.buffer_updated(2)

    assert [[1], [1, 2]] == seen


async def test_a_pause_makes_the_portion_small_again() -> None:
    async def serve(peer: Peer) -> None:
        await peer.ended()

    async with linked(serve) as (link, _):
        real: Any = link
        real.pause_reading()
        real._reads.portion = MOST
        real.resume_reading()
        assert MOST == real._reads.portion
        real.pause_reading()
        assert LEAST == real._reads.portion
        link.abort()


TOGETHER = [["a", "b", "c"]]
AHEAD = [["a", "b"], ["c"]]
"""picows' parser looks one frame ahead: what it finds there is told of before the last message."""


@pytest.mark.parametrize(
    ("end", "batches"),
    [
        pytest.param(frame(TEXT, b"\xff"), TOGETHER, id="not UTF-8"),
        pytest.param(frame(3), AHEAD, id="unknown opcode"),
        pytest.param(frame(TEXT, b"x", rsv=4), TOGETHER, id="reserved bit"),
        pytest.param(b"\x82\x7f" + (2**30).to_bytes(8, "big"), AHEAD, id="too big"),
        pytest.param(close_frame(1000), TOGETHER, id="close"),
        pytest.param(close_frame(1001), TOGETHER, id="going away"),
    ],
)
async def test_what_a_read_brought_before_its_end_is_taken_together(
    end: bytes, batches: list[list[Message]]
) -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        await peer.read_frame()
        peer.write(b"".join(frame(TEXT, one) for one in (b"a", b"b", b"c")) + end)
        opcode, _, _ = await peer.read_frame()
        answer.set_result(opcode)
        await peer.ended()

    taken: list[list[Message]] = []
    async with linked(serve) as (link, recorder):
        recorder.then("going_away", link.close)
        link.deliver_reads_to(lambda messages: taken.append([*messages]))  # type: ignore[attr-defined]
        link.send("begin")
        await asyncio.wait_for(recorder.closed(), 20)
        assert CLOSE == await asyncio.wait_for(answer, 20)

    assert batches == taken  # one write on loopback is one read
    assert [] == recorder.messages


def test_what_goes_elsewhere_goes_there_whatever_one_of_them_raises() -> None:
    there: list[Message] = []

    def otherwise(message: Message) -> None:
        there.append(message)
        if message == "exit":
            raise SystemExit

    batch = Batch(lambda _: batch.cut())
    for message in ("a", "exit", "b"):
        batch.add(message)
    with pytest.raises(SystemExit):
        batch.flush(otherwise)

    assert ["a", "exit", "b"] == there


async def test_a_link_that_has_ended_is_kept_by_nothing() -> None:
    async def serve(peer: Peer) -> None:
        await peer.ended()

    gc.collect()
    gc.disable()
    try:
        async with linked(serve) as (link, recorder):
            link.deliver_reads_to(lambda messages: None)  # type: ignore[attr-defined]
            link.pause_reading()
            link.abort()
            await recorder.closed()
            ended = weakref.ref(link)
            del link
            await asyncio.sleep(0)
        assert ended() is None
    finally:
        gc.enable()
