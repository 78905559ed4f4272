"""Links on picows: the contract, and what only real frames can show."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.dialers.contract import ReadsContract
from tests.dialers.loopback import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    close_frame,
    frame,
    serving,
)
from tests.dialers.recorder import Recorder
from tests.dialers.socket_far import Far, SocketFar

from dromos.dialers import _link
from dromos.dialers.picows import PicowsDialer
from dromos.errors import ConnectionClosed, NotConnected
from dromos.interfaces import Limits, Link
from dromos.model import Handshake


class PicowsWorld:
    def __init__(self, far: Far, port: int) -> None:
        self.dialer = PicowsDialer(open_timeout=1)
        self.handshake = Handshake(url=f"ws://127.0.0.1:{port}/")
        self._far = far

    def at_once(self, action: Callable[[SocketFar], None]) -> None:
        self._far.first_action = action

    def hang(self) -> None:
        self._far.hanging = True

    async def far(self) -> SocketFar:
        return await self._far.queue.get()


class TestPicowsLink(ReadsContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[PicowsWorld]:
        far = Far()
        async with serving(far.serve) as port:
            yield PicowsWorld(far, port)


@asynccontextmanager
async def linked(
    serve: Callable[[Peer], Awaitable[None]], limits: Limits | None = None
) -> AsyncIterator[tuple[Link, Recorder]]:
    """Open a link to a server that upgrades and then runs `serve`."""

    async def upgrade(peer: Peer) -> None:
        await peer.accept()
        await serve(peer)

    async with serving(upgrade) as port:
        recorder = Recorder()
        handshake = Handshake(url=f"ws://127.0.0.1:{port}/")
        link = await PicowsDialer().dial(handshake, recorder, limits or Limits())
        yield link, recorder
        link.abort()
        await recorder.closed()


async def end_of(data: bytes, limits: Limits | None = None) -> tuple[Recorder, bytes]:
    """Send bytes and nothing more; return what came of them, and the client's first frame."""
    answer: asyncio.Future[tuple[int, bytes, int]] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        peer.write(data)
        answer.set_result(await peer.read_frame())
        await peer.ended()

    async with linked(serve, limits) as (_, recorder):
        opcode, payload, _ = await answer
        assert CLOSE == opcode
        await recorder.closed()
    return recorder, payload


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(TEXT, b"x", rsv=4), 1002, id="rsv1"),
        pytest.param(frame(BINARY, b"x", rsv=2), 1002, id="rsv2"),
        pytest.param(frame(TEXT, b"x", rsv=1), 1002, id="rsv3"),
        pytest.param(frame(PING, b"x", rsv=4), 1002, id="ping with rsv1"),
        pytest.param(frame(PONG, b"x", rsv=1), 1002, id="pong with rsv3"),
        pytest.param(frame(3, b"x"), 1002, id="unknown data opcode"),
        pytest.param(frame(11, b"x"), 1002, id="unknown control opcode"),
        pytest.param(frame(PING, b"x", fin=False), 1002, id="fragmented ping"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="long ping"),
        pytest.param(frame(0, b"x"), 1002, id="continuation of nothing"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, id="text inside text"),
        pytest.param(
            frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False), 1002, id="mixed"
        ),
        pytest.param(frame(TEXT, b"\xff"), 1007, id="not UTF-8"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), 1007, id="surrogate"),
        pytest.param(frame(TEXT, b"a\xc3"), 1007, id="half a character"),
        pytest.param(frame(TEXT, b"a\xc3", fin=False) + frame(0, b"b"), 1007, id="split badly"),
        pytest.param(frame(TEXT, b"a\xff", fin=False), 1007, id="fails before the last fragment"),
        pytest.param(frame(CLOSE, b"\x03"), 1002, id="half a close code"),
        pytest.param(close_frame(0), 1002, id="close 0"),
        pytest.param(close_frame(999), 1002, id="close 999"),
        pytest.param(close_frame(1004), 1002, id="close 1004"),
        pytest.param(close_frame(1005), 1002, id="close 1005"),
        pytest.param(close_frame(1006), 1002, id="close 1006"),
        pytest.param(close_frame(1015), 1002, id="close 1015"),
        pytest.param(close_frame(2999), 1002, id="close 2999"),
        pytest.param(close_frame(5000), 1002, id="close 5000"),
        pytest.param(close_frame(65535), 1002, id="close 65535"),
        pytest.param(close_frame(1000, b"\xff"), 1007, id="close reason not UTF-8"),
        pytest.param(b"\x81\x81\0\0\0\0x", 1002, id="masked"),
        pytest.param(b"\x81\x7e\x00\x01x", 1002, id="length in too many bytes"),
        pytest.param(b"\x82\x7f" + b"\xff" * 8, 1002, id="length with its highest bit set"),
    ],
)
async def test_a_far_side_that_breaks_the_protocol_is_told_and_left(data: bytes, code: int) -> None:
    recorder, payload = await end_of(frame(TEXT, b"good") + data)

    assert code == int.from_bytes(payload[:2], "big")
    error: ConnectionClosed = recorder.all("closed")[0]
    assert (code, False) == (error.code, error.by_peer)
    assert error.reason
    assert ["good"] == recorder.messages


async def test_a_frame_announced_too_big_ends_the_link_before_it_comes() -> None:
    header = b"\x82\x7f" + (2**20 + 1).to_bytes(8, "big")

    recorder, payload = await end_of(header)

    assert 1009 == int.from_bytes(payload[:2], "big") == recorder.all("closed")[0].code


@pytest.mark.parametrize(
    "bad",
    [frame(TEXT, b"\xff"), frame(3), b"\x82\x7f" + (2**30).to_bytes(8, "big"), close_frame(0)],
)
async def test_nothing_is_delivered_after_an_error(bad: bytes) -> None:
    async def serve(peer: Peer) -> None:
        peer.write(bad)
        peer.write(frame(TEXT, b"never") * 3)
        for _ in range(50):
            peer.write(frame(TEXT, b"never"))
            await asyncio.sleep(0)
        await peer.ended()

    async with linked(serve) as (_, recorder):
        await recorder.closed()
        assert [] == recorder.messages


async def test_a_far_side_that_floods_after_an_error_is_left_all_the_same() -> None:
    async def serve(peer: Peer) -> None:
        peer.write(frame(TEXT, b"\xff"))
        while True:
            peer.write(frame(BINARY, bytes(60_000)))
            await peer.writer.drain()

    async with linked(serve) as (link, recorder):
        assert (1007, "text is not UTF-8", False) == await recorder.closed()
        assert 0 == link.received


async def test_a_ping_between_fragments_is_answered() -> None:
    answers: list[tuple[int, bytes, int]] = []

    async def serve(peer: Peer) -> None:
        peer.write(
            frame(TEXT, b"gr\xc3", fin=False) + frame(PING, b"p") + frame(0, b"\xbc\xc3\x9f")
        )
        answers.append(await peer.read_frame())
        peer.write(close_frame(1000))
        await peer.ended()

    async with linked(serve) as (_, recorder):
        await recorder.closed()
        assert [(PONG, b"p")] == [answer[:2] for answer in answers]
        assert ["grüß"] == recorder.messages


async def test_answers_to_pings_do_not_pile_up_before_a_peer_that_does_not_read() -> None:
    paused, flooded = asyncio.Event(), asyncio.Event()
    last: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        await paused.wait()
        for number in range(1000):
            peer.write(frame(PING, b"%0125d" % number))
        peer.write(frame(TEXT, b"all sent"))
        await flooded.wait()
        while True:
            opcode, payload, _ = await peer.read_frame()
            if opcode == PONG:
                last.set_result(payload)
                return

    async with linked(serve) as (link, recorder):
        while not recorder.all("pause_writing"):
            link.send(bytes(65536))
        before = link.buffered
        paused.set()
        await recorder.first("message")
        after = link.buffered
        flooded.set()

        assert b"%0125d" % 999 == await last
        assert after <= before


async def test_a_far_side_that_keeps_the_connection_after_its_close_is_left() -> None:
    async def serve(peer: Peer) -> None:
        peer.write(close_frame(4001, b"going"))
        await peer.read_frame()
        await peer.ended()

    async with linked(serve) as (_, recorder):
        assert (4001, "going", True) == await recorder.closed()


async def test_an_empty_close_is_answered_with_1000() -> None:
    """Not with 1005, which must never be on the wire (RFC 6455, 7.4.1)."""
    recorder, payload = await end_of(frame(CLOSE))

    assert (1000).to_bytes(2, "big") == payload
    assert (1005, "", True) == await recorder.closed()


@pytest.mark.parametrize("bad", [frame(3), frame(TEXT, b"\xff"), close_frame(1000)])
async def test_a_peer_that_does_not_read_cannot_hold_a_link_that_is_over(
    bad: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "LINGER", 0.05)
    full = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await full.wait()
        peer.write(bad)
        await asyncio.get_running_loop().create_future()

    async with linked(serve) as (link, recorder):
        while not recorder.all("pause_writing"):
            link.send(bytes(65536))
        full.set()
        code, _, _ = await recorder.closed()
        assert code in (1000, 1002, 1007)


async def test_a_message_is_refused_as_soon_as_a_close_has_come() -> None:
    """Though the end itself is reported only in the loop's next turn."""

    async def serve(peer: Peer) -> None:
        await peer.read_frame()
        peer.write(frame(TEXT, b"last words") + close_frame(1000))
        await peer.ended()

    async with linked(serve) as (link, _):
        tried: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def try_to_send() -> None:
            try:
                link.send("an answer")
            except NotConnected as error:
                tried.set_exception(error)
            else:
                tried.set_result(None)

        link.deliver_to(lambda _: asyncio.get_running_loop().call_soon(try_to_send))
        link.send("begin")
        with pytest.raises(NotConnected):
            await tried


@pytest.mark.parametrize("bad", [frame(3), frame(TEXT, b"\xff"), close_frame(0)])
async def test_an_error_leaves_nothing_for_the_loop_to_complain_about(bad: bytes) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def serve(peer: Peer) -> None:
        peer.write(bad)
        await peer.ended()

    async with linked(serve) as (link, recorder):
        await recorder.closed()
        engine = weakref.ref(link._transport)  # type: ignore[attr-defined]
    del link
    async with asyncio.timeout(20):
        while engine() is not None:  # a timer of picows' holds it for 10 ms
            gc.collect()
            await asyncio.sleep(0)

    assert [] == complaints


async def test_what_follows_a_close_is_ignored() -> None:
    async def serve(peer: Peer) -> None:
        peer.write(close_frame(4000) + frame(TEXT, b"late") + frame(3) + close_frame(4001))
        await peer.ended()

    async with linked(serve) as (_, recorder):
        assert (4000, "", True) == await recorder.closed()
        assert [] == recorder.messages


@pytest.mark.parametrize("reset", [True, False])
async def test_the_reason_of_a_drop_says_what_the_kernel_knows(reset: bool) -> None:
    async def serve(peer: Peer) -> None:
        if reset:
            peer.drop()

    async with linked(serve) as (_, recorder):
        error: ConnectionClosed = await recorder.first("closed")
        expected = {"connection reset or timed out", "end of stream without a CLOSE"}
        assert error.reason in expected | {"no CLOSE received"}


async def test_half_a_frame_and_then_the_end_is_a_drop() -> None:
    async def serve(peer: Peer) -> None:
        peer.write(frame(TEXT, b"whole") + frame(TEXT, b"a" * 100)[:50])

    async with linked(serve) as (_, recorder):
        code, _, by_peer = await recorder.closed()
        assert (1006, True) == (code, by_peer)
        assert ["whole"] == recorder.messages


async def test_bytes_in_the_middle_of_a_message_are_life() -> None:
    go_on = asyncio.Event()

    async def serve(peer: Peer) -> None:
        data = frame(BINARY, bytes(50_000))
        peer.write(data[:100])
        await go_on.wait()
        peer.write(data[100:])
        await peer.ended()

    async with linked(serve) as (link, recorder):
        assert link.idle_for() < 10
        go_on.set()
        await recorder.first("message")


async def test_a_listener_that_raises_is_shown_to_the_loop_and_harms_nobody() -> None:
    class Raising(Recorder):
        def on_pong(self, payload: bytes, /) -> None:
            super().on_pong(payload)
            raise LookupError("in on_pong")

    seen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))

    async def serve(peer: Peer) -> None:
        peer.write(frame(PONG, b"x") + frame(TEXT, b"after") + close_frame(1000))
        await peer.ended()

    async def upgrade(peer: Peer) -> None:
        await peer.accept()
        await serve(peer)

    async with serving(upgrade) as port:
        recorder = Raising()
        await PicowsDialer().dial(Handshake(url=f"ws://127.0.0.1:{port}/"), recorder, Limits())
        await recorder.closed()

    assert ["pong", "message", "closed"] == [name for name, _ in recorder.calls]
    assert ["in on_pong"] == [str(context["exception"]) for context in seen]
