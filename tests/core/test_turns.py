"""Sessions that take turns: how far apart their attempts are, and how long each one waits."""

import heapq
from bisect import bisect_left
from itertools import cycle, pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dromos._core import commands as do
from dromos._core import events as heard
from dromos._core.commands import Authorize, Dial, LeaveLine, Part, StandInLine, TakeTurn
from dromos._core.events import DialFailed, LinkGreeted, LinkLost, LinkOpened, SuspendNoticed
from dromos._core.policy import Moment, Policy
from dromos._core.renewal import TIMER_TOLERANCE
from dromos._core.schedule import Lease, Need
from dromos._core.session import TURN_LASTS, Decision, decide, start
from dromos._core.states import Authorizing, Dialing, State, Stopped, Waiting
from dromos._core.turns import Turns
from dromos.errors import ConnectionClosed, HandshakeError, PermanentError, TokenError
from dromos.events import AttemptFailed, RetryScheduled
from dromos.model import RetryPolicy
from tests.core.play import Play
from tests.core.simulation import EXACT

BUSY = HandshakeError("busy", status=503)
NO_TOKEN = TokenError("busy", status=503)
DROPPED = ConnectionClosed(code=1006)
EVERY = st.sampled_from([0.001, 0.01, 0.5, 10.0])


# --- The arithmetic -------------------------------------------------------------------------------


@given(EVERY, st.lists(st.floats(min_value=0, max_value=1000), min_size=1, max_size=60))
def test_turns_are_evenly_spaced_and_nobody_waits_for_a_turn_that_is_free(
    every: float, due: list[float]
) -> None:
    turns = Turns(every=every)
    taken: list[float] = []
    for now in sorted(due):
        taken.append(turns.next(now))
        turns = turns.after(TakeTurn(taken[-1]))

    assert all(at >= now for at, now in zip(taken, sorted(due), strict=True))
    assert all(late - early >= every - EXACT for early, late in pairwise(taken))
    # Each waits for those before it, and for nothing else.
    assert all(
        at == now or abs(at - before - every) < EXACT
        for at, now, before in zip(taken[1:], sorted(due)[1:], taken, strict=False)
    )


# --- One session's story --------------------------------------------------------------------------


def test_the_first_of_a_group_begins_at_once() -> None:
    play = Play(turns=Turns(every=0.01))

    play.orders(TakeTurn(0.0), Authorize(1, Need.DIAL)).is_in(Authorizing)


def test_whoever_comes_later_waits_for_its_turn_and_then_asks_for_a_token() -> None:
    play = Play(turns=Turns(every=0.01, free=7.0))

    play.orders(StandInLine(7.0)).tells(RetryScheduled(delay=7.0, failures=0, error=None)).waits(
        7.0
    )
    assert 7.01 == play.turns.free if play.turns else None
    play.until_due().orders(LeaveLine(7.0), Authorize(1, Need.DIAL)).is_in(Authorizing)


def test_a_lost_link_waits_for_the_backoff_and_then_for_a_turn() -> None:
    play = Play(turns=Turns(every=0.01)).obtains(1).hears(LinkOpened(1)).hears(LinkGreeted(1))
    play.after(60).hears(LinkLost(1, DROPPED)).orders(Part(DROPPED)).waits(0.6)

    play.turns = Turns(every=0.01, free=100.0)
    play.until_due().orders(StandInLine(100.0)).is_in(Waiting).waits(100.0 - 60.6)
    play.until_due().obtains(1).orders(Dial(2))


def test_a_suspend_does_not_let_a_session_jump_the_line() -> None:
    play = Play(turns=Turns(every=0.01, free=50.0))

    play.asleep(3600).hears(SuspendNoticed()).orders().waits(50.0)


def test_a_session_may_be_stopped_while_it_waits_for_its_turn() -> None:
    play = Play(turns=Turns(every=0.01, free=50.0))

    play.hears(heard.StopRequested()).orders(LeaveLine(0.0), do.Finish(None)).is_in(Stopped)


def test_turns_that_nobody_waits_for_any_more_are_free() -> None:
    """A group that is stopped in a storm and started again begins at once."""
    turns = Turns(every=1.0).after(TakeTurn(0.0))
    for _ in range(100):
        turns = turns.after(StandInLine(turns.next(0.0)))
    assert 101.0 == turns.next(0.5)
    for _ in range(99):
        turns = turns.after(LeaveLine(0.5))
    assert 101.0 == turns.next(0.5)  # one still waits for the last of them

    assert 1.5 == turns.after(LeaveLine(0.5)).next(0.5)


def test_the_last_in_line_who_goes_in_turn_frees_no_turn_that_was_used() -> None:
    turns = Turns(every=1.0).after(TakeTurn(0.0)).after(StandInLine(1.0))

    assert 2.0 == turns.after(LeaveLine(1.0)).next(1.0)


def test_standing_in_line_is_not_held_against_max_elapsed() -> None:
    """Two minutes in line between two attempts are not two minutes of failures."""
    policy = Policy(retry=RetryPolicy(max_elapsed=30.0))
    play = Play(policy, turns=Turns(every=120.0)).obtains(1).hears(DialFailed(1, BUSY))

    play.until_due().is_in(Waiting).until_due().obtains(1).hears(DialFailed(2, BUSY))
    play.tells(AttemptFailed, RetryScheduled).is_in(Waiting)


def test_standing_in_line_is_not_held_against_a_source_of_tokens() -> None:
    """The first token has ten seconds; a minute in line is not the source's fault."""
    play = Play(turns=Turns(every=60.0, free=60.0)).until_due()

    play.gets_no_token(NO_TOKEN).tells(AttemptFailed, RetryScheduled).until_due()
    play.is_in(Waiting).until_due().gets_no_token(NO_TOKEN).is_in(Waiting).until_due()
    play.is_in(Waiting).until_due().gets_no_token(NO_TOKEN).is_in(Stopped)
    assert isinstance(play.state, Stopped)
    assert isinstance(play.state.error, PermanentError)
    assert "3 tries" in str(play.state.error)


# --- A crowd --------------------------------------------------------------------------------------


class Crowd:
    """Sessions that take turns, at a far side that refuses every dial; virtual time."""

    def __init__(self, size: int, every: float, seed: int, stalls: tuple[float, ...] = ()) -> None:
        self.policy = Policy()
        self.turns = Turns(every=every)
        self.roll = Random(seed).random
        self.now = 0.0
        self.attempts: list[float] = []
        self.waits: list[float] = []
        self._stalls = cycle(stalls or (0.0,))
        self._agenda: list[tuple[float, int]] = []
        self._states: list[State] = [self._obeyed(n, start(self._moment())) for n in range(size)]

    def play(self, seconds: float) -> "Crowd":
        while self._agenda and self._agenda[0][0] <= seconds:
            due, who = heapq.heappop(self._agenda)
            self.now = max(self.now, due) + next(self._stalls)
            self._states[who] = self._hear(who, heard.TimerFired())
        return self

    def _hear(self, who: int, event: heard.Event) -> State:
        return self._obeyed(who, decide(self.policy, self._states[who], event, self._moment()))

    def _obeyed(self, who: int, decision: Decision) -> State:
        state, commands = decision
        for command in commands:
            match command:
                case TakeTurn(at) | StandInLine(at):
                    self.waits.append(at - self.now)
                    self.turns = self.turns.after(command)
                case LeaveLine():
                    self.turns = self.turns.after(command)
                case Authorize(ticket):
                    self.attempts.append(self.now)
                    lease = Lease(generation=1)
                    event = heard.TokenObtained(ticket, lease)
                    state, _ = decide(self.policy, state, event, self._moment())
                    assert isinstance(state, Dialing)
                    failed = DialFailed(state.link, BUSY)
                    return self._obeyed(who, decide(self.policy, state, failed, self._moment()))
                case _:
                    pass
        assert isinstance(state, Waiting)
        heapq.heappush(self._agenda, (state.until, who))
        return state

    def _moment(self) -> Moment:
        turn = self.turns.next(self.now)
        return Moment(now=self.now, wall=self.now, roll=self.roll(), link=1, ticket=1, turn=turn)


@given(st.integers(min_value=1, max_value=40), EVERY, st.integers(min_value=0))
def test_a_crowd_never_attempts_faster_than_its_rate_and_nobody_starves(
    size: int, every: float, seed: int
) -> None:
    crowd = Crowd(size, every, seed).play(120.0)

    # A timer may come early by its tolerance.
    apart = [late - early for early, late in pairwise(crowd.attempts)]
    assert all(gap >= every - TIMER_TOLERANCE - EXACT for gap in apart)
    assert max(crowd.waits) <= size * every + EXACT
    assert len(crowd.attempts) >= min(size, 120.0 / every)


STALLS = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.3, 2.0, 20.0]), min_size=1, max_size=9)


@given(
    st.integers(min_value=1, max_value=60),
    st.sampled_from([0.02, 0.1]),
    st.integers(min_value=0),
    STALLS.map(tuple),
)
def test_a_loop_that_stalls_makes_no_storm_of_the_turns_that_were_missed(
    size: int, every: float, seed: int, stalls: tuple[float, ...]
) -> None:
    crowd = Crowd(size, every, seed, stalls).play(60.0)

    # What was due in a second, and what a second before it that still counts.
    most = (1 + TURN_LASTS) / every + 2
    for n, at in enumerate(crowd.attempts):
        assert bisect_left(crowd.attempts, at + 1) - n <= most


def test_whoever_has_missed_the_turn_stands_in_line_again() -> None:
    play = Play(turns=Turns(every=0.01, free=5.0))
    play.turns = Turns(every=0.01, free=100.0)

    play.after(6.01).hears(heard.TimerFired())
    play.orders(LeaveLine(6.01), StandInLine(100.0)).is_in(Waiting)
    play.after(94).hears(heard.TimerFired()).orders(LeaveLine(100.01), Authorize(1, Need.DIAL))
