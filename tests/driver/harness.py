"""A whole bridge in virtual time: a provider, a far side in memory, and a handler that notes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from dromos import Bridge, RetryPolicy, Send, Token
from dromos.events import BridgeEvent
from dromos.model import Message
from dromos.testing.clock import EPOCH, LoopClock, on_loop_time
from dromos.testing.memory import FarEnd, MemoryDialer, MemoryLink, echo

E = TypeVar("E", bound=BridgeEvent)

URL = "wss://far.example/ws"


@dataclass
class Tokens:
    """A provider: `t1`, `t2`, ..., each with a lifetime; failures are used up one by one.

    One that `slides` prolongs `t1` again and again, as servers with sliding sessions do.
    """

    lifetime: float | None = None
    takes: float = 0.0
    get_errors: list[BaseException] = field(default_factory=list)
    refresh_errors: list[BaseException] = field(default_factory=list)
    gets: list[float] = field(default_factory=list)
    refreshes: list[float] = field(default_factory=list)
    issued: int = 0
    token: Token | None = None
    slides: bool = False

    def issue(self) -> Token:
        if not self.slides or not self.issued:
            self.issued += 1
        expires = None
        if self.lifetime is not None:
            expires = EPOCH + asyncio.get_running_loop().time() + self.lifetime
        self.token = Token(
            {"access_token": f"t{self.issued}"}, expires_at=expires, lifetime=self.lifetime
        )
        return self.token

    async def get_token(self, connection_id: str, /) -> Token:
        self.gets.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        if self.get_errors:
            raise self.get_errors.pop(0)
        return self.token or self.issue()

    async def refresh_connection(self, connection_id: str, /) -> Token:
        self.refreshes.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        if self.refresh_errors:
            raise self.refresh_errors.pop(0)
        return self.issue()


class Notes:
    """A handler that notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.sends: list[Send] = []

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def messages(self) -> list[Message]:
        return [value for name, value in self.calls if name == "message"]

    async def on_connect(self, send: Send) -> None:
        self.sends.append(send)
        self.calls.append(("connect", send.link))

    async def on_message(self, message: Message) -> None:
        self.calls.append(("message", message))

    async def on_disconnect(self, error: Exception | None) -> None:
        self.calls.append(("disconnect", error))


class PlainNotes(Notes):
    """The same with plain functions."""

    def on_connect(self, send: Send) -> None:  # type: ignore[override]
        self.sends.append(send)
        self.calls.append(("connect", send.link))

    def on_message(self, message: Message) -> None:  # type: ignore[override]
        self.calls.append(("message", message))

    def on_disconnect(self, error: Exception | None) -> None:  # type: ignore[override]
        self.calls.append(("disconnect", error))


class Counts:
    """The specification's metrics."""

    def __init__(self) -> None:
        self.connections = 0
        self.disconnects = 0
        self.token_refreshes = 0
        self.statuses: list[float] = []

    def inc_connections(self) -> None:
        self.connections += 1

    def inc_disconnects(self) -> None:
        self.disconnects += 1

    def inc_token_refreshes(self) -> None:
        self.token_refreshes += 1

    def set_connection_status(self, status: float, /) -> None:
        self.statuses.append(status)

    @property
    def status(self) -> float:
        return self.statuses[-1]


class Stage:
    """A bridge with everything around it, and one running session."""

    def __init__(
        self,
        *,
        tokens: Tokens | None = None,
        far_side: Callable[[FarEnd], Awaitable[None]] | None = echo,
        handler: Any = None,
        latency: float = 0.0,
        dial_latency: float = 0.0,
        seed: int = 1,
        endpoint: Any = URL,
        **options: Any,
    ) -> None:
        self.tokens = tokens or Tokens()
        self.dialer = MemoryDialer(far_side, latency=latency, dial_latency=dial_latency)
        self.clock = LoopClock()
        self.handler: Any = handler if handler is not None else Notes()
        self.metrics = Counts()
        self.events: list[BridgeEvent] = []
        self.endpoint = endpoint
        self.event_times: list[float] = []
        options.setdefault("retry_policy", RetryPolicy())
        self.bridge = on_loop_time(
            Bridge(
                self.tokens,
                dialer=self.dialer,
                metrics=self.metrics,
                on_event=self._note,
                **options,
            ),
            clock=self.clock,
            seed=seed,
        )
        self.task: asyncio.Task[None] | None = None

    def _note(self, event: BridgeEvent) -> None:
        self.events.append(event)
        self.event_times.append(asyncio.get_running_loop().time())

    def start(self, **options: Any) -> asyncio.Task[None]:
        """Begin the session in a task of its own."""
        coroutine = self.bridge.maintain_websocket("c-1", self.endpoint, self.handler, **options)
        self.task = asyncio.get_running_loop().create_task(coroutine, name="session")
        return self.task

    async def cancel(self) -> None:
        """Cancel the session and wait until it is over."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.task.cancelled()

    def of(self, kind: type[E]) -> list[E]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def link(self) -> MemoryLink:
        """The newest link."""
        return self.dialer.links[-1]

    @property
    def far(self) -> FarEnd:
        """The far end of the newest link."""
        return self.link.far


def with_and_without(method: str) -> Any:
    """A fixture: each test on links that have this method, and on such as leave it out."""

    @pytest.fixture(params=[True, False], ids=[f"with {method}", f"no {method}"], autouse=True)
    def has(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if not request.param:
            monkeypatch.delattr(MemoryLink, method)

    return has


async def until(condition: Callable[[], Any], *, within: float = 3600.0) -> None:
    """Let virtual time pass until something holds; the longer it takes, the rarer we look."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    pause = 0.01
    while not condition():
        assert loop.time() < end, "it never came to pass"
        await asyncio.sleep(pause)
        pause = min(pause * 1.05, 0.5)
