"""The server of the benchmarks takes all that it is sent, however it came."""

import asyncio

import pytest
from benchmarks.clients import Where
from benchmarks.clients.picows_raw import Listener
from benchmarks.server import server
from picows import WSMsgType, ws_connect


@pytest.mark.parametrize("tls", [False, True])
async def test_the_sink_hears_the_end_of_a_burst(tls: bool) -> None:
    """Over TLS a pause leaves it decrypted in aiofastnet's buffer, where nothing wakes it."""
    pytest.importorskip("uvloop", reason="the server runs on it")
    with server() as far:
        where = Where(far.url("/sink", tls=tls), far.trust)
        transport, listener = await ws_connect(Listener, where.url, ssl_context=where.tls)
        assert isinstance(listener, Listener)
        done = listener.expect(1)
        transport.send(WSMsgType.TEXT, "!400")
        for _ in range(400):
            transport.send(WSMsgType.TEXT, "x" * 256)
        await asyncio.wait_for(done, 30)
        transport.disconnect()
