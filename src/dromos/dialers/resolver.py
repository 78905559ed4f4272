"""Looks names up on daemon threads of ours, which nothing ever waits for.

The loop's default executor is not used: a look-up there can't be cancelled,
`asyncio.run` waits for it at the end, and a handful of slow ones block
everything else that uses it.
"""

import asyncio
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

__all__ = ["AddressInfo", "Resolver"]

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""One result of `getaddrinfo`: family, type, protocol, canonical name, address."""

THREADS: Final = 4
"""Look-ups at once; those of further names wait."""

STALE: Final = 30.0
"""Seconds after which a look-up no longer answers for newcomers.

One that hangs for ever would otherwise keep its name unreachable after the
name server is back.
"""

_Waiter: TypeAlias = asyncio.Future[list[AddressInfo]]


@dataclass(slots=True, eq=False)
class _LookUp:
    """A look-up in flight and everybody who waits for it."""

    host: str
    started: float | None = None  # None while it waits for a thread
    waiters: list[tuple[asyncio.AbstractEventLoop, _Waiter]] = field(
        default_factory=list[tuple[asyncio.AbstractEventLoop, _Waiter]]
    )


class Resolver:
    """Resolves names on at most four daemon threads, one look-up per name at a time.

    May be used from any number of loops and threads at once.  A waiter that is
    cancelled leaves the look-up running for the others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight: dict[str, _LookUp] = {}
        self._queue: deque[_LookUp] = deque()
        self._threads = 0

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """Return the addresses of a host, for TCP.

        Args:
            host: A name, or a literal address, which needs no thread.
            port: The port to put into the addresses.

        Raises:
            OSError: If the name has no address or can't be looked up.
        """
        found = _literal(host)
        if found is None:
            found = await self._join(host)
        if not found:
            raise OSError("the look-up gave no address")
        return [
            (family, kind, protocol, "", (address[0], port, *address[2:]))
            for family, kind, protocol, _, address in found
        ]

    async def _join(self, host: str) -> list[AddressInfo]:
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        with self._lock:
            look_up = self._in_flight.get(host)
            if look_up is None or _is_stale(look_up):
                look_up = _LookUp(host)
                self._in_flight[host] = look_up
                self._queue.append(look_up)
                self._start_thread()
            look_up.waiters.append((loop, waiter))
        return await waiter

    def _start_thread(self) -> None:
        if self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._work, name="dromos-resolver", daemon=True).start()

    def _work(self) -> None:
        """Serve the queue until it is empty; the thread then ends."""
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                look_up = self._queue.popleft()
                look_up.started = time.monotonic()
            try:
                outcome: list[AddressInfo] | Exception = _get_address_info(look_up.host)
            except Exception as error:
                # Told to every waiter in its own loop; the traceback is this thread's.
                outcome = error.with_traceback(None)
            self._finish(look_up, outcome)

    def _finish(self, look_up: _LookUp, outcome: list[AddressInfo] | Exception) -> None:
        with self._lock:
            if self._in_flight.get(look_up.host) is look_up:
                del self._in_flight[look_up.host]
            waiters = look_up.waiters
        for loop, waiter in waiters:
            with suppress(RuntimeError):  # That loop is closed: nobody waits any more.
                loop.call_soon_threadsafe(_settle, waiter, outcome)


def _is_stale(look_up: _LookUp) -> bool:
    return look_up.started is not None and time.monotonic() - look_up.started > STALE


def _settle(waiter: _Waiter, outcome: list[AddressInfo] | Exception) -> None:
    if waiter.done():
        return
    if isinstance(outcome, Exception):
        # One exception object raised in several tasks would mix up their tracebacks.
        waiter.set_exception(_copy(outcome))
    else:
        waiter.set_result(outcome)


def _copy(error: Exception) -> Exception:
    if isinstance(error, OSError):
        return type(error)(*error.args)
    return OSError(f"the look-up failed: {type(error).__name__}")


def _literal(host: str) -> list[AddressInfo] | None:
    """Return the address that `host` spells out, or None if it is a name.  Does not block."""
    try:
        return _get_address_info(host, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None


def _get_address_info(host: str, flags: int = 0) -> list[AddressInfo]:
    return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags))
