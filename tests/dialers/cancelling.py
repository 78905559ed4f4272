"""A dial that is cancelled after some turns of the loop, and what it may leave open: nothing."""

import asyncio
import os

import pytest
from tests.dialers.loopback import Peer
from tests.dialers.recorder import Recorder

from dromos.interfaces import Dialer, Limits
from dromos.model import Handshake

__all__ = ["cancel_a_dial", "never_answer", "open_sockets"]


def open_sockets() -> int:
    names = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum(os.path.islink(name) and os.readlink(name).startswith("socket:") for name in names)


async def never_answer(peer: Peer) -> None:
    """Serve a client that is gone before there is an answer."""
    await peer.read_request()
    await peer.ended()


async def cancel_a_dial(dialer: Dialer, url: str, turns: int) -> None:
    """Dial, cancel that so many turns later, and give the loop the time to clean up.

    Raises:
        AssertionError: If a socket is left.
    """
    before = open_sockets()
    dial = asyncio.ensure_future(dialer.dial(Handshake(url=url), Recorder(), Limits()))
    for _ in range(turns):
        await asyncio.sleep(0)
    dial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dial
    assert [] == [task for task in asyncio.all_tasks() if "connect" in task.get_name()]
    for _ in range(20):
        await asyncio.sleep(0)
    assert open_sockets() <= before + 1, "at most the server's end is left"
