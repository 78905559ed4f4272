"""A server whose port was taken meanwhile is started again; one that can't run is told."""

import os
import socket
import sys

import pytest

from tests.interop.processes import TRIES, EndedAtOnce, started

LISTEN = "import socket, sys; socket.create_server(('127.0.0.1', int(sys.argv[1]))).accept()"
TAKEN = "import sys; sys.exit('address already in use')"


def test_a_port_that_somebody_took_is_not_the_last_one() -> None:
    ports: list[int] = []

    def command(port: int) -> list[str]:
        ports.append(port)
        return [sys.executable, "-c", TAKEN if len(ports) == 1 else LISTEN, str(port)]

    with started(command, dict(os.environ)) as port:
        assert ports[1:] == [port]

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_server_that_never_listens_is_told_with_its_own_words() -> None:
    tries: list[int] = []

    def command(port: int) -> list[str]:
        tries.append(port)
        return [sys.executable, "-c", TAKEN]

    with (
        pytest.raises(EndedAtOnce, match="address already in use"),
        started(command, dict(os.environ)),
    ):
        pass

    assert TRIES == len(tries)
