"""Many sessions for many days on one simulated machine, under random faults; and what must hold.

A seed draws a `Plan`.  `simulate` plays it on a loop whose time is a number, and returns
what was violated and what was counted.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from dromos import Bridge, Handler, HandshakeError, InteractionRequired, PermanentError, Send, Token
from dromos import events as told
from dromos.interfaces import Limits, LinkListener
from dromos.model import Handshake
from dromos.oauth import OAuthClient
from dromos.testing.clock import on_loop_time
from dromos.testing.memory import MemoryLink
from tests.driver.schedules import VirtualLoop
from tests.simulation.clocks import Clocks
from tests.simulation.gateway import SimGateway

DAY: Final = 86_400.0
GRACE: Final = 600.0
"""Seconds after the last fault within which every session has to be open again: a keepalive's
notice, a minute of backoff, a refresh that waits for its floor, and a hand-over."""

LOOK_EVERY: Final = 60.0
MOST_AN_HOUR: Final = 420
"""Attempts of one session, and requests for one connection, in any hour: with the default
backoff of up to a minute, full jitter makes about 120; a hand-over and a refusal add to it."""

OUTAGES: Final = ("down", "hang", "502", "503", "empty")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something goes wrong."""

    at: float
    what: str
    seconds: float = 0.0
    who: int = 0
    how: str = ""

    def __str__(self) -> str:
        day, rest = divmod(self.at, DAY)
        clock = f"day {day:.0f} {rest // 3600:02.0f}:{rest % 3600 // 60:02.0f}:{rest % 60:06.3f}"
        more = " ".join(filter(None, (self.how, f"{self.seconds:.0f} s" if self.seconds else "")))
        return f"{clock}  {self.what} {more} (session {self.who})"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a seed stands for."""

    seed: int
    days: float
    sessions: int
    shared: bool
    lifetime: float
    latency: float
    gateway_latency: float
    skew: float
    ping_interval: float
    closes_expired: bool
    renewals: tuple[str, ...]
    faults: tuple[Fault, ...]

    @property
    def session_days(self) -> float:
        """How much is simulated."""
        return self.days * self.sessions


def draw(seed: int) -> Plan:
    """Return what a seed stands for."""
    rng = random.Random(seed)
    days = rng.choice((1.0, 2.0, 4.0))
    sessions = rng.choice((5, 10, 20))
    closes_expired = rng.random() < 0.6
    kinds = ("handover", "handover", "in_band") + (() if closes_expired else ("keep",))
    return Plan(
        seed=seed,
        days=days,
        sessions=sessions,
        shared=rng.random() < 0.4,
        lifetime=rng.choice((900.0, 1800.0, 3600.0, 8 * 3600.0)),
        latency=rng.choice((0.001, 0.05, 0.3)),
        gateway_latency=rng.choice((0.01, 0.1, 1.0)),
        skew=rng.choice((0.0, 0.0, -600.0, 600.0, 45.0)),
        ping_interval=rng.choice((120.0, 300.0, 900.0)),
        closes_expired=closes_expired,
        renewals=tuple(rng.choice(kinds) for _ in range(sessions)),
        faults=tuple(sorted(_faults(rng, days * DAY, sessions), key=lambda fault: fault.at)),
    )


def _faults(rng: random.Random, length: float, sessions: int) -> Iterator[Fault]:
    rate = rng.choice((2, 8, 24))  # a day
    kinds = (
        ("drop", 10),
        ("silent", 6),
        ("restart", 5),
        ("gateway", 6),
        ("far", 6),
        ("limited", 3),
        ("revoke", 3),
        ("nap", 3),
        ("clock", 2),
        ("consent", 1),
    )
    for _ in range(round(rate * length / DAY)):
        what = rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        how = {
            "gateway": rng.choice(OUTAGES),
            "restart": rng.choice(("1001", "1012", "1006", "1000", "1011")),
            "far": rng.choice(("refuse", "hang", "503", "slam")),
        }.get(what, "")
        seconds = {
            "gateway": min(rng.expovariate(1 / 600), 3 * 3600),
            "far": min(rng.expovariate(1 / 600), 3 * 3600),
            "limited": rng.uniform(10, 300),
            "nap": rng.choice((5.0, 120.0, 3600.0, 8 * 3600.0)),
            "clock": rng.choice((-3600.0, -90.0, 90.0, 3600.0, DAY, -DAY)),
        }.get(what, 0.0)
        if how == "empty":
            # Bounded by the tables: a gateway that answers nothing for 5 minutes ends a session.
            seconds = min(seconds, 200.0)
        at, who = rng.uniform(60, length - 2 * GRACE), rng.randrange(sessions)
        yield Fault(at=at, what=what, seconds=seconds, who=who, how=how)


class SimLink(MemoryLink):
    """A link that knows whose token it was opened with."""

    def __init__(self, world: "World", token: str, listener: LinkListener, limits: Limits) -> None:
        super().__init__(listener, limits, latency=world.plan.latency, window=65536)
        self.token = token
        self.renewed = False
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_up(self) -> bool:
        return self.far.closed is None


class Agent(Handler):
    """Counts, and renews in band if it is one that does."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.greetings = self.farewells = 0
        self.task: asyncio.Task[None] | None = None
        self.session: Any = None
        self.dials: list[float] = []
        self.error: BaseException | None = None
        if world.plan.renewals[number] == "in_band":
            self.on_token_refresh = self._renew

    def on_connect(self, send: Send) -> None:
        if not send.handover:
            self.greetings += 1
        send(f"hello {self.number}")

    def on_disconnect(self, error: Exception | None) -> None:
        self.farewells += 1

    def _renew(self, token: Token, send: Send) -> bool:
        self.world.renewed(self.number, token.access_token)
        send("auth")
        return True


@dataclass
class Report:
    """What came of a plan."""

    plan: Plan
    violations: list[str]
    counts: Counter[str]
    turns: int = 0
    longest: float = 0.0
    timeline: list[str] = field(default_factory=list)


class World:
    """One machine with its sessions, its gateway, and its far side."""

    def __init__(self, plan: Plan, loop: VirtualLoop) -> None:
        self.plan = plan
        self.loop = loop
        self.rng = random.Random(plan.seed + 7)
        self.clocks = Clocks(loop)
        self.gateway = SimGateway(
            self.clocks, self.rng, latency=plan.gateway_latency, skew=plan.skew
        )
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.links: dict[int, list[SimLink]] = {number: [] for number in range(plan.sessions)}
        self.agents: list[Agent] = []
        self.far_outage: str | None = None
        self.limited_until = 0.0
        self.calm_since = 0.0
        self.withdrawn: set[str] = set()
        self.revoked: set[str] = set()
        self.gaps: dict[int, float] = {}
        self.longest = 0.0
        self.handles: set[asyncio.TimerHandle] = set()

    def violate(self, what: str) -> None:
        day, rest = divmod(self.loop.time(), DAY)
        self.violations.append(f"day {day:.0f}, {rest:.3f} s: {what}")

    def later(self, delay: float, call: Any, *arguments: Any) -> asyncio.TimerHandle:
        def run() -> None:
            self.handles.discard(handle)
            call(*arguments)

        handle = self.loop.call_later(max(0.0, delay), run)
        self.handles.add(handle)
        return handle

    def connection(self, number: int) -> str:
        """The connection of a session: two sessions have the same one, or each its own."""
        return f"c-{number // 2 if self.plan.shared else number}"

    # --- The far side ------------------------------------------------------------------------

    async def dial(self, handshake: Handshake, listener: LinkListener, limits: Limits) -> SimLink:
        token = dict(handshake.headers)["Authorization"].removeprefix("Bearer ")
        number = int(handshake.url.rpartition("/")[2])
        self.counts["dials"] += 1
        self.agents[number].dials.append(self.loop.time())
        await asyncio.sleep(self.plan.latency * 3)
        await self._refuse(token)
        link = SimLink(self, token, listener, limits)
        mine = self.links[number]
        mine[:] = [other for other in mine if other.is_up]
        mine.append(link)
        if len(mine) > 3:
            self.violate(f"session {number} has {len(mine)} links open")
        if self.plan.closes_expired:
            self._watch_expiry(link)
        return link

    async def _refuse(self, token: str) -> None:
        match self.far_outage:
            case "refuse":
                raise HandshakeError("connection refused")
            case "hang":
                await asyncio.sleep(1e6)
            case "503":
                raise HandshakeError("unavailable", status=503)
            case "slam":
                raise HandshakeError("hung up")
            case _:
                pass
        if self.loop.time() < self.limited_until:
            self.counts["limited"] += 1
            raise HandshakeError("too many", status=429, retry_after=20.0)
        if not self.gateway.is_valid(token):
            self.counts["401"] += 1
            raise HandshakeError("unauthorized", status=401)

    def _watch_expiry(self, link: SimLink) -> None:
        name, _, number = link.token.rpartition(".")
        connection = self.gateway.connections[name]
        if int(number) == connection.number:
            left = connection.expires_at - self.gateway.now()
            link.timer = self.later(left + 0.5, self._expire, link)

    def _expire(self, link: SimLink) -> None:
        if not link.is_up:
            return
        name, _, number = link.token.rpartition(".")
        connection = self.gateway.connections[name]
        left = connection.expires_at - self.gateway.now()
        if int(number) == connection.number and left > 0:  # the machine has slept meanwhile
            link.timer = self.later(left + 0.5, self._expire, link)
            return
        self.counts["expired links"] += 1
        link.far.close(4401)
        if self.loop.time() - self.calm_since > self.plan.lifetime + GRACE:
            self.violate(f"a link lived to see its token {link.token} expire, though all was well")

    def renewed(self, number: int, token: str) -> None:
        """Hear a new token on an open link."""
        for link in self.links[number]:
            if link.is_up:
                link.token = token
                if link.timer is not None:
                    link.timer.cancel()
                    self.handles.discard(link.timer)
                    self._watch_expiry(link)

    # --- Faults ------------------------------------------------------------------------------

    def strike(self, fault: Fault) -> None:
        """Let something go wrong."""
        self.counts[f"fault: {fault.what}"] += 1
        self.disturb(0.0)
        match fault.what:
            case "drop":
                for link in self._up(fault.who):
                    link.far.drop()
            case "silent":
                self.disturb(self.plan.ping_interval)
                for link in self._up(fault.who):
                    link.far.go_silent()
            case "restart":
                for number in range(self.plan.sessions):
                    for link in self._up(number):
                        link.far.drop() if fault.how == "1006" else link.far.close(int(fault.how))
            case "gateway":
                self._outage(fault, "gateway")
            case "far":
                self._outage(fault, "far")
            case "limited":
                self.limited_until = max(self.limited_until, self.loop.time() + fault.seconds)
                self.disturb(fault.seconds + 60)
                for number in range(self.plan.sessions):
                    for link in self._up(number):
                        link.far.close(1012)
            case "revoke":
                name = self.connection(fault.who)
                self.gateway.revoke(name)
                for number in range(self.plan.sessions):
                    if self.connection(number) == name:
                        for link in self._up(number):
                            link.far.close(4401)
            case "nap":
                self._nap(fault.seconds)
            case "clock":
                self.clocks.step(fault.seconds)
            case "consent":
                self._withdraw(self.connection(fault.who))
            case _:
                raise AssertionError(fault.what)

    def disturb(self, seconds: float) -> None:
        """Note that all is not well, for so long."""
        self.calm_since = max(self.calm_since, self.loop.time() + seconds)

    def _up(self, number: int) -> list[SimLink]:
        return [link for link in self.links[number] if link.is_up]

    def _outage(self, fault: Fault, which: str) -> None:
        self.disturb(fault.seconds)
        if which == "gateway":
            self.gateway.outage = fault.how
        else:
            self.far_outage = fault.how
            for number in range(self.plan.sessions):
                for link in self._up(number):
                    link.far.drop()
        self.later(fault.seconds, self._recover, fault, which)

    def _recover(self, fault: Fault, which: str) -> None:
        if which == "gateway" and self.gateway.outage == fault.how:
            self.gateway.outage = None
        elif which == "far" and self.far_outage == fault.how:
            self.far_outage = None

    def _nap(self, seconds: float) -> None:
        """The machine sleeps: its loop stands still, and the world goes on."""
        self.disturb(self.plan.ping_interval)
        self.clocks.sleep(seconds)
        if seconds > 100:
            for number in range(self.plan.sessions):
                for link in self._up(number):
                    link.far.go_silent()  # the far side has given up, and nobody was there to hear

    def _withdraw(self, name: str) -> None:
        self.withdrawn.add(name)
        self.gateway.connections[name].lost = True

    # --- What must hold ----------------------------------------------------------------------

    def look(self) -> None:
        """Check what must hold at any time, and once more in a minute."""
        is_calm = self.loop.time() - self.calm_since > GRACE
        for agent in self.agents:
            self._look_at(agent, is_calm)
        if self.gateway.races:
            self.violate("two refreshes of one connection at once")
            self.gateway.races = 0
        self.later(LOOK_EVERY, self.look)

    def _look_at(self, agent: Agent, is_calm: bool) -> None:
        assert agent.task is not None
        name = self.connection(agent.number)
        if agent.task.done():
            if name not in self.withdrawn and agent.error is None:
                agent.error = agent.task.exception()
                self.violate(f"session {agent.number} ended: {agent.error!r}")
            return
        is_open = agent.greetings > agent.farewells
        if is_open:
            self.gaps.pop(agent.number, None)
        else:
            began = self.gaps.setdefault(agent.number, self.loop.time())
            self.longest = max(self.longest, self.loop.time() - began)
        if is_calm and not is_open and name not in self.withdrawn:
            self.violate(f"session {agent.number} is not open, {GRACE:.0f} s after the last fault")
        if agent.greetings - agent.farewells not in (0, 1):
            self.violate(f"{agent.greetings} on_connect, {agent.farewells} on_disconnect")

    def check_rates(self) -> None:
        """Nobody was hammered, whatever went wrong."""
        for agent in self.agents:
            self._check_rate(agent.dials, f"dials of session {agent.number}")
        for connection in self.gateway.connections.values():
            self._check_rate(connection.asked, f"questions for {connection.name}")
            self._check_rate(connection.refreshed, f"refreshes of {connection.name}")
            closest = min(_gaps(connection.refreshed), default=99.0)
            if closest < 1.0:
                self.violate(f"two refreshes of {connection.name} within {closest:.3f} s")

    def _check_rate(self, moments: list[float], what: str) -> None:
        start = 0
        for end, moment in enumerate(moments):
            while moment - moments[start] > 3600:
                start += 1
            if end - start >= MOST_AN_HOUR:
                self.violate(f"{end - start + 1} {what} within an hour")
                return

    def check_ends(self) -> None:
        """Who has no consent any more was told so, and everybody else goes on."""
        for agent in self.agents:
            assert agent.task is not None
            if self.connection(agent.number) not in self.withdrawn or not agent.task.done():
                continue
            error = agent.task.exception()
            self.counts["consents withdrawn"] += 1
            if not isinstance(error, InteractionRequired):
                self.violate(f"session {agent.number} ended with {error!r}")

    def on_event(self, event: told.BridgeEvent) -> None:
        self.counts[type(event).__name__] += 1


def _gaps(moments: list[float]) -> Iterator[float]:
    return (after - before for before, after in pairwise(moments))


async def _play(world: World) -> None:
    plan = world.plan
    oauth = OAuthClient("http://localhost:1", transport=world.gateway)
    for number in range(plan.sessions):
        world.gateway.connections.get(world.connection(number)) or world.gateway.add(
            world.connection(number), plan.lifetime
        )
    bridge = Bridge(oauth, dialer=world, on_event=world.on_event, ping_interval=plan.ping_interval)
    on_loop_time(bridge, clock=world.clocks.wall, seed=plan.seed)  # type: ignore[arg-type]
    async with bridge:
        for number in range(plan.sessions):
            agent = Agent(world, number)
            world.agents.append(agent)
            renewal = "keep" if plan.renewals[number] == "keep" else "handover"
            agent.task = world.loop.create_task(
                bridge.maintain_websocket(
                    world.connection(number),
                    f"wss://far.example/{number}",
                    agent,
                    renewal=renewal,
                    initial_token="retry",
                )
            )
        for fault in plan.faults:
            world.later(fault.at, world.strike, fault)
        world.look()
        await asyncio.sleep(plan.days * DAY)
        world.check_ends()
        world.check_rates()
        for handle in world.handles:
            handle.cancel()
    tasks = [agent.task for agent in world.agents if agent.task is not None]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None and not isinstance(outcome, PermanentError):
            world.violate(f"a session left {outcome!r}")


def simulate(plan: Plan) -> Report:
    """Play a plan from beginning to end."""
    loop = VirtualLoop()
    loop.most_turns = 10**9
    world = World(plan, loop)
    loop.set_exception_handler(lambda _, context: world.violate(f"the loop heard {context}"))
    logging.disable(logging.CRITICAL)
    try:
        loop.run_until_complete(_play(world))
        loop.run_until_complete(asyncio.sleep(120))
        left = asyncio.all_tasks(loop)
        if left:
            world.violate(f"{len(left)} tasks are left: {sorted(map(repr, left))[:2]}")
    except Exception as error:
        world.violate(f"{type(error).__name__}: {error}")
    finally:
        logging.disable(logging.NOTSET)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    return Report(plan, world.violations, world.counts, loop.turns, world.longest)


def smallest(plan: Plan) -> Plan:
    """Return a failing plan with as few faults as still make it fail."""
    kept = list(plan.faults)
    size = max(1, len(kept) // 2)
    while True:
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            if simulate(replace(plan, faults=tuple(fewer))).violations:
                kept = fewer
                break
        else:
            if size == 1:
                return replace(plan, faults=tuple(kept))
            size = max(1, size // 2)
