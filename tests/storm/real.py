"""The same storm on real sockets: a far side that drops every link, and lets few in at a time."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from dromos import Bridge, Handler
from dromos.dialers import PicowsDialer
from dromos.errors import ConnectionClosed, HandshakeError
from dromos.events import AttemptStarted, BridgeEvent, Connected, Disconnected, SessionEnded
from dromos.interfaces import Limits
from dromos.model import Handshake
from dromos.oauth import StaticToken
from tests.dialers.recorder import Recorder
from tests.many.process import FarProcess
from tests.storm.model import Outcome, Storm
from tests.storm.policies import STABLE, Contender

STARTED_WITHIN: Final = 120.0
BATCH: Final = 50
"""Dials that are begun before the others have a turn: how a storm's field is set up."""


class Agent(Handler):
    """Does nothing."""


@dataclass
class Watch:
    """Who dialled when, and who is back."""

    began: float = 0.0
    open: int = 0
    attempts: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def dialled(self) -> None:
        self.attempts.append(time.monotonic())

    def opened(self) -> None:
        self.open += 1
        self.back.append(time.monotonic())

    def lost(self) -> None:
        self.open -= 1

    def on_event(self, event: BridgeEvent) -> None:
        """What a bridge tells."""
        match event:
            case AttemptStarted():
                self.dialled()
            case Connected():
                self.opened()
            case Disconnected():
                self.lost()
            case SessionEnded(error=error) if error is not None:
                self.ended.append(str(error))
            case _:
                pass

    def begin(self) -> None:
        """Forget what was before the storm."""
        self.began = time.monotonic()
        self.attempts.clear()
        self.back.clear()

    def outcome(self, storm: Storm) -> Outcome:
        """What came of it, as the model says it."""
        seconds = [0] * (int(storm.horizon) + 1)
        for at in self.attempts:
            second = int(at - self.began)
            if second < len(seconds):
                seconds[second] += 1
        back = sorted(at - self.began for at in self.back)
        return Outcome(clients=storm.clients, attempts=seconds, back=back)


class Field:
    """Clients of one kind, all connected; `play` lets the storm loose."""

    def __init__(self, storm: Storm, contender: Contender, *, queues: bool = False) -> None:
        self.storm = storm
        self.contender = contender
        self.queues = queues
        self.watch = Watch()

    async def play(self) -> Outcome:
        """Set the field up, drop every link, and see who comes back when."""
        storm, watch = self.storm, self.watch
        async with FarProcess() as far, self._clients(far):
            await self._until(lambda: watch.open == storm.clients, STARTED_WITHIN)
            await asyncio.sleep(STABLE + 1)
            watch.begin()
            backlog = 128 if self.queues else 4096
            await far.order(drop=True, admit=storm.admitted, queues=self.queues, backlog=backlog)
            with contextlib.suppress(TimeoutError):
                await self._until(
                    lambda: len(watch.back) >= storm.clients and watch.open >= storm.clients,
                    storm.horizon,
                )
            outcome = watch.outcome(storm)
            await far.kill()
        assert not watch.ended, f"a storm is nobody's fault: {watch.ended[:3]}"
        return outcome

    async def _until(self, condition: Any, within: float) -> None:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110  # a second's share is all that is asked
                await asyncio.sleep(0.1)

    def _clients(self, far: FarProcess) -> AbstractAsyncContextManager[None]:
        if self.contender.retry is None:
            return self._loops(far)
        return self._group(far) if self.contender.grouped else self._sessions(far)

    @contextlib.asynccontextmanager
    async def _group(self, far: FarProcess) -> AsyncIterator[None]:
        """Ours, as a group."""
        rate = self.storm.attempt_rate
        async with self._bridge() as bridge, bridge.supervise(attempt_rate=rate) as group:
            for number in range(self.storm.clients):
                group.start(f"c-{number}", far.url(number), Agent())
                await _breathe(number)
            yield

    @contextlib.asynccontextmanager
    async def _sessions(self, far: FarProcess) -> AsyncIterator[None]:
        """Ours, as sessions that know nothing of each other."""
        # In life each of them would be in a process of its own, with a gate of its own.
        bridge = self._bridge(max_concurrent_dials=self.storm.clients)
        async with bridge, asyncio.TaskGroup() as tasks:
            for number in range(self.storm.clients):
                session = bridge.maintain_websocket(f"c-{number}", far.url(number), Agent())
                tasks.create_task(session)
                await _breathe(number)
            yield
            await bridge.close()

    def _bridge(self, **options: Any) -> Bridge:
        retry, observer = self.contender.retry, self.watch.on_event
        token = StaticToken("storm-token")
        return Bridge(token, retry_policy=retry, on_event=observer, **options)

    @contextlib.asynccontextmanager
    async def _loops(self, far: FarProcess) -> AsyncIterator[None]:
        """The Go original's: dial, serve, and sleep for 2 s and up to one more."""
        dialer, roll = PicowsDialer(), random.Random(self.storm.seed).random
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        for number in range(self.storm.clients):
            keeping = self._keep(dialer, far.url(number), roll)
            tasks.append(loop.create_task(keeping))
            await _breathe(number)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, dialer: PicowsDialer, url: str, roll: Any) -> None:
        while True:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            listener = _Listener(ended)
            self.watch.dialled()
            with contextlib.suppress(HandshakeError):
                link = await dialer.dial(Handshake(url=url), listener, Limits())
                self.watch.opened()
                try:
                    await ended
                finally:
                    self.watch.lost()
                    link.abort()
            await asyncio.sleep(self.contender.delay(1, roll()))


class _Listener(Recorder):
    def __init__(self, ended: asyncio.Future[None]) -> None:
        super().__init__()
        self._ended = ended

    def on_closed(self, error: ConnectionClosed, /) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


async def _breathe(number: int) -> None:
    """Let those that have begun come through, before there are more."""
    if number % BATCH == BATCH - 1:
        await asyncio.sleep(0.1)
