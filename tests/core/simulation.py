"""A session in virtual time, driven by a script of what the world does to it.

The exploration (`world.py`) plays every order of events and knows little of
durations; here it is the other way round.  A script is a handful of lists that
are read in circles, so that Hypothesis can shrink it to something readable.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any

from dromos._core import commands as do
from dromos._core import events as heard
from dromos._core import schedule
from dromos._core.policy import Moment, Policy
from dromos._core.schedule import LONGEST_SLEEP, Lease, Need
from dromos._core.session import decide, start, wake_at
from dromos._core.states import Dialing, Greeting, Open, State, Stopped
from dromos.errors import ConnectionClosed

EXACT = 1e-6
"""Seconds by which sums of floats may be wrong."""

WALL = 1_795_402_541.0


@dataclass(frozen=True, kw_only=True)
class Life:
    """A token's: what is left when it is issued, and whether we are told the lifetime."""

    left: float | None
    told: float | None = None


@dataclass(frozen=True, kw_only=True)
class After:
    """Something that takes time; `error` None is success."""

    seconds: float
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """Somebody interferes, some seconds after the step before.

    `wall` moves the wall clock alone, which is what a suspend looks like as well.
    """

    after: float
    event: heard.Event | None = None
    wall: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Script:
    """What the world does, each list read in circles.

    Attributes:
        lives: Of the tokens, as they are issued.
        sources: How each question to the token source is answered.
        keeps: Whether an answer to `RENEW` is the token that we have.
        dials: How each dial ends.
        greetings: How each `on_connect` ends.
        proofs: How each ping is answered.
        links: After how many seconds, and how, each link ends; None: with its token.
        offers: Whether the handler's in-band renewal succeeds.
        rolls: Chance.
        late: Seconds by which timers are late.
        steps: What else happens, read once.
    """

    lives: tuple[Life, ...] = (Life(left=3600.0),)
    sources: tuple[After, ...] = (After(seconds=0.0),)
    keeps: tuple[bool, ...] = (False,)
    dials: tuple[After, ...] = (After(seconds=0.0),)
    greetings: tuple[After, ...] = (After(seconds=0.0),)
    proofs: tuple[After, ...] = (After(seconds=0.0),)
    links: tuple[After | None, ...] = (After(seconds=1e9, error=ConnectionClosed(code=1006)),)
    offers: tuple[bool, ...] = (True,)
    rolls: tuple[float, ...] = (0.5,)
    late: tuple[float, ...] = (0.0,)
    steps: tuple[Step, ...] = ()


@dataclass
class Deed:
    """One decision: what was heard when, what came of it."""

    at: float
    wall: float
    before: State
    event: heard.Event
    moment: Moment
    after: State
    commands: tuple[do.Command, ...]


@dataclass
class Simulation:
    """A session and its world; `run` plays the script."""

    policy: Policy
    script: Script
    now: float = 1000.0
    wall: float = WALL
    state: State = field(init=False)
    deeds: list[Deed] = field(default_factory=list)
    open: dict[int, Lease] = field(default_factory=dict)
    opened_at: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._order = count()
        self._links = count(1)
        self._tickets = count(1)
        self._agenda: list[tuple[float, int, Any]] = []
        self._held: Lease | None = None
        self._generations = count(1)
        self._question = 0
        self._dialing: dict[int, Lease] = {}
        self._lost: dict[int, float] = {}
        self.rescript(self.script)
        at = self.now
        for step in self.script.steps:
            at += step.after
            self._plan(at, step)
        self.state, commands = start(self._moment())
        self._obey(commands)

    def rescript(self, script: Script) -> None:
        """Go on with another script; its steps are not read."""
        self._lives: Iterator[Life] = cycle(script.lives)
        self._sources: Iterator[After] = cycle(script.sources)
        self._keeps: Iterator[bool] = cycle(script.keeps)
        self._dials: Iterator[After] = cycle(script.dials)
        self._greetings: Iterator[After] = cycle(script.greetings)
        self._proofs: Iterator[After] = cycle(script.proofs)
        self._lengths: Iterator[After | None] = cycle(script.links)
        self._offers: Iterator[bool] = cycle(script.offers)
        self._rolls: Iterator[float] = cycle(script.rolls)
        self._late: Iterator[float] = cycle(script.late)

    def run(self, *, seconds: float, decisions: int = 300) -> "Simulation":
        """Play on for this long, or for so many decisions, or to the end."""
        until, most = self.now + seconds, len(self.deeds) + decisions
        while len(self.deeds) < most and self.now < until:
            if isinstance(self.state, Stopped) and not self._agenda:
                break
            self._advance(until)
        return self

    def _advance(self, until: float) -> None:
        """Let the next thing happen, or some time pass."""
        wake = wake_at(self.state, self.policy, self._peek())
        due = None if wake is None else max(self.now, wake)
        nearest = min(until, self.now + LONGEST_SLEEP)
        if self._agenda and self._agenda[0][0] <= min(nearest, due or nearest):
            at, _, what = heapq.heappop(self._agenda)
            self.now, self.wall = at, self.wall + at - self.now
            self._happen(what)
        elif due is not None and due <= nearest:
            due += next(self._late)
            self.now, self.wall = due, self.wall + due - self.now
            self._hear(heard.TimerFired())
        else:
            self.now, self.wall = nearest, self.wall + nearest - self.now

    def _happen(self, what: Any) -> None:
        match what:
            case Step(event=event, wall=wall):
                self.wall += wall
                if wall:
                    # The driver compares the clocks whenever it looks.
                    self._plan(self.now + LONGEST_SLEEP, heard.SuspendNoticed())
                if event is not None:
                    self._hear(event)
            case heard.TokenObtained(ticket) | heard.TokenFailed(ticket):
                if ticket == self._question:
                    self._question = 0
                    self._hear(what)
            case heard.LinkOpened(link):
                if link in self._dialing:
                    self.open[link] = self._dialing.pop(link)
                    self.opened_at[link] = self.now
                    self._plan_end(link)
                    self._hear(what)
            case heard.DialFailed(link):
                if self._dialing.pop(link, None) is not None:
                    self._hear(what)
            case heard.LinkLost(link):
                if self.open.pop(link, None) is not None:
                    self._hear(what)
            case heard.SuspendNoticed():
                self._hear(what)
            case _:
                if what.link in self.open:
                    self._hear(what)

    def _hear(self, event: heard.Event) -> None:
        before, moment = self.state, self._moment()
        self.state, commands = decide(self.policy, before, event, moment)
        self.deeds.append(
            Deed(
                at=self.now,
                wall=self.wall,
                before=before,
                event=event,
                moment=moment,
                after=self.state,
                commands=commands,
            )
        )
        self._obey(commands)

    def _obey(self, commands: tuple[do.Command, ...]) -> None:
        for command in commands:
            match command:
                case do.Authorize(ticket, need, _):
                    self._question = ticket
                    answer = next(self._sources)
                    self._plan(self.now + answer.seconds, self._answer(ticket, need, answer))
                case do.Dial(link):
                    self._dialing[link] = _newest(self.state)
                    self._plan_reply(next(self._dials), heard.LinkOpened, heard.DialFailed, link)
                case do.Greet(link):
                    greeting = next(self._greetings)
                    self._plan_reply(greeting, heard.LinkGreeted, heard.GreetingFailed, link)
                case do.Prove(link):
                    self._plan_reply(next(self._proofs), heard.LinkProven, heard.ProofFailed, link)
                case do.Reauthenticate(link):
                    said = heard.TokenAccepted if next(self._offers) else heard.TokenDeclined
                    self._plan(self.now, said(link))
                case do.Release(link) | do.Drop(link):
                    self.open.pop(link, None)
                    self._dialing.pop(link, None)
                case do.Abort(link):
                    error = ConnectionClosed(code=1006, by_peer=False)
                    self._plan(self.now, heard.LinkLost(link, error))
                case _:
                    pass

    def _answer(self, ticket: int, need: Need, answer: After) -> heard.Event:
        if answer.error is not None:
            return heard.TokenFailed(ticket, answer.error)
        if self._held is None or need is not Need.RENEW or not next(self._keeps):
            life = next(self._lives)
            self._held = schedule.lease(
                generation=next(self._generations),
                expires_wall=None if life.left is None else self.wall + life.left,
                lifetime=life.told,
                now=self.now,
                wall=self.wall,
            )
        return heard.TokenObtained(ticket, self._held)

    def _plan_reply(self, reply: After, good: Any, bad: Any, link: int) -> None:
        event = good(link) if reply.error is None else bad(link, reply.error)
        self._plan(self.now + reply.seconds, event)

    def _plan_end(self, link: int) -> None:
        end = next(self._lengths)
        if end is None:
            left = schedule.remaining(self.open[link], now=self.now, wall=self.wall)
            end = After(seconds=max(0.0, min(left, 1e9)), error=ConnectionClosed(code=4401))
        assert end.error is not None
        self._plan(self.now + end.seconds, heard.LinkLost(link, end.error))

    def _plan(self, at: float, what: Any) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), what))

    def _peek(self) -> Moment:
        return Moment(now=self.now, wall=self.wall, roll=0.0, link=0, ticket=0)

    def _moment(self) -> Moment:
        return Moment(
            now=self.now,
            wall=self.wall,
            roll=next(self._rolls),
            link=next(self._links),
            ticket=next(self._tickets),
        )

    @property
    def is_stuck(self) -> bool:
        """Whether nothing will ever happen again although the session has not ended."""
        if isinstance(self.state, Stopped) or self.open or self._agenda:
            return False
        return wake_at(self.state, self.policy, self._peek()) is None

    def commands(self, kind: type[Any]) -> Iterator[tuple[Deed, Any]]:
        """The commands of one kind, each with the decision that gave it."""
        for deed in self.deeds:
            for command in deed.commands:
                if isinstance(command, kind):
                    yield deed, command


def _newest(state: State) -> Lease:
    match state:
        case Dialing(lease=lease) | Greeting(lease=lease) | Open(newest=lease):
            return lease
        case _:
            raise AssertionError(f"a dial without a token: {state}")
