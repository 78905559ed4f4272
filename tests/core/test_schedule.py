"""When a token is due: the arithmetic, in numbers and in properties."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dromos._core import schedule
from dromos._core.schedule import Lease, Need

NOW, WALL = 1000.0, 1_795_402_541.0

TIMES = st.floats(min_value=0, max_value=1e8)
LIVES = st.floats(min_value=-1e6, max_value=1e9)
ROLLS = st.floats(min_value=0, max_value=1, exclude_max=True)


def lease(life: float | None, *, issued_for: float | None = None) -> Lease:
    return schedule.lease(
        generation=1,
        expires_wall=None if life is None else WALL + life,
        lifetime=issued_for,
        now=NOW,
        wall=WALL,
    )


# --- The lease ------------------------------------------------------------------------------------


def test_a_lease_holds_its_end_on_both_clocks():
    assert Lease(
        generation=1, expires_at=NOW + 3600, expires_wall=WALL + 3600, lifetime=3600
    ) == lease(3600)


def test_a_token_without_an_expiry_has_a_lease_without_an_end():
    assert Lease(generation=1) == lease(None)
    assert Lease(generation=1) == lease(None, issued_for=3600)


def test_the_lifetime_is_as_issued_however_late_the_token_is_seen():
    assert 3600 == lease(10, issued_for=3600).lifetime


@pytest.mark.parametrize("said", [None, 0.0, -1.0])
def test_a_lifetime_that_says_nothing_is_what_is_left(said: float | None):
    assert 60 == lease(60, issued_for=said).lifetime


def test_an_expiry_further_off_than_the_lifetime_makes_the_lifetime_longer():
    assert 7200 == lease(7200, issued_for=3600).lifetime


def test_a_token_that_is_expired_when_first_seen_has_no_lifetime():
    assert 0 == lease(-5).lifetime


@given(life=LIVES, issued_for=st.none() | LIVES)
def test_no_lifetime_is_negative(life: float, issued_for: float | None):
    lifetime = lease(life, issued_for=issued_for).lifetime

    assert lifetime is not None
    assert lifetime >= 0


# --- What remains ---------------------------------------------------------------------------------


def test_what_remains_is_what_the_stricter_clock_says():
    held = lease(3600)

    assert 3600 == schedule.remaining(held, now=NOW, wall=WALL)
    assert 3500 == schedule.remaining(held, now=NOW + 100, wall=WALL)
    assert 3500 == schedule.remaining(held, now=NOW, wall=WALL + 100)


def test_a_token_that_never_expires_remains_for_ever():
    assert math.inf == schedule.remaining(lease(None), now=1e12, wall=1e12)
    assert not schedule.is_expired(lease(None), now=1e12, wall=1e12)


@pytest.mark.parametrize(("later", "expected"), [(3599.0, False), (3600.0, True), (3601.0, True)])
def test_a_token_is_expired_from_its_expiry_on(later: float, expected: bool):
    assert expected is schedule.is_expired(lease(3600), now=NOW + later, wall=WALL)


@given(life=LIVES, step=st.floats(min_value=-1e6, max_value=1e6), passed=TIMES)
def test_13_no_step_of_the_wall_clock_makes_a_token_live_longer(
    life: float, step: float, passed: float
):
    left = schedule.remaining(lease(life), now=NOW + passed, wall=WALL + passed + step)

    assert left <= life - passed + 1e-3


# --- When it is due -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "expected"),
    [(3600.0, 300.0), (600.0, 300.0), (300.0, 150.0), (60.0, 30.0), (5.0, 2.5)],
)
def test_a_token_is_due_a_buffer_or_half_its_lifetime_before_its_end(life: float, expected: float):
    assert expected == schedule.lead(lease(life), buffer=300, roll=0.0)


def test_jitter_makes_it_due_earlier():
    assert 315 == pytest.approx(schedule.lead(lease(3600), buffer=300, roll=0.5))


def test_a_token_that_never_expires_is_never_due():
    assert 0 == schedule.lead(lease(None), buffer=300, roll=0.9)


@given(life=LIVES, issued_for=st.none() | LIVES, buffer=TIMES, roll=ROLLS)
def test_a_token_is_never_due_as_soon_as_it_is_issued(
    life: float, issued_for: float | None, buffer: float, roll: float
):
    held = lease(life, issued_for=issued_for)
    assert held.lifetime is not None
    assume(held.lifetime > 0)

    assert schedule.lead(held, buffer=buffer, roll=roll) <= 0.55 * held.lifetime


@given(life=LIVES, buffer=TIMES, roll=ROLLS)
def test_jitter_never_makes_it_due_later(life: float, buffer: float, roll: float):
    held = lease(life)

    assert schedule.lead(held, buffer=buffer, roll=roll) >= schedule.lead(
        held, buffer=buffer, roll=0.0
    )


# --- Floors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "expected"),
    [(-5.0, 1.0), (0.0, 1.0), (2.0, 1.0), (60.0, 15.0), (120.0, 30.0), (3600.0, 30.0)],
)
def test_the_floor_is_a_quarter_of_the_lifetime_between_one_and_thirty_seconds(
    life: float, expected: float
):
    assert expected == schedule.floor(lease(life))


def test_without_a_lifetime_the_floor_is_a_second():
    assert 1.0 == schedule.floor(None)
    assert 1.0 == schedule.floor(lease(None))


@given(life=st.none() | LIVES, issued_for=st.none() | LIVES)
def test_the_floor_is_never_under_a_second_nor_over_thirty(
    life: float | None, issued_for: float | None
):
    assert 1.0 <= schedule.floor(lease(life, issued_for=issued_for)) <= 30.0


@pytest.mark.parametrize(
    ("life", "expected"),
    [(3600.0, 30.0), (120.0, 30.0), (60.0, 15.0), (2.0, 0.5), (0.0, 0.0), (None, 0.0)],
)
def test_a_dial_needs_a_quarter_of_the_lifetime_or_thirty_seconds(
    life: float | None, expected: float
):
    assert expected == schedule.least_to_dial(lease(life))


@given(life=st.floats(min_value=0.001, max_value=1e9), buffer=TIMES, roll=ROLLS)
def test_a_fresh_token_is_good_for_a_dial(life: float, buffer: float, roll: float):
    held = lease(life)

    assert schedule.remaining(held, now=NOW, wall=WALL) >= schedule.least_to_dial(held) * 0.99


@given(life=st.floats(min_value=4, max_value=1e9), longer=TIMES, roll=ROLLS)
def test_a_token_that_becomes_due_leaves_time_for_a_try_after_the_floor(
    life: float, longer: float, roll: float
):
    # The window of a short token is half its lifetime, and the floor a quarter of it.
    held = lease(life)
    buffer = life / 2 + longer

    assert schedule.lead(held, buffer=buffer, roll=roll) >= schedule.floor(held) * 0.99


def test_a_waiting_session_looks_again_within_half_a_minute():
    assert 30.0 == schedule.LONGEST_SLEEP


def test_the_needs_have_names():
    assert ["dial", "renew", "replace"] == [need.value for need in Need]


def test_a_lifetime_of_one_second_is_one_as_issued() -> None:
    held = schedule.lease(generation=1, expires_wall=1000.5, lifetime=1.0, now=0.0, wall=1000.0)

    assert 1.0 == held.lifetime
