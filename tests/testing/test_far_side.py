"""The scriptable far side behaves on the wire as its script says.

The client here is `websockets`, which shares no code with it, or a bare socket.
"""

import asyncio
import contextlib
import ssl
from typing import Any

import httpx2
import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
)

from dromos.testing import FarSide, Gateway
from dromos.testing._loopback import HttpConnection

HIGH_WATER = 64 * 1024  # bytes: asyncio's default
MORE_THAN_KERNELS_TAKE = 2**26


@pytest.fixture
async def far():
    async with FarSide() as far:
        yield far


def dial(far, token=None, **options):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    options = {"ping_interval": None, "close_timeout": 2, "proxy": None} | options
    return connect(far.url, additional_headers=headers, **options)


async def refusal(far, token=None) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as caught:
        async with dial(far, token):
            pass
    return caught.value


async def close_code(socket: ClientConnection) -> int | None:
    with contextlib.suppress(ConnectionClosedOK, ConnectionClosedError):
        while True:
            await socket.recv()
    return socket.close_code


# --- Messages ------------------------------------------------------------------------------


async def test_messages_are_recorded_and_echoed():
    async with FarSide(echo=True) as far, dial(far) as socket:
        for message in ("text", b"binary", "ü" * 100_000, ""):
            await socket.send(message)
            assert message == await socket.recv()

        assert ["text", b"binary", "ü" * 100_000, ""] == far.link.received
        assert (4, 4) == (far.link.received_count, far.link.sent)


async def test_a_link_is_listed_before_its_client_can_know_of_it(
    far: FarSide, monkeypatch: pytest.MonkeyPatch
):
    """A test on another thread may act on its open links as soon as the answer is out."""
    listed: list[int] = []
    answer = HttpConnection.switch_protocols

    def watched(self: HttpConnection, headers: Any) -> bytes:
        listed.append(len(far.open_links))
        return answer(self, headers)

    monkeypatch.setattr(HttpConnection, "switch_protocols", watched)

    async with dial(far):
        pass

    assert [1] == listed


async def test_fragments_become_one_message_with_control_frames_between(far):
    async with dial(far) as socket:
        await socket.send(["one ", "two ", "three"])
        await far.wait_for(lambda: far.link.received)

    assert ["one two three"] == far.links[0].received


async def test_a_callable_sees_each_message_and_may_answer():
    async def shout(link, message):
        link.send(message.upper())

    async with FarSide(on_message=shout) as far, dial(far) as socket:
        await socket.send("hello")
        assert await socket.recv() == "HELLO"


async def test_pings_are_answered_and_recorded_both_ways(far):
    async with dial(far) as socket:
        await (await socket.ping(b"p"))
        far.link.ping(b"q")
        await far.wait_for(lambda: far.link.pongs)

        assert ([b"p"], [b"q"]) == (far.link.pings, far.link.pongs)


async def test_pings_go_unanswered_on_request():
    async with FarSide(answer_pings=False) as far, dial(far) as socket:
        pong = await socket.ping(b"p")
        await far.wait_for(lambda: far.link.pings)
        await socket.send("later")
        await far.wait_for(lambda: far.link.received)

        assert not pong.done()


async def test_numbered_messages_reach_every_link_and_are_counted_on_without_one():
    reached = {}
    async with FarSide(rate=500, on_publish=lambda n, links: reached.update({n: links})) as far:
        await far.wait_for(lambda: True)
        async with dial(far) as one, dial(far) as two:
            first, other = int(await one.recv()), int(await two.recv())
            assert int(await one.recv()) == first + 1
            assert [link.number for link in reached[max(first, other)]] == [1, 2]
        far.publishing = False

    assert far.published == max(reached)
    assert list(reached) == list(range(1, far.published + 1))


async def test_whoever_drains_waits_for_a_client_that_does_not_read(far):
    async with dial(far, max_size=None) as socket:
        socket.transport.pause_reading()
        link = far.link
        link.send(bytes(MORE_THAN_KERNELS_TAKE))
        drained = asyncio.create_task(link.drain())
        await asyncio.wait([drained], timeout=0.05)
        early, buffered = drained.done(), link.buffered
        socket.transport.resume_reading()
        await drained

        assert not early
        assert link.buffered < HIGH_WATER < buffered


async def test_whoever_drains_hears_of_the_end(far):
    async with dial(far, max_size=None) as socket:
        socket.transport.pause_reading()
        link = far.link
        link.send(bytes(MORE_THAN_KERNELS_TAKE))
        drained = asyncio.create_task(link.drain())
        await asyncio.sleep(0)
        link.drop()

        with pytest.raises(ConnectionError):
            await drained
        with pytest.raises(ConnectionError):
            await link.drain()


async def test_bytes_may_be_written_as_they_are(far):
    async with dial(far) as socket:
        far.link.send_raw(b"\x81\x02hi")
        assert await socket.recv() == "hi"
        far.link.send_raw(b"\xff\xff")
        await far.links[0].wait_closed()
        assert 1002 == far.links[0].close_code


# --- The handshake ---------------------------------------------------------------------------


async def test_a_bearer_token_of_the_gateway_is_asked_for():
    gateway = Gateway()
    gateway.add("c-1")
    token = gateway.access_token("c-1")
    async with FarSide(gateway=gateway) as far:
        missing, wrong = await refusal(far), await refusal(far, "wrong")
        async with dial(far, token):
            assert far.link.token == token

    assert [401, 401] == [e.response.status_code for e in (missing, wrong)]
    assert missing.response.headers["WWW-Authenticate"] == "Bearer"
    assert wrong.response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert (3, 1) == (len(far.attempts), len(far.links))


async def test_any_header_may_be_asked_for_by_a_callable():
    async def check(request):
        return request.headers.get("x-api-key") == "k-1"

    async with FarSide(check=check) as far:
        assert (await refusal(far)).response.status_code == 401
        headers = {"X-API-Key": "k-1"}
        async with connect(f"{far.url}/feed?a=1", additional_headers=headers, proxy=None):
            assert "/feed" == far.link.path
            assert [("a", "1")] == far.link.request.query
            assert "k-1" == far.link.headers["X-Api-Key"]


async def test_a_subprotocol_is_agreed_on_in_the_order_of_the_far_side():
    async with FarSide(subprotocols=["b", "a"]) as far:
        async with dial(far, subprotocols=["a", "b"]) as socket:
            assert ("b", "b") == (socket.subprotocol, far.link.subprotocol)
        async with dial(far, subprotocols=["c"]) as socket:
            assert socket.subprotocol is None


async def test_plain_http_is_told_to_upgrade(far):
    async with httpx2.AsyncClient() as client:
        answer = await client.get(far.url.replace("ws", "http"))

    assert answer.status_code == 426


async def test_refusals_are_used_up_in_order(far):
    far.refuse(next=2, status=429, headers={"Retry-After": "2"}, body="slow down")
    far.refuse(status=503)

    errors = [await refusal(far) for _ in range(3)]

    assert [429, 429, 503] == [error.response.status_code for error in errors]
    assert "2" == errors[0].response.headers["Retry-After"]
    assert b"slow down" == errors[0].response.body
    async with dial(far):
        pass


async def test_a_script_without_end_lasts_until_healed(far):
    far.refuse(next=None, status=503)
    assert [503] * 3 == [(await refusal(far)).response.status_code for _ in range(3)]

    far.heal()

    async with dial(far):
        pass


async def test_a_handshake_may_be_answered_with_rubbish(far):
    far.garbage(b"\x00\x01\x02 not HTTP\r\n\r\n")

    with pytest.raises(InvalidMessage):
        async with dial(far):
            pass


async def test_a_handshake_may_be_reset(far):
    far.slam()

    with pytest.raises((OSError, InvalidHandshake)):
        async with dial(far):
            pass


async def test_a_handshake_may_never_be_answered(far):
    far.hang()

    with pytest.raises(TimeoutError):
        async with dial(far, open_timeout=0.2):
            pass
    assert len(far.attempts) == 1


async def test_a_link_may_be_closed_as_soon_as_it_is_open(far):
    far.accept_then_close(1012, "restarting")
    far.accept_then_close(None)
    async with dial(far) as socket:
        assert await close_code(socket) == 1012
        assert socket.close_reason == "restarting"
    async with dial(far) as socket:
        assert await close_code(socket) == 1005


async def test_a_link_may_be_reset_as_soon_as_it_is_open(far):
    far.accept_then_drop()

    with pytest.raises((OSError, ConnectionClosedError, InvalidHandshake)):
        async with dial(far) as socket:
            await socket.recv()


# --- The end of a link -------------------------------------------------------------------------


async def test_the_clients_close_is_recorded_and_answered(far):
    async with dial(far) as socket:
        await socket.close(4000, "enough")
        link = far.links[0]
        await link.wait_closed()

    assert (4000, "enough") == (link.close_code, link.close_reason)
    assert ("client", 4000) == (link.ended_first, link.closed_with)
    assert link.closed_at >= link.opened_at


async def test_a_client_that_vanishes_leaves_no_code(far):
    async with dial(far) as socket:
        link = far.link
        socket.transport.abort()
        await link.wait_closed()

    assert (None, "client", None) == (link.close_code, link.ended_first, link.closed_with)


async def test_closing_all_is_answered_by_the_client(far):
    async with dial(far) as one, dial(far) as two:
        far.close_all(1001, "bye")
        assert [1001, 1001] == [await close_code(one), await close_code(two)]
        for link in far.links:
            await link.wait_closed()

    assert [(1001, "far side")] * 2 == [(link.close_code, link.ended_first) for link in far.links]


async def test_dropping_all_resets_without_a_close(far):
    reader, writer, link = await raw_client(far)

    far.drop_all()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    await link.wait_closed()
    writer.close()

    assert ("far side", None) == (link.ended_first, link.closed_with)


async def test_dropping_may_be_done_with_fin(far):
    reader, writer, _ = await raw_client(far)

    far.drop_all(rst=False)

    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_never_answers_our_close_is_dropped():
    async with FarSide(close_timeout=0.05) as far:
        _, writer, link = await raw_client(far)
        link.close(1001)
        await link.wait_closed()
        writer.close()

    assert (None, 1001) == (link.close_code, link.closed_with)


async def test_a_close_of_the_client_may_go_unanswered():
    async with FarSide(answer_closes=False) as far:
        async with dial(far, close_timeout=0.05) as socket:
            link = far.link
        await link.wait_closed()

    assert (1000, None) == (link.close_code, link.closed_with)
    assert socket.close_code == 1006


async def test_a_link_is_closed_when_its_token_expires():
    gateway = Gateway()
    gateway.add("c-1", lifetime=0.2)
    async with (
        FarSide(gateway=gateway, close_on_expiry=True) as far,
        dial(far, gateway.access_token("c-1")) as socket,
    ):
        assert await close_code(socket) == 4401
        assert socket.close_reason == "token expired"
        assert far.links[0].expires_at == gateway.expires_at(gateway.access_token("c-1"))


async def test_a_renewed_link_outlives_its_first_token():
    gateway = Gateway()
    gateway.add("c-1", lifetime=60)
    async with (
        FarSide(gateway=gateway, close_on_expiry=1008) as far,
        dial(far, gateway.access_token("c-1")) as socket,
    ):
        gateway.rotate_now("c-1")
        far.link.authenticate(gateway.access_token("c-1"))
        far.close_expired()
        assert far.link.is_open

        gateway.expire("c-1")
        far.close_expired()
        assert await close_code(socket) == 1008


# --- Silence, death and return -------------------------------------------------------------------


async def test_a_silent_link_reads_and_answers_nothing_until_it_wakes(far):
    async with dial(far) as socket:
        far.go_silent()
        pong = await socket.ping(b"p")
        await socket.send("x" * 1_000)
        assert far.publish("unheard") == []
        async with dial(far) as other:  # a round trip, in which the ping would have come
            await (await other.ping())

        assert not pong.done()
        assert far.links[0].received_count == 0
        assert socket.transport.is_closing() is False

        far.wake()
        await pong
        await far.wait_for(lambda: far.links[0].received)


async def test_a_silent_link_can_be_dropped(far):
    async with dial(far) as socket:
        link = far.link
        link.go_silent()
        link.drop()
        await link.wait_closed()
        assert await close_code(socket) == 1006


async def test_it_can_be_killed_and_started_on_the_same_port(far):
    url = far.url
    async with dial(far) as socket:
        await far.stop()
        assert await close_code(socket) == 1006
    with pytest.raises(ConnectionRefusedError):
        async with dial(far):
            pass

    await far.start()

    assert url == far.url
    async with dial(far):
        assert 2 == (await far.wait_for_link(2)).number


async def test_waiting_for_a_link_that_never_comes_gives_up(far):
    with pytest.raises(TimeoutError, match="FarSide"):
        await far.wait_for_link(timeout=0.01)
    with pytest.raises(LookupError):
        _ = far.link


async def test_it_speaks_tls():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async with FarSide(ssl=server, echo=True) as far:
        assert far.url.startswith("wss://")
        async with dial(far, ssl=client) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            far.drop_all()
            assert await close_code(socket) == 1006


def test_it_runs_on_a_thread_and_is_scripted_from_another():
    async def talk(far):
        async with dial(far) as socket:
            await socket.send("hello")
            return await close_code(socket)

    with FarSide().threaded() as far:
        link_closed = asyncio.run(_close_from_outside(far, talk))

    assert link_closed == 4000


async def _close_from_outside(far, talk):
    async with asyncio.TaskGroup() as tasks:
        talking = tasks.create_task(talk(far))
        link = await asyncio.to_thread(lambda: far.run(far.wait_for_link()))
        link.close(4000)
    return talking.result()


# --- What a client must not do -------------------------------------------------------------------


async def raw_client(far):
    reader, writer = await asyncio.open_connection(far.host, far.port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    # RFC 6455, 1.3: the answer to this key.
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    return reader, writer, await far.wait_for_link()


MASK = b"\0\0\0\0"


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (b"\x81\x02hi", 1002, "without a mask"),
        (b"\xc1\x80" + MASK, 1002, "reserved bit"),
        (b"\x83\x80" + MASK, 1002, "opcode 3"),
        (b"\x09\x80" + MASK, 1002, "control frame"),
        (b"\x89\xfe\x00\x80" + MASK, 1002, "control frame"),
        (b"\x80\x80" + MASK, 1002, "out of order"),
        (b"\x01\x80" + MASK + b"\x81\x80" + MASK, 1002, "out of order"),
        (b"\x81\x81" + MASK + b"\xff", 1007, "UTF-8"),
        (b"\x88\x81" + MASK + b"\x03", 1002, "one byte"),
        (b"\x88\x82" + MASK + b"\x03\xed", 1002, "close code 1005"),
        (b"\x88\x83" + MASK + b"\x03\xe8\xff", 1007, "reason"),
    ],
)
async def test_a_client_that_breaks_the_protocol_is_found_out(far, sent, code, words):
    reader, writer, link = await raw_client(far)

    writer.write(sent)
    await link.wait_closed()
    answer = await reader.read()
    writer.close()

    assert words in link.violation
    assert (0x88, code) == (answer[0], int.from_bytes(answer[2:4], "big"))


async def test_a_frame_may_come_in_pieces(far):
    _, writer, link = await raw_client(far)

    for byte in b"\x81\xfe\x00\x80" + b"abcd" + bytes(b"abcd"[i % 4] ^ 0x78 for i in range(128)):
        writer.write(bytes((byte,)))
        await writer.drain()
    await far.wait_for(lambda: link.received)
    writer.close()

    assert ["x" * 128] == link.received


async def test_an_empty_close_is_answered_in_kind(far):
    reader, writer, link = await raw_client(far)

    writer.write(b"\x88\x80" + MASK)

    assert await reader.read() == b"\x88\x00"
    writer.close()
    assert 1005 == link.close_code


async def test_what_a_callable_of_yours_raises_is_kept():
    def check(request):
        raise ZeroDivisionError

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with FarSide(check=check) as far:
        with pytest.raises(InvalidMessage):
            async with dial(far):
                pass

        assert [ZeroDivisionError] == [type(error) for error in far.errors]
