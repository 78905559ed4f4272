"""Gateway, far side, bridge and agent on loopback, and what is known about them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from dromos.demo.ledger import Fault, Ledger
from dromos.demo.overlap import HandOver, Record, first_handover
from dromos.events import (
    AttemptStarted,
    BridgeEvent,
    Connected,
    HandedOver,
    LinkLost,
    LinkOpened,
    TokenObtained,
)
from dromos.interfaces import Observer, Send
from dromos.model import Message
from dromos.snapshot import Snapshot
from dromos.testing import FarSide, Gateway

__all__ = ["CONNECTION", "PREPARATION", "Agent", "Plan", "StepFailed", "World"]

CONNECTION: Final = "demo"

PREPARATION: Final = 0.06
"""Seconds that the agent takes on a new link before that may take over from an open one."""

E = TypeVar("E", bound=BridgeEvent)


class StepFailed(Exception):
    """A step did not go as scripted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One step of the script.

    Attributes:
        name: Its key.
        title: What it shows, in a few words.
        story: What is done, and what should come of it.
        act: Does it, and returns what happened.
    """

    name: str
    title: str
    story: str
    act: "Callable[[World], Awaitable[str]]"


class Agent:
    """The handler: it counts what it hears."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.send: Send | None = None
        self.ready: dict[int, float] = {}

    def on_connect(self, send: Send) -> None:
        """Keep the way to answer, and say hello."""
        self.send = send
        send(f"hello from the agent, on link {send.link}")

    async def on_handover(self, send: Send) -> None:
        """Get ready on the next link, as an agent with state to load does."""
        await asyncio.sleep(PREPARATION)
        self.on_connect(send)
        self.ready[send.link] = time.time()

    def on_message(self, message: Message) -> None:
        """Count a numbered message."""
        self.ledger.hear(int(message))

    def on_disconnect(self, error: Exception | None) -> None:
        """Nothing to do: `on_connect` runs again."""


class World:
    """Gateway, far side, bridge and agent, and what is known about them.

    Attributes:
        lifetime: Seconds that each token lives.
        ledger: Who was told which number, and who heard it.
        agent: The handler.
        gateway: Issues tokens.
        far: Publishes numbers.
        journal: The bridge's events so far.
        faults: The gaps that the script caused.
        struck: What the script did to the others, and when, in Unix time.
        handovers: The numbers published during each hand-over.
        carriers: The far side's number for each of the bridge's links.
        session: The bridge's task, once it runs.
        snapshots: What the bridge's sessions look like now.
    """

    def __init__(self, observe: Observer, *, rate: float, lifetime: float) -> None:
        self.lifetime = lifetime
        self.ledger = Ledger()
        self.agent = Agent(self.ledger)
        self.gateway = Gateway()
        self.far = FarSide(
            gateway=self.gateway,
            close_on_expiry=True,
            rate=rate,
            on_publish=lambda number, links: self.ledger.publish(
                number, (link.number for link in links), time.time()
            ),
        )
        self.journal: list[BridgeEvent] = []
        self.faults: list[Fault] = []
        self.struck: list[tuple[float, str]] = []
        self.handovers: list[range] = []
        self.carriers: dict[int, int] = {}
        self.session: asyncio.Task[None] | None = None
        self.snapshots: Callable[[], Sequence[Snapshot]] = tuple
        self._observe = observe
        self._began, self._began_at = time.monotonic(), time.time()
        self._changed = asyncio.Event()
        self._dialled_at = 0
        self._old_links: dict[int, int] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def observe(self, event: BridgeEvent) -> None:
        """Keep an event of the bridge, and show it."""
        self.journal.append(event)
        if isinstance(event, AttemptStarted):
            self._dialled_at = self.far.published
        elif isinstance(event, LinkOpened):
            self.carriers[event.link] = self.far.links[-1].number
        elif isinstance(event, HandedOver):
            self._old_links[event.old] = self._dialled_at
        elif isinstance(event, LinkLost) and event.link in self._old_links:
            began = self._old_links.pop(event.link)
            self.handovers.append(range(began, self.far.published + 1))
        self.wake()
        self._observe(event)

    def first_handover(self) -> HandOver | None:
        """Return the first hand-over that is over, or None."""
        record = Record(
            ledger=self.ledger,
            carriers=self.carriers,
            ready=self.agent.ready,
            began=self._began_at,
            now=time.time(),
        )
        return first_handover(self.journal, record)

    def wake(self) -> None:
        """Let `expect` look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def last(self, kind: type[E]) -> E | None:
        """Return the newest event of a kind, or None."""
        return next((e for e in reversed(self.journal) if isinstance(e, kind)), None)

    def token_left(self) -> float:
        """Seconds until the newest token expires, as the bridge was told."""
        token = self.last(TokenObtained)
        if token is None or token.expires_in is None:
            return 0.0
        return token.at + token.expires_in - time.time()

    async def expect(
        self,
        kind: type[E],
        *,
        since: int,
        within: float,
        where: Callable[[E], bool] = lambda _: True,
    ) -> E:
        """Return the first such event from index `since` on, once it is there.

        Raises:
            StepFailed: If it does not come in time, or the session ends before.
        """
        try:
            async with asyncio.timeout(within):
                while True:
                    for event in self.journal[since:]:
                        if isinstance(event, kind) and where(event):
                            return event
                    if self.session is not None and self.session.done():
                        raise StepFailed(f"the session ended before {kind.__name__}")
                    await self._changed.wait()
        except TimeoutError:
            raise StepFailed(f"no {kind.__name__} within {within:g} s") from None

    async def calm(self, left: float) -> None:
        """Wait until a link is open whose token is not about to be renewed.

        A fault in the middle of a hand-over is survived too, but shows two things at once.
        """
        if self.token_left() < left or len(self.far.open_links) != 1:
            since, within = len(self.journal), self.lifetime + 8
            event = await self.expect(HandedOver, since=since, within=within)
            await self.expect(
                LinkLost, since=since, within=3, where=lambda lost: lost.link == event.old
            )

    async def recover(
        self, step: str, cause: Callable[[], Awaitable[None]], *, what: str, within: float
    ) -> Connected:
        """Cause a fault, wait until the session is connected again, and keep the account."""
        self.struck.append((time.time(), what))
        since, after, began = len(self.journal), self.far.published, time.monotonic()
        links = frozenset(link.number for link in self.far.open_links)
        await cause()
        connected = await self.expect(Connected, since=since, within=within)
        self.faults.append(
            Fault(
                step=step,
                after=after,
                until=self.far.published,
                links=links,
                seconds=time.monotonic() - began,
                without_link=connected.gap or 0.0,
            )
        )
        return connected
