"""The main stories of a session, told one line after the other."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dromos._core.commands import (
    Abort,
    Adopt,
    Authorize,
    Dial,
    Drop,
    Finish,
    Greet,
    Part,
    Prove,
    Reauthenticate,
    Release,
)
from dromos._core.events import (
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
from dromos._core.policy import Policy
from dromos._core.schedule import Need
from dromos._core.states import (
    Asking,
    Authorizing,
    Dialing,
    Doomed,
    Greeting,
    InBand,
    Open,
    Postponed,
    Settled,
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
from dromos.events import (
    AttemptFailed,
    EndDeferred,
    Flapped,
    HandedOver,
    RenewalFailed,
    RenewalStopped,
    RetryScheduled,
)
from dromos.model import RetryPolicy, Verdict
from tests.core.play import Play

DROPPED = ConnectionClosed(code=1006)
POLICY_VIOLATION = ConnectionClosed(code=1008)
SILENT = ConnectionClosed(code=1006, by_peer=False)
BUSY = HandshakeError("busy", status=503)
GONE = HandshakeError("gone", status=410)
TAKEN = HandshakeError("taken", status=409)
REFUSED = HandshakeError("who?", status=401)
NO_TOKEN = TokenError("busy", status=503)
CONSENT = InteractionRequired("consent")
RAISED = ValueError("the handler raised")
ENOUGH = PermanentError("enough")

IN_BAND = Policy(in_band=True)


def connected(policy: Policy | None = None, *, life: float | None = 3600.0) -> Play:
    """A session whose first link has opened and is greeted, a moment after the start."""
    return (
        Play(policy).obtains(1, life=life).hears(LinkOpened(1)).hears(LinkGreeted(1)).is_in(Settled)
    )


def succeeding(policy: Policy | None = None) -> Play:
    """A session that dials its second link, with its second token."""
    return connected(policy).until_due().obtains(2).orders(Dial(2, handover=True))


def connected_at_second_try() -> Play:
    """A session that has one failure behind it."""
    play = Play().obtains(1).hears(DialFailed(1, BUSY)).until_due().obtains(1)
    return play.hears(LinkOpened(2)).hears(LinkGreeted(2))


def greeting_successor() -> Play:
    return succeeding().hears(LinkOpened(2))


def proving_successor() -> Play:
    return greeting_successor().hears(LinkGreeted(2))


# --- To the first link ----------------------------------------------------------------------------


def test_a_session_asks_for_a_token_dials_and_greets() -> None:
    play = Play().orders(Authorize(1, Need.DIAL)).is_in(Authorizing)
    play.obtains(1).orders(Dial(1)).is_in(Dialing)
    play.hears(LinkOpened(1)).orders(Adopt(1), Greet(1, handover=False, within=30.0))
    play.is_in(Greeting)
    play.hears(LinkGreeted(1)).orders().is_in(Open)

    # The token lives for an hour, and is renewed 5 to 5.5 minutes before its end.
    play.waits(3600 - 300 * 1.05)


def test_a_dial_that_fails_is_tried_again_with_a_token_that_is_asked_for_again() -> None:
    play = Play().obtains(1).hears(DialFailed(1, BUSY))
    play.orders().is_in(Waiting).waits(0.6)
    play.tells(
        AttemptFailed(error=BUSY, verdict="TRANSIENT", link=1),
        RetryScheduled(delay=play.state.until, failures=1, error=BUSY),
    )

    play.until_due().orders(Authorize(2, Need.DIAL)).obtains(1).orders(Dial(2))


def test_a_timer_that_comes_too_early_changes_nothing() -> None:
    play = Play().obtains(1).hears(DialFailed(1, BUSY)).after(0.5).hears(TimerFired())

    play.orders().is_in(Waiting).waits(0.1)


def test_a_source_that_fails_three_times_at_the_start_ends_it() -> None:
    play = Play().gets_no_token(NO_TOKEN).orders().until_due().gets_no_token(NO_TOKEN)
    play.until_due().gets_no_token(NO_TOKEN).is_in(Stopped)

    assert "no token in 3 tries" in str(play.state)


def test_a_refused_token_is_replaced_before_the_next_dial() -> None:
    play = Play().obtains(1).hears(DialFailed(1, REFUSED)).is_in(Waiting)

    play.until_due().orders(Authorize(2, Need.REPLACE, 1)).obtains(2).orders(Dial(2))
    play.hears(DialFailed(2, REFUSED)).is_in(Stopped).tells(AttemptFailed)
    assert "a fresh token was refused as well" in str(play.state)


def test_a_refused_token_is_still_to_be_replaced_after_the_source_failed() -> None:
    play = Play().obtains(1).hears(DialFailed(1, REFUSED)).until_due().gets_no_token(NO_TOKEN)

    play.until_due().orders(Authorize(3, Need.REPLACE, 1))


def test_a_gone_endpoint_ends_it_with_its_reason() -> None:
    play = Play().obtains(1).hears(DialFailed(1, GONE)).is_in(Stopped)

    assert isinstance(play.state, Stopped)
    assert "gone; trying again would not help" == str(play.state.error)
    play.orders(Finish(play.state.error))


def test_an_exception_of_a_dialer_is_taken_for_a_defect_that_repeats() -> None:
    play = Play().obtains(1).hears(DialFailed(1, RAISED))
    play.tells(AttemptFailed(error=RAISED, verdict="LIMITED", link=1), RetryScheduled).waits(30.1)

    other = succeeding().hears(DialFailed(2, RAISED))
    assert 1 == other.state.past.limited


@pytest.mark.parametrize(
    ("stage", "event"),
    [
        ("authorizing", TokenFailed(1, NO_TOKEN)),
        ("dialing", DialFailed(1, BUSY)),
        ("greeting", GreetingFailed(1, RAISED)),
        ("greeting", LinkLost(1, DROPPED)),
        ("settled", LinkLost(1, DROPPED)),
        ("asking", TokenFailed(2, NO_TOKEN)),
        ("dialing the next", LinkLost(1, DROPPED)),
        ("dialing the next", DialFailed(2, BUSY)),
        ("greeting the next", LinkLost(2, DROPPED)),
        ("greeting the next", GreetingFailed(2, RAISED)),
    ],
    ids=repr,
)
def test_the_users_verdict_counts_wherever_it_fails(stage: str, event: Event) -> None:
    begin, _ = STAGES[stage]

    spared = begin().hears(event)
    ended = begin().hears(replace(event, override=Verdict.PERMANENT))

    def has_ended(play: Play) -> bool:
        is_doomed = isinstance(getattr(play.state, "step", None), Doomed)
        return is_doomed or isinstance(play.state, Stopped) or getattr(play.state, "lost", None)

    assert not has_ended(spared)
    assert has_ended(ended)


# --- The greeting ---------------------------------------------------------------------------------


def test_an_on_connect_that_fails_is_a_failed_attempt() -> None:
    play = Play().obtains(1).hears(LinkOpened(1)).hears(GreetingFailed(1, RAISED))

    play.orders(Release(1), Part(RAISED)).is_in(Waiting).waits(0.6)
    play.until_due().obtains(1).hears(LinkOpened(2)).hears(GreetingFailed(2, RAISED)).waits(1.1)


def test_an_on_connect_that_fails_after_a_minute_is_backed_off_from_all_the_same() -> None:
    play = Play().obtains(1)
    for link, wait in enumerate((0.6, 1.1, 2.1), start=1):
        play.hears(LinkOpened(link)).after(60).hears(GreetingFailed(link, RAISED)).waits(wait)
        play.until_due().obtains(1)


def test_an_on_connect_may_end_it() -> None:
    play = Play().obtains(1).hears(LinkOpened(1)).hears(GreetingFailed(1, ENOUGH))

    play.orders(Release(1), Part(ENOUGH), Finish(ENOUGH))


def test_a_link_that_is_lost_before_it_is_greeted_is_parted_from() -> None:
    play = Play().obtains(1).hears(LinkOpened(1)).hears(LinkLost(1, DROPPED))

    play.orders(Part(DROPPED)).tells(RetryScheduled).is_in(Waiting)


# --- A link that is lost --------------------------------------------------------------------------


def test_a_lost_link_is_dialled_again_soon() -> None:
    play = connected().after(60).hears(LinkLost(1, DROPPED)).orders(Part(DROPPED)).waits(0.6)

    play.until_due().orders(Authorize(2, Need.DIAL))


def test_a_policy_violation_ends_it() -> None:
    play = connected().after(60).hears(LinkLost(1, POLICY_VIOLATION)).is_in(Stopped)

    assert isinstance(play.state, Stopped)
    play.orders(Part(play.state.error), Finish(play.state.error))
    assert POLICY_VIOLATION is play.state.error.__cause__


def test_the_users_verdict_on_a_lost_link_counts() -> None:
    spared = LinkLost(1, POLICY_VIOLATION, Verdict.TRANSIENT)

    connected().after(60).hears(spared).is_in(Waiting)


def test_a_link_that_is_closed_as_its_token_expires_is_dialled_again_soon() -> None:
    play = connected(Policy(renewal="keep"), life=60).until_due().gets_no_token(NO_TOKEN)
    play.after(60).hears(LinkLost(1, POLICY_VIOLATION))

    play.is_in(Waiting).waits(0.6)


def test_five_short_links_are_called_flapping_once_each() -> None:
    play = Play()
    for link in range(1, 5):
        play.obtains(1).hears(LinkOpened(link)).hears(LinkLost(link, DROPPED))
        play.tells(RetryScheduled).until_due()

    play.obtains(1).hears(LinkOpened(5)).hears(LinkLost(5, DROPPED))
    play.tells(Flapped(links=5), RetryScheduled).waits(30.1).until_due()
    play.obtains(1).hears(LinkOpened(6)).hears(LinkLost(6, DROPPED)).tells(RetryScheduled)


def test_ten_seconds_make_a_link_stable() -> None:
    assert connected().after(10).hears(LinkLost(1, DROPPED)).state.past.ever_stable
    assert not connected().after(9.99).hears(LinkLost(1, DROPPED)).state.past.ever_stable


def test_a_long_wait_asks_for_as_long_a_stable_link() -> None:
    shaky = connected(Policy(retry=RetryPolicy(min_backoff=60, max_backoff=60)))
    shaky.hears(LinkLost(1, DROPPED)).waits(30.1).until_due().obtains(1)
    shaky.hears(LinkOpened(2)).hears(LinkGreeted(2)).after(30).hears(LinkLost(2, DROPPED))

    assert 2 == shaky.state.past.failures


# --- Renewal by hand-over -------------------------------------------------------------------------


def test_the_next_link_takes_over_before_the_old_one_is_released() -> None:
    play = connected().until_due().orders(Authorize(2, Need.RENEW, 1)).is_in(Asking)
    play.obtains(2).orders(Dial(2, handover=True)).is_in(Succeeding)
    play.hears(LinkOpened(2)).orders(Greet(2, handover=True, within=30.0))
    play.hears(LinkGreeted(2)).orders(Prove(2, 3.0))
    play.hears(LinkProven(2)).orders(Adopt(2), Release(1, 2.0)).tells(HandedOver(old=1, new=2))

    play.is_in(Settled).waits(3600 - 300 * 1.05)
    assert 2 == play.state.link
    assert 2 == play.state.lease.generation


def test_the_stability_of_the_old_link_is_the_new_ones() -> None:
    play = proving_successor().hears(LinkProven(2)).after(0.1).hears(LinkLost(2, DROPPED))

    play.waits(0.6)
    assert (0, 1) == (play.state.past.failures, play.state.past.short_links)


def test_a_hand_over_after_a_stable_link_forgets_the_failures_before() -> None:
    play = connected_at_second_try().until_due().obtains(2).hears(LinkOpened(3))

    play.hears(LinkGreeted(3)).hears(LinkProven(3))
    assert (True, 0) == (play.state.past.ever_stable, play.state.past.failures)


def test_a_hand_over_before_the_link_is_stable_forgets_nothing() -> None:
    play = connected_at_second_try().after(5).hears(RenewalRequested()).obtains(2)

    play.hears(LinkOpened(3)).hears(LinkGreeted(3)).hears(LinkProven(3))
    assert (False, 1) == (play.state.past.ever_stable, play.state.past.failures)


def test_the_loss_of_a_link_that_was_taken_over_is_no_news() -> None:
    play = proving_successor().hears(LinkProven(2)).hears(LinkLost(1, DROPPED))

    play.orders().tells().is_in(Settled)


def test_a_source_that_is_busy_is_asked_again_no_sooner_than_the_floor() -> None:
    play = connected().until_due().gets_no_token(NO_TOKEN).is_in(Postponed)
    play.tells(RenewalFailed(error=NO_TOKEN, retry_in=31.5))

    play.waits(31.5).until_due().orders(Authorize(3, Need.RENEW, 1))


def test_a_source_with_nothing_newer_is_asked_again_after_the_floor() -> None:
    play = connected(life=60).until_due()
    same = connected(life=60).lease(1, life=60)

    play.hears(TokenObtained(2, same)).tells(RenewalFailed).is_in(Postponed)
    assert "its source has no newer one" in str(play.told[0].error)
    play.waits(15 * 1.05).until_due().orders(Authorize(3, Need.RENEW, 1))


def test_a_token_that_is_not_due_yet_will_do_for_a_new_link() -> None:
    """Jitter makes it due 330 s before its end at the earliest."""
    early = connected().after(3600 - 331)
    same = connected().lease(1)
    early.hears(RenewalRequested()).hears(TokenObtained(2, same)).orders(Dial(2, handover=True))

    late = connected().after(3600 - 329)
    late.hears(RenewalRequested()).hears(TokenObtained(2, same)).orders().is_in(Postponed)


def test_the_floor_counts_from_the_answer() -> None:
    """The source may have begun to refresh a good while after it was asked."""
    play = connected(Policy(renewal="keep")).after(100).hears(RenewalRequested()).after(20)

    play.obtains(2, life=1, told=60).waits(15)


def test_a_success_makes_the_waits_short_again() -> None:
    play = connected(Policy(renewal="keep"), life=4)
    for wait in (1.05, 1.1, 2.1):
        play.until_due().gets_no_token(NO_TOKEN).waits(wait)

    play.until_due().obtains(2, life=4).until_due().gets_no_token(NO_TOKEN).waits(1.05)


def test_a_successor_that_fails_leaves_the_old_link_and_is_dialled_again() -> None:
    play = succeeding().hears(DialFailed(2, BUSY)).tells(RenewalFailed).orders()
    play.is_in(Postponed).waits(0.6)
    assert 1 == play.state.link

    # Its token was not used yet.
    play.until_due().orders(Dial(3, handover=True)).hears(DialFailed(3, BUSY)).waits(1.1)


def test_a_token_that_is_nearly_due_is_dialled_with_all_the_same() -> None:
    slow_down = HandshakeError("slow down", status=503, retry_after=3290 / 1.05)

    succeeding().hears(DialFailed(2, slow_down)).until_due().orders(Dial(3, handover=True))


def test_a_token_that_was_short_lived_is_renewed_after_the_floor() -> None:
    play = connected().after(15).hears(RenewalRequested()).obtains(2, life=1, told=60)

    play.hears(DialFailed(2, BUSY)).waits(0.6).until_due().orders().waits(14.4)
    play.until_due().orders(Authorize(3, Need.RENEW, 2))


def test_a_token_that_is_due_before_it_was_used_is_renewed_first() -> None:
    slow_down = HandshakeError("slow down", status=503, retry_after=3590.0)
    play = succeeding().hears(DialFailed(2, slow_down)).until_due()

    play.orders(Authorize(3, Need.RENEW, 2))


def test_an_on_handover_that_fails_releases_the_successor() -> None:
    play = greeting_successor().hears(GreetingFailed(2, RAISED)).orders(Release(2))

    play.tells(RenewalFailed).is_in(Postponed)


def test_an_on_handover_that_goes_on_failing_never_ends_it() -> None:
    play = succeeding()
    for link in range(2, 20):
        play.hears(LinkOpened(link)).hears(GreetingFailed(link, RAISED))
        assert (RAISED, 0) == (play.told[0].error, play.state.past.limited)
        play.until_due()

    play.orders(Dial(20, handover=True))


def test_the_users_verdict_on_a_successor_may_spare_it() -> None:
    succeeding().hears(DialFailed(2, GONE, Verdict.TRANSIENT)).is_in(Postponed)


def test_a_successor_that_answers_no_ping_is_dropped() -> None:
    play = proving_successor().hears(ProofFailed(2, SILENT)).orders(Drop(2)).is_in(Postponed)

    assert SILENT is play.told[0].error


def test_a_refused_successor_has_its_token_replaced() -> None:
    play = succeeding().hears(DialFailed(2, REFUSED)).is_in(Postponed).waits(0.6)
    assert (REFUSED, 0.6) == (play.told[0].error, pytest.approx(play.told[0].retry_in))

    play.until_due().orders(Authorize(3, Need.REPLACE, 2)).obtains(3).orders(Dial(3, handover=True))
    play.hears(DialFailed(3, REFUSED)).tells(RenewalFailed, EndDeferred).is_in(Doomed)


def test_a_refused_successors_token_is_still_to_be_replaced_after_the_source_failed() -> None:
    play = succeeding().hears(DialFailed(2, REFUSED)).until_due().gets_no_token(NO_TOKEN)

    play.is_in(Postponed).until_due().orders(Authorize(4, Need.REPLACE, 2))


def test_a_refused_successor_is_a_try_like_another() -> None:
    play = succeeding().hears(DialFailed(2, REFUSED)).until_due().obtains(3)

    play.hears(DialFailed(3, BUSY)).waits(1.1)


def test_a_token_that_replaced_a_refused_one_may_be_handed_over_at_once() -> None:
    play = succeeding().hears(DialFailed(2, REFUSED)).until_due().obtains(3).hears(LinkOpened(3))

    play.hears(LinkGreeted(3)).hears(LinkProven(3)).orders(Adopt(3), Release(1, 2.0))


# --- The old link is lost meanwhile ---------------------------------------------------------------


def test_the_old_link_may_be_lost_while_the_next_one_is_dialled() -> None:
    play = succeeding().hears(LinkLost(1, DROPPED)).orders(Part(DROPPED)).is_in(Dialing)
    assert play.state.past.ever_stable

    play.hears(LinkOpened(2)).orders(Adopt(2), Greet(2, handover=False, within=30.0))


def test_the_old_link_may_be_lost_while_the_next_one_is_greeted() -> None:
    play = greeting_successor().after(2)
    since, past = play.state.open_since, play.state.past
    play.hears(LinkLost(1, POLICY_VIOLATION)).orders(Adopt(2)).is_in(Greeting)

    play.tells(HandedOver(old=1, new=2)).hears(LinkGreeted(2)).orders().is_in(Settled)
    assert (2, play.now - 2) == (play.state.link, play.state.opened)
    assert (since, past) == (play.state.open_since, play.state.past)


def test_the_old_link_may_be_lost_while_the_next_one_is_proven() -> None:
    play = proving_successor().hears(LinkLost(1, POLICY_VIOLATION)).orders(Adopt(2))

    play.tells(HandedOver(old=1, new=2)).is_in(Settled)


def test_a_token_that_the_old_link_was_closed_over_is_replaced_if_the_next_dial_fails() -> None:
    unauthorized = ConnectionClosed(code=4401)
    play = succeeding().hears(LinkLost(1, unauthorized)).is_in(Dialing).orders(Part(unauthorized))

    play.hears(DialFailed(2, BUSY)).is_in(Waiting).until_due()
    play.orders(Authorize(3, Need.REPLACE, 1))


def test_what_the_old_links_end_meant_waits_for_the_next_links_dial() -> None:
    play = succeeding().hears(LinkLost(1, POLICY_VIOLATION)).orders(Part(POLICY_VIOLATION))
    end = play.is_in(Dialing).state.lost.error
    play.tells(EndDeferred(error=end))

    play.hears(DialFailed(2, BUSY)).orders(Finish(end)).is_in(Stopped)
    assert POLICY_VIOLATION is end.__cause__


def test_the_users_verdict_on_the_old_link_counts_while_the_next_one_is_dialled() -> None:
    play = succeeding().hears(LinkLost(1, POLICY_VIOLATION, Verdict.TRANSIENT))

    play.hears(DialFailed(2, BUSY)).is_in(Waiting)


def test_a_next_link_that_opens_has_the_old_ones_end_forgotten() -> None:
    play = succeeding().hears(LinkLost(1, POLICY_VIOLATION)).hears(LinkOpened(2))

    play.hears(LinkGreeted(2)).after(60).hears(LinkLost(2, DROPPED)).is_in(Waiting)


# --- A far side that allows one link --------------------------------------------------------------


@pytest.mark.parametrize("status", [409, 423])
def test_a_far_side_that_refuses_two_successors_keeps_its_one_link(status: int) -> None:
    taken = HandshakeError("taken", status=status)
    play = succeeding().hears(DialFailed(2, taken)).tells(RenewalFailed).until_due()
    play.orders(Dial(3, handover=True)).hears(DialFailed(3, taken))
    play.tells(RenewalStopped(link=1, error=taken)).orders().is_in(Settled)

    # From now on the token is renewed in memory, and nothing more is said.
    play.until_due().orders(Authorize(3, Need.RENEW, 2)).obtains(3).orders().tells()
    play.is_in(Settled)
    assert (1, 1, 3) == (play.state.link, play.state.lease.generation, play.state.newest.generation)


def test_a_far_side_that_closes_two_successors_keeps_its_one_link() -> None:
    play = greeting_successor().hears(LinkLost(2, DROPPED)).is_in(Postponed).until_due()

    play.hears(LinkOpened(3)).hears(LinkGreeted(3)).hears(LinkLost(3, DROPPED))
    play.tells(RenewalStopped).is_in(Settled)


def test_a_far_side_that_refuses_expired_tokens_may_allow_two_links() -> None:
    play = connected().until_due().obtains(2, life=10).after(20)
    for link in (2, 3):
        play.hears(DialFailed(link, TAKEN)).tells(RenewalFailed).is_in(Postponed)
        play.until_due().obtains(link + 1, life=10).after(20)


def test_where_one_link_is_allowed_the_waits_for_tokens_begin_anew() -> None:
    play = connected(life=4).until_due().obtains(2, life=4).hears(DialFailed(2, TAKEN)).until_due()

    play.hears(DialFailed(3, TAKEN)).until_due().gets_no_token(NO_TOKEN).waits(1.05)


def test_another_failure_between_the_two_starts_the_count_anew() -> None:
    play = succeeding().hears(DialFailed(2, TAKEN)).until_due().hears(DialFailed(3, BUSY))

    play.until_due().hears(DialFailed(4, TAKEN)).tells(RenewalFailed).is_in(Postponed)


def test_a_far_side_that_allows_one_link_is_asked_again_with_the_next_link() -> None:
    play = succeeding().hears(DialFailed(2, TAKEN)).until_due().hears(DialFailed(3, TAKEN))
    play.hears(LinkLost(1, DROPPED)).until_due().obtains(2).hears(LinkOpened(4))

    play.hears(LinkGreeted(4)).until_due().obtains(3).orders(Dial(5, handover=True))


def test_a_links_age_no_longer_matters_where_one_link_is_allowed() -> None:
    play = succeeding(Policy(max_link_age=3500.0)).hears(DialFailed(2, TAKEN)).until_due()
    play.hears(DialFailed(3, TAKEN)).is_in(Settled)

    play.until_due().orders(Authorize(3, Need.RENEW, 2))


# --- While a link is open nothing else ends it ----------------------------------------------------


def test_a_source_without_hope_is_the_end_only_when_the_link_ends() -> None:
    play = connected().until_due().gets_no_token(CONSENT)
    play.tells(RenewalFailed(error=CONSENT, retry_in=None), EndDeferred(error=CONSENT))
    play.orders().is_in(Doomed)

    play.hears(RenewalRequested()).orders().hears(TimerFired()).orders()
    play.hears(LinkLost(1, DROPPED)).orders(Part(CONSENT), Finish(CONSENT))


def test_a_successor_without_hope_is_the_end_only_when_the_link_ends() -> None:
    play = succeeding().hears(DialFailed(2, GONE)).is_in(Doomed).hears(LinkLost(1, DROPPED))

    assert isinstance(play.state, Stopped)
    assert GONE is play.state.error.__cause__


def test_a_link_that_has_been_open_for_long_has_been_stable() -> None:
    """So that limited verdicts on its successor get five tries and ten minutes, not three."""
    missing = HandshakeError("missing", status=404)
    play = succeeding()
    for link in range(2, 6):
        play.hears(DialFailed(link, missing)).is_in(Postponed).until_due()

    play.after(600).hears(DialFailed(6, missing)).is_in(Doomed)
    assert "it failed 5 times in a row over 600 s" in str(play.state.step.over.error)


def test_a_link_that_becomes_stable_meanwhile_has_been_stable() -> None:
    missing = HandshakeError("missing", status=404)
    play = connected().after(5).hears(RenewalRequested()).obtains(2)
    play.hears(DialFailed(2, missing)).until_due().after(10)

    play.hears(DialFailed(3, missing)).until_due().hears(DialFailed(4, missing)).is_in(Postponed)
    assert 3 == play.state.past.limited


def test_a_link_that_is_not_stable_yet_has_not_been() -> None:
    missing = HandshakeError("missing", status=404)
    play = connected().after(5).hears(RenewalRequested()).obtains(2)
    for link in (2, 3):
        play.hears(DialFailed(link, missing)).until_due()

    play.hears(DialFailed(4, missing)).is_in(Doomed)


def test_what_was_limited_before_a_stable_link_counts_for_nothing_after_it() -> None:
    play = Play()
    for link in (1, 2):
        play.obtains(1).hears(DialFailed(link, TAKEN)).until_due()
    play.obtains(1).hears(LinkOpened(3)).hears(LinkGreeted(3)).until_due().obtains(2)

    play.hears(DialFailed(4, TAKEN)).is_in(Postponed)
    assert 1 == play.state.past.limited


def test_the_users_limits_are_about_attempts_without_a_link() -> None:
    limited = Policy(retry=RetryPolicy(max_attempts=1, max_elapsed=0))

    succeeding(limited).hears(DialFailed(2, BUSY)).is_in(Postponed)


def test_a_renewals_failures_are_not_the_sessions() -> None:
    play = succeeding().hears(DialFailed(2, BUSY)).until_due().hears(DialFailed(3, BUSY))

    assert (0, None, 0.0) == (
        play.state.past.failures,
        play.state.past.first_failure,
        play.state.past.last_delay,
    )


def test_failures_before_the_link_stay_in_mind_until_it_is_stable() -> None:
    play = connected_at_second_try().after(5).hears(RenewalRequested())
    before = play.state.past

    play.gets_no_token(NO_TOKEN)
    assert (1, 0.0) == (before.failures, before.first_failure)
    assert before == play.state.past


def test_renewals_are_tried_at_least_once_a_minute() -> None:
    play = succeeding()
    for link in range(2, 12):
        play.hears(DialFailed(link, BUSY)).until_due()

    play.hears(DialFailed(12, BUSY)).waits(0.2 + 59.8 * 0.5)


# --- Other renewals -------------------------------------------------------------------------------


def test_a_handler_may_renew_the_token_on_the_live_link() -> None:
    play = connected(IN_BAND).until_due().obtains(2).orders(Reauthenticate(1)).is_in(InBand)

    play.hears(TokenAccepted(1)).orders().is_in(Settled).waits(3600 - 300 * 1.05)
    assert 2 == play.state.lease.generation


def test_a_handler_that_declines_has_the_link_handed_over() -> None:
    play = connected(IN_BAND).until_due().obtains(2).hears(TokenDeclined(1))

    play.orders(Dial(2, handover=True)).is_in(Succeeding)
    assert 2 == play.state.step.lease.generation


def test_a_handler_that_takes_too_long_has_the_link_handed_over() -> None:
    play = connected(IN_BAND).until_due().obtains(2).waits(30).until_due()

    play.orders(Dial(2, handover=True)).is_in(Succeeding).hears(TokenAccepted(1)).orders()


def test_a_handler_has_half_of_what_the_old_token_lives_and_a_second_at_least() -> None:
    connected(IN_BAND, life=40).until_due().obtains(2).waits(20 * 1.05 / 2)
    connected(IN_BAND, life=2).until_due().obtains(2).waits(1)


def test_an_in_band_renewal_makes_the_waits_short_again() -> None:
    play = connected(IN_BAND, life=4)
    for wait in (1.05, 1.1, 2.1):
        play.until_due().gets_no_token(NO_TOKEN).waits(wait)

    play.until_due().obtains(2, life=4).hears(TokenAccepted(1)).until_due()
    play.gets_no_token(NO_TOKEN).waits(1.05)


def test_a_link_may_be_lost_while_the_handler_renews() -> None:
    connected(IN_BAND).until_due().obtains(2).hears(LinkLost(1, DROPPED)).is_in(Waiting)


def test_a_token_may_be_kept_in_memory_only() -> None:
    play = connected(Policy(renewal="keep")).until_due().obtains(2).orders().is_in(Settled)

    assert (1, 2) == (play.state.lease.generation, play.state.newest.generation)


def test_an_old_link_is_handed_over_with_the_token_that_it_has() -> None:
    play = connected(Policy(max_link_age=600)).waits(600).until_due()

    play.orders(Dial(2, handover=True)).hears(LinkOpened(2)).hears(LinkGreeted(2))
    play.hears(LinkProven(2)).waits(600)


def test_an_old_link_is_dialled_again_with_the_token_that_it_has() -> None:
    """As long as it lives, nobody has to be asked for another."""
    play = connected(Policy(max_link_age=600)).until_due()

    for link in range(2, 12):
        play.hears(DialFailed(link, BUSY)).until_due().orders(Dial(link + 1, handover=True))


def test_a_token_that_runs_out_while_an_old_link_is_handed_over_is_renewed() -> None:
    play = connected(Policy(max_link_age=1), life=30).until_due().hears(DialFailed(2, BUSY))
    slow_down = HandshakeError("slow down", status=503, retry_after=20.0)

    play.until_due().hears(DialFailed(3, slow_down)).until_due().orders(Authorize(2, Need.RENEW, 1))


def test_a_token_is_not_asked_for_again_under_its_floor_because_the_link_is_old() -> None:
    """The source gave one that was as good as expired, and says that it was issued for a minute."""
    play = connected(Policy(in_band=True, max_link_age=20)).after(15).hears(RenewalRequested())
    play.obtains(2, life=1, told=60).hears(TokenAccepted(1)).waits(5)

    play.until_due().orders().is_in(Postponed).waits(10)
    play.until_due().orders(Authorize(3, Need.RENEW, 2))


def test_a_token_without_an_end_is_never_renewed_by_itself() -> None:
    play = connected(life=None)

    play.hears(TimerFired()).orders().is_in(Settled)
    with pytest.raises(AssertionError, match="nothing is due"):
        play.until_due()


def test_a_token_that_is_not_due_is_not_renewed() -> None:
    connected().after(3000).hears(TimerFired()).orders().is_in(Settled)


def test_a_token_that_lives_for_a_moment_is_not_renewed_at_once() -> None:
    connected(life=0.3).waits(0.2)


def test_somebody_may_ask_for_a_new_link() -> None:
    play = connected().after(60).hears(RenewalRequested()).orders(Authorize(2, Need.RENEW, 1))

    play.hears(RenewalRequested()).orders()


def test_a_link_of_one_second_may_be_replaced() -> None:
    connected().after(1.0).hears(RenewalRequested()).orders(Authorize(2, Need.RENEW, 1))


def test_a_request_gives_a_link_a_second_to_live() -> None:
    play = connected().after(0.4).hears(RenewalRequested()).orders().is_in(Postponed).waits(0.6)

    play.until_due().orders(Authorize(2, Need.RENEW, 1))


def test_requests_are_answered_at_most_once_a_second() -> None:
    play = connected(Policy(renewal="keep")).after(60).hears(RenewalRequested()).obtains(2)

    play.hears(RenewalRequested()).orders().is_in(Postponed).waits(1.0)


def test_requests_are_answered_at_most_once_a_second_where_the_source_fails() -> None:
    play = connected().after(60).hears(RenewalRequested()).gets_no_token(NO_TOKEN).waits(31.5)

    play.after(0.25).hears(RenewalRequested()).orders().waits(0.75)


def test_a_request_does_not_put_a_renewal_off() -> None:
    play = connected().after(60).hears(RenewalRequested()).obtains(2).hears(DialFailed(2, BUSY))

    play.waits(0.6).hears(RenewalRequested()).orders().waits(0.6)


def test_a_request_forgets_no_token_that_was_refused() -> None:
    play = connected().after(60).hears(RenewalRequested()).obtains(2)
    play.hears(DialFailed(2, REFUSED)).hears(RenewalRequested()).orders()

    play.until_due().orders(Authorize(3, Need.REPLACE, 2))


def test_a_request_after_a_failure_need_not_wait_for_the_next_try() -> None:
    play = succeeding()
    for link in range(2, 9):
        play.hears(DialFailed(link, BUSY))
        play.until_due()

    play.hears(DialFailed(9, BUSY)).hears(RenewalRequested()).orders(Authorize(3, Need.RENEW, 2))


def test_a_request_without_a_link_is_no_use() -> None:
    Play().hears(RenewalRequested()).orders().is_in(Authorizing)


# --- The end --------------------------------------------------------------------------------------

STAGES: dict[str, tuple[Callable[[], Play], tuple[object, ...]]] = {
    "waiting": (lambda: Play().obtains(1).hears(DialFailed(1, BUSY)), ()),
    "authorizing": (Play, ()),
    "dialing": (lambda: Play().obtains(1), (Drop(1),)),
    "greeting": (lambda: Play().obtains(1).hears(LinkOpened(1)), (Release(1), Part)),
    "settled": (connected, (Release(1), Part)),
    "asking": (lambda: connected().until_due(), (Release(1), Part)),
    "postponed": (lambda: connected().until_due().gets_no_token(NO_TOKEN), (Release(1), Part)),
    "in band": (lambda: connected(IN_BAND).until_due().obtains(2), (Release(1), Part)),
    "doomed": (lambda: connected().until_due().gets_no_token(CONSENT), (Release(1), Part)),
    "dialing the next": (succeeding, (Drop(2), Release(1), Part)),
    "greeting the next": (greeting_successor, (Release(2), Release(1), Part)),
    "proving the next": (proving_successor, (Release(2), Release(1), Part)),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("event", "error"), [(StopRequested(), None), (HandlerEnded(ENOUGH), ENOUGH)]
)
def test_a_stop_lets_go_of_all_links_and_ends_it(
    stage: str, event: StopRequested | HandlerEnded, error: Exception | None
) -> None:
    begin, closing = STAGES[stage]

    play = begin().hears(event)

    expected = [Part(error) if command is Part else command for command in closing]
    play.orders(*expected, Finish(error)).is_in(Stopped)
    play.hears(StopRequested()).orders().hears(TimerFired()).orders()


def test_a_dial_that_succeeds_after_the_end_is_dropped() -> None:
    Play().obtains(1).hears(StopRequested()).hears(LinkOpened(1)).orders(Drop(1))


def test_a_dial_that_nobody_waits_for_is_dropped() -> None:
    connected().hears(LinkOpened(9)).orders(Drop(9)).is_in(Settled)


def test_a_token_that_comes_after_the_end_is_dropped() -> None:
    Play().hears(StopRequested()).obtains(1).orders().is_in(Stopped)


def test_an_answer_to_an_old_question_is_not_taken_for_the_new_one() -> None:
    play = connected().until_due().hears(LinkLost(1, DROPPED)).until_due()

    play.hears(TokenObtained(2, play.lease(2))).orders().is_in(Authorizing)


def test_a_failed_answer_to_an_old_question_is_not_taken_for_the_new_one() -> None:
    play = connected().until_due().hears(LinkLost(1, DROPPED)).until_due()

    play.hears(TokenFailed(2, CONSENT)).orders().is_in(Authorizing)


# --- The machine has slept ------------------------------------------------------------------------


def test_a_sleep_cuts_a_wait_short() -> None:
    play = Play()
    for link in range(1, 9):
        play.obtains(1).hears(LinkOpened(link)).hears(LinkLost(link, DROPPED))
        if link < 8:
            play.until_due()

    play.waits(30.1).asleep(3600).hears(SuspendNoticed()).orders().is_in(Waiting).waits(0.6)


def test_a_sleep_makes_no_wait_longer() -> None:
    play = Play().obtains(1).hears(DialFailed(1, BUSY)).after(0.5)

    play.asleep(3600).hears(SuspendNoticed()).waits(0.1)


@pytest.mark.parametrize(
    "stage", ["settled", "asking", "postponed", "in band", "doomed", "dialing the next"]
)
def test_an_open_link_has_to_prove_itself_after_a_sleep(stage: str) -> None:
    begin, _ = STAGES[stage]

    play = begin()
    before = play.state

    play.asleep(3600).hears(SuspendNoticed()).orders(Prove(1, 3.0))
    assert before == play.state


@pytest.mark.parametrize("stage", ["authorizing", "dialing", "greeting"])
def test_a_sleep_before_the_link_is_greeted_leaves_all_to_its_timeouts(stage: str) -> None:
    begin, _ = STAGES[stage]

    begin().asleep(3600).hears(SuspendNoticed()).orders()


def test_a_link_that_does_not_answer_after_a_sleep_is_aborted_and_dialled_again() -> None:
    play = connected().after(60).hears(SuspendNoticed()).after(3).hears(ProofFailed(1, SILENT))

    play.orders(Abort(1)).is_in(Settled).hears(LinkLost(1, SILENT)).orders(Part(SILENT)).waits(0.6)


def test_a_link_that_answers_after_a_sleep_stays() -> None:
    connected().hears(SuspendNoticed()).hears(LinkProven(1)).orders().is_in(Settled)


def test_a_token_that_expired_in_a_sleep_is_due_at_once() -> None:
    play = connected().after(60).asleep(7200).hears(SuspendNoticed()).until_due()

    assert 60.0 == play.now
    play.orders(Authorize(2, Need.RENEW, 1))
