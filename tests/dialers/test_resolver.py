"""Names are looked up on threads that nothing waits for."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.dialers.recorder import Recorder

from dromos.dialers import resolver as module
from dromos.dialers.picows import PicowsDialer
from dromos.dialers.resolver import THREADS, Resolver
from dromos.errors import HandshakeError
from dromos.interfaces import Limits
from dromos.model import Handshake


class Names:
    """Stands in for `getaddrinfo`: names hang until `answer` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: Any, **options: Any) -> list[Any]:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return list(self._real(host, port, **options))
        self.asked.append(host)
        assert threading.current_thread().daemon
        self.answer.wait()
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host.startswith("broken"):
            raise UnicodeError("label too long")
        if host.startswith("empty"):
            return []
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    async def has_been_asked(self, times: int) -> None:
        """Wait for threads to get there."""
        async with asyncio.timeout(20):
            while len(self.asked) < times:  # noqa: ASYNC110 - an event of the loop is not for threads
                await asyncio.sleep(0)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(module.socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.answer.set()
    for thread in threads():
        thread.join(10)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dromos-resolver"]


async def test_a_name_is_looked_up_and_gets_the_port(names: Names) -> None:
    names.answer.set()

    found = await Resolver().resolve("a.example", 443)

    assert [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))] == found


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%lo"])
async def test_a_literal_address_needs_no_thread(names: Names, host: str) -> None:
    found = await Resolver().resolve(host, 80)

    assert [80] == [info[4][1] for info in found]
    assert [] == names.asked
    assert [] == threads()


async def test_all_who_want_a_name_at_once_share_one_look_up(names: Names) -> None:
    resolver = Resolver()
    waiters = [asyncio.create_task(resolver.resolve("a.example", port)) for port in range(1, 9)]
    await asyncio.sleep(0)

    names.answer.set()
    found = await asyncio.gather(*waiters)

    assert ["a.example"] == names.asked
    assert list(range(1, 9)) == [infos[0][4][1] for infos in found]


async def test_a_waiter_that_is_cancelled_leaves_the_look_up_to_the_others(names: Names) -> None:
    resolver = Resolver()
    first = asyncio.create_task(resolver.resolve("a.example", 1))
    second = asyncio.create_task(resolver.resolve("a.example", 2))
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.wait([first])
    names.answer.set()

    assert 2 == (await second)[0][4][1]
    assert first.cancelled()
    assert ["a.example"] == names.asked


async def test_four_threads_serve_any_number_of_names_and_then_end(names: Names) -> None:
    resolver = Resolver()
    waiters = [asyncio.create_task(resolver.resolve(f"{n}.example", n)) for n in range(1, 20)]
    await asyncio.sleep(0)

    assert THREADS == len(threads())
    names.answer.set()
    await asyncio.gather(*waiters)
    for thread in threads():
        thread.join(10)

    assert 19 == len(names.asked)
    assert [] == threads()


@pytest.mark.parametrize("host", ["unknown.example", "broken.example", "empty.example"])
async def test_a_failed_look_up_is_an_oserror_for_every_waiter(names: Names, host: str) -> None:
    resolver = Resolver()
    waiters = [asyncio.create_task(resolver.resolve(host, 1)) for _ in range(3)]
    await asyncio.sleep(0)

    names.answer.set()
    errors = await asyncio.gather(*waiters, return_exceptions=True)

    assert all(isinstance(error, OSError) for error in errors)
    assert 3 == len({id(error) for error in errors})


async def test_a_failed_look_up_is_a_handshake_error(names: Names) -> None:
    names.answer.set()

    with pytest.raises(HandshakeError, match="Name or service not known") as caught:
        await PicowsDialer().dial(Handshake(url="ws://unknown.example/"), Recorder(), Limits())

    assert isinstance(caught.value.__cause__, socket.gaierror)


async def test_a_name_is_asked_anew_if_its_look_up_hangs(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver()
    hanging = asyncio.create_task(resolver.resolve("a.example", 1))
    await names.has_been_asked(1)

    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.STALE + 1)
    again = asyncio.create_task(resolver.resolve("a.example", 2))
    await names.has_been_asked(2)
    joined = asyncio.create_task(resolver.resolve("a.example", 3))
    await asyncio.sleep(0)
    names.answer.set()

    found = await asyncio.gather(hanging, again, joined)
    assert [1, 2, 3] == [infos[0][4][1] for infos in found]
    assert ["a.example"] * 2 == names.asked


def test_a_look_up_that_hangs_for_ever_does_not_keep_a_program_from_ending(names: Names) -> None:
    async def dial(timeout: float) -> None:
        dialer = PicowsDialer(open_timeout=timeout)
        await dialer.dial(Handshake(url="ws://a.example/"), Recorder(), Limits())

    async def cancelled() -> None:
        task = asyncio.create_task(dial(60))
        await names.has_been_asked(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    with pytest.raises(HandshakeError, match=r"took over 0\.05 s"):
        asyncio.run(dial(0.05))

    # The threads hang on, as daemons, and their answers find a closed loop.
    assert threads()
    names.answer.set()
