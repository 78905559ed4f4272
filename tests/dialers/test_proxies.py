"""Dialling through forward proxies."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.dialers.loopback import TEXT, Peer, frame, serving
from tests.dialers.recorder import Recorder

from dromos.dialers.picows import PicowsDialer
from dromos.errors import HandshakeError
from dromos.interfaces import Limits
from dromos.model import Handshake

PASSWORD = "proxy-canary-77"


async def far_side(peer: Peer) -> None:
    await peer.accept()
    peer.write(frame(TEXT, b"through"))
    await peer.ended()


async def pump(peer: Peer, port: int) -> None:
    """Connect a proxy's client with the far side, until either ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
        target.close()

    try:
        await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


Proxy = Callable[[Peer, list[Any], int], Awaitable[None]]


async def http_proxy(peer: Peer, asked: list[Any], port: int) -> None:
    request = (await peer.read_request()).decode()
    login = base64.b64encode(f"agent:{PASSWORD}".encode()).decode()
    if f"Proxy-Authorization: Basic {login}" not in request:
        peer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        return
    asked.append(request.split()[1].split(":")[0])
    peer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await pump(peer, port)


async def socks4_proxy(peer: Peer, asked: list[Any], port: int) -> None:
    head = await peer.reader.readexactly(8)
    await peer.reader.readuntil(b"\0")
    asked.append(socket.inet_ntoa(head[4:]))
    peer.write(b"\0\x5a" + bytes(6))
    await pump(peer, port)


async def socks5_proxy(peer: Peer, asked: list[Any], port: int) -> None:
    _, count = await peer.reader.readexactly(2)
    await peer.reader.readexactly(count)
    peer.write(b"\x05\x02")
    _, length = await peer.reader.readexactly(2)
    user = await peer.reader.readexactly(length)
    (length,) = await peer.reader.readexactly(1)
    password = await peer.reader.readexactly(length)
    if (user, password) != (b"agent", PASSWORD.encode()):
        peer.write(b"\x01\x01")
        return
    peer.write(b"\x01\x00")
    *_, kind = await peer.reader.readexactly(4)
    assert kind == 3, "the name goes to the proxy"
    (length,) = await peer.reader.readexactly(1)
    asked.append((await peer.reader.readexactly(length)).decode())
    await peer.reader.readexactly(2)
    peer.write(b"\x05\0\0\x01" + bytes(6))
    await pump(peer, port)


@asynccontextmanager
async def proxied(proxy: Proxy) -> AsyncIterator[tuple[int, int, list[Any]]]:
    asked: list[Any] = []
    async with serving(far_side) as far, serving(lambda peer: proxy(peer, asked, far)) as near:
        yield far, near, asked


@pytest.mark.parametrize(
    ("proxy", "url", "target"),
    [
        (http_proxy, "http://agent:{}@localhost:{}", "localhost"),
        (socks4_proxy, "socks4://agent:{}@localhost:{}", "127.0.0.1"),
        (socks5_proxy, "socks5://agent:{}@localhost:{}", "localhost"),
    ],
)
async def test_a_link_opens_through_a_proxy(proxy: Proxy, url: str, target: str) -> None:
    async with proxied(proxy) as (far, near, asked):
        recorder = Recorder()
        dialer = PicowsDialer(proxy=url.format(PASSWORD, near))
        link = await dialer.dial(Handshake(url=f"ws://localhost:{far}/"), recorder, Limits())

        assert "through" == await recorder.first("message")
        assert [target] == asked
        link.abort()
        await recorder.closed()


@pytest.mark.parametrize(
    ("proxy", "url", "status"),
    [
        (http_proxy, "http://agent:wrong-{}@127.0.0.1:{}", 407),
        (socks5_proxy, "socks5://agent:wrong-{}@127.0.0.1:{}", None),
    ],
)
async def test_a_proxy_that_refuses_us_is_told_apart_from_the_far_side(
    proxy: Proxy, url: str, status: int | None
) -> None:
    async with proxied(proxy) as (far, near, asked):
        dialer = PicowsDialer(proxy=url.format(PASSWORD, near))
        with pytest.raises(HandshakeError, match="through the proxy") as caught:
            await dialer.dial(Handshake(url=f"ws://localhost:{far}/"), Recorder(), Limits())

    assert status == caught.value.status
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert [] == asked


@pytest.mark.parametrize("status", [401, 403, 502])
async def test_a_status_of_the_proxy_is_not_the_far_sides(status: int) -> None:
    async def refuse(peer: Peer, asked: list[Any], port: int) -> None:
        await peer.read_request()
        peer.write(f"HTTP/1.1 {status} No\r\n\r\n".encode())

    async with proxied(refuse) as (far, near, _):
        dialer = PicowsDialer(proxy=f"http://127.0.0.1:{near}")
        with pytest.raises(HandshakeError, match=str(status)) as caught:
            await dialer.dial(Handshake(url=f"ws://localhost:{far}/"), Recorder(), Limits())

    assert caught.value.status is None


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5"])
async def test_a_proxy_that_hangs_costs_the_budget(scheme: str) -> None:
    async def hang(peer: Peer, asked: list[Any], port: int) -> None:
        await peer.ended()

    async with proxied(hang) as (far, near, _):
        dialer = PicowsDialer(proxy=f"{scheme}://127.0.0.1:{near}", open_timeout=0.1)
        with pytest.raises(HandshakeError, match=r"took over 0\.1 s"):
            await dialer.dial(Handshake(url=f"ws://localhost:{far}/"), Recorder(), Limits())


async def test_socks_has_a_port_of_its_own() -> None:
    assert "socks5://h:1080" == PicowsDialer(proxy="socks5://h")._proxy
    assert "http://h" == PicowsDialer(proxy="http://h")._proxy
