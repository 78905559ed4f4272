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
    many.attempts = [0.001 * n for n in range(200)]
    many._expect_calm("restart")
    many._expect("no session ended by itself", not ["c-1: gone"], "c-1: gone")

    verdict = list(many.table())[-1]
    assert "not so: restart: no storm (200 a second)" in verdict
    assert "not so: no session ended by itself (c-1: gone)" in verdict


def test_the_most_within_a_second_are_counted_wherever_it_begins():
    assert 0 == most_within_a_second([])
    assert 3 == most_within_a_second([0.0, 0.9, 1.2, 1.8, 5.0])


def test_a_far_side_admits_at_its_rate_and_no_faster():
    admission = Admission(rate=10, slack=0.0)

    let_in = [n for n in range(1000) if admission.admits(n * 0.01)]

    assert 100 == len(let_in)
    assert all(later - earlier >= 10 for earlier, later in pairwise(let_in))
