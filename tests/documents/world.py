"""What stands in for nobody's addresses while a page's programs run: servers on loopback."""

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dromos
from dromos.testing import FarSide, Gateway
from tests.documents.pages import Block
from tests.oauth.token_server import TokenServer

__all__ = ["World", "free_port", "play", "says", "world"]

SOURCE = str(Path(dromos.__file__).parents[1])
ENDS_WITHIN = 60.0  # seconds; a contended machine is slow


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass(frozen=True, slots=True)
class World:
    """The servers, and the addresses in the documents that they stand in for."""

    gateway: Gateway
    far: FarSide
    issuer: TokenServer

    @property
    def token(self) -> str:
        """One that the far side takes."""
        return self.gateway.access_token("your-connection-id")

    @property
    def addresses(self) -> dict[str, str]:
        """What the documents write, and what runs here."""
        return {
            "http://localhost:8081": self.gateway.url,
            "wss://external.system.com/ws": self.far.url,
            "https://login.example.com": self.issuer.url,
            "9108": str(free_port()),
        }


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A gateway that knows `your-connection-id`, and a far side that sends messages back."""
    async with (
        Gateway() as gateway,
        FarSide(gateway=gateway, echo=True) as far,
        TokenServer() as issuer,
    ):
        gateway.add("your-connection-id", lifetime=3600)
        yield World(gateway, far, issuer)


async def play(block: Block, addresses: dict[str, str], folder: Path, **variables: str) -> str:
    """Run a block as a program of its own, and return what it printed.

    A program that goes on for ever is ended once it has printed what the page says.

    Args:
        block: The program.
        addresses: What stands in for the addresses in it.
        folder: Where it runs.
        **variables: For its environment.
    """
    file = folder / f"block_{block.number}.py"
    file.write_text(block.with_addresses(addresses))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-u", file.name),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": SOURCE, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    printed = ""
    try:
        async with asyncio.timeout(ENDS_WITHIN):
            while line := await process.stdout.readline():
                printed += line.decode()
                if block.prints and says(block.prints, printed) and goes_on(block):
                    process.terminate()
                    await process.communicate()
                    return printed
            code = await process.wait()
    except TimeoutError:
        raise AssertionError(f"{block} did not end, and printed:\n{printed}") from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert 0 == code, f"{block} ended with {code}:\n{printed}"
    return printed


def goes_on(block: Block) -> bool:
    """Whether the page says that the program goes on after what it prints."""
    return block.prints is not None and block.prints.rstrip().endswith("…")


def says(prints: str, printed: str) -> bool:
    """Whether a program printed what the page says.

    In a line `…` stands for anything; a line of nothing else stands for any lines.
    """
    pattern = ""
    for line in prints.rstrip().splitlines():
        known = ".*".join(re.escape(part) for part in line.split("…")) + "\n"
        pattern += r"(?:.*\n)*" if line == "…" else known
    return re.fullmatch(pattern, printed.rstrip() + "\n" if printed else "") is not None
