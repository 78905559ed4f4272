"""How a token, and with it the link, is renewed while a link is open."""

import math
from dataclasses import replace
from typing import TypeAlias

from dromos._core import backoff
from dromos._core.commands import (
    Adopt,
    Announce,
    Answer,
    Authorize,
    Command,
    Dial,
    Part,
    Reauthenticate,
)
from dromos._core.failure import FLAPPING, SHORT, Again, Failure, Over, weigh
from dromos._core.policy import Moment, Past, Policy
from dromos._core.schedule import (
    Lease,
    Need,
    floor,
    is_expired,
    lead,
    least_to_dial,
    remaining,
)
from dromos._core.states import (
    Asking,
    Dialing,
    Doomed,
    Greeting,
    InBand,
    Open,
    Phase,
    Postponed,
    Settled,
    State,
    Step,
    Succeeding,
)
from dromos._core.verdict import Stage, asked_to_wait
from dromos.errors import ConnectionClosed, HandshakeError, TokenError
from dromos.events import (
    DepartureAnnounced,
    EndDeferred,
    Flapped,
    HandedOver,
    RenewalFailed,
    RenewalStopped,
)
from dromos.model import Verdict, in_seconds

PROOF_WITHIN = 3.0
"""Seconds a link has to answer a ping, before it takes over and after a suspend."""

RELEASE_WITHIN = 2.0
"""Seconds that a link which was taken over has for what it still has to deliver."""

RENEWAL_CAP = 60.0
"""Seconds between tries to renew a token, at most; they go on while the link is open."""

RENEWAL_FLOOR = 1.0
"""Seconds that a link lives before it is handed over on purpose."""

TIMER_TOLERANCE = 0.001
"""Seconds by which a timer may come early: sums of floats are not exact."""

LEAVE_WITHIN = 10.0
"""Seconds that the CLOSE of a far side which goes away stays unanswered, while the next
link is on its way.  RFC 6455, 5.5.1 wants the answer soon; `websockets` waits 10 s for
it, `ws` 30 s, and ends the link then, which is no worse than answering at once."""

SECOND_LINK_REFUSALS = 2
"""Successors in a row that a far side refuses before we take it that it allows one link."""

Decision: TypeAlias = tuple[State, tuple[Command, ...]]


def loss(
    policy: Policy,
    state: Greeting | Open,
    error: Exception,
    override: Verdict | None,
    moment: Moment,
    stage: Stage = Stage.LINK,
) -> Failure:
    return Failure(
        error=error,
        stage=stage,
        override=override,
        lease=state.lease,
        # What the far side announced was counted then.
        lived=None if _is_left(state) else moment.now - state.opened,
        stable=stage is Stage.LINK and _is_stable(policy, state, moment),
    )


def _is_left(state: Greeting | Open) -> bool:
    return isinstance(state, Open) and state.leaving is not None


def _is_stable(policy: Policy, state: Greeting | Open, moment: Moment) -> bool:
    stability = max(in_seconds(policy.retry.stable_after), state.past.last_delay)
    return moment.now - state.open_since >= stability


def wake_at(state: Open, policy: Policy, moment: Moment) -> float | None:
    """When an open session wants to hear of the time."""
    match state.step:
        case Postponed(until=until) | InBand(until=until):
            at: float | None = until
        case Settled():
            at = due(state, policy, moment)
        case _:
            at = None
    times = [time for time in (at, state.leaving) if time is not None]
    return min(times) if times else None


def due(state: Open, policy: Policy, moment: Moment) -> float | None:
    """When the token, or the link, is due for renewal."""
    assert isinstance(state.step, Settled)
    lease = state.newest
    times: list[float] = []
    if lease.lifetime is not None:
        left = remaining(lease, now=moment.now, wall=moment.wall)
        at = moment.now + left - state.step.lead
        # The floors keep a token that is always due from being renewed in a loop.
        times.append(max(at, _soonest(state), state.opened + backoff.FLOOR))
    if policy.max_link_age is not None and not state.single:
        times.append(state.opened + max(RENEWAL_FLOOR, policy.max_link_age))
    return min(times) if times else None


def _soonest(state: Open) -> float:
    """When a newer token may be asked for again."""
    asked = state.past.asked
    return -math.inf if asked is None else asked + floor(state.newest)


def is_due(state: Open, policy: Policy, moment: Moment) -> bool:
    at = due(state, policy, moment)
    return at is not None and moment.now >= at - TIMER_TOLERANCE


def settle(policy: Policy, state: Greeting | Open, lease: Lease, moment: Moment) -> Open:
    step = Settled(lead=lead(lease, buffer=policy.refresh_buffer, roll=moment.roll))
    if isinstance(state, Open):
        return replace(state, step=step, newest=lease)
    return Open(
        link=state.link,
        lease=state.lease,
        newest=lease,
        opened=state.opened,
        open_since=state.open_since,
        step=step,
        past=state.past,
    )


def ask_soon(state: Open, moment: Moment) -> Decision:
    """Ask for a newer token, but not for a link that has only just opened, nor again at once."""
    latest = state.opened if state.past.asked is None else max(state.opened, state.past.asked)
    soonest = latest + RENEWAL_FLOOR
    if moment.now >= soonest:
        return ask(state, moment)
    if isinstance(state.step, Postponed):
        # It may be to replace a refused token, and still is.
        step = replace(state.step, until=min(state.step.until, soonest))
        return replace(state, step=step), ()
    return replace(state, step=Postponed(until=soonest)), ()


def ask(state: Open, moment: Moment) -> Decision:
    """Ask for a newer token than the one we have, or for another than was refused."""
    refused = state.step.refused if isinstance(state.step, Postponed) else None
    state = replace(
        state,
        step=Asking(ticket=moment.ticket, refused=refused),
        past=replace(state.past, asked=moment.now),
    )
    if refused is not None:
        return state, (Authorize(moment.ticket, Need.REPLACE, refused),)
    return state, (Authorize(moment.ticket, Need.RENEW, state.newest.generation),)


def _ask_in_turn(state: Open, moment: Moment) -> Decision:
    """Ask for a newer token, but no sooner than the floor allows."""
    soonest = _soonest(state)
    if moment.now < soonest - TIMER_TOLERANCE:
        return replace(state, step=Postponed(until=soonest)), ()
    return ask(state, moment)


def renew(state: Open, moment: Moment) -> Decision:
    """The token, or the link, is due."""
    assert isinstance(state.step, Settled)
    if _is_fresh(state.newest, state.step.lead, moment):
        # Only the link is too old: the token will do for the next one.
        return dial_successor(state, state.newest, moment)
    return _ask_in_turn(state, moment)


def retry_renewal(policy: Policy, state: Open, step: Postponed, moment: Moment) -> Decision:
    """Go on with a renewal that failed: with the token that it had, if it had one."""
    if state.leaving is not None and step.refused is None and _will_do(state.newest, moment):
        return dial_successor(state, state.newest, moment)
    ahead = lead(state.newest, buffer=policy.refresh_buffer, roll=0.0)
    if step.has_token and _is_fresh(state.newest, ahead, moment):
        return dial_successor(state, state.newest, moment)
    if step.refused is None and state.tries:
        return _ask_in_turn(state, moment)
    # A refused token is no good meanwhile, and a request was put off long enough.
    return ask(state, moment)


def _will_do(lease: Lease, moment: Moment) -> bool:
    """Whether the token has enough life left for a dial, if not for long."""
    return remaining(lease, now=moment.now, wall=moment.wall) > least_to_dial(lease)


def _is_fresh(lease: Lease, lead: float, moment: Moment) -> bool:
    return remaining(lease, now=moment.now, wall=moment.wall) > lead + TIMER_TOLERANCE


def renewed(
    policy: Policy, state: Open, lease: Lease, moment: Moment, *, replaced: bool
) -> Decision:
    """A token came; bring it to the far side."""
    # As early as jitter can make it: what was due a moment ago is due.
    ahead = lead(lease, buffer=policy.refresh_buffer, roll=1.0)
    # The floor counts from here: the source began its refresh after we asked.
    state = replace(state, past=replace(state.past, asked=moment.now))
    known = lease.generation == state.newest.generation
    if known and not _is_fresh(lease, ahead, moment):
        # The source has nothing newer yet.  Ask again later, and later still.
        error = TokenError("the token is due for renewal, and its source has no newer one")
        return _try_later(state, error, moment, least=floor(lease))
    state = replace(state, past=state.past.with_token(lease.generation, replaced=replaced))
    if state.leaving is not None:
        return dial_successor(state, lease, moment)
    if policy.renewal == "keep" or state.single:
        return settle(policy, replace(state, tries=0), lease, moment), ()
    if policy.in_band and not known:
        # A handler that hangs must not keep the token from the far side.
        left = remaining(state.lease, now=moment.now, wall=moment.wall)
        within = min(policy.connect_timeout, max(RENEWAL_FLOOR, left / 2))
        step = InBand(lease=lease, until=moment.now + within)
        return replace(state, step=step), (Reauthenticate(state.link),)
    return dial_successor(state, lease, moment)


def leave(
    policy: Policy, state: Open, error: Exception, override: Verdict | None, moment: Moment
) -> Decision:
    """The far side goes away: bring the next link up while this one is still there.

    Not for a link that never proved stable: a far side that accepts links only to
    send them away has to be met with the backoff of a loss.
    """
    failure = loss(policy, state, error, override, moment)
    outcome = weigh(policy, state.past, failure, moment)
    if not failure.stable or isinstance(outcome, Over) or isinstance(state.step, Doomed):
        return state, (Answer(state.link),)
    short = state.past.short_links + 1 if moment.now - state.opened < SHORT else 0
    state = replace(
        state,
        past=replace(state.past, short_links=short),
        leaving=moment.now + LEAVE_WITHIN,
    )
    # As long as after a loss: a whole fleet may have been told at once.
    delay = outcome.delay
    if short >= FLAPPING:
        delay = max(delay, backoff.spread(in_seconds(policy.retry.max_backoff), moment.roll))
    at = moment.now + delay
    match state.step:
        case Settled():
            step: Step = Postponed(until=at, has_token=True)
        case InBand(lease=lease):
            state = replace(state, newest=lease)
            step = Postponed(until=at, has_token=True)
        case Postponed(until=until) as postponed:
            step = replace(postponed, until=min(at, until))
        case under_way:
            step = under_way
    news = [Announce(DepartureAnnounced(link=state.link, error=error))]
    if short == FLAPPING:
        news.append(Announce(Flapped(links=short)))
    return replace(state, step=step), tuple(news)


def after_leaving(state: Open, until: float, moment: Moment) -> float:
    """When to dial after the loss of a link that was to go: what was planned then counts."""
    planned = state.step.until if isinstance(state.step, Postponed) else moment.now
    if state.past.short_links >= FLAPPING:
        return max(until, planned)
    return min(until, planned)


def dial_successor(state: Open, lease: Lease, moment: Moment) -> Decision:
    step = Succeeding(link=moment.link, lease=lease)
    return replace(state, step=step, newest=lease), (Dial(moment.link, handover=True),)


def taken_over(policy: Policy, state: Open, step: Succeeding, moment: Moment) -> Open:
    """The successor serves; stability goes on across the hand-over."""
    stable = _is_stable(policy, state, moment)
    greeting = Greeting(
        link=step.link,
        lease=step.lease,
        opened=step.opened,
        open_since=state.open_since,
        past=_after_stability(state) if stable else state.past,
    )
    return settle(policy, greeting, step.lease, moment)


def _after_stability(state: Open) -> Past:
    """Forget the failures, but not that the far side sends links away again and again."""
    past = state.past.after_stability()
    return replace(past, short_links=state.past.short_links) if _is_left(state) else past


def succeed_to_lost(
    policy: Policy,
    state: Open,
    step: Succeeding,
    error: Exception,
    override: Verdict | None,
    moment: Moment,
) -> Decision:
    """The old link ended while the next one was on its way: that is the hand-over."""
    match step.phase:
        case Phase.DIAL:
            # No link is open for a while.  Whatever the old one's end would have
            # meant waits for what becomes of the new one.
            failure = loss(policy, state, error, override, moment)
            outcome = weigh(policy, state.past, failure, moment)
            dialing = Dialing(link=step.link, lease=step.lease, past=state.past)
            if isinstance(outcome, Again):
                refused = outcome.refused
                return replace(dialing, past=outcome.past, refused=refused), (Part(error),)
            deferred = Announce(EndDeferred(error=outcome.error))
            return replace(dialing, lost=outcome), (Part(error), deferred)
        case Phase.GREET:
            greeting = Greeting(
                link=step.link,
                lease=step.lease,
                opened=step.opened,
                open_since=state.open_since,
                past=state.past,
            )
            adopted = Announce(HandedOver(old=state.link, new=step.link))
            return greeting, (Adopt(step.link), adopted)
        case _:  # Phase.PROVE
            adopted = Announce(HandedOver(old=state.link, new=step.link))
            return taken_over(policy, state, step, moment), (Adopt(step.link), adopted)


def fail_successor(
    policy: Policy,
    state: Open,
    step: Succeeding,
    error: Exception,
    override: Verdict | None,
    moment: Moment,
    stage: Stage = Stage.LINK,
) -> Decision:
    """The next link did not come to serve; this one does, and we try again later."""
    unexpired = not is_expired(step.lease, now=moment.now, wall=moment.wall)
    unwanted = unexpired and state.leaving is None and _is_unwanted(error)
    denied = state.denied + 1 if unwanted else 0
    if denied >= SECOND_LINK_REFUSALS:
        stopped = Announce(RenewalStopped(link=state.link, error=error))
        single = replace(state, single=True, tries=0)
        return settle(policy, single, step.lease, moment), (stopped,)
    failure = Failure(error=error, stage=stage, override=override, lease=step.lease)
    return postpone(policy, replace(state, denied=denied), failure, moment)


def _is_unwanted(error: Exception) -> bool:
    """Whether the far side did not want the successor, as one does that allows one link only."""
    if isinstance(error, ConnectionClosed):
        return error.by_peer
    return isinstance(error, HandshakeError) and error.status in (409, 423)


def postpone(
    policy: Policy, state: Open, failure: Failure, moment: Moment, *, refused: int | None = None
) -> Decision:
    """A renewal failed.  While the link is open, that never ends the session.

    `refused` is the token that was to be replaced, and still is.
    """
    if _is_stable(policy, state, moment):
        # All that counts at the first failure of a renewal is from before this link.
        past = replace(state.past, ever_stable=True)
        state = replace(state, past=past if state.tries else past.after_stability())
    # The user's limits are about attempts without a link.
    endless = replace(policy.retry, max_attempts=None, max_elapsed=None)
    outcome = weigh(replace(policy, retry=endless), state.past, failure, moment)
    if isinstance(outcome, Over):
        news = (
            Announce(RenewalFailed(error=failure.error, retry_in=None)),
            Announce(EndDeferred(error=outcome.error)),
        )
        return replace(state, step=Doomed(over=outcome)), news
    # What a renewal's failures add up to is not what the session's do: only the
    # counts that can end it, and what is known of refused tokens, are kept.
    past = replace(
        outcome.past,
        failures=state.past.failures,
        first_failure=state.past.first_failure,
        last_delay=state.past.last_delay,
    )
    state = replace(state, past=past)
    if outcome.refused is not None:
        later = moment.now + outcome.delay
        step = Postponed(until=later, refused=outcome.refused)
        told = Announce(RenewalFailed(error=failure.error, retry_in=outcome.delay))
        return replace(state, step=step, tries=state.tries + 1), (told,)
    least = asked_to_wait(failure.error) or 0.0
    has_token = failure.stage is not Stage.TOKEN
    if not has_token:
        # The source would not be asked any sooner.
        least = max(least, floor(state.newest))
    return _try_later(
        state, failure.error, moment, least=least, refused=refused, has_token=has_token
    )


def _try_later(
    state: Open,
    error: Exception,
    moment: Moment,
    *,
    least: float,
    refused: int | None = None,
    has_token: bool = False,
) -> Decision:
    most = min(RENEWAL_CAP, 2.0 ** min(state.tries, 10))
    delay = backoff.lengthened(backoff.spread(most, moment.roll), least=least, roll=moment.roll)
    told = Announce(RenewalFailed(error=error, retry_in=delay))
    step = Postponed(until=moment.now + delay, refused=refused, has_token=has_token)
    return replace(state, step=step, tries=state.tries + 1), (told,)
