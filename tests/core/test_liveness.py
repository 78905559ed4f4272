"""When a link is pinged, and when it is given up."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos._core.liveness import Action, Watch, begin, look

NOTHING, PING, GIVE_UP = Action.NOTHING, Action.PING, Action.GIVE_UP


class Watched:
    """A watch, and the time at which data arrived last."""

    def __init__(self, *, interval: float = 20.0, timeout: float = 20.0) -> None:
        self.watch: Watch = begin(interval=interval, timeout=timeout, now=100.0)
        self.heard = 100.0

    def at(self, now: float, *, heard: float | None = None, paused: bool = False) -> Action:
        """Look at this time; `heard` is when data arrived last, if it did since."""
        self.heard = self.heard if heard is None else heard
        self.watch, action = look(self.watch, now=now, idle=now - self.heard, paused=paused)
        return action


def test_an_idle_link_is_pinged_after_the_interval() -> None:
    link = Watched()
    assert 120.0 == link.watch.at

    assert NOTHING is link.at(119.9)
    assert PING is link.at(120.0)
    assert 140.0 == link.watch.at


def test_data_of_any_kind_postpones_the_ping() -> None:
    link = Watched()

    assert NOTHING is link.at(120.0, heard=115.0)
    assert 135.0 == link.watch.at
    assert PING is link.at(135.0)


def test_data_of_any_kind_answers_a_ping() -> None:
    link = Watched()
    link.at(120.0)

    assert NOTHING is link.at(140.0, heard=120.5)
    assert (None, 140.5) == (link.watch.pinged, link.watch.at)
    assert PING is link.at(140.5)


def test_data_that_came_with_the_ping_answers_it() -> None:
    link = Watched()
    link.at(120.0)

    assert PING is link.at(140.0, heard=120.0)


@given(
    rtt=st.floats(0.0, 0.005),
    wrong=st.lists(st.floats(-0.01, 0.01), min_size=40, max_size=40),
    interval=st.sampled_from([0.1, 0.3, 20.0]),
    timeout=st.sampled_from([0.1, 20.0]),
)
def test_an_answer_from_nearby_counts_though_the_kernels_clock_is_coarse(
    rtt: float, wrong: list[float], interval: float, timeout: float
) -> None:
    """Linux tells idleness in ticks of 1 to 10 ms: the answer may seem older than its ping."""
    watch, heard, now = begin(interval=interval, timeout=timeout, now=100.0), 100.0, 100.0
    for error in wrong:
        now = max(now, watch.at)
        watch, action = look(watch, now=now, idle=max(0.0, now - heard + error), paused=False)
        if action is PING:
            heard = now + rtt

        assert action is not GIVE_UP


def test_a_link_without_an_answer_is_given_up_after_interval_and_timeout() -> None:
    link = Watched()

    assert [PING, NOTHING, GIVE_UP] == [link.at(120.0), link.at(139.9), link.at(140.0)]


def test_a_look_before_the_deadline_waits_for_it() -> None:
    link = Watched(timeout=7.0)
    link.at(120.0)

    assert NOTHING is link.at(121.0)
    assert 127.0 == link.watch.at


def test_data_from_before_the_link_opened_is_no_life() -> None:
    link = Watched()

    assert PING is link.at(120.0, heard=50.0)


def test_a_timer_that_is_late_gives_the_peer_a_second() -> None:
    link = Watched()
    link.at(120.0)

    assert NOTHING is link.at(141.1)
    assert 142.1 == link.watch.at
    assert GIVE_UP is link.at(142.1)


def test_a_timer_that_is_a_second_late_is_not_late() -> None:
    link = Watched()
    link.at(120.0)

    assert GIVE_UP is link.at(141.0)


def test_an_answer_within_the_grace_is_life() -> None:
    link = Watched()
    link.at(120.0)
    link.at(150.0)

    assert NOTHING is link.at(151.0, heard=150.2)
    assert 170.2 == link.watch.at


def test_a_look_within_the_grace_waits_for_its_end() -> None:
    link = Watched()
    link.at(120.0)
    link.at(150.0)

    assert [NOTHING, GIVE_UP] == [link.at(150.5), link.at(151.0)]


def test_a_timer_that_is_late_again_gives_grace_again() -> None:
    """A machine that goes on being busy says nothing about the peer."""
    link = Watched()
    link.at(120.0)
    link.at(150.0)

    assert NOTHING is link.at(153.0)


def test_while_reading_is_paused_pings_go_out_and_no_answer_is_expected() -> None:
    link = Watched()

    assert [PING] * 5 == [link.at(120.0 + 20.0 * n, paused=True) for n in range(5)]
    assert 220.0 == link.watch.at


def test_while_reading_is_paused_a_look_in_between_pings_nothing() -> None:
    link = Watched()

    assert NOTHING is link.at(119.0, paused=True)
    assert 139.0 == link.watch.at


def test_a_ping_from_before_the_pause_needs_no_answer_after_it() -> None:
    link = Watched()
    link.at(120.0)
    link.at(140.0, paused=True)

    assert NOTHING is link.at(141.0)
    assert 160.0 == link.watch.at
    assert [PING, GIVE_UP] == [link.at(160.0), link.at(180.0)]


@given(
    st.floats(min_value=0.1, max_value=100),
    st.floats(min_value=0.1, max_value=100),
    st.lists(st.floats(min_value=0, max_value=0.9), min_size=1, max_size=8),
)
def test_a_mute_peer_is_given_up_in_time_and_not_before(
    interval: float, timeout: float, late: list[float]
) -> None:
    """Within interval, timeout and a second, however late the timers are (up to that)."""
    link = Watched(interval=interval, timeout=timeout)
    pings = 0
    for lateness in [*late, *[0.0] * 8]:
        now = link.watch.at + lateness * 0.5
        action = link.at(now)
        if action is GIVE_UP:
            break
        pings += action is PING

    assert GIVE_UP is action
    assert 1 == pings
    assert interval + timeout <= now - 100.0 + 1e-9 <= interval + timeout + 1.0


@given(st.lists(st.floats(min_value=0.01, max_value=19.9), min_size=1, max_size=50))
def test_a_peer_that_says_something_in_every_interval_is_neither_pinged_nor_given_up(
    gaps: list[float],
) -> None:
    link = Watched()
    now = 100.0
    for gap in gaps:
        now += gap
        link.heard = now
        while link.watch.at <= now:
            assert NOTHING is link.at(now)


@pytest.mark.parametrize("timeout", [0.5, 1.0, 5.0, 20.0])
def test_pings_go_out_at_their_interval_however_long_an_answer_may_take(timeout: float) -> None:
    """Found behind a proxy that ends what is silent for two seconds."""
    interval, answered_in = 0.8, 0.01
    watch = begin(interval=interval, timeout=timeout, now=0.0)
    pings: list[float] = []
    while watch.at < 10:
        now = watch.at
        heard = pings[-1] + answered_in if pings else 0.0
        watch, action = look(watch, now=now, idle=now - heard, paused=False)
        if action is Action.PING:
            pings.append(now)

    gaps = [after - before for before, after in pairwise(pings)]
    assert len(pings) >= 11
    assert max(gaps) <= interval + 2 * answered_in
