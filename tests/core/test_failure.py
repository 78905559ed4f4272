"""What a failure leads to: every threshold, from both sides."""

from dataclasses import replace

import pytest

from dromos._core.failure import Again, Failure, Over, weigh
from dromos._core.policy import Moment, Past, Policy
from dromos._core.schedule import Lease
from dromos._core.verdict import Stage
from dromos.errors import (
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    PermanentError,
    TokenError,
)
from dromos.model import RetryPolicy, Verdict

POLICY = Policy()
FRESH = Lease(generation=7, expires_at=5000.0, expires_wall=5000.0, lifetime=3600.0)
WORKED = Past(had_token=True)
STEADY = Past(had_token=True, ever_stable=True)

LIMITED = HandshakeError("taken", status=409)
REFUSED = HandshakeError("who?", status=401)
BUSY = HandshakeError("busy", status=503)
BROKEN = TokenError("broken", status=200, malformed=True)
NO_TOKEN = TokenError("busy", status=503)
DROPPED = ConnectionClosed(code=1006)


def at(now: float = 1000.0, *, roll: float = 0.5) -> Moment:
    return Moment(now=now, wall=now, roll=roll, link=1, ticket=1)


def dial(error: Exception, **facts: object) -> Failure:
    return replace(Failure(error=error, stage=Stage.DIAL, lease=FRESH), **facts)


def token(error: Exception, **facts: object) -> Failure:
    return replace(Failure(error=error, stage=Stage.TOKEN), **facts)


def link(error: Exception, *, lived: float, stable: bool = False, **facts: object) -> Failure:
    failure = Failure(error=error, stage=Stage.LINK, lease=FRESH, lived=lived, stable=stable)
    return replace(failure, **facts)


def again(
    past: Past, *failures: Failure, policy: Policy = POLICY, moment: Moment | None = None
) -> Again:
    """Weigh these in a row; each of them must leave hope."""
    outcome: Again | Over | None = None
    for failure in failures:
        outcome = weigh(policy, past, failure, moment or at())
        assert isinstance(outcome, Again), outcome
        past = outcome.past
    assert outcome is not None
    return outcome


def over(
    past: Past, failure: Failure, policy: Policy = POLICY, moment: Moment | None = None
) -> PermanentError:
    outcome = weigh(policy, past, failure, moment or at())
    assert isinstance(outcome, Over), outcome
    return outcome.error


# --- Limited --------------------------------------------------------------------------------------


def test_a_limited_verdict_waits_at_the_cap() -> None:
    assert 0.2 + 59.8 * 0.5 == again(WORKED, dial(LIMITED)).delay


def test_without_a_stable_link_the_third_limited_verdict_in_a_row_ends_it() -> None:
    past = again(WORKED, dial(LIMITED), dial(LIMITED)).past

    error = over(past, dial(LIMITED))

    assert "taken; it failed 3 times in a row, and no link was ever stable" == str(error)
    assert LIMITED is error.__cause__


def test_another_verdict_between_starts_the_count_of_limited_ones_anew() -> None:
    past = again(WORKED, dial(LIMITED), dial(LIMITED), dial(BUSY)).past

    assert (0, None) == (past.limited, past.limited_since)
    assert 2 == again(past, dial(LIMITED), dial(LIMITED)).past.limited


def test_after_a_stable_link_limited_verdicts_end_it_only_after_five_and_ten_minutes() -> None:
    past = again(STEADY, dial(LIMITED), moment=at(1000)).past
    assert 1000 == past.limited_since

    past = again(past, *[dial(LIMITED)] * 7, moment=at(1599.9)).past
    error = over(past, dial(LIMITED), moment=at(1600))

    assert "taken; it failed 9 times in a row over 600 s" == str(error)


def test_ten_minutes_alone_are_not_enough_for_the_end() -> None:
    past = again(STEADY, dial(LIMITED), moment=at(1000)).past

    past = again(past, *[dial(LIMITED)] * 3, moment=at(9000)).past
    error = over(past, dial(LIMITED), moment=at(9000))

    assert "taken; it failed 5 times in a row over 600 s" == str(error)


def test_limited_verdicts_from_time_zero_are_timed_as_well() -> None:
    past = again(STEADY, *[dial(LIMITED)] * 4, moment=at(0)).past

    assert 5 == again(past, dial(LIMITED), moment=at(599)).past.limited
    assert isinstance(weigh(POLICY, past, dial(LIMITED), at(600)), Over)


# --- Bounded --------------------------------------------------------------------------------------


def test_a_bounded_verdict_before_the_first_token_ends_it() -> None:
    assert "broken; there was never a token" == str(over(Past(), token(BROKEN)))


def test_a_patient_session_takes_bounded_verdicts_for_ever_before_the_first_token() -> None:
    patient = Policy(patient=True)

    past = again(Past(), *[token(BROKEN)] * 50, policy=patient).past

    assert 51 == again(past, token(BROKEN), policy=patient, moment=at(9e5)).past.bounded


def test_after_a_token_bounded_verdicts_get_five_tries_and_five_minutes() -> None:
    past = again(WORKED, *[token(BROKEN)] * 5, moment=at(1000)).past
    assert (5, 1000) == (past.bounded, past.bounded_since)

    past = again(past, token(BROKEN), moment=at(1299)).past
    error = over(past, token(BROKEN), moment=at(1300))

    assert "broken; it failed 7 times over 300 s" == str(error)


def test_five_minutes_alone_are_not_enough_for_bounded_verdicts() -> None:
    past = again(WORKED, token(BROKEN), moment=at(0)).past

    past = again(past, *[token(BROKEN)] * 4, moment=at(9000)).past

    assert "broken; it failed 6 times over 300 s" == str(over(past, token(BROKEN), moment=at(9000)))


def test_a_connection_that_has_worked_may_be_forbidden_by_the_gateway_for_a_while() -> None:
    forbidden = token(TokenError("no", status=403, source="gateway"))

    assert Verdict.TRANSIENT is again(WORKED, forbidden).verdict
    assert "no; there was never a token" == str(over(Past(), forbidden))


def test_patience_ends_with_the_first_token() -> None:
    past = replace(WORKED, bounded=5, bounded_since=0.0)

    assert "failed 6 times" in str(over(past, token(BROKEN), Policy(patient=True), at(300)))


def test_weather_between_bounded_verdicts_leaves_their_count() -> None:
    past = again(WORKED, token(BROKEN), token(NO_TOKEN)).past

    assert 1 == past.bounded


def test_a_token_clears_the_bounded_count() -> None:
    past = replace(WORKED, bounded=4, bounded_since=3.0).with_token(8, replaced=False)

    assert (True, 0, None) == (past.had_token, past.bounded, past.bounded_since)


# --- Authentication -------------------------------------------------------------------------------


def test_a_refused_token_is_named_and_replaced_after_a_short_wait() -> None:
    outcome = again(replace(WORKED, failures=6), dial(REFUSED))

    assert Verdict.AUTHENTICATION is outcome.verdict
    assert 7 == outcome.refused
    assert outcome.past.rejected
    assert 0.2 + 0.8 * 0.5 == outcome.delay


def test_a_fresh_token_that_is_refused_as_well_ends_it() -> None:
    past = replace(WORKED, rejected=True, fresh=7)

    assert "who?; a fresh token was refused as well" == str(over(past, dial(REFUSED)))


def test_a_fresh_token_that_has_expired_meanwhile_gets_another_chance() -> None:
    past = replace(WORKED, rejected=True, fresh=7)

    outcome = again(past, dial(REFUSED), moment=at(5000))

    assert 7 == outcome.refused


def test_another_token_than_the_fresh_one_gets_another_chance() -> None:
    past = replace(WORKED, rejected=True, fresh=6)

    assert 7 == again(past, dial(REFUSED)).refused


def test_only_a_token_that_replaced_a_refused_one_counts_as_fresh() -> None:
    assert 8 == WORKED.with_token(8, replaced=True).fresh
    assert 7 == replace(WORKED, fresh=7).with_token(8, replaced=False).fresh


def test_a_refusal_without_a_token_names_none() -> None:
    error = HandshakeError("who?", status=401)

    outcome = again(WORKED, token(error))

    assert (None, False) == (outcome.refused, outcome.past.rejected)


def test_a_stable_link_clears_all_but_what_the_source_has_done() -> None:
    troubled = Past(
        started=1.0,
        had_token=True,
        failures=1,
        first_failure=2.0,
        short_links=3,
        limited=4,
        limited_since=5.0,
        bounded=6,
        bounded_since=7.0,
        rejected=True,
        fresh=8,
        last_delay=9.0,
        asked=10.0,
    )

    calm = Past(started=1.0, had_token=True, bounded=6, bounded_since=7.0, asked=10.0)
    assert replace(calm, ever_stable=True) == troubled.after_stability()


def test_a_stable_link_makes_a_refused_token_news_again() -> None:
    past = replace(WORKED, rejected=True, fresh=7)

    outcome = again(past, link(ConnectionClosed(code=4401), lived=60, stable=True))

    assert (7, None) == (outcome.refused, outcome.past.fresh)


def test_a_forbidden_upgrade_is_about_the_token_once_and_then_limited() -> None:
    forbidden = dial(HandshakeError("no", status=403))

    first = again(WORKED, forbidden)
    second = again(first.past, forbidden)

    assert (Verdict.AUTHENTICATION, 7) == (first.verdict, first.refused)
    assert (Verdict.LIMITED, None, 1) == (second.verdict, second.refused, second.past.limited)


def test_a_scope_that_is_too_small_ends_it() -> None:
    challenge = {"www-authenticate": 'Bearer error="insufficient_scope"'}
    error = HandshakeError("no", status=403, headers=challenge)

    assert "no; trying again would not help" == str(over(WORKED, dial(error)))


# --- Plain expiry ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1008, 4401, 1003, 1006, 1000])
def test_a_close_after_the_links_own_token_expired_is_no_failure(code: int) -> None:
    past = replace(WORKED, failures=3, short_links=4, limited=2, limited_since=1.0)

    outcome = again(past, link(ConnectionClosed(code=code), lived=2), moment=at(5000))

    assert (Verdict.TRANSIENT, False, None) == (outcome.verdict, outcome.counted, outcome.refused)
    assert replace(past, last_delay=outcome.delay) == outcome.past
    assert 0.2 + 0.8 * 0.5 == outcome.delay


def test_a_close_a_moment_before_the_expiry_is_what_it_says() -> None:
    outcome = again(WORKED, link(ConnectionClosed(code=4401), lived=60), moment=at(4999.9))

    assert (Verdict.AUTHENTICATION, True) == (outcome.verdict, outcome.counted)


def test_an_end_of_our_own_making_is_not_plain_expiry() -> None:
    silent = ConnectionClosed(code=1006, by_peer=False)

    assert again(WORKED, link(silent, lived=60), moment=at(5000)).counted


def test_an_upgrade_that_fails_with_an_expired_token_is_not_plain_expiry() -> None:
    assert 1 == again(WORKED, dial(BUSY), moment=at(6000)).past.failures


def test_a_close_without_a_token_is_not_plain_expiry() -> None:
    assert 1 == again(WORKED, link(DROPPED, lived=1, lease=None), moment=at(6000)).past.failures


def test_plain_expiry_after_a_stable_link_clears_what_stability_clears() -> None:
    past = replace(WORKED, failures=3, rejected=True, fresh=7)

    outcome = again(past, link(DROPPED, lived=60, stable=True), moment=at(5000))

    assert STEADY == replace(outcome.past, last_delay=0.0)


# --- The first token ------------------------------------------------------------------------------


def test_the_first_token_gets_three_tries() -> None:
    past = again(Past(started=1000.0), token(NO_TOKEN), token(NO_TOKEN)).past

    error = over(past, token(NO_TOKEN))

    assert 'busy; no token in 3 tries at the start; initial_token="retry" goes on trying' == str(
        error
    )


def test_no_try_for_the_first_token_starts_after_ten_seconds() -> None:
    # The next wait is U(0.2, 1): at its middle 0.6 s.
    past = Past(started=1000.0)

    assert isinstance(weigh(POLICY, past, token(NO_TOKEN), at(1009.4)), Again)
    error = over(past, token(NO_TOKEN), moment=at(1009.5))
    assert 'busy; no token within 10 s at the start; initial_token="retry" goes on trying' == str(
        error
    )


def test_the_far_side_cannot_ask_to_wait_longer_than_the_first_token_may_take() -> None:
    slow = TokenError("slow down", status=429, retry_after=30.0)

    assert "within 10 s" in str(over(Past(started=1000.0), token(slow)))


def test_a_patient_session_waits_for_its_first_token_for_ever() -> None:
    patient = Policy(patient=True)
    past = again(Past(started=0.0), *[token(NO_TOKEN)] * 40, policy=patient, moment=at(1e6)).past

    assert 40 == past.failures


def test_after_the_first_token_a_source_may_fail_for_ever() -> None:
    assert 40 == again(WORKED, *[token(NO_TOKEN)] * 40, moment=at(1e6)).past.failures


def test_a_dial_that_fails_at_the_start_is_not_about_the_first_token() -> None:
    assert 5 == again(WORKED, *[dial(BUSY)] * 5, moment=at(1e6)).past.failures


# --- The user's own limits ------------------------------------------------------------------------


def test_max_attempts_ends_it_at_that_failure() -> None:
    policy = Policy(retry=RetryPolicy(max_attempts=2))
    past = again(WORKED, dial(BUSY), policy=policy).past

    assert "busy; max_attempts is 2" == str(over(past, dial(BUSY), policy))


def test_the_loss_of_a_stable_link_is_no_attempt() -> None:
    policy = Policy(retry=RetryPolicy(max_attempts=1))

    outcome = again(WORKED, link(DROPPED, lived=60, stable=True), policy=policy)

    assert (0, None) == (outcome.past.failures, outcome.past.first_failure)


def test_max_elapsed_ends_it_when_the_next_attempt_would_start_later() -> None:
    policy = Policy(retry=RetryPolicy(max_elapsed=30))
    past = again(WORKED, dial(BUSY), policy=policy, moment=at(1000)).past

    # The second wait is U(0.2, 2): at its middle 1.1 s.
    assert isinstance(weigh(policy, past, dial(BUSY), at(1028.9)), Again)
    assert "busy; max_elapsed is 30 s" == str(over(past, dial(BUSY), policy, at(1028.91)))


def test_max_elapsed_counts_from_the_first_failure_in_a_row() -> None:
    past = again(WORKED, dial(BUSY), moment=at(1000)).past
    past = again(past, dial(BUSY), moment=at(1010)).past

    assert 1000 == past.first_failure


def test_max_elapsed_of_zero_allows_no_second_attempt() -> None:
    policy = Policy(retry=RetryPolicy(max_elapsed=0))

    assert "busy; max_elapsed is 0 s" == str(over(WORKED, dial(BUSY), policy))


# --- The wait -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "most"), [(0, 1.0), (1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (2000, 60.0)]
)
def test_the_wait_doubles_up_to_the_cap(failures: int, most: float) -> None:
    past = replace(WORKED, failures=failures)

    assert pytest.approx(0.2 + (most - 0.2) * 0.5) == again(past, dial(BUSY)).delay
    assert pytest.approx(0.2) == again(past, dial(BUSY), moment=at(roll=0.0)).delay


def test_the_wait_is_remembered_for_stability() -> None:
    outcome = again(WORKED, dial(BUSY))

    assert outcome.delay == outcome.past.last_delay


def test_the_first_retry_after_a_stable_link_waits_like_the_first_failure() -> None:
    past = replace(STEADY, failures=9, short_links=4, last_delay=50.0)

    outcome = again(past, link(DROPPED, lived=60, stable=True))

    assert 0.2 + 0.8 * 0.5 == outcome.delay
    assert replace(STEADY, last_delay=outcome.delay) == outcome.past


@pytest.mark.parametrize("code", [1001, 1012])
def test_a_far_side_that_restarts_is_given_five_seconds_after_a_stable_link(code: int) -> None:
    error = ConnectionClosed(code=code)

    assert pytest.approx(0.2 + 4.8 * 0.5) == again(WORKED, link(error, lived=60, stable=True)).delay


@pytest.mark.parametrize("code", [1001, 1012])
def test_a_far_side_that_goes_away_at_once_is_backed_off_from(code: int) -> None:
    error = ConnectionClosed(code=code)
    past = replace(WORKED, failures=4)

    assert pytest.approx(0.2 + 15.8 * 0.5) == again(past, link(error, lived=60)).delay


@pytest.mark.parametrize("code", [1000, 1006, 1011])
def test_no_other_end_is_spread_over_five_seconds(code: int) -> None:
    failure = link(ConnectionClosed(code=code), lived=60, stable=True)

    assert 1.0 >= again(WORKED, failure, moment=at(roll=0.999)).delay


# --- Flapping -------------------------------------------------------------------------------------


def test_the_fifth_short_link_in_a_row_goes_to_the_cap() -> None:
    short = link(ConnectionClosed(code=1000), lived=9.99)

    fourth = again(WORKED, *[short] * 4)
    fifth = again(fourth.past, short)

    assert pytest.approx(0.2 + 7.8 * 0.5) == fourth.delay
    assert 5 == fifth.past.short_links
    assert pytest.approx(0.2 + 59.8 * 0.5) == fifth.delay


def test_a_link_of_ten_seconds_is_not_short() -> None:
    past = again(replace(WORKED, short_links=4), link(DROPPED, lived=10.0)).past

    assert 0 == past.short_links


def test_a_failed_dial_leaves_the_count_of_short_links() -> None:
    past = again(replace(WORKED, short_links=4), dial(BUSY)).past

    assert 4 == past.short_links


def test_a_refused_token_is_replaced_soon_however_short_the_links_were() -> None:
    past = replace(WORKED, short_links=9)

    assert 0.2 + 0.8 * 0.5 == again(past, link(ConnectionClosed(code=4401), lived=1)).delay


# --- What the far side asks for -------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        dial(HandshakeError("slow down", status=429)),
        token(TokenError("slow down", status=429)),
        link(ConnectionClosed(code=4429), lived=60, stable=True),
        link(ConnectionClosed(code=4008), lived=60, stable=True),
        link(ConnectionClosed(code=1013), lived=60, stable=True),
    ],
    ids=["upgrade", "token", "4429", "4008", "1013"],
)
def test_a_rate_limit_without_a_time_waits_ten_seconds_and_a_little(failure: Failure) -> None:
    assert 10.0 == again(WORKED, failure, moment=at(roll=0.0)).delay
    assert 10.5 == again(WORKED, failure, moment=at(roll=0.5)).delay


def test_retry_after_lengthens_the_wait() -> None:
    error = HandshakeError("slow down", status=503, retry_after=20.0)

    assert 20.0 == again(WORKED, dial(error), moment=at(roll=0.0)).delay


def test_retry_after_never_shortens_the_wait() -> None:
    error = HandshakeError("slow down", status=429, retry_after=0.0)
    past = replace(WORKED, failures=9)

    assert pytest.approx(30.1) == again(past, dial(error)).delay


def test_retry_after_counts_for_an_hour_at_most() -> None:
    error = HandshakeError("slow down", status=503, retry_after=86400.0)

    assert 3600.0 == again(WORKED, dial(error)).delay


# --- The user's own verdict -----------------------------------------------------------------------


def test_a_verdict_of_the_users_goes_before_the_table() -> None:
    spared = again(WORKED, link(ConnectionClosed(code=1008), lived=1, override=Verdict.TRANSIENT))

    assert Verdict.TRANSIENT is spared.verdict
    assert "trying again would not help" in str(
        over(WORKED, dial(BUSY, override=Verdict.PERMANENT))
    )


def test_a_verdict_of_the_users_goes_before_plain_expiry() -> None:
    failure = link(ConnectionClosed(code=4999), lived=1, override=Verdict.PERMANENT)

    assert isinstance(weigh(POLICY, WORKED, failure, at(6000)), Over)


def test_a_verdict_of_the_users_goes_before_a_permanent_error() -> None:
    failure = dial(PermanentError("no"), override=Verdict.TRANSIENT)

    assert Verdict.TRANSIENT is again(WORKED, failure).verdict


def test_a_verdict_of_the_users_is_counted_like_one_of_ours() -> None:
    failure = dial(BUSY, override=Verdict.LIMITED)
    past = again(WORKED, failure, failure).past

    assert isinstance(weigh(POLICY, past, failure, at()), Over)


# --- The end --------------------------------------------------------------------------------------


def test_a_permanent_error_is_the_outcome_itself() -> None:
    error = InteractionRequired("consent", connection_id="c-17")

    assert error is over(STEADY, token(error))


def test_an_error_that_only_a_person_can_mend_asks_for_one_and_keeps_its_code() -> None:
    withdrawn = TokenError("consent was withdrawn", status=400, code="interaction_required")

    error = over(STEADY, token(withdrawn))

    assert isinstance(error, InteractionRequired)
    assert "interaction_required" == error.code
    assert withdrawn is error.__cause__


def test_a_users_verdict_may_ask_for_a_person_about_any_error() -> None:
    error = over(STEADY, dial(HandshakeError("pay", status=402), override=Verdict.INTERACTION))

    assert isinstance(error, InteractionRequired)
    assert error.code is None


def test_another_error_is_the_cause_of_the_outcome() -> None:
    gone = HandshakeError("gone", status=410)

    error = over(WORKED, dial(gone))

    assert gone is error.__cause__
    assert "gone; trying again would not help" == str(error)


def test_an_error_without_words_is_named_by_its_class() -> None:
    error = over(Past(), token(KeyError()))

    assert "KeyError; there was never a token" == str(error)


def test_what_a_stranger_says_comes_with_what_it_is() -> None:
    error = over(Past(), token(KeyError("k")))

    assert "KeyError: 'k'; there was never a token" == str(error)
