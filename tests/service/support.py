"""A client of the health port, as plain as a probe."""

import asyncio
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


async def ask(port, path="/livez", *, method="GET", headers=""):
    """Send a request as a probe does, and read until the server closes."""
    return await exchange(
        port, f"{method} {path} HTTP/1.1\r\nHost: probe\r\n{headers}\r\n".encode()
    )


async def until(condition):
    """Let the loop turn until something holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


async def exchange(port, request):
    """Send any bytes, and read what is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in pairs}, body)
