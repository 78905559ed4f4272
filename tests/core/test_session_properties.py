"""What holds for every token, policy and world: durations, counts and ends.

The exploration proves the order of things and knows no durations.  Here a
script of waits, lifetimes, failures and clock steps is played in virtual time.
"""

from collections import Counter

from hypothesis import event, given
from hypothesis import strategies as st

from dromos._core import commands as do
from dromos._core import events as heard
from dromos._core.policy import Policy
from dromos._core.renewal import TIMER_TOLERANCE
from dromos._core.schedule import Need, floor, is_expired
from dromos._core.session import decide
from dromos._core.states import Doomed, Greeting, Open, Postponed, Stopped, Waiting
from dromos.errors import (
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    PermanentError,
    TokenError,
)
from dromos.model import RetryPolicy, in_seconds
from tests.core.simulation import EXACT, After, Deed, Life, Script, Simulation, Step

LEAST = 0.2 - TIMER_TOLERANCE - EXACT
"""Seconds; a timer may come a little early."""

HOUR, DAY, DECADE = 3600.0, 86400.0, 3.2e8

LEFT = [0.0, -1.0, 0.3, 1.0, 2.0, 5.0, 60.0, 300.0, HOUR, DECADE]
LIVES = st.builds(
    Life, left=st.sampled_from([*LEFT, None]), told=st.sampled_from([None, 1.0, 60.0, HOUR])
)
SOON = st.sampled_from([0.0, 0.0, 0.05, 1.0, 14.0])

TRANSIENT_TOKEN = [TokenError("busy", status=503), OSError("no route"), TimeoutError()]
WAITING_TOKEN = [TokenError("slow down", status=429, retry_after=s) for s in (7.0, 1e6)]
OTHER_TOKEN = [TokenError("broken", status=200, malformed=True), InteractionRequired("consent")]

TRANSIENT_DIAL = [HandshakeError("busy", status=503), OSError("refused")]
WAITING_DIAL = [HandshakeError("slow down", status=429, retry_after=s) for s in (0.0, 30.0, 1e6)]
OTHER_DIAL = [HandshakeError("no", status=status) for status in (401, 403, 404, 409, 410)]

TRANSIENT_END = [ConnectionClosed(code=code) for code in (1000, 1001, 1006, 1012, 1013, 4999)]
OTHER_END = [
    ConnectionClosed(code=4401),
    ConnectionClosed(code=1008, reason="token expired"),
    ConnectionClosed(code=1002),
    ConnectionClosed(code=1003),
]


def outcomes(*errors: Exception) -> st.SearchStrategy[After]:
    """Success or one of these; success is what a failing example shrinks to."""
    return st.builds(After, seconds=SOON, error=st.sampled_from([None, None, *errors]))


def ends(*errors: Exception) -> st.SearchStrategy[After | None]:
    lengths = st.sampled_from([0.0, 0.05, 0.9, 5.0, 9.99, 10.01, 30.0, HOUR, 1e9])
    return st.none() | st.builds(After, seconds=lengths, error=st.sampled_from(errors))


def several(one: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(one, min_size=1, max_size=4).map(tuple)


STEPS = st.lists(
    st.builds(
        Step,
        after=st.sampled_from([0.0, 0.01, 1.0, 45.0, 700.0]),
        event=st.sampled_from([None, heard.RenewalRequested(), heard.SuspendNoticed()]),
        wall=st.sampled_from([0.0, HOUR, -HOUR, DAY, -DAY]),
    ),
    max_size=6,
).map(tuple)

ROLLS = several(st.floats(min_value=0, max_value=1, exclude_max=True))

CALM_WORLD = {
    "lives": several(LIVES),
    "sources": several(outcomes(*TRANSIENT_TOKEN, *WAITING_TOKEN)),
    "keeps": several(st.booleans()),
    "dials": several(outcomes(*TRANSIENT_DIAL, *WAITING_DIAL)),
    "greetings": several(outcomes(ValueError("the handler raised"))),
    "proofs": several(outcomes(ConnectionClosed(code=1006, by_peer=False))),
    "links": several(ends(*TRANSIENT_END)),
    "offers": several(st.booleans()),
    "rolls": ROLLS,
    "late": several(st.sampled_from([0.0, 0.0, -0.0005, 2.0])),
    "steps": STEPS,
}
WEATHER = st.builds(Script, **CALM_WORLD)
"""Nothing in it is anybody's fault."""

SCRIPTS = st.builds(
    Script,
    **{
        **CALM_WORLD,
        "sources": several(outcomes(*TRANSIENT_TOKEN, *WAITING_TOKEN, *OTHER_TOKEN)),
        "dials": several(outcomes(*TRANSIENT_DIAL, *WAITING_DIAL, *OTHER_DIAL)),
        "links": several(ends(*TRANSIENT_END, *OTHER_END)),
    },
)
"""All that can happen."""

BACKOFFS = st.builds(
    RetryPolicy,
    min_backoff=st.sampled_from([0.0, 0.01, 1.0]),
    max_backoff=st.sampled_from([1.0, 60.0]),
    jitter=st.sampled_from(["full", 0.0, 0.5]),
    stable_after=st.sampled_from([0.0, 10.0]),
)
OPTIONS = {
    "retry": BACKOFFS,
    "refresh_buffer": st.sampled_from([0.0, 1.0, 30.0, 300.0, DAY]),
    "renewal": st.sampled_from(["handover", "keep"]),
    "in_band": st.booleans(),
    "max_link_age": st.sampled_from([None, 0.001, 1.0, 60.0]),
}
POLICIES = st.builds(Policy, **OPTIONS)
PATIENT = st.builds(Policy, **OPTIONS, patient=st.just(True))


def play(policy: Policy, script: Script) -> Simulation:
    """Play twenty minutes, and tell Hypothesis which states they led through."""
    simulation = Simulation(policy, script).run(seconds=1200)
    for name in {_name(deed) for deed in simulation.deeds}:
        event(name)
    return simulation


def _name(deed: Deed) -> str:
    state = deed.after
    step = f".{type(state.step).__name__}" if isinstance(state, Open) else ""
    return type(state).__name__ + step


@given(POLICIES, SCRIPTS)
def test_two_attempts_are_never_closer_than_the_floor(policy: Policy, script: Script) -> None:
    """Whatever the token's life, the world and the policy; by request alone they may be."""
    before = None
    requested = False
    simulation = play(policy, script)
    for deed in simulation.deeds:
        requested |= deed.event == heard.RenewalRequested()
        for command in deed.commands:
            if isinstance(command, do.Dial):
                if before is not None and not (command.handover and requested):
                    assert LEAST <= deed.at - before
                before, requested = deed.at, False


@given(POLICIES, SCRIPTS)
def test_two_renewals_are_never_closer_than_their_floor(policy: Policy, script: Script) -> None:
    """A second at least if somebody asks for them, and otherwise as the token's life says."""
    before = None
    requested = False
    for deed in play(policy, script).deeds:
        requested |= deed.event == heard.RenewalRequested()
        for command in deed.commands:
            if isinstance(command, do.Authorize) and command.need is Need.RENEW:
                assert isinstance(deed.before, Open)
                least = 1.0 if requested else floor(deed.before.newest)
                if before is not None:
                    assert least - TIMER_TOLERANCE - EXACT <= deed.at - before
                before, requested = deed.at, False


@given(POLICIES, SCRIPTS)
def test_no_second_holds_more_than_a_handful_of_decisions(policy: Policy, script: Script) -> None:
    """There is no loop at one instant, nor nearly at one."""
    simulation = play(policy, script)

    seconds = Counter(int(deed.at) for deed in simulation.deeds)

    assert 60 >= max(seconds.values(), default=0)


@given(POLICIES, SCRIPTS, st.floats(min_value=0, max_value=100), st.booleans())
def test_a_session_finishes_exactly_once_and_dials_nothing_after_a_stop(
    policy: Policy, script: Script, at: float, by_handler: bool
) -> None:
    """Whenever the stop comes, at once."""
    simulation = Simulation(policy, script).run(seconds=at)
    stop = heard.HandlerEnded(PermanentError("enough")) if by_handler else heard.StopRequested()
    simulation._hear(stop)
    simulation.run(seconds=1200)

    finished = list(simulation.commands(do.Finish))
    assert 1 == len(finished)
    assert isinstance(simulation.state, Stopped)
    end = next(n for n, deed in enumerate(simulation.deeds) if isinstance(deed.after, Stopped))
    assert isinstance(simulation.deeds[end].commands[-1], do.Finish)
    after = [command for deed in simulation.deeds[end + 1 :] for command in deed.commands]
    assert {do.Drop} >= {type(command) for command in after}
    assert not simulation.open


@given(POLICIES, SCRIPTS)
def test_a_session_that_has_not_ended_always_has_something_to_wait_for(
    policy: Policy, script: Script
) -> None:
    assert not play(policy, script).is_stuck


@given(PATIENT, WEATHER)
def test_weather_never_ends_a_session_and_the_link_is_back_soon_after_it(
    policy: Policy, script: Script
) -> None:
    """However long failures went on that are nobody's fault."""
    simulation = play(policy, script)
    assert not isinstance(simulation.state, Stopped)

    simulation.rescript(Script())
    # What was said before still counts: an hour by a Retry-After, 14 s by a slow answer.
    simulation.run(seconds=HOUR + 14 + 60 + 14 + 14, decisions=2_000)

    assert isinstance(simulation.state, Open), simulation.state


@given(POLICIES, SCRIPTS)
def test_retry_after_only_lengthens_a_wait_and_by_an_hour_at_most(
    policy: Policy, script: Script
) -> None:
    for deed in play(policy, script).deeds:
        match deed.event:
            case heard.DialFailed(error=HandshakeError(retry_after=float(asked))):
                plain = HandshakeError("", status=503)
            case heard.TokenFailed(error=TokenError(retry_after=float(asked))):
                plain = TokenError("", status=503)
            case _:
                continue
        if deed.before == deed.after:
            continue  # an answer that nobody waits for any more
        unasked = type(deed.event)(_number(deed.event), plain)
        other, _ = decide(policy, deed.before, unasked, deed.moment)
        long, short = _until(deed.after), _until(other)
        if long is None or short is None:
            continue
        assert short <= long
        assert min(HOUR, asked) - EXACT <= long - deed.at
        assert long - deed.at <= max(HOUR, short - deed.at) + EXACT


def _number(told: heard.DialFailed | heard.TokenFailed) -> int:
    return told.link if isinstance(told, heard.DialFailed) else told.ticket


def _until(state: object) -> float | None:
    match state:
        case Waiting(until=until) | Open(step=Postponed(until=until)):
            return until
        case _:
            return None


@given(POLICIES, SCRIPTS)
def test_the_end_of_a_link_whose_token_has_expired_is_never_a_failure(
    policy: Policy, script: Script
) -> None:
    """The far side did what it had to: it counts for nothing and ends nothing."""
    for deed in play(policy, script).deeds:
        match deed.before, deed.event:
            case Open(step=Doomed()), _:
                continue
            case ((Greeting(link=link) | Open(link=link)), heard.LinkLost(lost, error)) if (
                lost == link and isinstance(error, ConnectionClosed) and error.by_peer
            ):
                if not is_expired(deed.before.lease, now=deed.at, wall=deed.wall):
                    continue
            case _:
                continue
        assert not isinstance(deed.after, Stopped)
        assert deed.before.past.failures >= deed.after.past.failures
        assert deed.before.past.short_links >= deed.after.past.short_links
        assert deed.before.past.limited >= deed.after.past.limited
        assert deed.after.past.rejected in (False, deed.before.past.rejected)


@given(POLICIES, SCRIPTS)
def test_an_open_link_keeps_a_session_alive(policy: Policy, script: Script) -> None:
    """While it serves, no failure of a token or of a successor ends the session."""
    for deed in play(policy, script).deeds:
        if isinstance(deed.before, Open) and isinstance(deed.after, Stopped):
            assert isinstance(deed.event, heard.LinkLost)
            assert deed.before.link == deed.event.link


@given(POLICIES, SCRIPTS)
def test_a_wait_is_never_under_the_floor_nor_over_the_cap(policy: Policy, script: Script) -> None:
    """An hour where the far side asked for it, else the policy's cap or a rate limit's 11 s."""
    cap = max(in_seconds(policy.retry.max_backoff), 11.0, LEAST)
    for deed in play(policy, script).deeds:
        if isinstance(deed.after, Waiting) and not isinstance(deed.before, Waiting):
            wait = deed.after.until - deed.at
            asked = getattr(getattr(deed.event, "error", None), "retry_after", None)
            assert LEAST <= wait <= (HOUR if asked else cap) + EXACT
