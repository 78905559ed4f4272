"""Standard input and output as lines, off the event loop.

Both are read and written on daemon threads by file descriptor.  A regular file
can't be watched by an event loop, the loop's default executor would wait for a
`read` that never returns, and Python's own buffered files hold a lock that a
daemon thread in a `read` would take to the interpreter's grave.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from queue import SimpleQueue
from typing import Final

__all__ = ["Lines", "Printer"]

BLOCK: Final = 2**16


class Lines:
    """The lines of a file descriptor, without their ends.

    The last one need not end.  At most 64 blocks wait to be used; then reading pauses.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        blocks: asyncio.Queue[bytes] = asyncio.Queue()
        room = threading.Semaphore(64)

        def read() -> None:
            while True:
                room.acquire()
                try:
                    block = os.read(self._descriptor, BLOCK)
                except OSError:
                    block = b""
                try:
                    loop.call_soon_threadsafe(blocks.put_nowait, block)
                except RuntimeError:
                    return  # the loop is closed: nobody reads on
                if not block:
                    return

        threading.Thread(target=read, name="stdin", daemon=True).start()
        rest: list[bytes] = []
        while block := await blocks.get():
            room.release()
            first, *more = block.split(b"\n")
            rest.append(first)
            for piece in more:
                yield _stripped(b"".join(rest))
                rest = [piece]
        if last := b"".join(rest):
            yield _stripped(last)


def _stripped(line: bytes) -> bytes:
    return line[:-1] if line.endswith(b"\r") else line


class Printer:
    """Writes lines to a file descriptor; awaiting one waits until it is written."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._jobs: SimpleQueue[tuple[bytes, asyncio.Future[None]]] = SimpleQueue()
        self._started = False

    async def print(self, line: bytes) -> None:
        """Write a line.

        Raises:
            OSError: If it can't be written, such as to a pipe that nobody reads.
        """
        if not self._started:
            self._started = True
            threading.Thread(target=self._write, name="stdout", daemon=True).start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((line + b"\n", done))
        await done

    def _write(self) -> None:
        while True:
            data, done = self._jobs.get()
            error: OSError | None = None
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError as failure:
                error = failure
            try:
                done.get_loop().call_soon_threadsafe(_finish, done, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits


def _finish(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
