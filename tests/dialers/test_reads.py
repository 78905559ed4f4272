"""A read brings more and more while nobody pauses, and never too much."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.dialers.loopback import CLOSE, TEXT, Peer, close_frame, frame
from tests.dialers.test_picows_link import linked

from dromos.dialers._batch import Batch
from dromos.dialers._reads import LEAST, MOST, MOST_TOGETHER, Reads
from dromos.model import Message


class Engine:
    """Lends a buffer of so many bytes, and remembers how it was filled."""

    def __init__(self, size: int) -> None:
        self.room = memoryview(bytearray(size))
        self.filled: list[int] = []

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.filled.append(nbytes)


def fill(reads: Reads) -> int:
    """Read as much as there is room for."""
    room: int = len(reads.get_buffer(-1))
    reads.buffer_updated(room)
    return room


@pytest.mark.parametrize(
    ("after", "most"), [(None, MOST), (lambda: None, MOST_TOGETHER)], ids=["each", "together"]
)
def test_each_read_that_fills_its_portion_doubles_it_up_to_the_most(
    after: Callable[[], None] | None, most: int
) -> None:
    reads = Reads(Engine(4 * MOST))
    reads.after = after

    portions = [fill(reads) for _ in range(7)]

    assert [min(LEAST << n, most) for n in range(7)] == portions
    assert most == portions[-1]


def test_a_read_that_does_not_fill_its_portion_leaves_it() -> None:
    reads = Reads(Engine(4 * MOST))

    reads.buffer_updated(LEAST - 1)

    assert LEAST == fill(reads)


def test_an_engine_may_lend_less() -> None:
    engine = Engine(100)
    reads = Reads(engine)

    assert [100, 100] == [fill(reads) for _ in range(2)]
    assert LEAST == reads.portion
    assert [100, 100] == engine.filled


def test_whoever_comes_after_each_read_comes_after_the_engine() -> None:
    engine = Engine(100)
    reads, seen = Reads(engine), list[list[int]]()
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


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(frame(TEXT, b"\xff"), id="not UTF-8"),
        pytest.param(frame(3), id="unknown opcode"),
        pytest.param(frame(TEXT, b"x", rsv=4), id="reserved bit"),
        pytest.param(b"\x82\x7f" + (2**30).to_bytes(8, "big"), id="too big"),
        pytest.param(close_frame(1000), id="close"),
        pytest.param(close_frame(1001), id="going away"),
    ],
)
async def test_what_a_read_brought_before_its_end_is_taken_together(end: bytes) -> None:
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

    assert ["a", "b", "c"] == [message for batch in taken for message in batch]
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
