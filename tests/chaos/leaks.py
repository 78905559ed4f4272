"""What cells leave behind: tasks by their context, sockets by their ports, objects by type."""

import asyncio
import contextvars
import gc
import os
import weakref
from collections.abc import Collection, Coroutine
from typing import Any

from dromos import Bridge
from dromos._driver.session import Session
from dromos.dialers._link import PicowsLink
from dromos.dialers._protocol_link import ProtocolLink

CELL: contextvars.ContextVar[object] = contextvars.ContextVar("cell", default=None)
"""Which cell the current task belongs to; the tasks that it starts inherit it."""

LISTENING = "0A"

_tasks: "weakref.WeakKeyDictionary[asyncio.Task[Any], object]" = weakref.WeakKeyDictionary()


def watch_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Note of every task that is started from now on which cell it belongs to."""

    def start(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        _tasks[task] = CELL.get()
        return task

    loop.set_task_factory(start)  # type: ignore[arg-type]


def tasks_of(cell: object) -> list[str]:
    """The names of a cell's tasks that have not ended, but for the one that asks."""
    here = asyncio.current_task()
    return [
        task.get_name()
        for task, owner in list(_tasks.items())
        if owner is cell and task is not here and not task.done()
    ]


def sockets_of(ports: Collection[int]) -> list[str]:
    """This process's TCP sockets, on IPv4, that have one of these ports at either end."""
    mine = _inodes()
    found: list[str] = []
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            (
                _,
                local,
                remote,
                state,
                *_,
            ) = line.split()
            inode = line.split()[9]
            ends = {int(end.rpartition(":")[2], 16) for end in (local, remote)}
            if inode in mine and ends & set(ports):
                found.append(f"{'listening' if state == LISTENING else 'open'} on {sorted(ends)}")
    return found


def descriptors() -> int:
    """How many files this process has open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def survivors() -> list[str]:
    """The types of the bridges, sessions and links that something still holds on to."""
    gc.collect()
    kinds = (Bridge, Session, PicowsLink, ProtocolLink)
    # Not `isinstance`: a weak proxy claims to be what it points to.
    found = (type(each) for each in gc.get_objects())
    return sorted(kind.__name__ for kind in found if issubclass(kind, kinds))


def _inodes() -> set[str]:
    inodes: set[str] = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes


async def nothing_left(cell: object, ports: Collection[int], *, within: float = 10.0) -> None:
    """Wait until a cell has left nothing behind, since transports close in their own time.

    Raises:
        AssertionError: If something is left after `within` seconds.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while (tasks := tasks_of(cell)) or (sockets := sockets_of(ports)):
        assert loop.time() < end, f"left behind: {tasks or sockets}"
        await asyncio.sleep(0.02)
