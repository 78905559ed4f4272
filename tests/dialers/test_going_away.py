"""A far side that goes away, over real connections: what is on the wire, and when."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from tests.dialers.contract import turns
from tests.dialers.loopback import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    Peer,
    close_frame,
    frame,
    serving,
    upgrade,
)
from tests.dialers.recorder import Recorder
from tests.dialers.test_picows import client_context, server_context

from dromos.dialers import PicowsDialer, WebsocketsDialer
from dromos.errors import ConnectionClosed
from dromos.interfaces import Limits, Link
from dromos.model import Handshake

Linked = Callable[..., Any]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=[PicowsDialer, WebsocketsDialer])
def engine(request: pytest.FixtureRequest) -> type[PicowsDialer | WebsocketsDialer]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["tcp", "tls"])
def linked(
    request: pytest.FixtureRequest,
    engine: type[PicowsDialer | WebsocketsDialer],
    authority: trustme.CA,
) -> Linked:
    tls = request.param == "tls"

    @asynccontextmanager
    async def linked_(
        serve: Callable[[Peer], Awaitable[None]], recorder: Recorder | None = None
    ) -> AsyncIterator[tuple[Link, Recorder]]:
        async def accept(peer: Peer) -> None:
            await peer.accept()
            await peer.read_frame()  # so that the link is open, and its listener told
            await serve(peer)

        context = server_context(authority, "localhost") if tls else None
        dialer = engine(ssl=client_context(authority) if tls else None)
        async with serving(accept, tls=context) as port:
            recorder = recorder or Recorder()
            url = f"{'wss' if tls else 'ws'}://localhost:{port}/"
            link = await dialer.dial(Handshake(url=url), recorder, Limits())
            link.send("begin")
            yield link, recorder
            link.abort()
            await recorder.closed()
            assert "closed" == recorder.calls[-1][0]

    return linked_


async def test_the_first_and_only_thing_written_is_the_answer(linked: Linked) -> None:
    answer: asyncio.Future[tuple[int, bytes, bytes]] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        peer.write(close_frame(1012, b"deploy"))
        opcode, payload, _ = await peer.read_frame()
        answer.set_result((opcode, payload, await peer.ended()))

    async with linked(serve) as (link, recorder):
        await recorder.going_away()
        await turns()
        silent = not answer.done()
        link.ping(b"x")
        link.close(4000, "not this")

        assert (1012, "deploy", True) == await recorder.closed()
        assert (CLOSE, (1012).to_bytes(2, "big"), b"") == await answer
        assert silent


async def test_frames_after_the_close_are_neither_delivered_nor_answered(linked: Linked) -> None:
    flooded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answer: asyncio.Future[tuple[int, bytes, int]] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        peer.write(close_frame(1001) + frame(PING, b"p") + frame(TEXT, b"late", fin=False))
        for _ in range(50):
            peer.write(frame(PING, b"p") + frame(BINARY, bytes(60_000)) + frame(TEXT, b"\xff"))
            await peer.writer.drain()
        flooded.set_result(None)
        answer.set_result(await peer.read_frame())
        await peer.ended()

    async with linked(serve) as (link, recorder):
        await recorder.going_away()
        await flooded
        assert 0 == link.received
        link.close()

        assert (1001, "", True) == await recorder.closed()
        assert CLOSE == (await answer)[0]
        assert ["going_away", "closed"] == [name for name, _ in recorder.calls]


@pytest.mark.parametrize("bad", [close_frame(4000), frame(3), b"\xff" * 99])
async def test_nonsense_after_the_close_gets_no_worse_an_answer(linked: Linked, bad: bytes) -> None:
    """An engine whose parser goes on may end the link at once: as announced."""
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        peer.write(close_frame(1001, b"deploy"))
        await told
        peer.write(bad)
        _, payload, _ = await peer.read_frame()
        assert b"" == await peer.ended()
        answer.set_result(payload)

    async with linked(serve) as (link, recorder):
        await recorder.going_away()
        told.set_result(None)
        await turns()
        link.close()

        assert (1001, "deploy", True) == await recorder.closed()
        assert (1001).to_bytes(2, "big") == await answer


@pytest.mark.parametrize("bad", [close_frame(4000), frame(3)])
async def test_nonsense_right_behind_the_close_leaves_its_code(linked: Linked, bad: bytes) -> None:
    async def serve(peer: Peer) -> None:
        peer.write(close_frame(1001, b"deploy") + bad)
        await peer.ended()

    async with linked(serve) as (link, recorder):
        await recorder.until(lambda: recorder.calls)
        link.close()

        assert (1001, "deploy", True) == await recorder.closed()


async def test_the_end_of_the_stream_ends_the_link_as_announced(linked: Linked) -> None:
    async def serve(peer: Peer) -> None:
        peer.write(close_frame(1001, b"deploy"))

    async with linked(serve) as (_, recorder):
        assert (1001, "deploy", True) == await recorder.closed()
        assert 1 == len(recorder.all("going_away"))


async def test_a_listener_that_raises_is_shown_to_the_loop_and_the_link_stays(
    linked: Linked,
) -> None:
    class Raising(Recorder):
        def on_going_away(self, error: ConnectionClosed, /) -> None:
            super().on_going_away(error)
            raise LookupError("in on_going_away")

    async def serve(peer: Peer) -> None:
        peer.write(close_frame(1001))
        await peer.ended()

    seen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    async with linked(serve, Raising()) as (link, recorder):
        await recorder.going_away()
        await turns()
        early = recorder.all("closed")
        link.close()

        assert (1001, "", True) == await recorder.closed()
        assert [] == early
    assert ["in on_going_away"] == [str(context["exception"]) for context in seen]


async def test_a_close_before_dial_has_returned_is_answered_at_once(
    engine: type[PicowsDialer | WebsocketsDialer],
) -> None:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        peer.write(upgrade(await peer.read_request()) + close_frame(1012, b"deploy"))
        answer.set_result((await peer.read_frame())[1])
        await peer.ended()

    async with serving(serve) as port:
        recorder = Recorder()
        await engine().dial(Handshake(url=f"ws://127.0.0.1:{port}/"), recorder, Limits())

        assert (1012, "deploy", True) == await recorder.closed()
        assert (1012).to_bytes(2, "big") == await answer
        assert ["closed"] == [name for name, _ in recorder.calls]


async def test_a_close_that_is_read_only_after_the_end_is_the_end() -> None:
    """Data that a pause held back: nobody goes away who is gone."""

    async def serve(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frame()
        peer.write(frame(TEXT, b"one") + close_frame(1001, b"deploy"))
        peer.writer.write_eof()
        await peer.ended()

    async with serving(serve) as port:
        recorder = Recorder()
        link = await WebsocketsDialer().dial(
            Handshake(url=f"ws://127.0.0.1:{port}/"), recorder, Limits()
        )
        recorder.then("message", link.pause_reading)
        link.send("begin")
        await recorder.first("message")
        link._wire.close()

        assert (1001, "deploy", True) == await recorder.closed()
        assert [] == recorder.all("going_away")
