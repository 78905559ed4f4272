"""The programs of docs/howto/proxy-and-private-ca.md, with an authority and a proxy of our own."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from dromos import Bridge
from dromos.oauth import StaticToken
from dromos.testing import FarSide, Gateway
from tests.documents.pages import Page
from tests.documents.world import play, says

pytestmark = pytest.mark.slow  # processes, as a user would start them

AUTHORITY, PROXY, ENVIRONMENT = Page("howto/proxy-and-private-ca.md").blocks("python")


@asynccontextmanager
async def servers(authority: trustme.CA, *names: str) -> AsyncIterator[tuple[Gateway, FarSide]]:
    """A gateway and a far side with certificates of this authority, for these names."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(tls)
    async with (
        Gateway(host="localhost", ssl=tls) as gateway,
        FarSide(host="localhost", ssl=tls, gateway=gateway, echo=True) as far,
    ):
        gateway.add("your-connection-id")
        yield gateway, far


async def test_a_private_authority_is_trusted_for_both_connections(tmp_path: Path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with servers(authority, "localhost") as (gateway, far):
        real = {"https://gateway.example:8081": gateway.url, "wss://external.example/ws": far.url}
        printed = await play(AUTHORITY, real, tmp_path)

    assert says(AUTHORITY.prints or "", printed)


@asynccontextmanager
async def proxy(asked: list[str], ports: dict[str, int]) -> AsyncIterator[int]:
    """An HTTP proxy that knows where nobody's names lead, and wants a password."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        name = head.split(" ")[1].partition(":")[0]
        asked.append(name)
        login = base64.b64encode(b"agent:secret").decode()
        assert f"proxy-authorization: basic {login}".lower() in head.lower()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", ports[name])
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_both_connections_go_through_the_proxy(tmp_path: Path):
    asked: list[str] = []
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with servers(authority, "gateway.example", "external.example") as (gateway, far):
        ports = {"gateway.example": gateway.port, "external.example": far.port}
        async with proxy(asked, ports) as port:
            real = {"proxy.example:3128": f"127.0.0.1:{port}"}
            printed = await play(PROXY, real, tmp_path, SSL_CERT_FILE="ca.pem")

    assert says(PROXY.prints or "", printed)
    assert ["gateway.example", "external.example"] == asked


async def test_the_environment_is_followed_on_request(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    async with FarSide() as far, proxy(asked, {"external.example": far.port}) as port:
        monkeypatch.setenv("https_proxy", f"http://agent:secret@127.0.0.1:{port}")
        names: dict[str, Any] = {}
        exec(compile(ENVIRONMENT.text, str(ENVIRONMENT), "exec"), names)
        bridge = Bridge(StaticToken("..."), dialer=names["dialer"], allow_insecure_transport=True)
        with pytest.warns(UserWarning, match="in clear"):
            connection = bridge.connect("c-1", "ws://external.example/ws")
        async with connection:
            await connection.wait_open(timeout=10)

    assert ["external.example"] == asked
