"""SIGTERM and SIGINT: the first one stops in good order, a second one at once."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator
from types import FrameType
from typing import Final

__all__ = ["stopping"]

_NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stopping(stop: Callable[[signal.Signals], None]) -> Generator[None]:
    """Have the loop call `stop` at the first signal, and end the process at the second.

    These are handlers of Python and not of the loop: a loop that some callback blocks would
    never get to the second signal, which is then the one that counts.

    Args:
        stop: Called on the event loop, once, with the signal.
    """
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            _leave(number)
        loop.call_soon_threadsafe(stop, signal.Signals(number))

    before = {number: signal.signal(number, hear) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int) -> None:
    """End the process, with the status that shells give to one that a signal has ended.

    Ending by the signal itself would not do: a container's first process ignores it
    (signal(7), kill(2)).
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be in the middle of a write
            stream.flush()
    os._exit(128 + number)
