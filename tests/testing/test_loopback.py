"""A server on loopback leaks no socket, whenever it is stopped.

asyncio takes some turns from accepting a connection to the task that serves it; the tests
stop a server in each of them.
"""

import asyncio
import gc
import socket
import warnings

import pytest

from dromos import Bridge
from dromos.oauth import OAuthClient
from dromos.service import HealthServer
from dromos.testing import FarSide, FaultProxy, Gateway

TURNS = range(8)


def health() -> HealthServer:
    return HealthServer(Bridge(OAuthClient("https://gateway.example")), port=0)


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize(
    "server", [FarSide, Gateway, lambda: FaultProxy("ws://127.0.0.1:9"), health]
)
def test_a_client_that_is_being_accepted_at_the_end_is_let_go(server, turns):
    async def stop_after_a_dial() -> socket.socket:
        async with server() as running:
            client = socket.create_connection(("127.0.0.1", running.port))
            for _ in range(turns):
                await asyncio.sleep(0)
        return client

    gc.collect()  # what others left is not of this test
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        client = asyncio.run(stop_after_a_dial())
        gc.collect()
    with client:
        client.settimeout(10)
        try:
            answer = client.recv(1)
        except ConnectionResetError:
            answer = b""

    assert b"" == answer
    assert [] == [str(each.message) for each in told]
