"""What a session does next.

    Waiting ──timer──▶ Authorizing ──token──▶ Dialing ──open──▶ Greeting ──greeted──▶ Open
       ▲                    │                    │                 │                   │
       └───────failed───────┴───────failed───────┴──────lost───────┴───────lost────────┘

While it is open, a session renews its token in steps, and its link stays:

    Settled ──due──▶ Asking ──token──▶ Succeeding (dial, greet, prove) ──proven──▶ Settled
       ▲                │                      │                             (on the new link)
       └── Postponed ◀──┴──────── failed ──────┘

Rule 1: every decision about connecting, renewing and stopping is made here.
Rule 2: time, chance and identity are arguments (`Moment`).
Rule 3: what happens to a link that we let go is nobody's business any more:
`Release` and `Drop` are promises of the driver that the link will be gone.
"""

import math
from dataclasses import replace
from typing import TypeAlias

from dromos._core import backoff, renewal
from dromos._core.commands import (
    Abort,
    Adopt,
    Announce,
    Answer,
    Authorize,
    Command,
    Dial,
    Drop,
    Finish,
    Greet,
    LeaveLine,
    Part,
    Prove,
    Release,
    StandInLine,
    TakeTurn,
)
from dromos._core.events import (
    DepartureAnnounced,
    DialFailed,
    Event,
    GreetingFailed,
    HandlerEnded,
    LinkGreeted,
    LinkLost,
    LinkOpened,
    LinkProven,
    ProofFailed,
    RenewalRequested,
    StopRequested,
    SuspendNoticed,
    TimerFired,
    TokenAccepted,
    TokenDeclined,
    TokenFailed,
    TokenObtained,
)
from dromos._core.failure import FLAPPING, Again, Failure, Over, weigh
from dromos._core.policy import Moment, Past, Policy
from dromos._core.schedule import Need
from dromos._core.states import (
    Asking,
    Authorizing,
    Dialing,
    Doomed,
    Greeting,
    InBand,
    Open,
    Phase,
    Postponed,
    Settled,
    State,
    Stopped,
    Succeeding,
    Waiting,
)
from dromos._core.verdict import Stage, asked_to_wait
from dromos.events import (
    AttemptFailed,
    Flapped,
    HandedOver,
    RetryScheduled,
)
from dromos.model import Verdict

Decision: TypeAlias = tuple[State, tuple[Command, ...]]

TURN_LASTS = 1.0
"""Seconds for which a turn is good.  An event loop that was blocked finds many turns in the
past, and whoever missed theirs by more than this stand in line again: not all go at once."""


def start(moment: Moment) -> Decision:
    """Return the first state, and its commands."""
    return _begin(Past(started=moment.now), None, moment)


def wake_at(state: State, policy: Policy, moment: Moment) -> float | None:
    """When `TimerFired` should come, in monotonic seconds; None if nothing is to come."""
    match state:
        case Waiting(until=until):
            return until
        case Open():
            return renewal.wake_at(state, policy, moment)
        case _:
            return None


def decide(policy: Policy, state: State, event: Event, moment: Moment) -> Decision:
    """Return the next state, and the commands that take the world there."""
    now = moment.now
    match state, event:
        # ---- The end, from anywhere.
        case Stopped(), LinkOpened(link):
            return state, (Drop(link),)
        case Stopped(), _:
            return state, ()
        case _, StopRequested():
            return _stop(state, None, moment)
        case _, HandlerEnded(error):
            return _stop(state, error, moment)

        # ---- No link: wait, ask for a token, dial.
        case Waiting(until=until), TimerFired() if now >= until - renewal.TIMER_TOLERANCE:
            return _go_on(state, moment)
        case Waiting(), SuspendNoticed():
            # Whatever we were waiting out is over; but a whole fleet may have slept.
            soon = now + backoff.delay(policy.retry, failures=1, roll=moment.roll)
            return replace(state, until=max(state.not_before, min(state.until, soon))), ()
        case Authorizing(ticket=asked, past=past), TokenObtained(ticket, lease) if ticket == asked:
            past = past.with_token(lease.generation, replaced=state.refused is not None)
            return Dialing(link=moment.link, lease=lease, past=past), (Dial(moment.link),)
        case Authorizing(ticket=asked, past=past), TokenFailed(ticket, error, override) if (
            ticket == asked
        ):
            failure = Failure(error=error, stage=Stage.TOKEN, override=override)
            return _fail(policy, past, failure, moment, refused=state.refused)
        case Dialing(link=link), LinkOpened(opened) if opened == link:
            greeting = Greeting(
                link=link, lease=state.lease, opened=now, open_since=now, past=state.past
            )
            greet = Greet(link, handover=False, within=policy.connect_timeout)
            return greeting, (Adopt(link), greet)
        case Dialing(link=link), DialFailed(failed, error, override) if failed == link:
            if state.lost is not None:
                return _finish(state.lost.error)
            failure = Failure(error=error, stage=Stage.DIAL, override=override, lease=state.lease)
            return _fail(policy, state.past, failure, moment, link=link, refused=state.refused)

        # ---- A link, not yet greeted.
        case Greeting(link=link), LinkGreeted(greeted) if greeted == link:
            return renewal.settle(policy, state, state.lease, moment), ()
        case Greeting(link=link), GreetingFailed(failed, error, override) if failed == link:
            # The handler could not start its work: an attempt that failed.
            return _lose(policy, state, error, override, moment, stage=Stage.GREETING)
        case Greeting(link=link), LinkLost(lost, error, override) if lost == link:
            return _lose(policy, state, error, override, moment)

        # ---- Open: the link is lost.
        case Open(link=link, step=Doomed(over=over)), LinkLost(lost) if lost == link:
            return _finish(over.error, Part(over.error))
        case Open(link=link), DepartureAnnounced(leaving, error, override) if leaving == link:
            return renewal.leave(policy, state, error, override, moment)
        case Open(link=link, leaving=float(until)), TimerFired() if (
            now >= until - renewal.TIMER_TOLERANCE
        ):
            return replace(state, leaving=math.inf), (Answer(link),)
        case Open(link=link, step=Succeeding() as step), LinkLost(lost, error, override) if (
            lost == link
        ):
            return renewal.succeed_to_lost(policy, state, step, error, override, moment)
        case Open(link=link), LinkLost(lost, error, override) if lost == link:
            return _lose(policy, state, error, override, moment)
        case Open(link=link), ProofFailed(failed) if failed == link:
            # After a suspend: the peer is gone, and TCP has not noticed.
            return state, (Abort(link),)
        case Open(link=link), SuspendNoticed():
            return state, (Prove(link, renewal.PROOF_WITHIN),)

        # ---- Open: renew the token, and with it the link.
        case Open(step=Settled()), TimerFired() if renewal.is_due(state, policy, moment):
            return renewal.renew(state, moment)
        case Open(step=Settled() | Postponed()), RenewalRequested():
            return renewal.ask_soon(state, moment)
        case Open(step=Postponed() as step), TimerFired() if (
            now >= step.until - renewal.TIMER_TOLERANCE
        ):
            return renewal.retry_renewal(policy, state, step, moment)
        case Open(step=Asking(ticket=asked, refused=refused)), TokenObtained(ticket, lease) if (
            ticket == asked
        ):
            return renewal.renewed(policy, state, lease, moment, replaced=refused is not None)
        case Open(step=Asking(ticket=asked, refused=refused)), TokenFailed(
            ticket, error, override
        ) if ticket == asked:
            failure = Failure(error=error, stage=Stage.TOKEN, override=override)
            return renewal.postpone(policy, state, failure, moment, refused=refused)
        case Open(link=link, step=InBand(lease=lease)), TokenAccepted(accepted) if accepted == link:
            return renewal.settle(policy, replace(state, lease=lease, tries=0), lease, moment), ()
        case Open(link=link, step=InBand(lease=lease)), TokenDeclined(declined) if declined == link:
            return renewal.dial_successor(state, lease, moment)

        case Open(step=InBand(lease=lease, until=until)), TimerFired() if (
            now >= until - renewal.TIMER_TOLERANCE
        ):
            return renewal.dial_successor(state, lease, moment)

        # ---- Open: the successor opens, is greeted, is proven, takes over.
        case Open(step=Succeeding(link=link, phase=Phase.DIAL) as step), LinkOpened(opened) if (
            opened == link
        ):
            step = replace(step, phase=Phase.GREET, opened=now)
            greet = Greet(link, handover=True, within=policy.connect_timeout)
            return replace(state, step=step), (greet,)
        case Open(step=Succeeding(link=link, phase=Phase.GREET) as step), LinkGreeted(greeted) if (
            greeted == link
        ):
            return replace(state, step=replace(step, phase=Phase.PROVE)), (
                Prove(link, renewal.PROOF_WITHIN),
            )
        case Open(step=Succeeding(link=link, phase=Phase.PROVE) as step), LinkProven(proven) if (
            proven == link
        ):
            # Adopt first, release second: a send never finds itself without a link.
            return renewal.taken_over(policy, state, step, moment), (
                Adopt(link),
                Release(state.link, renewal.RELEASE_WITHIN),
                Announce(HandedOver(old=state.link, new=link)),
            )
        case Open(step=Succeeding(link=link) as step), DialFailed(failed, error, override) if (
            failed == link
        ):
            return renewal.fail_successor(policy, state, step, error, override, moment, Stage.DIAL)
        case Open(step=Succeeding(link=link) as step), LinkLost(failed, error, override) if (
            failed == link
        ):
            return renewal.fail_successor(policy, state, step, error, override, moment)
        case Open(step=Succeeding(link=link) as step), GreetingFailed(failed, error, override) if (
            failed == link
        ):
            after, commands = renewal.fail_successor(
                policy, state, step, error, override, moment, Stage.GREETING
            )
            return after, (Release(link), *commands)
        case Open(step=Succeeding(link=link) as step), ProofFailed(failed, error) if failed == link:
            after, commands = renewal.fail_successor(policy, state, step, error, None, moment)
            return after, (Drop(link), *commands)

        # ---- News that came too late, or too early.
        case _, LinkOpened(link):
            return state, (Drop(link),)
        case _, DepartureAnnounced(link):
            return state, (Answer(link),)
        case _:
            return state, ()


def links(state: State) -> tuple[int, ...]:
    """The links that a state owns, the one that serves first."""
    match state:
        case Open(link=link, step=Succeeding(link=successor)):
            return link, successor
        case Dialing(link=link) | Greeting(link=link) | Open(link=link):
            return (link,)
        case _:
            return ()


# ------------------------------------------------------------------ without a link


def _begin(past: Past, refused: int | None, moment: Moment) -> Decision:
    """Make an attempt that is due, or wait for a turn to make it."""
    turn = moment.turn
    if turn is None:
        return _authorize(past, refused, moment)
    if turn <= moment.now:
        state, commands = _authorize(past, refused, moment)
        return state, (TakeTurn(moment.now), *commands)
    wait = turn - moment.now
    past = past.after_line(wait)
    told = RetryScheduled(delay=wait, failures=past.failures, error=None)
    waiting = Waiting(until=turn, past=past, refused=refused, not_before=turn, has_turn=True)
    return waiting, (StandInLine(turn), Announce(told))


def _go_on(state: Waiting, moment: Moment) -> Decision:
    """Make the attempt that a wait was for, in its turn."""
    if not state.has_turn:
        return _begin(state.past, state.refused, moment)
    attempt = _authorize if moment.now <= state.until + TURN_LASTS else _begin
    after, commands = attempt(state.past, state.refused, moment)
    return after, (LeaveLine(moment.now), *commands)


def _authorize(past: Past, refused: int | None, moment: Moment) -> Decision:
    need = Need.DIAL if refused is None else Need.REPLACE
    state = Authorizing(ticket=moment.ticket, past=past, refused=refused)
    return state, (Authorize(moment.ticket, need, refused),)


def _fail(
    policy: Policy,
    past: Past,
    failure: Failure,
    moment: Moment,
    *,
    link: int | None = None,
    refused: int | None = None,
) -> Decision:
    """An attempt failed while no link was open; `refused` is still to be replaced."""
    outcome = weigh(policy, past, failure, moment)
    told = Announce(AttemptFailed(error=failure.error, verdict=outcome.verdict.name, link=link))
    if isinstance(outcome, Over):
        return _finish(outcome.error, told)
    state, commands = _wait(outcome, failure, moment, refused)
    return state, (told, *commands)


def _wait(
    again: Again, failure: Failure, moment: Moment, refused: int | None = None
) -> tuple[Waiting, tuple[Command, ...]]:
    past = again.past
    if again.refused is not None:
        refused = again.refused
    news: list[Command] = []
    if past.short_links == FLAPPING and failure.lived is not None and again.counted:
        news.append(Announce(Flapped(links=past.short_links)))
    news.append(
        Announce(RetryScheduled(delay=again.delay, failures=past.failures, error=failure.error))
    )
    asked = asked_to_wait(failure.error) or 0.0
    waiting = Waiting(
        until=moment.now + again.delay,
        past=past,
        refused=refused,
        not_before=moment.now + min(again.delay, asked),
    )
    return waiting, tuple(news)


def _lose(
    policy: Policy,
    state: Greeting | Open,
    error: Exception,
    override: Verdict | None,
    moment: Moment,
    *,
    stage: Stage = Stage.LINK,
) -> Decision:
    """The only open link is gone, or must go."""
    failure = renewal.loss(policy, state, error, override, moment, stage)
    outcome = weigh(policy, state.past, failure, moment)
    # A link that is lost is gone; one whose greeting failed has to be closed.
    closing = (Release(state.link),) if stage is Stage.GREETING else ()
    if isinstance(outcome, Over):
        return _finish(outcome.error, *closing, Part(outcome.error))
    refused = None
    if isinstance(state, Open) and isinstance(state.step, Postponed | Asking):
        # A token that a successor was refused with is still to be replaced.
        refused = state.step.refused
    after, commands = _wait(outcome, failure, moment, refused)
    if isinstance(state, Open) and state.leaving is not None and after.refused is None:
        # The far side said so before, and the wait began then.
        after = replace(after, until=renewal.after_leaving(state, after.until, moment))
    return after, (*closing, Part(error), *commands)


# ------------------------------------------------------------------ the end


def _stop(state: State, error: Exception | None, moment: Moment) -> Decision:
    """End it now: a dial is dropped, an open link is closed politely."""
    closing: list[Command] = []
    match state:
        case Waiting(has_turn=True):
            closing = [LeaveLine(moment.now)]
        case Dialing(link=link):
            closing = [Drop(link)]
        case Greeting(link=link):
            closing = [Release(link), Part(error)]
        case Open(link=link, step=Succeeding(link=successor, phase=phase)):
            last = Drop(successor) if phase is Phase.DIAL else Release(successor)
            closing = [last, Release(link), Part(error)]
        case Open(link=link):
            closing = [Release(link), Part(error)]
        case _:
            pass
    return _finish(error, *closing)


def _finish(error: Exception | None, *before: Command) -> Decision:
    return Stopped(error=error), (*before, Finish(error))
