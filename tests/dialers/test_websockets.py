"""Links on `websockets`: the contract, compression, and what picows' tests show of picows."""

import asyncio
import gc
import logging
import random
import ssl
import struct
import subprocess
import sys
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme
from tests.dialers.cancelling import cancel_a_dial, never_answer, open_sockets
from tests.dialers.contract import LinkContract
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
from tests.dialers.socket_far import Far
from tests.dialers.test_picows import (
    CANARY,
    SECRET_HANDSHAKE_ANSWERS,
    client_context,
    everything_about,
    server_context,
    spoilt,
)
from tests.dialers.test_picows_link import PicowsWorld
from tests.dialers.test_proxies import PASSWORD, http_proxy, proxied, socks4_proxy, socks5_proxy

from dromos.dialers import WebsocketsDialer
from dromos.dialers._protocol_link import ProtocolLink
from dromos.errors import HandshakeError, NotConnected
from dromos.interfaces import Limits, Link, WireBytes
from dromos.model import Handshake

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
MIB = 2**20


@pytest.fixture(autouse=True)
async def no_socket_is_left() -> Any:
    before = open_sockets()
    yield
    for _ in range(10):
        await asyncio.sleep(0)
    gc.collect()
    assert before == open_sockets()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class WebsocketsWorld(PicowsWorld):
    def __init__(self, far: Far, port: int) -> None:
        super().__init__(far, port)
        self.dialer = WebsocketsDialer(open_timeout=1)  # type: ignore[assignment]


class TestWebsocketsLink(LinkContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[WebsocketsWorld]:
        far = Far()
        async with serving(far.serve) as port:
            yield WebsocketsWorld(far, port)


@asynccontextmanager
async def linked(
    serve: Callable[[Peer], Awaitable[None]],
    *headers: str,
    limits: Limits | None = None,
    dialer: WebsocketsDialer | None = None,
    tls: trustme.CA | None = None,
) -> AsyncIterator[tuple[Link, Recorder]]:
    """Open a link to a server that upgrades with these headers and then runs `serve`."""

    async def accept(peer: Peer) -> None:
        await peer.accept(*headers)
        await serve(peer)

    context = None if tls is None else server_context(tls, "localhost")
    dialer = dialer or WebsocketsDialer(ssl=None if tls is None else client_context(tls))
    async with serving(accept, tls=context) as port:
        recorder = Recorder()
        handshake = Handshake(url=f"{'ws' if tls is None else 'wss'}://localhost:{port}/")
        link = await dialer.dial(handshake, recorder, limits or Limits())
        yield link, recorder
        link.abort()
        await recorder.closed()


async def end_of(
    data: bytes, *headers: str, limits: Limits | None = None
) -> tuple[Recorder, tuple[int, str, bool]]:
    """Send bytes and nothing more; return what came of them, and the end."""
    answer: asyncio.Future[tuple[int, bytes, int]] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        peer.write(data)
        answer.set_result(await peer.read_frame())
        await peer.ended()

    async with linked(serve, *headers, limits=limits) as (_, recorder):
        end = await recorder.closed()
        opcode, payload, _ = await answer
        assert (CLOSE, end[0]) == (opcode, int.from_bytes(payload[:2], "big"))
    return recorder, end


def deflated(payload: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return (encoder.compress(payload) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\0\0\xff\xff")


# Compression


async def test_compression_is_offered_unless_it_is_switched_off() -> None:
    requests: list[bytes] = []

    async def serve(peer: Peer) -> None:
        requests.append(peer.request.lower())
        await peer.ended()

    for compression in ("deflate", None):
        async with linked(serve, dialer=WebsocketsDialer(compression=compression)):  # type: ignore[arg-type]
            pass

    assert b"sec-websocket-extensions: permessage-deflate" in requests[0]
    assert b"extensions" not in requests[1]


async def test_messages_are_compressed_both_ways() -> None:
    text, data = "grüße " * 5000, bytes(100_000)
    sent: list[tuple[int, bytes, int]] = []

    async def serve(peer: Peer) -> None:
        packed = deflated(text.encode())
        peer.write(frame(TEXT, packed, rsv=4))
        peer.write(frame(TEXT, packed[:9], rsv=4, fin=False) + frame(PING) + frame(0, packed[9:]))
        peer.write(frame(BINARY, b"not compressed"))
        sent.extend([await peer.read_frame() for _ in range(3)])
        await peer.ended()

    async with linked(
        serve, f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover"
    ) as (
        link,
        recorder,
    ):
        await recorder.until(lambda: len(recorder.messages) == 3)
        link.send(text)
        link.send(memoryview(data).cast("I"))
        async with asyncio.timeout(20):
            while len(sent) < 3:  # noqa: ASYNC110 - the server's end is in this loop
                await asyncio.sleep(0)

    assert [text, text, b"not compressed"] == recorder.messages
    (pong, _, _), (_, first, head), (_, second, _) = sent
    assert (PONG, 0xC1) == (pong, head)
    assert (text.encode(), data) == (inflated(first), inflated(second))
    assert len(first) + len(second) < 1000


async def test_the_far_side_may_decline_compression() -> None:
    async def serve(peer: Peer) -> None:
        _, payload, head = await peer.read_frame()
        peer.write(frame(BINARY, payload + bytes([head])))
        await peer.ended()

    async with linked(serve) as (link, recorder):
        link.send("plain")
        assert b"plain\x81" == await recorder.first("message")


BOMB = deflated(bytes(MIB))  # a kibibyte


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(frame(BINARY, BOMB, rsv=4), id="one frame"),
        pytest.param(
            frame(TEXT, BOMB[:50], rsv=4, fin=False) + frame(0, BOMB[50:]), id="fragments"
        ),
        pytest.param(frame(BINARY, deflated(bytes(1001)), rsv=4), id="one byte too many"),
    ],
)
async def test_a_compression_bomb_is_stopped(bomb: bytes) -> None:
    good = frame(TEXT, deflated(b"x" * 1000), rsv=4)

    recorder, end = await end_of(good + bomb, DEFLATE, limits=Limits(message_size=1000))

    assert (1009, "message over 1000 bytes", False) == end
    assert ["x" * 1000] == recorder.messages


async def test_a_message_of_the_limit_that_compression_makes_longer_passes() -> None:
    noise = random.Random(7).randbytes(10_000)
    encoder = zlib.compressobj(0, wbits=-9, memLevel=1)
    packed = (encoder.compress(noise) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(packed) > 10_000

    async def serve(peer: Peer) -> None:
        peer.write(frame(BINARY, packed, rsv=4) + frame(BINARY, noise[:-1], fin=False))
        peer.write(frame(PING, bytes(125)) + frame(0, b"!"))
        await peer.ended()

    async with linked(serve, DEFLATE, limits=Limits(message_size=10_000)) as (_, recorder):
        await recorder.until(lambda: len(recorder.messages) == 2)
        assert [noise, noise[:-1] + b"!"] == recorder.messages


async def test_a_pause_also_holds_what_was_read_already() -> None:
    """Or one read of compressed messages would become 256 times the queue's bound."""
    count = 200

    async def serve(peer: Peer) -> None:
        await peer.read_frame()
        peer.write(frame(BINARY, deflated(bytes(MIB)), rsv=4) * count + close_frame(4000))
        await peer.ended()

    async with linked(serve, f"{DEFLATE}; server_no_context_takeover") as (link, recorder):
        sizes: list[int] = []

        def take(message: Any) -> None:
            sizes.append(len(message))
            link.pause_reading()

        link.deliver_to(take)
        link.send("begin")
        for number in range(1, count + 1):
            async with asyncio.timeout(20):
                while len(sizes) < number:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert number == len(sizes)
            link.resume_reading()
        assert (4000, "", True) == await recorder.closed()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(BINARY, b"\xff" * 50, rsv=4), id="no deflate"),
        pytest.param(frame(PING, b"x", rsv=4), id="compressed ping"),
        pytest.param(frame(TEXT, b"x", rsv=2), id="another reserved bit"),
        pytest.param(
            frame(TEXT, deflated(b"x"), rsv=4, fin=False) + frame(0, b"y", rsv=4),
            id="compressed continuation",
        ),
    ],
)
async def test_bad_compression_is_a_broken_protocol(bad: bytes) -> None:
    _, (code, reason, by_peer) = await end_of(bad, DEFLATE)

    assert (1002, False) == (code, by_peer)
    assert reason


async def test_compressed_text_is_checked_too() -> None:
    assert 1007 == (await end_of(frame(TEXT, deflated(b"\xff"), rsv=4), DEFLATE))[1][0]


@pytest.mark.parametrize(
    ("compression", "headers"),
    [
        (None, (DEFLATE,)),
        ("deflate", ("Sec-WebSocket-Extensions: x-other",)),
        ("deflate", (DEFLATE, DEFLATE)),
        ("deflate", (f"{DEFLATE}; server_max_window_bits=99",)),
    ],
)
async def test_an_extension_that_was_not_offered_so_is_refused(
    compression: Any, headers: tuple[str, ...]
) -> None:
    dialer = WebsocketsDialer(compression=compression, open_timeout=5)
    async with serving(spoilt(more=headers)) as port:
        with pytest.raises(HandshakeError, match="extension") as caught:
            await dialer.dial(Handshake(url=f"ws://127.0.0.1:{port}"), Recorder(), Limits())

    assert 101 == caught.value.status


# Frames


async def test_a_frame_announced_too_big_ends_the_link_before_it_comes() -> None:
    _, end = await end_of(b"\x82\x7f" + (MIB + 1).to_bytes(8, "big"))

    assert (1009, f"message over {MIB} bytes", False) == end


async def test_an_empty_close_is_answered_with_1000() -> None:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(peer: Peer) -> None:
        peer.write(frame(CLOSE))
        answer.set_result((await peer.read_frame())[1])

    async with linked(serve) as (_, recorder):
        assert (1005, "", True) == await recorder.closed()
        assert struct.pack("!H", 1000) == await answer


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("bad", [frame(3), frame(TEXT, b"\xff"), close_frame(1000)])
async def test_a_peer_that_does_not_read_cannot_hold_a_link_that_is_over(
    bad: bytes, tls: bool, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dromos.dialers._protocol_link.LINGER", 0.05)
    full = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await full.wait()
        peer.write(bad)
        await asyncio.get_running_loop().create_future()

    async with linked(serve, tls=authority if tls else None) as (link, recorder):
        while not recorder.all("pause_writing"):
            link.send(bytes(65536))
        full.set()
        code, _, _ = await recorder.closed()
        assert code in (1000, 1002, 1007)


async def test_a_half_closed_connection_is_not_kept_by_what_waits_to_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dromos.dialers._protocol_link.LINGER", 0.05)
    full = asyncio.Event()

    async def serve(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await full.wait()
        peer.writer.write_eof()
        await asyncio.get_running_loop().create_future()

    async with linked(serve) as (link, recorder):
        while not recorder.all("pause_writing"):
            link.send(bytes(65536))
            await asyncio.sleep(0)
        full.set()
        code, _, by_peer = await recorder.closed()
        assert (1006, True) == (code, by_peer)
        with pytest.raises(NotConnected):
            link.send("late")


async def test_an_error_leaves_nothing_behind() -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def serve(peer: Peer) -> None:
        peer.write(frame(3))
        await peer.ended()

    async with linked(serve) as (link, recorder):
        await recorder.closed()
        gone = weakref.ref(link)
    del link
    gc.collect()

    assert (None, []) == (gone(), complaints)


# TLS and proxies


async def test_a_link_over_tls_works_as_any_other(authority: trustme.CA) -> None:
    async def serve(peer: Peer) -> None:
        peer.write(frame(TEXT, b"hello"))
        _, payload, _ = await peer.read_frame()
        peer.write(frame(TEXT, payload) + close_frame(4000, b"bye") + frame(TEXT, b"late") * 99)
        await peer.ended()

    async with linked(serve, tls=authority) as (link, recorder):
        link.send("x" * 100_000)
        assert (4000, "bye", True) == await recorder.closed()
        assert ["hello", "x" * 100_000] == recorder.messages


async def test_a_certificate_of_an_unknown_authority_is_refused(authority: trustme.CA) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()

    async with serving(serve, tls=server_context(authority, "localhost")) as port:
        with pytest.raises(HandshakeError, match="certificate was refused") as caught:
            await WebsocketsDialer().dial(
                Handshake(url=f"wss://localhost:{port}"), Recorder(), Limits()
            )

    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("proxy", "scheme", "target"),
    [
        (http_proxy, "http", "localhost"),
        (socks4_proxy, "socks4", "127.0.0.1"),
        (socks5_proxy, "socks5", "localhost"),
    ],
)
async def test_a_link_opens_through_a_proxy(
    proxy: Any, scheme: str, target: str, tls: bool, authority: trustme.CA
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()
        peer.write(frame(TEXT, b"through"))
        await peer.ended()

    asked: list[Any] = []
    context = server_context(authority, "localhost") if tls else None
    async with (
        serving(serve, tls=context) as far,
        serving(lambda peer: proxy(peer, asked, far)) as near,
    ):
        recorder = Recorder()
        dialer = WebsocketsDialer(
            proxy=f"{scheme}://agent:{PASSWORD}@localhost:{near}", ssl=client_context(authority)
        )
        url = f"{'wss' if tls else 'ws'}://localhost:{far}/"
        link = await dialer.dial(Handshake(url=url), recorder, Limits())

        assert "through" == await recorder.first("message")
        assert [target] == asked
        link.abort()
        await recorder.closed()


async def test_a_certificate_behind_a_proxy_is_refused_as_any_other(authority: trustme.CA) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()

    asked: list[Any] = []
    async with (
        serving(serve, tls=server_context(authority, "localhost")) as far,
        serving(lambda peer: http_proxy(peer, asked, far)) as near,
    ):
        dialer = WebsocketsDialer(proxy=f"http://agent:{PASSWORD}@localhost:{near}")
        with pytest.raises(HandshakeError, match="through the proxy failed") as caught:
            await dialer.dial(Handshake(url=f"wss://localhost:{far}"), Recorder(), Limits())

    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_proxys_refusal_is_not_the_far_sides() -> None:
    async with proxied(http_proxy) as (far, near, _):
        dialer = WebsocketsDialer(proxy=f"http://agent:wrong-{PASSWORD}@127.0.0.1:{near}")
        with pytest.raises(HandshakeError, match="through the proxy") as caught:
            await dialer.dial(Handshake(url=f"ws://localhost:{far}/"), Recorder(), Limits())

    assert 407 == caught.value.status
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"


# Refusals and secrets


async def refusal(answer: bytes) -> HandshakeError:
    async def serve(peer: Peer) -> None:
        await peer.read_request()
        peer.write(answer)
        await peer.ended()

    async with serving(serve) as port:
        handshake = Handshake(
            url=f"ws://127.0.0.1:{port}/p?token={CANARY}&b=query-secret-2",
            headers=(("Authorization", f"Bearer {CANARY}"), ("Cookie", f"a=1; sid={CANARY}")),
        )
        with pytest.raises(HandshakeError) as caught:
            await WebsocketsDialer(open_timeout=5).dial(handshake, Recorder(), Limits())
    return caught.value


@pytest.mark.parametrize("status", [200, 302, 401, 407, 429, 503, 520])
async def test_a_refusal_is_told_without_waiting_for_its_body(status: int) -> None:
    error = await refusal(
        f"HTTP/1.1 {status} X\r\nLocation: //other.example/?a={CANARY}\r\n"
        "Retry-After: 7\r\nContent-Length: 999\r\n\r\nsorry!".encode()
    )

    assert (status, 7.0, b"sorry!") == (error.status, error.retry_after, error.body)
    assert "ws://other.example" == error.headers["location"]
    assert (status == 302) == ("a redirect to ws://other.example, which is not" in str(error))


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"x" * 100_000])
async def test_what_is_not_http_is_said_to_be_that(answer: bytes) -> None:
    assert "did not answer in HTTP/1.1" in str(await refusal(answer))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"drop": "Sec-WebSocket-Accept"}, "Sec-WebSocket-Accept"),
        ({"drop": "Sec-WebSocket-Accept", "accept": "c2hhZG93"}, "Sec-WebSocket-Accept"),
        ({"drop": "Upgrade"}, "Upgrade"),
        ({"drop": "Connection"}, "Connection"),
        ({"more": ("Sec-WebSocket-Protocol: chat",)}, "subprotocol"),
        ({"more": ("Sec-WebSocket-Protocol: v1, v2",)}, "subprotocol"),
        ({"more": ("Content-Length: 5",)}, "Content-Length"),
        ({"more": ("Folded: a", " b")}, "malformed"),
    ],
)
async def test_a_bad_upgrade_is_refused(change: dict[str, Any], why: str) -> None:
    dialer = WebsocketsDialer(subprotocols=["v1", "v2"], open_timeout=5)
    async with serving(spoilt(**change)) as port:
        with pytest.raises(HandshakeError, match=why) as caught:
            await dialer.dial(Handshake(url=f"ws://127.0.0.1:{port}"), Recorder(), Limits())

    assert 101 == caught.value.status


@pytest.mark.parametrize("answer", SECRET_HANDSHAKE_ANSWERS)
async def test_no_error_or_log_shows_what_the_far_side_echoes(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    for name in ("websockets", "websockets.client", "asyncio"):
        logging.getLogger(name).setLevel(1)

    error = await refusal(answer.encode())

    # Our test's own frames hold the canary; those of the library start at `dial`.
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    for shown in everything_about(error):
        assert CANARY[:-3] not in shown
        assert "query-secret-2" not in shown
    assert CANARY not in caplog.text


async def test_an_open_link_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)

    async def serve(peer: Peer) -> None:
        peer.write(frame(TEXT, CANARY.encode()))
        await peer.read_frame()
        peer.write(close_frame(4000, CANARY.encode()))
        await peer.ended()

    async with linked(serve, dialer=WebsocketsDialer(headers={"X-Key": CANARY})) as (
        link,
        recorder,
    ):
        link.send(CANARY)
        await recorder.closed()

    assert CANARY not in caplog.text
    assert CANARY not in repr(link)
    assert not [record for record in caplog.records if record.name.startswith("websockets")]


# Cancellation


@pytest.mark.parametrize("way", ["tcp", "tls", "http", "socks5"])
@pytest.mark.parametrize("turns", [*range(12), 20, 40])
async def test_a_dial_can_be_cancelled_at_every_stage(
    way: str, turns: int, authority: trustme.CA
) -> None:
    context = server_context(authority, "127.0.0.1") if way == "tls" else None
    async with serving(never_answer, tls=context) as port:
        dialer = WebsocketsDialer(
            ssl=client_context(authority),
            proxy=f"{way}://127.0.0.1:{port}" if way in ("http", "socks5") else None,
        )
        url = f"{'wss' if way == 'tls' else 'ws'}://127.0.0.1:{port}"
        await cancel_a_dial(dialer, url, turns)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_dial_leaves_nothing_for_the_loop_to_complain_about(
    tls: bool, turns: int, authority: trustme.CA
) -> None:
    """An upgrade that nobody waits for any more fails all the same, as its connection ends."""
    context = server_context(authority, "127.0.0.1") if tls else None
    complaints: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    async with serving(never_answer, tls=context) as port:
        dialer = WebsocketsDialer(ssl=client_context(authority))
        await cancel_a_dial(dialer, f"{'wss' if tls else 'ws'}://127.0.0.1:{port}", turns)
        gc.collect()

    # That the server misses its client amid TLS is the server's.
    assert [] == [one for one in complaints if "never retrieved" in one]


async def test_a_listener_hears_nothing_of_a_link_that_dial_did_not_return() -> None:
    accepted = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.accept()
        accepted.set()
        await peer.ended()

    async with serving(serve) as port:
        recorder = Recorder()
        dial = asyncio.create_task(
            WebsocketsDialer().dial(Handshake(url=f"ws://127.0.0.1:{port}"), recorder, Limits())
        )
        await accepted.wait()
        dial.cancel()
        with suppress(asyncio.CancelledError):
            link = await dial
            link.abort()
            return
        assert [] == recorder.calls


# Options


@pytest.mark.parametrize("compression", ["gzip", True, 7, ""])
def test_compression_is_deflate_or_none(compression: Any) -> None:
    with pytest.raises(ValueError, match="compression"):
        WebsocketsDialer(compression=compression)


def test_without_websockets_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['websockets'] = None\n"
        "from dromos.dialers import WebsocketsDialer\n"
        "try: WebsocketsDialer(compression=None)\n"
        "except ImportError as error: print(error)"
    )

    shown = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert 'pip install "dromos[websockets]"' in shown.stdout, shown.stderr


def test_a_link_is_a_link() -> None:
    assert {name for name in dir(Link) if not name.startswith("_")} <= set(dir(ProtocolLink)) | {
        "received"
    }


@pytest.mark.parametrize("ours", [False, True])
async def test_bytes_on_the_wire_are_known_at_the_end_though_tls_has_closed_the_socket(
    authority: trustme.CA, ours: bool
) -> None:
    async def serve(peer: Peer) -> None:
        peer.write(frame(BINARY, b"x" * 5000))
        if not ours:
            peer.write(close_frame(4000))
        await peer.ended()

    async with linked(serve, tls=authority) as (link, recorder):
        ends: list[WireBytes | None] = []
        recorder.then("closed", lambda: ends.append(link.wire_bytes()))
        await recorder.first("message")
        if link.wire_bytes() is None:
            pytest.skip("only Linux tells how many bytes a connection has carried")
        if ours:
            link.abort()
        await recorder.closed()

    [end] = ends
    assert 5000 < end.received < 10_000
    assert 0 < end.sent < 5000
