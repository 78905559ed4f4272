"""Starts a server that we did not write, on a port of its own, and ends it."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

__all__ = ["HERE", "EndedAtOnce", "started"]

HERE: Final = Path(__file__).parent

START_WITHIN: Final = 120.0
"""Seconds.  Importing a framework takes one of them, and on a busy machine many."""

TRIES: Final = 3
"""Between finding a free port and listening on it somebody else may take it."""


class EndedAtOnce(Exception):
    """A server that did not come to listen, with what it said."""


@contextmanager
def started(
    command: Callable[[int], Sequence[str]], environment: dict[str, str], *, host: str = "127.0.0.1"
) -> Iterator[int]:
    """Run a server, given its command for a port, and yield the port that it listens on."""
    for tries_left in reversed(range(TRIES)):
        port = _free_port(host)
        # Its stderr goes to a file: workers that outlive it would hold a pipe open.
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command(port),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                env=environment,
            )
            try:
                _wait_for(process, (host, port), said)
                yield port
                return
            except EndedAtOnce:
                if not tries_left:
                    raise
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # the workers as well
                process.wait()


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as found:
        return int(found.getsockname()[1])


def _wait_for(
    process: "subprocess.Popen[bytes]", address: tuple[str, int], said: IO[bytes]
) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end:
        if process.poll() is not None:
            said.seek(0)
            raise EndedAtOnce(said.read().decode(errors="replace")[-800:])
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            time.sleep(0.05)  # there is no event for a port that opens
        else:
            return
    raise RuntimeError(f"the server did not listen within {START_WITHIN:g} s")
