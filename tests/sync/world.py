"""A gateway and a far side on threads of their own, for tests that have no event loop."""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from dromos.oauth import OAuthClient
from dromos.sync import Bridge, Connection
from dromos.sync._loop import loop_thread
from dromos.testing import FarSide, Gateway

LOOP = "dromos-sync"
"""The name of the loop thread."""


class World:
    """What a bridge needs of the world."""

    def __init__(self, gateway: Gateway, far: FarSide) -> None:
        self.gateway = gateway
        self.far = far
        self.tokens = OAuthClient(gateway.url)

    def connect(self, bridge: Bridge, **options: Any) -> Connection:
        return bridge.connect("c-1", self.far.url, **options)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that only the far side can change."""
        self.far.run(self.far.wait_for(condition))

    def publish(self, *messages: str) -> None:
        """Send messages on the open link, once there is one."""
        link = self.far.run(self.far.wait_for_link())

        async def send() -> None:
            for message in messages:
                link.send(message)

        self.far.run(send())


@contextmanager
def world(**options: Any) -> Generator[World]:
    with (
        Gateway().threaded() as gateway,
        FarSide(gateway=gateway, **options).threaded() as far,
    ):
        gateway.add("c-1", lifetime=3600)
        yield World(gateway, far)


def on_loop_until(condition: Callable[[], object]) -> None:
    """Wait for something that the loop thread will see."""

    async def look() -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)

    loop_thread().run(look)


def how_many_calls() -> int:
    """How many calls wait for the loop; asked on the loop, which is a call as well."""
    return sum(task.get_name() == "dromos-sync-call" for task in asyncio.all_tasks())


def until_waiting() -> None:
    """Wait until somebody waits for the loop."""
    on_loop_until(lambda: how_many_calls() > 1)


class Aside(threading.Thread):
    """Calls something in another thread, and keeps what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def outcome(self) -> Any:
        """What it returned or raised, once it has."""
        self.join(20)
        assert not self.is_alive(), "still at it after 20 s"
        if self._error is not None:
            raise self._error
        return self._result


def interrupt_main_thread() -> None:
    """Press Ctrl-C."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)
