"""Ways to a far side: forward proxies that we did not write, IPv6, certificates of our own."""

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from dromos import Handshake, HandshakeError, Limits
from tests.dialers.recorder import Recorder
from tests.interop.connected import connected, reached, trusting
from tests.interop.fronts import fronted, program
from tests.interop.processes import HERE, started

pytestmark = [
    pytest.mark.slow,  # real processes, which are installed by the first run
    pytest.mark.timeout(400),
]

PASSWORD = "proxy-canary-91"
TINYPROXY = """
Port {port}
Listen 127.0.0.1
Allow 127.0.0.1
Timeout 2
BasicAuth agent {password}
"""


@dataclass(frozen=True, kw_only=True)
class ForwardProxy:
    """One that wants a password."""

    name: str
    port: int

    def url(self, password: str = PASSWORD) -> str:
        scheme = "http" if self.name == "tinyproxy" else "socks5"
        return f"{scheme}://agent:{password}@127.0.0.1:{self.port}"


@pytest.fixture(params=["tinyproxy", "microsocks"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ForwardProxy]:
    """An HTTP proxy that ends what is idle for two seconds, or a SOCKS5 proxy."""
    name = request.param
    found = program(name)

    def command(port: int) -> list[str]:
        if name == "microsocks":
            return [found, "-i", "127.0.0.1", "-p", str(port), "-u", "agent", "-P", PASSWORD]
        file = tmp_path / "tinyproxy.conf"
        file.write_text(TINYPROXY.format(port=port, password=PASSWORD))
        return [found, "-d", "-c", str(file)]

    with started(command, dict(os.environ)) as port:
        yield ForwardProxy(name=name, port=port)


async def test_a_session_lives_behind_a_proxy_with_a_password(
    proxy: ForwardProxy, far_port: int, engine: Any
) -> None:
    dialer = engine(proxy=proxy.url())
    async with connected(dialer, f"ws://127.0.0.1:{far_port}/ws") as connection:
        for message in ("hello", b"\x00\xff", "x" * 200_000):
            await connection.send(message)
            assert message == await connection.recv(timeout=20)
        await connection.send("close 1012")
        await reached(connection, 2)
        await connection.send("again")
        assert "again" == await connection.recv(timeout=20)


async def test_and_so_it_does_with_tls_inside_the_tunnel(
    proxy: ForwardProxy, far_port: int, engine: Any, authority: trustme.CA, tmp_path: Path
) -> None:
    dialer = engine(proxy=proxy.url(), ssl=trusting(authority))
    with fronted("nginx", "", tmp_path, authority, far_port) as port:
        async with connected(dialer, f"wss://127.0.0.1:{port}/ws") as connection:
            await connection.send("x" * 200_000)
            assert "x" * 200_000 == await connection.recv(timeout=20)


async def test_a_wrong_password_is_the_proxys_refusal_and_is_not_shown(
    proxy: ForwardProxy, far_port: int, engine: Any
) -> None:
    dialer = engine(proxy=proxy.url("wrong-" + PASSWORD))
    with pytest.raises(HandshakeError, match="through the proxy") as caught:
        await dialer.dial(Handshake(url=f"ws://127.0.0.1:{far_port}/ws"), Recorder(), Limits())

    assert caught.value.status in (None, 407)
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_tunnel_that_the_proxy_ends_is_dialled_again(
    proxy: ForwardProxy, far_port: int, engine: Any
) -> None:
    if proxy.name == "microsocks":
        pytest.skip("microsocks ends no idle tunnel")
    url = f"ws://127.0.0.1:{far_port}/ws"
    async with connected(engine(proxy=proxy.url()), url, ping_interval=None) as connection:
        await reached(connection, 2)
        await connection.send("again")
        assert "again" == await connection.recv(timeout=20)


@pytest.fixture
def far_port_on_ipv6(server_packages: Path) -> Iterator[int]:
    """The port, on ::1 alone, of a server that sends messages back."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 on loopback")
    words = [sys.executable, str(HERE / "servers" / "plain.py"), "websockets"]
    environment = {**os.environ, "PYTHONPATH": str(server_packages)}
    with started(lambda port: [*words, str(port), "::1"], environment, host="::1") as port:
        yield port


async def test_a_server_on_ipv6_is_reached(far_port_on_ipv6: int, engine: Any) -> None:
    async with connected(engine(), f"ws://[::1]:{far_port_on_ipv6}/ws") as connection:
        await connection.send("over IPv6")
        assert "over IPv6" == await connection.recv(timeout=20)


async def test_a_server_that_wants_a_certificate_of_ours_gets_it(
    strict_front: tuple[str, int], engine: Any, authority: trustme.CA
) -> None:
    _, port = strict_front
    context = trusting(authority)
    authority.issue_cert("agent@agents.example").configure_cert(context)
    async with connected(engine(ssl=context), f"wss://localhost:{port}/ws") as connection:
        await connection.send("x" * 200_000)
        assert "x" * 200_000 == await connection.recv(timeout=20)


async def test_without_a_certificate_it_is_a_refused_handshake(
    strict_front: tuple[str, int], engine: Any, authority: trustme.CA
) -> None:
    name, port = strict_front
    dialer = engine(ssl=trusting(authority))
    with pytest.raises(HandshakeError) as caught:
        await dialer.dial(Handshake(url=f"wss://localhost:{port}/ws"), Recorder(), Limits())

    # nginx completes TLS and says so in HTTP; the others end TLS.
    assert (400 if name == "nginx" else None) == caught.value.status
    if name != "nginx":
        assert "certificate" in str(caught.value)
