"""The far side's process, as the near side starts, orders and kills it."""

import asyncio
import json
import resource
import sys
from types import TracebackType
from typing import Any, Final, Self

HOSTS: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
"""A link takes one of some 28,000 ports at its far side's address: several, for many links."""


class FarProcess:
    """A `tests.many.far` in a process of its own, which can be killed and started again."""

    def __init__(self) -> None:
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; after `kill`, on the same port again."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.many.far", *HOSTS, "--port", str(self.port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.port = (await self._hear())["port"]

    async def kill(self) -> None:
        """Kill it: its kernel ends what was open, and nobody says goodbye."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def order(self, **order: Any) -> dict[str, Any]:
        """Give an order, and return the answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return await self._hear()

    def url(self, number: int, path: str = "") -> str:
        """Where the session with this number connects to."""
        return f"ws://{HOSTS[number % len(HOSTS)]}:{self.port}/{path or f'c-{number}'}"

    async def _hear(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()


def allow_descriptors(wanted: int) -> None:
    """Raise the limit on open files, as far as it may be.

    Raises:
        OSError: If the hard limit is below what is wanted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OSError(f"{wanted} open files are needed, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
