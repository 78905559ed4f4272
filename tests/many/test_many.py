"""A few hundred sessions through a restart; and whether the verdict can fail."""

import asyncio
from itertools import pairwise

import pytest

from tests.many.admission import Admission
from tests.many.process import allow_descriptors
from tests.many.run import Many, most_within_a_second


@pytest.mark.slow  # most of half a minute: a process that is killed, and two starts at a rate
@pytest.mark.timeout(300)
def test_hundreds_of_sessions_live_through_a_restart_and_nobody_is_hammered():
    allow_descriptors(1000)
    many = Many(200, rate=40)
    asyncio.run(many.run())
    lines = list(many.table())

    assert lines[-1].startswith("PASSED"), "\n".join(lines)
    assert many.attempts_of, "nothing was dialled again"


def test_a_storm_a_loss_and_a_second_question_would_be_seen():
    many = Many(200, rate=40)
    many.most_dials = 65
    many.begun = [0.001 * n for n in range(200)]
    many._expect_calm("restart")
    many._expect("no session ended by itself", not ["c-1: gone"], "c-1: gone")

    verdict = list(many.table())[-1]
    assert "not so: restart: no storm (200 a second)" in verdict
    assert "not so: restart: dials are bounded (65)" in verdict
    assert "not so: no session ended by itself (c-1: gone)" in verdict


def test_the_most_within_a_second_are_counted_wherever_it_begins():
    assert 0 == most_within_a_second([])
    assert 3 == most_within_a_second([0.0, 0.9, 1.2, 1.8, 5.0])


def test_a_far_side_admits_at_its_rate_and_no_faster():
    admission = Admission(rate=8, burst=0.0)

    let_in = [n for n in range(1024) if admission.admits(n / 128)]

    assert 64 == len(let_in)
    assert all(later - earlier == 16 for earlier, later in pairwise(let_in))


def test_a_far_side_that_was_held_up_lets_those_in_who_were_due_meanwhile():
    admission = Admission(rate=8, burst=1.0, free=0.0)

    assert 9 == sum(admission.admits(64.0) for _ in range(100))
