"""A session, and everything outside of it that can still surprise it.

The exploration plays this world through every interleaving.  Time is reduced to
what a decision can see of it: each event is heard after one of a few waits, and
all times are kept relative to now.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from math import isfinite
from typing import Any, NamedTuple

from dromos._core import commands as do
from dromos._core import events as heard
from dromos._core.policy import Moment, Past, Policy
from dromos._core.schedule import Lease, Need
from dromos._core.session import decide, links, start, wake_at
from dromos._core.states import (
    Asking,
    Authorizing,
    Dialing,
    Greeting,
    Open,
    State,
    Stopped,
    Succeeding,
    Waiting,
)
from dromos.errors import (
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    PermanentError,
    TokenError,
)

LIFETIME = 100.0


@dataclass(frozen=True, kw_only=True)
class Scope:
    """How much of the world is played: what can fail, and how long news may take.

    Attributes:
        token_errors: Why a question to the token source may fail.
        dial_errors: Why a dial may fail.
        link_errors: Why a link may end.
        waits: Seconds before an event is heard: none, enough for stability, for expiry.
        remembers: Whether worlds that differ only in what is remembered are different.
        departs: Whether the far side may say that it goes away.
        takes_turns: Whether other sessions are always ahead of this one.
    """

    token_errors: tuple[Exception, ...]
    dial_errors: tuple[Exception, ...]
    link_errors: tuple[Exception, ...]
    waits: tuple[float, ...]
    remembers: bool
    departs: bool
    takes_turns: bool = False


BUSY = TokenError("busy", status=503)
CONSENT = InteractionRequired("consent")
UNAVAILABLE = HandshakeError("busy", status=503)
GONE = HandshakeError("gone", status=410)
DROPPED = ConnectionClosed(code=1006)
UNSUPPORTED = ConnectionClosed(code=1003)
GOING_AWAY = ConnectionClosed(code=1001)

WIDE = Scope(
    token_errors=(BUSY, CONSENT),
    dial_errors=(
        UNAVAILABLE,
        GONE,
        HandshakeError("who?", status=401),
        HandshakeError("taken", status=409),
    ),
    link_errors=(DROPPED, UNSUPPORTED, ConnectionClosed(code=4401)),
    waits=(0.0, 20.0, 200.0),
    remembers=True,
    departs=False,
)
"""One error for each way that a decision can turn, and time that passes."""

DEPARTING = Scope(
    token_errors=(BUSY,),
    dial_errors=(UNAVAILABLE, HandshakeError("who?", status=401)),
    link_errors=(DROPPED,),
    waits=(0.0, 20.0),
    remembers=True,
    departs=True,
)
"""A far side that goes away, and what may come in between."""

DEEP = Scope(
    token_errors=(BUSY, CONSENT),
    dial_errors=(UNAVAILABLE, GONE),
    link_errors=(DROPPED, UNSUPPORTED),
    waits=(0.0,),
    remembers=False,
    departs=True,
)
"""What ends a session and what does not, and many events in flight."""

QUEUING = replace(DEEP, takes_turns=True)
"""The same in a group that others are in as well."""

GREETING_ERROR = RuntimeError("the handler raised")
PROOF_ERROR = ConnectionClosed(code=1006, by_peer=False)
HANDLER_ERROR = PermanentError("the handler had enough")

_TIMES = {
    "until",
    "opened",
    "open_since",
    "started",
    "first_failure",
    "limited_since",
    "bounded_since",
    "asked",
    "leaving",
    "expires_at",
    "expires_wall",
}


def shift(value: Any, by: float) -> Any:
    """Return a state with all its times moved, which is what the passing of time is."""
    if by == 0 or value is None:
        return value
    changes: dict[str, Any] = {}
    for name in _fields(type(value)):
        inner = getattr(value, name)
        if name in _TIMES and inner is not None:
            changes[name] = inner - by
        elif type(inner) in _FEW:
            changes[name] = _shift_one_of_few(inner, by)
        elif _fields(type(inner)):
            changes[name] = shift(inner, by)
    return replace(value, **changes) if changes else value


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


@cache
def _shift_one_of_few(value: Lease | Past, by: float) -> Any:
    # A hundred thousand worlds have a few hundred of these between them.
    return shift(value, by)


_FEW = {Lease, Past}


class World(NamedTuple):
    """Everything that matters, as one value.

    Attributes:
        state: The session's.
        asked: The ticket and the need of a question that was not answered yet.
        dialing: Links that are being dialled.
        open: Links that are open.
        greeting: Links whose `on_connect` is running.
        proving: Links that were pinged.
        offering: Links on which the handler renews a token.
        queue: What happened and was not heard yet.
        finished: How often the session has ended.
        in_line: Whether it waits for a turn of its own.
        stopped: Whether it was asked to.
        generation: The newest token's number.
        connected: Whether `on_connect` has had no `on_disconnect` yet.
        outlet: The link that messages are sent on.
        announced: Links whose far side has said that it goes away.
        turn: Seconds until it is this session's turn to make an attempt; None needs no turn.
    """

    state: State
    asked: tuple[int, Need, int | None] | None = None
    dialing: frozenset[int] = frozenset()
    open: frozenset[int] = frozenset()
    greeting: frozenset[int] = frozenset()
    proving: frozenset[int] = frozenset()
    offering: frozenset[int] = frozenset()
    queue: tuple[heard.Event, ...] = ()
    finished: int = 0
    in_line: bool = False
    stopped: bool = False
    generation: int = 0
    connected: bool = False
    outlet: int | None = None
    announced: frozenset[int] = frozenset()
    turn: float | None = None

    def possible(self, policy: Policy, scope: Scope) -> Iterator[heard.Event]:
        """Everything that can happen now."""
        if self.asked is not None:
            ticket, need, generation = self.asked
            yield heard.TokenObtained(ticket, self.next_lease(LIFETIME))
            if need is Need.RENEW and generation is not None:
                # The source has nothing newer.
                yield heard.TokenObtained(ticket, self.lease(generation, LIFETIME))
            for error in scope.token_errors:
                yield heard.TokenFailed(ticket, error)
        for link in self.dialing:
            yield heard.LinkOpened(link)
            for error in scope.dial_errors:
                yield heard.DialFailed(link, error)
        for link in self.open:
            for error in scope.link_errors:
                yield heard.LinkLost(link, error)
            if scope.departs and link not in self.announced:
                yield heard.DepartureAnnounced(link, GOING_AWAY)
        for link in self.greeting:
            yield heard.LinkGreeted(link)
            yield heard.GreetingFailed(link, GREETING_ERROR)
        for link in self.proving:
            yield heard.LinkProven(link)
            yield heard.ProofFailed(link, PROOF_ERROR)
        for link in self.offering:
            yield heard.TokenAccepted(link)
            yield heard.TokenDeclined(link)
        if wake_at(self.state, policy, self.moment()) is not None:
            yield heard.TimerFired()
        if not self.stopped:
            yield heard.StopRequested()
            yield heard.HandlerEnded(HANDLER_ERROR)
            yield heard.SuspendNoticed()
            yield heard.RenewalRequested()

    def lease(self, generation: int, life: float) -> Lease:
        return Lease(generation=generation, expires_at=life, expires_wall=life, lifetime=life)

    def next_lease(self, life: float) -> Lease:
        return self.lease(self.generation + 1, life)

    def happens(self, event: heard.Event) -> "World":
        """The event has happened; the session has not heard of it."""
        world = self._replace(queue=(*self.queue, event))
        match event:
            case heard.TokenObtained(_, lease):
                newest = max(world.generation, lease.generation)
                return world._replace(asked=None, generation=newest)
            case heard.TokenFailed():
                return world._replace(asked=None)
            case heard.LinkOpened(link):
                return world._replace(dialing=world.dialing - {link}, open=world.open | {link})
            case heard.DialFailed(link):
                return world._replace(dialing=world.dialing - {link})
            case heard.LinkLost(link):
                return world.without(link)
            case heard.DepartureAnnounced(link):
                return world._replace(announced=world.announced | {link})
            case heard.LinkGreeted(link) | heard.GreetingFailed(link):
                return world._replace(greeting=world.greeting - {link})
            case heard.LinkProven(link) | heard.ProofFailed(link):
                return world._replace(proving=world.proving - {link})
            case heard.TokenAccepted(link) | heard.TokenDeclined(link):
                return world._replace(offering=world.offering - {link})
            case heard.StopRequested() | heard.HandlerEnded():
                return world._replace(stopped=True)
            case _:
                return world

    def without(self, link: int) -> "World":
        """The link is gone, and what its callbacks would still say is not heard."""
        return self._replace(
            dialing=self.dialing - {link},
            open=self.open - {link},
            greeting=self.greeting - {link},
            proving=self.proving - {link},
            offering=self.offering - {link},
            announced=self.announced - {link},
        )

    def moment(self, *, roll: float = 0.5) -> Moment:
        used = {*self.dialing, *self.open, *self.greeting, *links(self.state)}
        used |= {event.link for event in self.queue if hasattr(event, "link")}
        tickets = {event.ticket for event in self.queue if hasattr(event, "ticket")}
        if self.asked is not None:
            tickets.add(self.asked[0])
        waiting = getattr(self.state, "step", self.state)
        if isinstance(waiting, Authorizing | Asking):
            tickets.add(waiting.ticket)
        return Moment(
            now=0.0,
            wall=0.0,
            roll=roll,
            link=next(number for number in range(1, 12) if number not in used),
            ticket=next(number for number in range(1, 12) if number not in tickets),
            turn=self.turn,
        )

    def hears(self, policy: Policy, waited: float) -> tuple["World", tuple[do.Command, ...]]:
        """The session hears the oldest event, after some time has passed."""
        event, *rest = self.queue
        world = self._replace(queue=tuple(rest))
        if event == heard.TimerFired():
            due = wake_at(world.state, policy, world.moment())
            waited = max(waited, due) if due is not None else waited
        before = shift(world.state, waited)
        fresh = world._replace(queue=self.queue).moment()
        state, commands = decide(policy, before, event, fresh)
        world = world._replace(state=state)
        for command in commands:
            world = world.obeys(command)
        return world, commands

    def obeys(self, command: do.Command) -> "World":
        """The driver performs a command."""
        match command:
            case do.Authorize(ticket, need, generation):
                # The driver drops the question before.
                return self._replace(asked=(ticket, need, generation))
            case do.Dial(link):
                assert not isinstance(self.state, Stopped), "dials after the end"
                return self._replace(dialing=self.dialing | {link})
            case do.Adopt(link):
                return self._replace(outlet=link)
            case do.Greet(link, handover):
                if not handover:
                    assert not self.connected, "on_connect twice without on_disconnect"
                world = self._replace(connected=True)
                return world._replace(greeting=world.greeting | (self.open & {link}))
            case do.Prove(link):
                return self._replace(proving=self.proving | (self.open & {link}))
            case do.Reauthenticate(link):
                return self._replace(offering=self.offering | (self.open & {link}))
            case do.Release(link) | do.Drop(link):
                return self.without(link)
            case do.Answer(link) | do.Abort(link):
                if link not in self.open:
                    return self
                answered = isinstance(command, do.Answer)
                lost = heard.LinkLost(link, GOING_AWAY if answered else PROOF_ERROR)
                return self.without(link)._replace(queue=(*self.queue, lost))
            case do.Part():
                assert self.connected, "on_disconnect without on_connect"
                return self._replace(connected=False)
            case do.Finish():
                return self._replace(finished=self.finished + 1, asked=None)
            case do.TakeTurn(at) | do.StandInLine(at):
                assert at == self.turn, "takes a turn that is somebody else's"
                return self._replace(in_line=isinstance(command, do.StandInLine))
            case do.LeaveLine():
                assert self.in_line, "leaves a line that it does not stand in"
                return self._replace(in_line=False)
            case do.Announce():
                return self

    def check(self) -> None:
        """What must hold, always."""
        ended = isinstance(self.state, Stopped)
        assert self.finished == int(ended), "finishes exactly once"
        assert self.in_line == getattr(self.state, "has_turn", False), "its place in line"
        assert len(self.dialing) <= 1, "two dials at once"
        assert len(self.open) <= 3, "three links at once"
        owned = set(links(self.state))
        gone = {e.link for e in self.queue if isinstance(e, heard.LinkLost | heard.DialFailed)}
        assert owned - gone <= self.dialing | self.open, "owns a link that is not there"
        fresh = {e.link for e in self.queue if isinstance(e, heard.LinkOpened)}
        assert (self.dialing | self.open) - fresh <= owned, "orphan link"
        if ended:
            assert not self.dialing, "a dial goes on after the end"
            assert self.open <= fresh, "a link stays open after the end"
            assert not self.connected, "on_disconnect was not called"
            return
        if isinstance(self.state, Waiting | Authorizing | Dialing):
            assert not self.connected, "on_disconnect was not called"
        if isinstance(self.state, Greeting | Open):
            assert self.connected, "open, and on_connect was not called"
            known = self.state.link in self.open or self.state.link in gone
            assert known, "serves a link that is not open"
            if not self.queue:
                assert self.outlet == self.state.link, "sends go elsewhere"

    def is_stuck(self, policy: Policy) -> bool:
        """Whether nothing will ever happen again, without a stop."""
        if isinstance(self.state, Stopped) or self.queue or self.asked or self.dialing:
            return False
        if self.open or self.greeting or self.proving or self.offering:
            return False
        return wake_at(self.state, policy, self.moment()) is None


def _leaving(state: Open) -> str:
    if state.leaving is None:
        return "no"
    return "soon" if state.leaving <= 0 else "yes" if isfinite(state.leaving) else "answered"


def first_world(scope: Scope = WIDE) -> World:
    """The world when a session starts."""
    turn = 5.0 if scope.takes_turns else None
    world = World(state=Authorizing(ticket=0, past=Past()), turn=turn)
    state, commands = start(replace(world.moment(), ticket=1))
    world = world._replace(state=state)
    for command in commands:
        world = world.obeys(command)
    return world


def key(world: World, scope: Scope) -> tuple[Any, ...]:
    """A world up to the names of links, tickets and tokens, and the values of clocks."""
    names: dict[int, int] = {}
    tickets: dict[int, int] = {}
    tokens: dict[int, int] = {}

    def name(link: int) -> int:
        return names.setdefault(link, len(names))

    def seen(ticket: int) -> int:
        return tickets.setdefault(ticket, len(tickets))

    def token(generation: int) -> int:
        return tokens.setdefault(generation, len(tokens))

    def lease(held: Lease) -> tuple[Any, ...]:
        if not scope.remembers:
            return ()
        return token(held.generation), (held.expires_at or 0) > 0

    def state_key(state: State) -> tuple[Any, ...]:
        parts: list[Any] = [type(state).__name__]
        match state:
            case Waiting(refused=refused):
                parts += [refused is not None, state.has_turn]
            case Authorizing(ticket=ticket, refused=refused):
                parts += [seen(ticket), refused is not None]
            case Dialing(link=link, lease=held, lost=lost, refused=refused):
                parts += [name(link), lease(held), lost is not None, refused is not None]
            case Greeting(link=link, lease=held):
                parts += [name(link), lease(held), scope.remembers and state.open_since < -10]
            case Open(link=link, lease=held, newest=newest, step=step):
                parts += [name(link), lease(held), lease(newest)]
                parts += [scope.remembers and state.open_since < -10]
                parts += [type(step).__name__, min(state.denied, 2), state.single]
                parts += [getattr(step, "refused", None) is not None]
                parts += [getattr(step, "has_token", False), _leaving(state)]
                if isinstance(step, Succeeding):
                    parts += [name(step.link), lease(step.lease), step.phase]
                if hasattr(step, "ticket"):
                    parts += [seen(step.ticket)]
            case Stopped(error=error):
                parts += [error is None]
        past: Past | None = getattr(state, "past", None)
        if past is not None and scope.remembers:
            fresh = None if past.fresh is None else token(past.fresh)
            parts += [past.had_token, past.rejected, fresh, min(past.limited, 3)]
        return tuple(parts)

    def event_key(event: heard.Event) -> tuple[Any, ...]:
        parts: list[Any] = [type(event).__name__]
        if hasattr(event, "link"):
            parts.append(name(event.link))
        if hasattr(event, "ticket"):
            parts.append(seen(event.ticket))
        if hasattr(event, "lease"):
            parts.append(lease(event.lease))
        if hasattr(event, "error"):
            parts.append(id(event.error))
        return tuple(parts)

    asked = None
    if world.asked is not None:
        ticket, need, generation = world.asked
        known = generation is not None and scope.remembers
        asked = seen(ticket), need, token(generation) if known else None
    return (
        state_key(world.state),
        asked,
        tuple(sorted(map(name, world.dialing))),
        tuple(sorted(map(name, world.open))),
        tuple(sorted(map(name, world.greeting))),
        tuple(sorted(map(name, world.proving))),
        tuple(sorted(map(name, world.offering))),
        tuple(sorted(map(name, world.announced))),
        None if world.outlet is None else names.get(world.outlet),
        tuple(map(event_key, world.queue)),
        world.finished,
        world.stopped,
        world.connected,
    )
