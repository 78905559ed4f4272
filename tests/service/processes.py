"""A service as a process of its own, between a gateway and a far side on loopback."""

import asyncio
import contextlib
import os
import re
import sys
from pathlib import Path

import dromos
from dromos.testing import FarSide, Gateway

ROOT = Path(__file__).parents[2]
SOURCE = str(Path(dromos.__file__).parents[1])


@contextlib.asynccontextmanager
async def world(**options):
    """A gateway that knows `c-1` and `c-2`, and a far side that asks it."""
    async with Gateway() as gateway, FarSide(gateway=gateway, **options) as far:
        gateway.add("c-1")
        gateway.add("c-2")
        yield gateway, far


class Process:
    """A process whose two outputs are read while it runs."""

    def __init__(self, process):
        self._process = process
        self.lines = []
        self.log = []
        self._changed = asyncio.Event()
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.lines)),
            asyncio.create_task(self._read(process.stderr, self.log)),
        ]

    async def _read(self, stream, lines):
        async for line in stream:
            lines.append(line.decode().rstrip("\n"))
            self._changed.set()
        self._changed.set()

    def signal(self, number):
        self._process.send_signal(number)

    @property
    def has_ended(self):
        return self._process.returncode is not None

    async def until(self, condition):
        """Wait until something is true that its outputs tell."""
        async with asyncio.timeout(60):
            while not condition():
                done = all(reader.done() for reader in self._readers)
                assert not done or condition(), self.told
                self._changed.clear()
                await self._changed.wait()

    async def until_it_says(self, text):
        await self.until(lambda: any(text in line for line in [*self.lines, *self.log]))

    async def health_port(self):
        """Wait for the port that it has taken."""
        await self.until_it_says("the health port is")
        return int(re.search(r"the health port is (\d+)", "\n".join(self.log))[1])

    async def end(self):
        """Wait for its end, and return the status."""
        async with asyncio.timeout(60):
            await asyncio.gather(*self._readers)
            return await self._process.wait()

    @property
    def told(self):
        return "\n".join([*self.lines, *self.log])


@contextlib.asynccontextmanager
async def process(*arguments, env=None, cwd=ROOT):
    """Run Python with these arguments, and leave nothing behind."""
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("DROMOS_")},
        "PYTHONPATH": os.pathsep.join([SOURCE, str(ROOT)]),
        **(env or {}),
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    it = Process(running)
    try:
        yield it
    finally:
        if running.returncode is None:
            running.kill()
        await it.end()


def agent(name, gateway, far, **env):
    """Run an agent of `tests.service.agents` with `dromos.run`."""
    return process("-m", "tests.service.agents", name, gateway.url, far.url, env=env)
