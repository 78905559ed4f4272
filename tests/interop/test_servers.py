"""A whole bridge and servers that we did not write, alone and behind proxies with TLS."""

import asyncio
from typing import Any

import pytest
import trustme

from dromos import Handshake, HandshakeError, Limits
from dromos.events import BridgeEvent, LinkLost
from tests.dialers.recorder import Recorder
from tests.interop.connected import connected, reached, trusting

pytestmark = [
    pytest.mark.slow,  # real processes, which are installed by the first run
    pytest.mark.timeout(400),
]
TRIES = 5


async def test_messages_come_back_as_they_went(server: tuple[str, int], engine: Any) -> None:
    _, port = server
    messages: list[str | bytes] = ["hello", "zwei ü 𝄞", b"\x00\xff", "x" * 70_000, b"y" * 500_000]
    async with connected(engine(), f"ws://127.0.0.1:{port}/ws") as connection:
        for message in messages:
            await connection.send(message)
            assert message == await connection.recv(timeout=20)


async def test_a_refused_token_is_a_refused_handshake(server: tuple[str, int], engine: Any) -> None:
    name, port = server
    bad = Handshake(url=f"ws://127.0.0.1:{port}/ws", headers=(("Authorization", "Bearer bad"),))
    with pytest.raises(HandshakeError) as caught:
        await engine().dial(bad, Recorder(), Limits())
    # ASGI has no way to say 401 before it accepts: its servers make it 403.
    assert (403 if name in ("uvicorn", "hypercorn", "daphne") else 401) == caught.value.status


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4000])
async def test_a_close_is_told_with_its_code_and_a_new_link_opens(
    server: tuple[str, int], engine: Any, code: int
) -> None:
    name, port = server
    events: list[BridgeEvent] = []
    url = f"ws://127.0.0.1:{port}/ws"
    async with connected(engine(), url, on_event=events.append) as connection:
        await connection.send(f"close {code}")
        await reached(connection, 2)
        await connection.send("again")
        assert "again" == await connection.recv(timeout=20)

    # Autobahn's server, which Daphne runs on, sends 1000 and 3000 to 4999 only; else 1011.
    told = 1011 if name == "daphne" and code in (1001, 1012) else code
    lost = next(event for event in events if isinstance(event, LinkLost))
    assert told == getattr(lost.error, "code", None)


async def test_a_proxy_with_tls_passes_everything(
    front: tuple[str, int], engine: Any, authority: trustme.CA
) -> None:
    _, port = front
    dialer = engine(ssl=trusting(authority))
    async with connected(dialer, f"wss://localhost:{port}/ws") as connection:
        for message in ("hello", b"\x00\xff", "x" * 200_000):
            await connection.send(message)
            assert message == await connection.recv(timeout=20)


async def test_pings_keep_a_proxy_from_ending_an_idle_link(
    front: tuple[str, int], engine: Any, authority: trustme.CA
) -> None:
    """Both end what is silent for two seconds; a ping a second keeps it."""
    _, port = front
    dialer = engine(ssl=trusting(authority))
    async with connected(dialer, f"wss://localhost:{port}/ws", ping_interval=0.8) as connection:
        await connection.wait_open()
        # A busy machine may miss the moment of a ping; without pings no link would live so long.
        for _ in range(TRIES):
            link = connection.link
            await asyncio.sleep(5)  # the proxies' clocks are real
            if link == connection.link:
                return
    pytest.fail(f"none of {TRIES} links lived for five seconds")


async def test_a_proxy_that_ends_an_idle_link_is_dialled_again(
    front: tuple[str, int], engine: Any, authority: trustme.CA
) -> None:
    name, port = front
    if name == "caddy":
        pytest.skip("caddy ends no idle link")
    dialer = engine(ssl=trusting(authority))
    url = f"wss://localhost:{port}/ws"
    async with connected(dialer, url, ping_interval=None) as connection:
        await connection.wait_open()
        await reached(connection, 2)
        await connection.send("again")
        assert "again" == await connection.recv(timeout=20)


async def test_a_private_authority_that_is_not_trusted_is_refused(
    front: tuple[str, int], engine: Any
) -> None:
    _, port = front
    with pytest.raises(HandshakeError) as caught:
        await engine().dial(Handshake(url=f"wss://localhost:{port}/ws"), Recorder(), Limits())

    assert caught.value.status is None
    assert "certificate" in str(caught.value)
