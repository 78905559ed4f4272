"""The delay before the next attempt: bounds, for every policy and every roll."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos._core.backoff import FLOOR, delay, lengthened, spread
from dromos.model import RetryPolicy

ROLLS = st.floats(min_value=0, max_value=1, exclude_max=True)
FAILURES = st.integers(min_value=-1, max_value=10**9)
SECONDS = st.floats(min_value=0, max_value=1e6)


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    least = draw(SECONDS)
    most = draw(st.floats(min_value=least, max_value=2e6))
    return RetryPolicy(min_backoff=least, max_backoff=most, jitter=draw(st.just("full") | SECONDS))


@given(policies(), FAILURES, ROLLS)
def test_a_delay_is_never_under_the_floor_nor_over_the_cap(
    retry: RetryPolicy, failures: int, roll: float
) -> None:
    wait = delay(retry, failures=failures, roll=roll)

    assert FLOOR <= wait <= max(FLOOR, retry.max_backoff)


@given(policies(), st.integers(min_value=0, max_value=200), ROLLS)
def test_more_failures_never_wait_less(retry: RetryPolicy, failures: int, roll: float) -> None:
    before = delay(retry, failures=failures, roll=roll)

    assert before <= delay(retry, failures=failures + 1, roll=roll)


@given(policies(), FAILURES, ROLLS, ROLLS)
def test_a_higher_roll_never_waits_less(
    retry: RetryPolicy, failures: int, one: float, other: float
) -> None:
    low, high = sorted((one, other))

    assert delay(retry, failures=failures, roll=low) <= delay(retry, failures=failures, roll=high)


def test_full_jitter_spreads_from_the_floor_to_the_step() -> None:
    retry = RetryPolicy()

    assert 0.2 == delay(retry, failures=9, roll=0.0)
    assert [0.6, 1.1, 2.1, 4.1, 8.1, 16.1, 30.1, 30.1] == pytest.approx(
        [delay(retry, failures=n, roll=0.5) for n in range(1, 9)]
    )


def test_no_failure_waits_like_the_first() -> None:
    assert pytest.approx(0.6) == delay(RetryPolicy(), failures=0, roll=0.5)


def test_zero_is_safe() -> None:
    retry = RetryPolicy(min_backoff=0, max_backoff=0, jitter=0)

    assert {0.2} == {delay(retry, failures=n, roll=0.9) for n in range(50)}


def test_jitter_in_seconds_is_added_to_a_doubling_delay() -> None:
    retry = RetryPolicy(jitter=0.5)

    assert [1, 2, 4, 8, 16, 32] == [delay(retry, failures=n, roll=0.0) for n in range(1, 7)]
    assert 1.25 == delay(retry, failures=1, roll=0.5)


def test_jitter_in_seconds_is_taken_below_the_cap() -> None:
    """Above it, all agents that have reached the cap would come back in step."""
    retry = RetryPolicy(jitter=10)

    assert 50.0 == delay(retry, failures=30, roll=0.0)
    assert 55.0 == delay(retry, failures=30, roll=0.5)


def test_jitter_wider_than_the_cap_starts_at_the_least_delay() -> None:
    retry = RetryPolicy(min_backoff=2, max_backoff=60, jitter=100)

    assert 2.0 == delay(retry, failures=30, roll=0.0)
    assert 52.0 == delay(retry, failures=30, roll=0.5)
    assert 60.0 == delay(retry, failures=30, roll=0.9)


def test_jitter_in_seconds_keeps_the_floor() -> None:
    assert 0.2 == delay(RetryPolicy(min_backoff=0, jitter=1), failures=3, roll=0.1)


def test_a_spread_has_a_floor_even_where_there_is_nothing_to_spread() -> None:
    assert (0.2, 0.2) == (spread(0.1, 0.5), spread(0.2, 0.99))
    assert pytest.approx(2.6) == spread(5.0, 0.5)


@given(SECONDS, st.none() | st.floats(min_value=0, max_value=1e12), ROLLS)
def test_what_the_far_side_asks_for_only_lengthens_up_to_an_hour(
    wait: float, least: float | None, roll: float
) -> None:
    longer = lengthened(wait, least=least, roll=roll)

    assert max(wait, min(3600.0, least or 0.0)) <= longer <= max(wait, 3600.0)


def test_what_everybody_was_told_is_spread_a_little() -> None:
    assert 100.0 == lengthened(1.0, least=100.0, roll=0.0)
    assert 105.0 == lengthened(1.0, least=100.0, roll=0.5)
    assert 3600.0 == lengthened(1.0, least=3599.0, roll=0.5)
    assert 1.0 == lengthened(1.0, least=None, roll=0.5)
