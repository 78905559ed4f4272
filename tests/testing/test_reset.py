"""A reset ends a connection at once, on every loop."""

import asyncio
import socket

import pytest

from dromos.testing._loopback import reset


def read_to_the_end(client: socket.socket) -> None:
    while client.recv(2**20):
        pass


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_reset_does_not_wait_for_a_client_that_does_not_read(loop: str) -> None:
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        factory = pytest.importorskip("uvloop", reason="needs the extra uvloop").new_event_loop

    async def scene() -> None:
        accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(
            lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0
        )
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            writer = await accepted
            writer.write(bytes(32 * 2**20))
            reset(writer.transport)
            for _ in range(3):
                await asyncio.sleep(0)
            client.settimeout(5)
            with pytest.raises(ConnectionResetError):
                read_to_the_end(client)
        server.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scene())
