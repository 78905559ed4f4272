"""The fault proxy does on the wire what it is told, and nothing else.

The client here is `websockets`, which shares no code with it, or a bare socket.
"""

import asyncio
import contextlib
import ssl
import struct
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
)

import dromos.testing
from dromos.testing import FarSide, FaultProxy, Gateway
from dromos.testing._frames import encode
from dromos.testing._relay import Boundaries

SILENCE = 0.2  # seconds in which nothing should come


@pytest.fixture
async def far() -> AsyncIterator[FarSide]:
    async with FarSide(echo=True, close_timeout=1) as far:
        yield far


@pytest.fixture
async def proxy(far: FarSide) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(far.url) as proxy:
        yield proxy


def dial(proxy: FaultProxy, **options):
    options = {"ping_interval": None, "close_timeout": 2, "proxy": None} | options
    return connect(proxy.url, **options)


async def answer(socket: ClientConnection, message: str = "hello") -> str | bytes:
    await socket.send(message)
    async with asyncio.timeout(10):
        return await socket.recv()


async def end_of(socket: ClientConnection) -> tuple[int | None, str | None]:
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code, socket.close_reason


async def nothing_comes(socket: ClientConnection) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SILENCE):
            await socket.recv()


def kinds(proxy: FaultProxy) -> list[str]:
    return [record.kind for record in proxy.happened]


# --- Without a fault -----------------------------------------------------------------------


async def test_everything_passes_and_is_counted(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        for message in ("text", b"binary", "ü" * 300_000):
            await socket.send(message)
            assert message == await socket.recv()

        (connection,) = proxy.open_connections
        assert 600_000 < connection.up
        assert 600_000 < connection.down
    await proxy.wait_for(lambda: not proxy.open_connections)

    assert 1000 == far.links[0].close_code
    assert [] == proxy.happened


async def test_the_url_keeps_path_and_query(far: FarSide) -> None:
    async with FaultProxy(far.url + "/a/b?c=d") as proxy, dial(proxy):
        assert "/a/b?c=d" == far.link.request.target


async def test_a_target_that_is_not_there_resets_the_dial(far: FarSide, proxy: FaultProxy) -> None:
    await far.stop()

    with pytest.raises((OSError, InvalidHandshake)):
        async with dial(proxy):
            pass


async def test_stopped_it_refuses_and_started_it_serves(proxy: FaultProxy) -> None:
    await proxy.stop()
    with pytest.raises(ConnectionRefusedError):
        async with dial(proxy):
            pass
    await proxy.start()

    async with dial(proxy) as socket:
        assert "hello" == await answer(socket)


async def test_tls_is_passed_through_and_not_looked_into() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with FarSide(echo=True, ssl=server) as far, FaultProxy(far.url) as proxy:
        assert proxy.url.startswith("wss://127.0.0.1:")
        async with dial(proxy, ssl=client) as socket:
            assert "hello" == await answer(socket)
            for order in (proxy.close_with, proxy.corrupt, proxy.truncate):
                with pytest.raises(ValueError, match="TLS"):
                    order()
            with pytest.raises(ValueError, match="TLS"):
                proxy.answer(503)
            proxy.corrupt(at_byte=20)
            with contextlib.suppress(ConnectionClosed):
                await answer(socket)

            assert (1006, "") == await end_of(socket)


async def test_a_gateway_can_stand_behind_it() -> None:
    async with Gateway() as gateway, FaultProxy(gateway.url) as proxy:
        async with httpx2.AsyncClient(base_url=proxy.url, trust_env=False) as client:
            proxy.answer(502, next=1)

            assert 502 == (await client.get("/health")).status_code
            assert 200 == (await client.get("/health")).status_code
        assert ["answer"] == kinds(proxy)


async def test_methods_work_from_another_thread() -> None:
    far = FarSide(echo=True)
    with far.threaded():
        proxy = FaultProxy(far.url)
        with proxy.threaded():
            async with dial(proxy) as socket:
                assert "hello" == await answer(socket)
                await asyncio.to_thread(proxy.reset)

                assert (1006, "") == await end_of(socket)


# --- Nothing comes through, or slowly -------------------------------------------------------


@pytest.mark.parametrize("direction", ["up", "down", "both"])
async def test_silence_keeps_tcp_open_and_healed_all_comes_through(
    far: FarSide, proxy: FaultProxy, direction
) -> None:
    async with dial(proxy) as socket:
        assert "one" == await answer(socket, "one")
        proxy.go_silent(direction=direction)
        await socket.send("two")
        await nothing_comes(socket)
        assert (["one"] if direction != "down" else ["one", "two"]) == far.link.received
        assert 1 == len(proxy.open_connections)
        proxy.heal()

        async with asyncio.timeout(10):
            assert "two" == await socket.recv()
    assert ["go_silent"] == kinds(proxy)
    assert direction == proxy.happened[0].direction


async def test_silence_does_not_even_tell_the_end(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        proxy.go_silent()
        far.drop_all(rst=False)
        await nothing_comes(socket)
        proxy.heal()

        assert (1006, "") == await end_of(socket)


async def test_silence_after_so_many_bytes_is_exact(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        before = proxy.connections[0].down
        proxy.go_silent(direction="down", after_bytes=7)
        await socket.send("a message")
        await proxy.wait_for(lambda: proxy.happened)

        assert before + 7 == proxy.happened[0].down == proxy.connections[0].down
        proxy.heal()
        async with asyncio.timeout(10):
            assert "a message" == await socket.recv()


async def test_a_stall_passes(proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        began = time.monotonic()
        proxy.stall(0.3)

        assert "hello" == await answer(socket)
        assert time.monotonic() - began >= 0.25


async def test_throttled_bytes_come_slowly_until_it_is_healed(proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        proxy.throttle(2000, direction="down")
        began = time.monotonic()

        assert "x" * 1000 == await answer(socket, "x" * 1000)
        assert time.monotonic() - began >= 0.4
        await socket.send("x" * 1_000_000)
        await asyncio.sleep(0.1)
        proxy.heal()
        async with asyncio.timeout(10):
            assert 1_000_000 == len(await socket.recv())


async def test_a_fault_can_be_timed(proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        proxy.reset(after=0.2)
        assert "hello" == await answer(socket)
        assert [] == proxy.happened

        assert (1006, "") == await end_of(socket)


# --- The connection ends --------------------------------------------------------------------


async def test_a_reset_is_seen_at_both_ends(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        proxy.reset()

        assert (1006, "") == await end_of(socket)
        await far.links[0].wait_closed()
    assert far.links[0].close_code is None


async def test_a_reset_can_hit_the_handshake(far: FarSide, proxy: FaultProxy) -> None:
    proxy.reset(direction="up", after_bytes=40, next=1)

    with pytest.raises((OSError, InvalidHandshake)):
        async with dial(proxy):
            pass

    assert [] == far.attempts
    assert 40 == proxy.happened[0].up


async def test_half_closed_the_other_direction_goes_on(far: FarSide, proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + key + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    proxy.half_close(direction="down")

    assert b"" == await reader.read()
    writer.write(b"\x81\x82\x00\x00\x00\x00hi")
    await far.wait_for(lambda: far.link.received == ["hi"])
    writer.close()


async def test_truncated_in_the_middle_of_a_frame(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        before = proxy.connections[0].down
        proxy.truncate()
        far.link.send("x" * 100)

        assert (1006, "") == await end_of(socket)
        assert before + 51 == proxy.connections[0].down


async def test_truncated_at_a_byte_of_the_handshake(proxy: FaultProxy) -> None:
    proxy.truncate(50, next=1)

    with pytest.raises((OSError, InvalidHandshake)):
        async with dial(proxy):
            pass

    assert 50 == proxy.connections[0].down


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1013, 3000, 4999])
async def test_closed_with_any_code_at_a_frames_end(
    far: FarSide, proxy: FaultProxy, code: int
) -> None:
    async with dial(proxy) as socket:
        assert "hello" == await answer(socket)
        proxy.close_with(code, "because")

        assert (code, "because") == await end_of(socket)
        await far.links[0].wait_closed()
    assert code == far.links[0].close_code


async def test_a_close_waits_for_the_end_of_the_frame(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        proxy.go_silent(direction="down", after_bytes=10)
        far.link.send("x" * 100)
        await proxy.wait_for(lambda: proxy.happened)
        proxy.close_with(4000)
        assert ["go_silent"] == kinds(proxy)
        proxy.open_connections[0]._pipes["down"].let_go("silence")

        assert "x" * 100 == await socket.recv()
        assert (4000, "") == await end_of(socket)


async def test_a_close_without_a_code_behind_the_handshake(proxy: FaultProxy) -> None:
    proxy.close_with(None, next=1)
    async with dial(proxy) as socket:
        assert (1005, "") == await end_of(socket)


async def test_close_codes_that_nobody_may_send_can_be_sent(proxy: FaultProxy) -> None:
    proxy.close_with(1006, next=1)
    async with dial(proxy) as socket:
        await end_of(socket)

        assert socket.protocol.close_sent is not None
        assert 1002 == socket.protocol.close_sent.code


@pytest.mark.parametrize("code", [1000, 1001, 4999, None])
async def test_a_close_upwards_is_the_client_s_to_the_far_side(
    far: FarSide, proxy: FaultProxy, code: int | None
) -> None:
    async with dial(proxy) as socket:
        assert "hello" == await answer(socket)
        proxy.close_with(code, "" if code is None else "because", direction="up")

        assert (1005 if code is None else code) == (await end_of(socket))[0]
        await far.links[0].wait_closed()
    told = (1005, "") if code is None else (code, "because")
    assert told == (far.links[0].close_code, far.links[0].close_reason)
    assert far.links[0].violation is None
    assert ("close_with", "up") == (proxy.happened[0].kind, proxy.happened[0].direction)


async def test_nothing_of_the_client_s_follows_a_close_upwards(
    far: FarSide, proxy: FaultProxy
) -> None:
    async with dial(proxy) as socket:
        assert "one" == await answer(socket, "one")
        proxy.close_with(direction="up")
        with contextlib.suppress(ConnectionClosed):
            await socket.send("two")
        await end_of(socket)
        await far.links[0].wait_closed()

    assert ["one"] == far.links[0].received
    assert far.links[0].violation is None


async def test_a_close_upwards_on_a_connection_to_come_follows_the_whole_handshake(
    far: FarSide, proxy: FaultProxy
) -> None:
    proxy.close_with(4000, direction="up", next=1)
    async with dial(proxy) as socket:
        assert 4000 == (await end_of(socket))[0]

    assert 0 < proxy.happened[0].down
    assert 4000 == far.links[0].close_code


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("bytes_in_the_frame", [1, 50, 96])
async def test_a_close_after_some_bytes_waits_for_the_end_of_their_frame(
    far: FarSide, proxy: FaultProxy, direction: str, bytes_in_the_frame: int
) -> None:
    message = "x" * 94
    frame = 100 if direction == "up" else 96  # with its header, and the mask of a client's
    async with dial(proxy) as socket:
        assert message == await answer(socket, message)
        before = getattr(proxy.connections[0], direction)
        proxy.close_with(4000, direction=direction, after_bytes=frame + bytes_in_the_frame)
        assert message == await answer(socket, message)
        assert [] == proxy.happened
        await socket.send(message)

        assert 4000 == (await end_of(socket))[0]
    assert before + 2 * frame == getattr(proxy.happened[0], direction)


async def test_a_close_after_some_bytes_on_a_connection_to_come_counts_the_handshake(
    proxy: FaultProxy,
) -> None:
    async with dial(proxy) as socket:
        handshake = proxy.connections[0].down
        await answer(socket)
    proxy.close_with(4000, after_bytes=handshake + 1, next=1)
    async with dial(proxy) as socket:
        assert "hello" == await answer(socket)
        assert (4000, "") == await end_of(socket)


async def test_a_close_that_is_due_later_is_forgotten_when_healed(proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        proxy.close_with(4000, after_bytes=10)
        proxy.heal()
        for _ in range(4):
            assert "hello" == await answer(socket)


async def test_closed_both_ways_is_one_fault(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        proxy.close_with(4000, direction="both")
        assert 4000 == (await end_of(socket))[0]
        await far.links[0].wait_closed()

    assert 4000 == far.links[0].close_code
    assert [("close_with", "both")] == [(each.kind, each.direction) for each in proxy.happened]


# --- Something else comes through -----------------------------------------------------------


async def test_a_corrupt_frame_is_no_frame(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        assert "one" == await answer(socket, "one")
        proxy.corrupt()
        await socket.send("two")
        await end_of(socket)

        assert socket.protocol.close_sent is not None
        assert 1002 == socket.protocol.close_sent.code


async def test_one_byte_is_corrupted_and_no_other(far: FarSide, proxy: FaultProxy) -> None:
    async with dial(proxy) as socket:
        proxy.corrupt(at_byte=2 + 3)

        await socket.send(b"\x00" * 8)
        assert b"\x00\x00\x00\xff\x00\x00\x00\x00" == await socket.recv()
        assert b"same" == await answer(socket, b"same")


async def test_corruption_upwards_is_the_far_sides_to_notice(
    far: FarSide, proxy: FaultProxy
) -> None:
    async with dial(proxy) as socket:
        proxy.corrupt(direction="up")
        await socket.send("hello")

        assert 1002 == (await end_of(socket))[0]
    assert far.links[0].violation is not None


# --- The handshake --------------------------------------------------------------------------


async def test_a_handshake_is_delayed(proxy: FaultProxy) -> None:
    proxy.delay_handshake(0.3)
    began = time.monotonic()
    async with dial(proxy) as socket:
        assert time.monotonic() - began >= 0.25
        assert "hello" == await answer(socket)


async def test_handshakes_are_answered_in_turn(far: FarSide, proxy: FaultProxy) -> None:
    proxy.answer(503, {"Retry-After": "7"})
    proxy.answer(407, next=2)
    for status in (503, 407, 407):
        with pytest.raises(InvalidStatus) as caught:
            async with dial(proxy, process_exception=lambda error: error):
                pass
        assert status == caught.value.response.status_code
        assert ("7" if status == 503 else None) == caught.value.response.headers.get("Retry-After")

    async with dial(proxy) as socket:
        assert "hello" == await answer(socket)
    assert 1 == len(far.attempts)


async def test_healed_the_orders_for_later_are_forgotten(proxy: FaultProxy) -> None:
    proxy.answer(503, next=None)
    proxy.heal()
    async with dial(proxy) as socket:
        assert "hello" == await answer(socket)


# --- Orders ---------------------------------------------------------------------------------


def test_the_public_names_are_these() -> None:
    assert {
        "ConnectionRecord",
        "FarLink",
        "FarSide",
        "FaultProxy",
        "FaultRecord",
        "Gateway",
        "Headers",
        "IssuedToken",
        "MemoryDialer",
        "ProxiedConnection",
        "Request",
        "TokenAuthority",
    } == set(dromos.testing.__all__)


@pytest.mark.parametrize(
    "order",
    [
        lambda proxy: proxy.go_silent(direction="sideways"),
        lambda proxy: proxy.reset(after_bytes=-1),
        lambda proxy: proxy.reset(after=-1),
        lambda proxy: proxy.reset(after=1, after_bytes=1),
        lambda proxy: proxy.reset(next=-1),
        lambda proxy: proxy.stall(float("nan")),
        lambda proxy: proxy.throttle(0),
        lambda proxy: proxy.close_with(1000, "x" * 124),
        lambda proxy: proxy.close_with(None, "x"),
        lambda proxy: proxy.close_with(direction="sideways"),
        lambda proxy: proxy.close_with(after=1, after_bytes=1),
        lambda proxy: FaultProxy("ftp://host"),
        lambda proxy: FaultProxy("ws:///path"),
    ],
    ids=[
        "direction",
        "bytes",
        "seconds",
        "both",
        "next",
        "no number",
        "rate",
        "long reason",
        "reason without code",
        "direction of a close",
        "both for a close",
        "scheme",
        "no host",
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(proxy: FaultProxy, order) -> None:
    with pytest.raises(ValueError, match=r"must|not both|needs"):
        order(proxy)


@given(
    sizes=st.lists(st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 70000]), max_size=5),
    masked=st.booleans(),
    data=st.data(),
)
def test_boundaries_are_found_however_the_bytes_come(sizes, masked, data) -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n"
    frames = []
    for size in sizes:
        plain = encode(2, b"p" * size)
        if masked:
            header = plain[: len(plain) - size]
            header = header[:1] + bytes([header[1] | 0x80]) + header[2:] + struct.pack("!I", 7)
            plain = header + b"p" * size
        frames.append(plain)
    stream = head + b"".join(frames)
    expected, at = {len(head)}, len(head)
    for frame in frames:
        at += len(frame)
        expected.add(at)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    boundaries = Boundaries(framed=True, answer=True)
    begins, ends, position, whole = set(), set(), 0, b""
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for piece, first, last in boundaries.split(stream[start:stop]):
            if first:
                begins.add(position)
            position += len(piece)
            whole += piece
            if last:
                ends.add(position)

    assert stream == whole
    assert expected == ends
    assert expected - {len(stream)} == begins


def test_what_follows_a_refusal_is_not_taken_for_frames() -> None:
    boundaries = Boundaries(framed=True, answer=True)
    stream = b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\n\x81\x02hi"
    pieces = list(boundaries.split(stream))

    assert stream == b"".join(piece for piece, _, _ in pieces)
    assert not any(begins or ends for _, begins, ends in pieces)
