"""Whole bridges under random faults in virtual time: what is drawn, played, and checked.

A seed draws a configuration and a schedule of faults.  `play` runs a real `Bridge`
through it, on a loop whose time is a number, and returns what was violated.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final

from dromos import (
    Bridge,
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    NotConnected,
    PermanentError,
    Token,
    TokenError,
)
from dromos import events as told
from dromos.connection import Connection
from dromos.errors import BridgeError, MessageTooBig, ReceivePaused, SendBufferFull
from dromos.interfaces import Limits, LinkListener
from dromos.model import Handshake, Outbox
from dromos.testing.clock import LoopClock, on_loop_time
from dromos.testing.memory import MemoryLink

__all__ = ["Draw", "Fault", "Outcome", "World", "draw", "play"]

HEALTHY: Final = 180.0
"""Seconds without a fault at the end of a schedule, after which all must be well."""

SETTLE: Final = 8.0
"""Seconds for the memory links' own pipes to run dry after the end."""

MOST_TURNS: Final = 400_000
HOLD: Final = 64


# ---------------------------------------------------------------- virtual time


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without a selector: when nothing is ready, it is later."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self  # type: ignore[assignment]
        self.turns = 0
        self.most_turns = MOST_TURNS
        self.each_turn: Callable[[], None] | None = None

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Take the place of the selector: once in each turn of the loop."""
        self.turns += 1
        if self.each_turn is not None:
            self.each_turn()
        if timeout is None:
            raise RuntimeError("nothing will ever happen again, and somebody waits for it")
        if self.turns > self.most_turns:
            raise RuntimeError("the loop goes round and round")
        if timeout > 0:
            self._now = max(self._now, self.timers()[0].when())
        return []

    def timers(self) -> list[asyncio.TimerHandle]:
        """The heap of timers, the cancelled ones included."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return scheduled

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


# ---------------------------------------------------------------- what is drawn


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something goes wrong: at a time, or some seconds after the next event of a kind."""

    at: float
    what: str
    code: int = 0
    count: int = 0
    seconds: float = 0.0
    on: str = ""

    def __str__(self) -> str:
        when = f"{self.at:.3f} s" + (f", {self.seconds:.3f} s after {self.on}" if self.on else "")
        return f"{self.what} at {when}, code={self.code} count={self.count} s={self.seconds:.3f}"


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What a seed stands for."""

    seed: int
    length: float
    latency: float
    dial_latency: float
    lifetime: float
    tells_lifetime: bool
    source_takes: float
    options: dict[str, Any]
    outbox: Outbox | None
    window: int
    fanout: bool
    as_connection: bool
    is_async: bool
    pause: float
    own_handover: bool
    in_band: str
    greeting_takes: float
    single: str
    single_code: int
    closes_expired: bool
    every_in: float
    every_out: float
    big: int
    requests: bool
    ending: str
    early: bool
    lethal: bool
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        shown = [f"  {each.name} = {getattr(self, each.name)}" for each in fields(self)[:-1]]
        return "\n".join([*shown, *(f"  fault: {fault}" for fault in self.faults)])


TRIGGERS: Final = ("dial", "open", "switch")

LINK_FAULTS: Final = (
    ("close", 12),
    ("drop", 8),
    ("silent", 4),
    ("stall", 5),
    ("deaf to pings", 3),
    ("deaf to close", 4),
    ("burst", 5),
    ("revoke", 5),
    ("revoke and close", 4),
)
DIAL_FAULTS: Final = (
    ("refuse", 10),
    ("fail", 4),
    ("slow dial", 6),
    ("hang", 3),
    ("open and close", 5),
    ("open and drop", 4),
    ("open deaf", 3),
)
SOURCE_FAULTS: Final = (("get fails", 4), ("refresh fails", 5), ("slow source", 4), ("same", 4))
AGENT_FAULTS: Final = (
    ("on_connect", 3),
    ("on_handover", 4),
    ("on_message", 4),
    ("on_disconnect", 2),
    ("hang", 2),
    ("renew", 6),
    ("clock", 4),
    ("nap", 2),
)
LETHAL_FAULTS: Final = (
    ("close for good", 3),
    ("refuse for good", 4),
    ("source for good", 2),
    ("handler for good", 1),
)

CLOSES: Final = (1000, 1001, 1001, 1005, 1011, 1012, 1013, 4000, 4408, 4500)
STATUSES: Final = (401, 500, 503, 503, 429, 408)


def _pick(rng: random.Random, table: tuple[tuple[str, int], ...]) -> str:
    return rng.choices([name for name, _ in table], [weight for _, weight in table])[0]


def draw(seed: int) -> Draw:
    """Return what a seed stands for."""
    rng = random.Random(seed)
    lethal = rng.random() < 0.2
    latency = rng.choice((0.0, 0.001, 0.02, 0.1, 0.3))
    lifetime = rng.choice((5.0, 8.0, 12.0, 20.0, 30.0, 60.0))
    length = max(60.0, lifetime * rng.choice((4.0, 8.0, 10.0)))
    slow = rng.random() < 0.4
    outbox = _draw_outbox(rng) if rng.random() < 0.5 else None
    fanout = rng.random() < 0.4
    return Draw(
        seed=seed,
        length=length,
        latency=latency,
        dial_latency=rng.choice((0.0, 0.01, 0.2, 1.0)),
        lifetime=lifetime,
        tells_lifetime=rng.random() < 0.7,
        source_takes=rng.choice((0.0, 0.0, 0.05, 0.5)),
        options=_draw_options(rng, lifetime),
        outbox=outbox,
        window=rng.choice((1, 4096, 65536)),
        fanout=fanout,
        as_connection=rng.random() < 0.5,
        is_async=slow or rng.random() < 0.4,
        pause=rng.choice((0.01, 0.05, 0.2)) if slow else 0.0,
        own_handover=rng.random() < 0.5,
        in_band=rng.choice(("", "", "", "accept", "decline", "raise", "mixed", "slow")),
        greeting_takes=rng.choice((0.0, 0.0, 0.0, 0.1, 1.0)),
        single=rng.choice(("",) * 8 + ("old before", "old after", "refuse", "close new")),
        single_code=rng.choice((1000, 4001, 4409, 1008 if lethal else 1000)),
        closes_expired=rng.random() < 0.7,
        every_in=rng.choice((0.2, 1.0, 2.0)) * length / 60,
        every_out=rng.choice((0.2, 1.0, 2.0)) * length / 60,
        big=rng.choice((0, 0, 2000, 20000)),
        requests=rng.random() < 0.5,
        ending=rng.choice(("cancel", "close", "bridge", "cancel", "drain")),
        early=rng.random() < 0.3,
        lethal=lethal,
        faults=tuple(_draw_faults(rng, length, latency, lethal=lethal)),
    )


def _draw_options(rng: random.Random, lifetime: float) -> dict[str, Any]:
    return {
        "refresh_buffer": rng.choice((1.0, lifetime / 4, 300.0)),
        "renewal": rng.choice(("handover",) * 7 + ("keep",)),
        "initial_token": rng.choice(("fail", "retry")),
        "max_link_age": rng.choice((None,) * 8 + (1.0, 7.0, 7.0, 30.0)),
        "ping_interval": rng.choice((5.0, 20.0)),
        "ping_timeout": rng.choice((3.0, 20.0)),
        "write_timeout": rng.choice((2.0, 10.0)),
        "close_timeout": rng.choice((1.0, 5.0)),
        "connect_timeout": rng.choice((3.0, 10.0)),
        "send_buffer_limit": rng.choice((64 * 1024, 4 * 2**20)),
    }


def _draw_outbox(rng: random.Random) -> Outbox:
    return Outbox(
        max_messages=rng.choice((3, 10, 1000)),
        max_bytes=rng.choice((30_000, 2 * 2**20)),
        ttl=rng.choice((None, 2.0, 60.0)),
        when_full=rng.choice(("error", "drop_oldest", "wait")),
        resend_unknown=rng.random() < 0.4,
    )


def _draw_faults(
    rng: random.Random, length: float, latency: float, *, lethal: bool
) -> Iterator[Fault]:
    tables = [LINK_FAULTS, LINK_FAULTS, DIAL_FAULTS, DIAL_FAULTS, SOURCE_FAULTS, AGENT_FAULTS]
    if lethal:
        tables.append(LETHAL_FAULTS)
    moments = (0.0, 1e-9, latency / 2, latency, 1.5 * latency, 2 * latency, 0.01, 0.5)
    for at in sorted(rng.uniform(0.0, length) for _ in range(rng.choice((0, 3, 8, 15, 30)))):
        table = rng.choice(tables)
        on = rng.choice(TRIGGERS) if table is LINK_FAULTS and rng.random() < 0.5 else ""
        yield Fault(
            at=at,
            what=_pick(rng, table),
            code=rng.choice(CLOSES if table is not DIAL_FAULTS else STATUSES),
            count=rng.choice((1, 1, 2, 3, 150)),
            seconds=rng.choice(moments) if on else rng.choice((0.3, 1.0, 3.0, 8.0, 15.0)),
            on=on,
        )


# ---------------------------------------------------------------- the far side


class WatchedLink(MemoryLink):
    """A link that knows what the far side said and heard on it, and whether it was let go."""

    def __init__(self, world: "World", token: str, listener: LinkListener, limits: Limits) -> None:
        super().__init__(listener, limits, latency=world.draw.latency, window=world.draw.window)
        self.world = world
        self.token = token
        self.number: int = listener.number  # type: ignore[attr-defined]
        self.said: list[str] = []
        self.heard: list[str] = []
        self.let_go = False
        self.greeted = False
        self.is_silent = False

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.let_go = True
        super().close(code, reason)

    def abort(self) -> None:
        self.let_go = True
        super().abort()

    @property
    def is_over(self) -> bool:
        return self._over

    @property
    def is_up(self) -> bool:
        """Whether the far side takes it for open."""
        return self.far.closed is None and self.far._sent_close is None


@dataclass
class Outcome:
    """What came of a play."""

    draw: Draw
    violations: list[str]
    timeline: list[str]
    counts: Counter[str]
    error: Exception | None

    def __str__(self) -> str:
        found = "\n".join(f"  {violation}" for violation in self.violations[:12])
        events = "\n".join(self.timeline)
        return (
            f"seed {self.draw.seed} violates:\n{found}\n\nconfiguration:\n{self.draw}\n\n"
            f"timeline:\n{events}\n\nso seed {self.draw.seed} violates:\n{found}\n\n"
            f"replay: SCHEDULES_SEED={self.draw.seed} pytest -s tests/driver/test_schedules.py\n"
        )


@dataclass
class Fates:
    """What became of the agent's messages, by number."""

    accepted: dict[int, str] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    perhaps: set[int] = field(default_factory=set)
    requested: set[int] = field(default_factory=set)
    unsent: Counter[int] = field(default_factory=Counter)
    unknown: Counter[int] = field(default_factory=Counter)
    resent: Counter[int] = field(default_factory=Counter)


class World:
    """The far side, the token source, the schedule, and everything that is known of them."""

    def __init__(self, plan: Draw, loop: VirtualLoop) -> None:
        self.draw = plan
        self.loop = loop
        self.rng = random.Random(plan.seed + 1_000_000_007)
        self.clock = LoopClock()
        self.violations: list[str] = []
        self.timeline: list[tuple[float, str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.excuses: Counter[str] = Counter()
        self.fates = Fates()
        self.links: list[WatchedLink] = []
        self.open: list[WatchedLink] = []
        self.dialing = 0
        self.next_dials: deque[Fault] = deque()
        self.revoked: set[str] = set()
        self.refused: set[str] = set()
        self.known_refused: set[str] = set()
        self.expires: dict[str, tuple[float, float]] = {}
        self.said = 0
        self.is_healthy = False
        self.handles: set[asyncio.TimerHandle] = set()
        self.far_tasks: set[asyncio.Task[None]] = set()
        self.armed: dict[str, list[Fault]] = {trigger: [] for trigger in TRIGGERS}
        # The token source.
        self.issued = 0
        self.token: Token | None = None
        self.get_faults: deque[Fault] = deque()
        self.refresh_faults: deque[Fault] = deque()
        # The other end.
        self.bridge: Bridge | None = None
        self.agent: Agent | None = None
        self.session: Any = None
        self.moods: dict[str, int] = {}

    # What everybody needs

    def note(self, kind: str, what: Any = "") -> None:
        self.timeline.append((self.loop.time(), kind, what))

    def violate(self, what: str) -> None:
        self.note("VIOLATED", what)
        self.violations.append(f"{self.loop.time():.6f}: {what}")

    def later(self, delay: float, call: Callable[[], None]) -> None:
        """Do something later, unless the play has ended."""

        def run() -> None:
            self.handles.discard(handle)
            call()

        handle = self.loop.call_later(delay, run)
        self.handles.add(handle)

    def pace(self, every: float) -> float:
        """Seconds until the next message: few of them while all is well."""
        return 6.0 if self.is_healthy else every * self.rng.uniform(0.5, 1.5)

    # The token source

    async def get_token(self, connection_id: str, /) -> Token:
        await self._answer_for(self.get_faults)
        return self.token or self.issue()

    async def refresh_connection(self, connection_id: str, /) -> Token:
        fault = await self._answer_for(self.refresh_faults)
        if fault is not None and self.token is not None:
            return self.token  # the same once more
        return self.issue()

    async def _answer_for(self, faults: deque[Fault]) -> Fault | None:
        fault = faults.popleft() if faults else None
        await asyncio.sleep(self.draw.source_takes)
        if fault is None:
            return None
        self.note("source", fault.what)
        if fault.what == "slow source":
            await asyncio.sleep(fault.seconds * 2)
            return None
        if fault.what == "same":
            self.excuses["same"] += 1
            return fault
        self.excuses["token"] += 1
        if fault.what == "source for good":
            self.excuses["P"] += 1
            raise InteractionRequired("consent has to be given again")
        raise TokenError("not now", status=503 if fault.count > 1 else None)

    def issue(self) -> Token:
        self.issued += 1
        name, life = f"t{self.issued}", self.draw.lifetime
        if self.is_healthy:
            life = max(life, 30.0)
        wall = self.clock() + life
        self.expires[name] = (self.loop.time() + life, wall)
        told_life = life if self.draw.tells_lifetime else None
        self.token = Token({"access_token": name}, expires_at=wall, lifetime=told_life)
        self.note("issued", name)
        return self.token

    # The far side: dials

    async def dial(
        self, handshake: Handshake, listener: LinkListener, limits: Limits
    ) -> WatchedLink:
        token = dict(handshake.headers)["Authorization"].removeprefix("Bearer ")
        self.check_dial(token)
        self.dialing += 1
        self.check_links()
        try:
            fault = self.next_dials.popleft() if self.next_dials else None
            slow = fault is not None and fault.what == "slow dial"
            await asyncio.sleep(self.draw.dial_latency + (fault.seconds if fault and slow else 0))
            await self._answer(fault)
            self._check_token(token)
            self._meet_other_links()
            return self._open(token, listener, limits, fault)
        finally:
            self.dialing -= 1

    def check_dial(self, token: str) -> None:
        self.counts["dials"] += 1
        if token in self.known_refused:
            self.violate(f"a dial with {token}, which was refused before")
        if self.expires[token][1] <= self.clock() + 1e-6:
            self.violate(f"a dial with {token}, which has expired")
        if self.agent is not None and self.agent.is_over:
            self.violate("a dial after the session's end")

    async def _answer(self, fault: Fault | None) -> None:
        match fault:
            case Fault(what="hang"):
                await self.loop.create_future()
            case Fault(what="fail"):
                raise HandshakeError("connection refused")
            case Fault(what="refuse", code=code, count=count, seconds=wait) if code != 401:
                if code == 429:
                    self.note("refused", "429")
                after = wait if count > 1 else None
                raise HandshakeError(f"status {code}", status=code, retry_after=after)
            case Fault(what="refuse for good", code=code):
                status = {500: 403, 503: 409, 401: 410}.get(code, 404)
                self.excuses["P" if status == 410 else "L"] += 1
                if status == 403:
                    self.excuses["A"] += 1
                raise HandshakeError(f"status {status}", status=status)
            case _:
                pass

    def _check_token(self, token: str) -> None:
        expired = self.expires[token][0] <= self.loop.time()
        if token in self.revoked or expired:
            self.note("401", token + (" (expired)" if expired else ""))
            self.excuses["A"] += token not in self.refused
            self.refused.add(token)
            self.known_refused.add(token)
            raise HandshakeError("unauthorized", status=401)

    def _meet_other_links(self) -> None:
        """Be a far side that allows one link only."""
        code = self.draw.single_code
        others = [link for link in self.open if link.is_up]
        if not others:
            return
        match self.draw.single:
            case "old before":
                for link in others:
                    self.end(link, code)
            case "refuse":
                self.excuses["L"] += 1
                raise HandshakeError("conflict", status=409)
            case _:
                pass

    def _open(
        self, token: str, listener: LinkListener, limits: Limits, fault: Fault | None
    ) -> WatchedLink:
        link = WatchedLink(self, token, listener, limits)
        others = [other for other in self.open if other.is_up]
        self.links.append(link)
        self.open.append(link)
        self.counts["links"] += 1
        task = self.loop.create_task(self._listen(link), name="far")
        self.far_tasks.add(task)
        task.add_done_callback(self.far_tasks.discard)
        if self.draw.closes_expired:
            self.later(self.expires[token][0] - self.loop.time(), lambda: self._expire(link))
        code, delay = self.draw.single_code, self.rng.choice((0.0, 0.001, 0.05, 1.0))
        if others and self.draw.single == "close new":
            self.later(delay, lambda: self.end(link, code))
        if others and self.draw.single == "old after":
            for other in others:
                self.later(delay, lambda other=other: self.end(other, code))  # type: ignore[misc]
        if fault is not None:
            self._spoil(link, fault)
        return link

    def _spoil(self, link: WatchedLink, fault: Fault) -> None:
        delay = min(fault.seconds, 1.0) * self.rng.choice((0, 0.01, 1))
        if fault.what == "open and close":
            code = self.rng.choice(CLOSES)
            self.later(delay, lambda: self.end(link, code))
        elif fault.what == "open and drop":
            self.later(delay, link.far.drop)
        elif fault.what == "open deaf":
            link.far.answer_pings = False

    # The far side: links

    async def _listen(self, link: WatchedLink) -> None:
        async for message in link.far:
            assert isinstance(message, str)
            self.hear(link, message.partition(" ")[0])

    def hear(self, link: WatchedLink, message: str) -> None:
        """Take a message from the agent."""
        link.heard.append(message)
        self.counts["heard"] += 1
        self.note("far heard", f"{message} on {link.number}")
        kind, _, number = message.partition(":")
        if kind == "q" and link.is_up and not link.is_silent:
            self.say(link, f"a:{number}")

    def say(self, link: WatchedLink, message: str) -> None:
        """Send a message to the agent."""
        if link.is_silent:
            return
        link.said.append(message)
        link.far.send(message + " " + "x" * self.draw.big)

    def tell(self, count: int = 1) -> None:
        """Send the next numbers, to all links or to the newest one."""
        up = [link for link in self.open if link.is_up]
        for _ in range(count if up else 0):
            self.said += 1
            for link in up if self.draw.fanout else up[-1:]:
                number = f"n:{self.said}" if self.draw.fanout else f"{link.number}:{self.said}"
                self.say(link, number)

    def end(self, link: WatchedLink, code: int) -> None:
        """Close a link from the far side."""
        if not link.is_up:
            return
        self.note("far closes", f"{link.number} with {code}")
        if code in (1008, 1003, 4403):
            self.excuses["P"] += 1
        elif code in (4409, 1002):
            self.excuses["L"] += 1
        elif code in (4001, 4401):
            self.excuses["A"] += 1
        link.far.close(code)

    def _expire(self, link: WatchedLink) -> None:
        """Close a link whose token has run out, unless it was told of another."""
        if link.is_up and not self.is_renewed(link):
            self.note("far closes", f"{link.number}, expired")
            link.far.close(4401)
            self.excuses["A"] += 1

    def is_renewed(self, link: WatchedLink) -> bool:
        return any(message.startswith("r:") for message in link.heard)

    # The schedule

    def strike(self, fault: Fault) -> None:
        """Let a fault happen now, or arm it."""
        if self.is_healthy:
            return
        if fault.on:
            self.armed[fault.on].append(fault)
            return
        self.note("fault", fault)
        self.counts[fault.what] += 1
        match fault.what:
            case "get fails" | "source for good" | "slow source":
                self.get_faults.extend([fault] * min(fault.count, 3))
            case "refresh fails" | "same":
                self.refresh_faults.extend([fault] * min(fault.count, 3))
            case "clock":
                self.clock.step(fault.seconds * (-1) ** fault.count)
            case "nap":
                # A suspend: the wall clock goes on, the loop's does not.
                self.clock.step(fault.seconds * 20)
            case "on_connect" | "on_handover" | "on_message" | "on_disconnect" | "hang" if (
                fault.what not in ("hang",) or fault.count < 2
            ):
                self._upset(fault)
            case "handler for good":
                self.excuses["P"] += 1
                self.moods["for good"] = 1
            case "renew":
                if self.agent is not None:
                    self.agent.renew()
            case "fail" | "hang" | "slow dial" | "refuse" | "refuse for good":
                self._plan_dials(fault)
            case "open and close" | "open and drop" | "open deaf":
                self._plan_dials(fault)
            case _:
                self._strike_links(fault)

    def _upset(self, fault: Fault) -> None:
        name = "on_handover hangs" if fault.what == "hang" else fault.what
        self.moods[name] = min(fault.count, 3)

    def _plan_dials(self, fault: Fault) -> None:
        if fault.what == "refuse" and fault.code == 401:
            if self.token is not None:
                self.revoked.add(self.token.access_token)
            return
        self.next_dials.extend([fault] * min(fault.count, 4))

    def _strike_links(self, fault: Fault) -> None:
        up = [link for link in self.open if link.is_up]
        if not up:
            return
        link = self.rng.choice((up[0], up[-1]))
        match fault.what:
            case "close":
                self.end(link, fault.code)
            case "close for good":
                self.end(link, self.rng.choice((1008, 1003, 4403, 1002)))
            case "drop":
                self.note("far drops", link.number)
                link.far.drop()
            case "silent":
                self.note("far silent", link.number)
                link.is_silent = True
                link.far.go_silent()
            case "stall":
                link.far.stop_reading()
                self.later(max(fault.seconds, 1.0), link.far.start_reading)
            case "deaf to pings":
                link.far.answer_pings = False
            case "deaf to close":
                link.far.answer_close = False
            case "burst":
                self.tell(fault.count)
            case "revoke":
                self.revoked.add(link.token)
            case "revoke and close":
                self.revoked.add(link.token)
                self.end(link, 4401)
            case _:
                pass

    def trigger(self, name: str) -> None:
        for fault in self.armed[name]:
            at_once = Fault(**{**vars(fault), "on": ""})
            if fault.seconds:
                self.later(fault.seconds, lambda fault=at_once: self.strike(fault))  # type: ignore[misc]
            else:
                self.strike(at_once)
        self.armed[name].clear()

    def heal(self) -> None:
        """Let everything be well from now on."""
        self.note("healthy", "from now on")
        self.is_healthy = True
        self.next_dials.clear()
        self.get_faults.clear()
        self.refresh_faults.clear()
        self.moods.clear()
        for link in self.links:
            if not link.is_over:
                if not link.far.answer_pings:
                    link.far.drop()  # nobody asks again after what it did not confirm
                link.far.start_reading()
                link.far.answer_pings = link.far.answer_close = True

    # What the bridge tells

    def on_event(self, event: told.BridgeEvent) -> None:
        self.note("event", event)
        self.counts[type(event).__name__] += 1
        match event:
            case told.AttemptStarted(handover=True):
                self.trigger("dial")
            case told.LinkOpened(handover=True):
                self.trigger("open")
            case told.HandedOver():
                self.trigger("switch")
            case told.MessagesUnsent(messages=messages, count=count):
                self._expect_count(event, count, len(messages))
                self.fates.unsent.update(_numbers(messages))
            case told.DeliveryUnknown(messages=messages, count=count, resent=resent):
                self._expect_count(event, count, len(messages))
                (self.fates.resent if resent else self.fates.unknown).update(_numbers(messages))
            case told.MessagesDropped(count=count):
                self.counts["dropped"] += count
            case told.DuplicatesDropped(count=count):
                self.counts["duplicates"] += count
            case told.LinkLost():
                self._check_lost(event)
            case told.SessionEnded() if self.agent is not None:
                self.agent.is_over = True
            case _:
                pass
        self.check_links()

    def _expect_count(self, event: told.BridgeEvent, count: int, messages: int) -> None:
        if count != messages:
            self.violate(f"{type(event).__name__} counts {count} and holds {messages}")

    def _check_lost(self, event: told.LinkLost) -> None:
        link = next(link for link in self.links if link.number == event.link)
        if link.received != event.messages:
            self.violate(f"LinkLost tells {event.messages} messages, {link.received} came")
        if event.sent - event.unconfirmed > len(link.far.received):
            self.violate(
                f"{event.sent - event.unconfirmed} messages of link {event.link} count as "
                f"confirmed, and {len(link.far.received)} have arrived"
            )
        error = event.error
        unauthorized = isinstance(error, ConnectionClosed) and error.code == 4401
        if unauthorized and not event.released and self.expires[link.token][1] > self.clock():
            # Unless the next link was let in with the same token all the same.
            others = (x for x in self.open if x is not link and not x.is_over)
            if all(other.token != link.token for other in others):
                self.known_refused.add(link.token)

    # What is checked in each turn of the loop

    def check_links(self) -> None:
        mine = [link for link in self.open if not link.is_over]
        if len(mine) != len(self.open):
            self.open = mine
        kept = sum(not link.let_go for link in mine)
        if kept + self.dialing > 2:
            self.violate(f"{kept} links are open and {self.dialing} dials under way")

    def turn(self) -> None:
        """Check what must hold in every turn of the loop."""
        self.check_links()
        session = self.session
        if session is None or len(self.violations) > 20:
            return
        # Two of them are wanted; the others close, which takes a round trip or 2 s.
        if len(session._links) > 6:
            self.violate(f"the session keeps {len(session._links)} links")
        if len(session._tasks) > 8:
            self.violate(f"the session has {len(session._tasks)} tasks")
        for record in session._links:
            if record.held_messages > HOLD:
                self.violate(f"{record.held_messages} messages are held")
        ledger = session._outlet.ledger
        if ledger is not None:
            self._check_ledger(ledger)
        if self.loop.turns % 512 == 0:
            self._check_growth(session)

    def _check_ledger(self, ledger: Any) -> None:
        rules = ledger.rules
        written = sum(len(entries) for entries in ledger._written.values())
        if ledger.count != written + len(ledger.unsent):
            self.violate(f"the outbox counts {ledger.count}: {written} and {len(ledger.unsent)}")
        if ledger.count > rules.max_messages or ledger._size > rules.max_bytes:
            self.violate(f"the outbox keeps {ledger.count} messages, {ledger._size} bytes")

    def _check_growth(self, session: Any) -> None:
        tasks = len(asyncio.all_tasks(self.loop))
        if tasks > 30:
            self.violate(f"{tasks} tasks in all")
        timers = sum(not handle.cancelled() for handle in self.loop.timers())
        if timers > 150 + len(self.handles) + 4 * sum(len(x.far._out._items) for x in self.open):
            self.violate(f"{timers} timers")
        overlap = session._lane._overlap
        if overlap is not None and len(overlap._heard) > 16:
            self.violate(f"{len(overlap._heard)} links are compared")
        if self.agent is not None:
            self.agent.check_growth()


def _numbers(messages: tuple[str | bytes, ...]) -> list[int]:
    return [int(str(message).partition(" ")[0].partition(":")[2]) for message in messages]


# ---------------------------------------------------------------- the agent


class Agent:
    """A handler or the user of a `Connection`; both note and check what they are told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.draw = world.draw
        self.rng = random.Random(world.draw.seed + 2_000_000_011)
        self.got: list[str] = []
        self.inside: str | None = None
        self.is_connected = False
        self.is_over = False
        self.is_stopping = False
        self.greetings = 0
        self.farewells = 0
        self.answered = 0
        self.send: Any = None
        self.connection: Connection | None = None
        self.number = 0
        self.helpers: set[asyncio.Task[None]] = set()

    # The discipline of callbacks

    @contextmanager
    def inside_of(self, name: str) -> Iterator[None]:
        world = self.world
        world.note("enter", name)
        if self.is_over:
            world.violate(f"{name} after the session's end")
        if self.inside is not None:
            world.violate(f"{name} while {self.inside} runs")
        self.inside = name
        try:
            yield
        finally:
            self.inside = None

    def mood(self, name: str) -> bool:
        """Whether a callback is to misbehave this time."""
        left = self.world.moods.get(name, 0)
        self.world.moods[name] = max(0, left - 1)
        return left > 0

    def _greet(self, send: Any) -> None:
        if self.is_connected:
            self.world.violate("on_connect twice without an on_disconnect between")
        self.is_connected = True
        self.greetings += 1
        self.send = send

    def _say_hello(self, send: Any) -> Any:
        if self.mood("for good"):
            raise PermanentError("the agent has had enough")
        return self.post(send, "g")

    # Asynchronous callbacks

    async def on_connect(self, send: Any) -> None:
        if send.handover:
            await self.on_handover(send)
            return
        with self.inside_of("on_connect"):
            self._greet(send)
            waits = self._say_hello(send)
            await asyncio.sleep(self.draw.greeting_takes)
            if self.mood("on_connect"):
                raise RuntimeError("on_connect is in a bad mood")
            if waits is not None:
                await waits

    async def on_handover(self, send: Any) -> None:
        self.world.note("enter", f"on_handover {send.link}")
        if self.is_over:
            self.world.violate("on_handover after the session's end")
        if not send.handover:
            self.world.violate("on_handover for a link that takes nothing over")
        waits = self._say_hello(send)
        await asyncio.sleep(self.draw.greeting_takes)
        if self.mood("on_handover"):
            raise RuntimeError("on_handover is in a bad mood")
        if self.mood("on_handover hangs"):
            await asyncio.sleep(3600)
        if waits is not None:
            await waits

    async def on_message(self, message: str) -> None:
        with self.inside_of("on_message"):
            self.take(message)
            if self.draw.pause:
                await asyncio.sleep(self.draw.pause)
            waits = self._react()
            if waits is not None:
                await waits

    async def on_disconnect(self, error: Exception | None) -> None:
        with self.inside_of("on_disconnect"):
            self._part()
            await asyncio.sleep(self.draw.pause)
            if self.mood("on_disconnect"):
                raise RuntimeError("on_disconnect is in a bad mood")

    async def on_token_refresh(self, token: Token, send: Any) -> bool | None:
        with self.inside_of("on_token_refresh"):
            answer = self.draw.in_band
            if answer == "mixed":
                answer = self.rng.choice(("accept", "decline", "raise", "slow"))
            if answer == "slow":
                await asyncio.sleep(3.0)
            if answer == "raise":
                raise RuntimeError("on_token_refresh is in a bad mood")
            if answer == "decline":
                return False
            waits = self.post(send, "r")
            if waits is not None:
                await waits
            return None

    # Plain ones

    def plain_on_connect(self, send: Any) -> None:
        if send.handover:
            self.plain_on_handover(send)
            return
        with self.inside_of("on_connect"):
            self._greet(send)
            self._say_hello(send)
            if self.mood("on_connect"):
                raise RuntimeError("on_connect is in a bad mood")

    def plain_on_handover(self, send: Any) -> None:
        self.world.note("enter", f"on_handover {send.link}")
        self._say_hello(send)
        if self.mood("on_handover"):
            raise RuntimeError("on_handover is in a bad mood")

    def plain_on_message(self, message: str) -> None:
        with self.inside_of("on_message"):
            self.take(message)
            self._react()

    def plain_on_disconnect(self, error: Exception | None) -> None:
        with self.inside_of("on_disconnect"):
            self._part()

    def _part(self) -> None:
        if not self.is_connected:
            self.world.violate("on_disconnect without an on_connect")
        self.is_connected = False
        self.farewells += 1

    def _react(self) -> Any:
        if self.mood("on_message"):
            raise RuntimeError("on_message is in a bad mood")
        return self.post(self.send, "m") if self.rng.random() < 0.1 else None

    def take(self, message: str) -> None:
        head = message.partition(" ")[0]
        self.world.note("agent got", head)
        self.got.append(head)

    def handler(self) -> Any:
        """The callbacks that were drawn, as an object."""
        prefix = "" if self.draw.is_async else "plain_"
        names = ["on_connect", "on_message", "on_disconnect"]
        names += ["on_handover"] if self.draw.own_handover else []
        found = {name: getattr(self, prefix + name) for name in names}
        if self.draw.in_band:
            found["on_token_refresh"] = self.on_token_refresh
        return SimpleNamespace(**found)

    # Sending

    def next_text(self, kind: str) -> tuple[int, str]:
        self.number += 1
        size = self.draw.big if self.rng.random() < 0.5 else 0
        return self.number, f"{kind}:{self.number} " + "y" * size

    def post(self, send: Any, kind: str) -> Awaitable[None] | None:
        """Send a message, and note what is promised about it."""
        number, text = self.next_text(kind)
        # Known before it is sent: an outbox may report it in the very call.
        fates = self.world.fates
        fates.accepted[number] = kind
        try:
            sent: Awaitable[None] = send(text)
        except (NotConnected, SendBufferFull, MessageTooBig):
            del fates.accepted[number]
            fates.refused.add(number)
            return None
        self.world.note("sent", f"{kind}:{number}")
        return sent

    async def talk(self) -> None:
        """Send a message now and then."""
        while not self.is_stopping:
            await asyncio.sleep(self.world.pace(self.draw.every_out))
            if self.is_over or self.is_stopping:
                return
            if self.connection is not None:
                await self._talk_by_connection(self.connection)
            elif self.send is not None:
                # What is sent in a greeting goes ahead of what waits.
                waits = self.post(self.send, "e" if self.inside == "on_connect" else "b")
                if waits is not None:
                    await self._wait_for(waits)

    async def _wait_for(self, waits: Awaitable[None]) -> None:
        try:
            await waits
        except ConnectionClosed:
            if self.draw.outbox is not None:
                self.world.violate("with an outbox, a send raised ConnectionClosed")

    async def _talk_by_connection(self, connection: Connection) -> None:
        if self.draw.requests and self.rng.random() < 0.2:
            await self._ask(connection)
            return
        number, text = self.next_text("b")
        fates = self.world.fates
        fates.accepted[number] = "b"
        try:
            await connection.send(text, timeout=self.rng.choice((0.0, 1.0, 10.0)))
        except (NotConnected, SendBufferFull, MessageTooBig, PermanentError):
            del fates.accepted[number]
            fates.refused.add(number)
        except ConnectionClosed:
            del fates.accepted[number]
            fates.perhaps.add(number)
            if self.draw.outbox is not None:
                self.world.violate("with an outbox, a send raised ConnectionClosed")
        else:
            self.world.note("sent", f"b:{number}")

    async def _ask(self, connection: Connection) -> None:
        number, text = self.next_text("q")
        fates = self.world.fates
        fates.requested.add(number)
        try:
            answer = await connection.request(text, correlate=_correlate, timeout=5.0)
        except (NotConnected, ReceivePaused, SendBufferFull):
            fates.refused.add(number)
        except (TimeoutError, ConnectionClosed, PermanentError) as error:
            self.world.note("unanswered", f"q:{number} {error!r}")
        else:
            self.answered += 1
            if not str(answer).startswith(f"a:{number} "):
                self.world.violate(f"{str(answer)[:12]} answered q:{number}")

    async def iterate(self) -> None:
        """Take what a connection brings."""
        assert self.connection is not None
        try:
            async for message in self.connection:
                self.take(str(message))
                if self.draw.pause:
                    await asyncio.sleep(self.draw.pause)
        except PermanentError:
            return

    def renew(self) -> None:
        if self.connection is not None:
            task = self.world.loop.create_task(self._renew(self.connection), name="renewer")
            self.helpers.add(task)
            task.add_done_callback(self.helpers.discard)
        elif self.world.session is not None and not self.is_over:
            self.world.session.request_renewal()

    async def _renew(self, connection: Connection) -> None:
        try:
            await connection.renew()
        except (BridgeError, RuntimeError) as error:  # a handler's own included
            self.world.note("not renewed", repr(error))

    def check_growth(self) -> None:
        connection = self.connection
        if connection is None:
            return
        waiting = connection.snapshot().receive_queue
        if waiting > 7 * HOLD:  # the queue at its fullest, and what three links hold
            self.world.violate(f"{waiting} messages wait to be iterated")


def _correlate(message: str | bytes) -> str | None:
    kind, _, number = str(message).partition(" ")[0].partition(":")
    return number if kind in ("q", "a") else None


# ---------------------------------------------------------------- the play


class Play:
    """One seed, from the start to the last check."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.draw = world.draw
        self.agent = world.agent = Agent(world)
        self.error: Exception | None = None
        self.was_cancelled = False
        self.running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        world, plan = self.world, self.draw
        bridge = Bridge(
            world,
            dialer=world,
            on_event=world.on_event,
            dedupe=(lambda message: str(message).partition(" ")[0]) if plan.fanout else None,
            outbox=plan.outbox,
            **plan.options,
        )
        world.bridge = on_loop_time(bridge, clock=world.clock, seed=plan.seed)
        for fault in plan.faults:
            world.later(fault.at, lambda fault=fault: world.strike(fault))  # type: ignore[misc]
        world.loop.each_turn = world.turn
        tasks = self._start(bridge)
        await self._wait_for_the_end()
        await self._stop(bridge)
        await self._finish(tasks)
        world.loop.each_turn = None
        Verification(self).run()

    def _start(self, bridge: Bridge) -> list[asyncio.Task[None]]:
        loop, agent = self.world.loop, self.agent
        if self.draw.as_connection:
            handler = agent.handler()
            given = {name: method for name, method in vars(handler).items() if name != "on_message"}
            agent.connection = bridge.connect("c-1", "wss://far.example/ws", **given)
            run = self._run_connection(agent.connection)
        else:
            run = self._run_handler(bridge)
        self.running = loop.create_task(run, name="main")
        return [
            loop.create_task(agent.talk(), name="talk"),
            loop.create_task(self._tell(), name="tell"),
        ]

    async def _run_handler(self, bridge: Bridge) -> None:
        try:
            await bridge.maintain_websocket("c-1", "wss://far.example/ws", self.agent.handler())
        except PermanentError as error:
            self.error = error

    async def _run_connection(self, connection: Connection) -> None:
        try:
            async with connection:
                await self.agent.iterate()
        except PermanentError as error:
            self.error = error
        self.error = self.error or connection.error

    async def _tell(self) -> None:
        world = self.world
        while not self.agent.is_stopping:
            await asyncio.sleep(world.pace(self.draw.every_in))
            world.tell()

    async def _wait_for_the_end(self) -> None:
        world, plan = self.world, self.draw
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert world.bridge is not None
        world.session = next(iter(world.bridge._sessions.values()), None)
        assert self.running is not None
        length = plan.length * (world.rng.random() if plan.early else 1.0)
        await asyncio.wait([self.running], timeout=length)
        if plan.early or self.running.done():
            return
        world.heal()
        await asyncio.wait([self.running], timeout=HEALTHY)
        if not self.running.done() and plan.single != "close new":
            await self._check_health()

    async def _check_health(self) -> None:
        """See that a session is open, and that a message comes through in each direction."""
        world, session = self.world, self.world.session
        if self._has_gaps():
            await self._until(lambda: session.phase == "open", 70.0)
        if session.phase != "open":
            world.violate(f"the session is {session.phase} after all was well for {HEALTHY:g} s")
            return
        heard, got, said = self._heard(), len(self.agent.got), self.agent.number
        await self._until(
            lambda: len(self.agent.got) > got and self._heard() > heard,
            60.0 + self.draw.pause * 200,
        )
        if not (len(self.agent.got) > got and self._heard() > heard):
            what = f"sent {self.agent.number - said}, heard {self._heard() - heard}"
            world.violate(f"no round trip: {what}, got {len(self.agent.got) - got}")

    def _has_gaps(self) -> bool:
        """Whether this far side makes gaps even in good health."""
        keeps = self.draw.options["renewal"] == "keep"
        lead = self.draw.options["refresh_buffer"]
        takes = self.draw.dial_latency + 2 * self.draw.source_takes + 6 * self.draw.latency
        late = lead < takes + self.draw.greeting_takes + 1.0
        return bool(self.draw.single) or keeps or late or self.draw.in_band != ""

    def _heard(self) -> int:
        return self.world.counts["heard"]

    async def _until(self, condition: Callable[[], bool], within: float) -> None:
        end = self.world.loop.time() + within
        while not condition() and self.world.loop.time() < end:
            assert self.running is not None
            if self.running.done():
                return
            await asyncio.sleep(0.25)

    async def _stop(self, bridge: Bridge) -> None:
        """End the session in the way that was drawn, unless it has ended."""
        running, agent = self.running, self.agent
        assert running is not None
        self.world.note("ending", self.draw.ending)
        agent.is_stopping = True
        if not running.done():
            match self.draw.ending:
                case "cancel":
                    self.was_cancelled = True
                    running.cancel()
                case "bridge":
                    await bridge.close(timeout=self.world.rng.choice((0.0, 1.0, 60.0)))
                case "drain" if agent.connection is not None:
                    await self._drain(agent.connection)
                case _ if agent.connection is not None:
                    await agent.connection.close()
                case _:
                    self.world.session.stop()
        took = self.world.loop.time()
        await asyncio.wait([running], timeout=120.0)
        if not running.done():
            self.world.violate("the session does not end")
            running.cancel()
            await asyncio.wait([running], timeout=10)
        self.world.note("ended", f"within {self.world.loop.time() - took:.3f} s, {self.error!r}")
        self._check_traces()
        await bridge.close()

    async def _drain(self, connection: Connection) -> None:
        try:
            await connection.drain(timeout=self.world.rng.choice((0.5, 5.0)))
        except (TimeoutError, BridgeError) as error:
            self.world.note("not drained", repr(error))

    def _check_traces(self) -> None:
        """See that the driver has left no task and no timer."""
        world = self.world
        agent = self.agent
        agent.is_over = True
        for task in asyncio.all_tasks(world.loop):
            name = task.get_name()
            if name.startswith("dromos-") and name != "dromos-token-flight" and not task.done():
                world.violate(f"the task {name} is left")
        for handle in world.loop.timers():
            owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            if not handle.cancelled() and type(owner).__module__.startswith("dromos._driver"):
                world.violate(f"a timer is left: {handle!r}")
        for link in world.links:
            if not link.is_over:
                world.violate(f"link {link.number} is left open")

    async def _finish(self, tasks: list[asyncio.Task[None]]) -> None:
        world = self.world
        for handle in world.handles:
            handle.cancel()
        world.handles.clear()
        world.heal()
        await asyncio.sleep(SETTLE)
        left = [*tasks, *self.agent.helpers]
        late = [task for task in left if not task.done() and task.get_name() != "tell"]
        if late:
            await asyncio.wait(late, timeout=30)
        late = [task for task in late if not task.done()]
        if late:
            world.violate(f"these wait for ever: {[task.get_name() for task in late]}")
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        here = asyncio.current_task()
        others = [task for task in asyncio.all_tasks(world.loop) if task is not here]
        if others:
            world.violate(f"tasks are left: {[task.get_name() for task in others]}")
        timers = [handle for handle in world.loop.timers() if not handle.cancelled()]
        if timers:
            world.violate(f"timers are left: {timers}")


class Verification:
    """What must hold when all is over."""

    def __init__(self, it: Play) -> None:
        self.play = it
        self.world = it.world
        self.agent = it.agent
        self.draw = it.draw

    def run(self) -> None:
        self.check_end()
        self.check_callbacks()
        self.check_received()
        self.check_numbers_in_order()
        self.check_sent()

    def check_end(self) -> None:
        """A session ends for good only for what somebody did to it."""
        error, excuses = self.play.error, self.world.excuses
        if error is None:
            return
        text = str(error)
        reasons = {
            "defect in dromos": False,
            "trying again would not help": excuses["P"] or excuses["same"],
            "a fresh token was refused": excuses["A"] >= 2,
            "no link was ever stable": excuses["L"] >= 3,
            "times in a row over": excuses["L"] >= 5,
            "there was never a token": excuses["token"] or excuses["same"],
            "no token": excuses["token"],
            "times over 300": excuses["token"] + excuses["same"] > 5,
            "had enough": excuses["P"],
            "consent has to be": excuses["P"],
        }
        allowed = [bool(why) for words, why in reasons.items() if words in text]
        if not any(allowed) or "defect" in text:
            self.world.violate(f"the session ended without a reason: {error!r}")

    def check_callbacks(self) -> None:
        agent = self.agent
        if agent.greetings != agent.farewells:
            self.world.violate(f"{agent.greetings} on_connect, {agent.farewells} on_disconnect")

    def check_received(self) -> None:
        """What arrived was delivered, or counted."""
        world, agent, counts = self.world, self.agent, self.world.counts
        came = sum(link.received for link in world.links)
        seen = len(agent.got) + counts["dropped"] + counts["duplicates"] + agent.answered
        # A request may have been given up in the moment of its answer.
        slack = len(world.fates.requested) - agent.answered if agent.answered is not None else 0
        if self.draw.as_connection and self.play.was_cancelled:
            return  # whoever iterated has left, and nobody counts what came after
        if not seen <= came <= seen + slack:
            world.violate(f"{came} messages came, and {seen} were delivered or counted")
        for link in world.links:
            if link.received > len(link.said):
                world.violate(f"link {link.number} brought more than was said on it")

    def check_numbers_in_order(self) -> None:
        if self.draw.fanout:
            self._check_fanout()
        else:
            self._check_each_link()

    def _check_each_link(self) -> None:
        said = {link.number: [m for m in link.said if m[0] != "a"] for link in self.world.links}
        got: dict[int, list[str]] = {}
        last = 0
        for message in self.agent.got:
            if message[0] == "a":
                continue
            number = int(message.partition(":")[0])
            if number < last:
                self.world.violate(f"{message} was delivered after messages of link {last}")
            last = max(last, number)
            got.setdefault(number, []).append(message)
        for number, messages in got.items():
            if messages != said[number][: len(messages)]:
                self.world.violate(f"link {number} brought {messages[-3:]}: others are missing")

    def _check_fanout(self) -> None:
        numbers = [int(m[2:]) for m in self.agent.got if m[0] == "n"]
        for before, after in pairwise(numbers):
            if after <= before:
                self.world.violate(f"n:{after} was delivered after n:{before}")
        if self.world.counts["dropped"] or self.play.was_cancelled:
            return
        came: set[str] = set()
        for link in self.world.links:
            came.update(m for m in link.said[: link.received] if m[0] == "n")
        missing = came - set(self.agent.got)
        if missing:
            self.world.violate(f"{sorted(missing)[:5]} arrived and were not delivered")

    # What the agent sent

    def check_sent(self) -> None:
        world, fates = self.world, self.world.fates
        arrived: Counter[int] = Counter()
        for link in world.links:
            numbers = [int(m.partition(":")[2]) for m in link.heard]
            arrived.update(numbers)
            self._check_order(link)
        for number in fates.refused:
            if arrived[number]:
                world.violate(f"{number} was refused, and arrived")
        known = set(fates.accepted) | fates.perhaps | fates.requested
        for number in arrived.keys() - known - fates.refused:
            world.violate(f"{number} arrived, and was never sent")
        resends = self.draw.outbox is not None and self.draw.outbox.resend_unknown
        for number, times in arrived.items():
            if times > 1 and not (resends and fates.resent[number] >= times - 1):
                world.violate(f"{number} arrived {times} times")
        if self.draw.outbox is not None:
            self._check_outbox(arrived)

    def _check_order(self, link: WatchedLink) -> None:
        outbox = self.draw.outbox
        if outbox is not None and outbox.resend_unknown:
            return
        kinds = "b" if outbox is not None else "bemgqr"
        if self.draw.as_connection:
            kinds = "b"  # those that wait for a link go when they are woken
        numbers = [int(m[2:]) for m in link.heard if m[0] in kinds]
        if numbers != sorted(numbers):
            self.world.violate(f"link {link.number} brought {numbers} out of order")

    def _check_outbox(self, arrived: Counter[int]) -> None:
        world, fates = self.world, self.world.fates
        error = self.play.error
        unsent, unknown = set(fates.unsent), set(fates.unknown)
        if isinstance(error, PermanentError):
            unsent |= set(_numbers(error.unsent))
            unknown |= set(_numbers(error.unknown))
        for number in fates.accepted:
            times = arrived[number]
            if number in unsent and (times or number in unknown):
                world.violate(f"{number} was reported unsent, and arrived {times} times")
            elif number not in unsent and number not in unknown and not times:
                world.violate(f"{number} is unaccounted for (resent {fates.resent[number]})")
            if fates.unsent[number] > 1 or fates.unknown[number] > 1:
                world.violate(f"{number} was reported twice")
        for number in (unsent | unknown) - set(fates.accepted) - fates.perhaps:
            world.violate(f"{number} was reported, and was not accepted")


def play(plan: Draw, *, world: type[World] = World, keep: bool = False) -> Outcome:
    """Run one schedule from beginning to end; `keep` the timeline even if all is well."""
    loop = VirtualLoop()
    it = Play(world(plan, loop))
    loop.set_exception_handler(lambda _, context: it.world.violate(f"the loop heard {context}"))
    try:
        loop.run_until_complete(it.run())
        loop.run_until_complete(loop.shutdown_asyncgens())
    except Exception as error:
        it.world.violate(f"{error!r}")
        loop.each_turn = None
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=60.0)) if left else None
    finally:
        loop.close()
    it.world.counts["turns"] = loop.turns
    lines = []
    if it.world.violations or keep:
        lines = [f"{at:12.6f}  {kind:<12} {what}" for at, kind, what in it.world.timeline]
    return Outcome(plan, it.world.violations, lines, it.world.counts, it.error)
