"""The summary's arithmetic: every number is accounted for, or said not to be."""

import json

import pytest

from dromos.demo.ledger import Fault, Ledger
from dromos.demo.summary import Step, add_up


def ledger_of(*rows: tuple[int, tuple[int, ...], int]) -> Ledger:
    """Make a ledger of rows: a number, the links it was written to, how often it was heard."""
    ledger = Ledger()
    for number, links, copies in rows:
        ledger.publish(number, links)
        for _ in range(copies):
            ledger.hear(number)
    return ledger


def fault(step="killed", after=0, until=0, links=(), gap=1.0):
    links = frozenset(links)
    return Fault(
        step=step, after=after, until=until, links=links, seconds=gap + 2, without_link=gap
    )


def summary_of(ledger, **known):
    given = {
        "steps": (),
        "faults": (),
        "handovers": (),
        "gaps": [f.without_link for f in known.get("faults", ())],
        "took": 1.0,
        "links": 1,
        "refreshes": 0,
        "expired_links": 0,
    }
    return add_up(ledger, **(given | known))


def test_what_was_published_before_the_first_link_and_after_the_last_does_not_count():
    ledger = ledger_of((1, (), 0), (2, (1,), 1), (3, (1,), 1), (4, (), 0))

    summary = summary_of(ledger)

    assert (summary.published, summary.received, summary.lost) == (2, 2, 0)
    assert summary.passed


def test_overlapping_links_make_duplicates_and_nothing_is_lost():
    ledger = ledger_of((1, (1,), 1), (2, (1, 2), 2), (3, (1, 2), 1), (4, (2,), 1))

    summary = summary_of(ledger, handovers=[range(2, 4)])

    assert (summary.written, summary.handled, summary.received) == (6, 5, 4)
    assert (summary.duplicates, summary.lost, summary.lost_in_handovers) == (1, 0, 0)
    assert summary.passed


def test_numbers_that_reached_no_link_are_blamed_on_the_fault_of_that_time():
    ledger = ledger_of((1, (1,), 1), (2, (), 0), (3, (), 0), (4, (2,), 1))

    summary = summary_of(ledger, faults=[fault(after=1, until=4, links=[1], gap=2.5)])

    [gap] = summary.gaps
    assert (gap.step, gap.seconds, gap.without_link) == ("killed", 4.5, 2.5)
    assert (gap.unheard, gap.in_flight, gap.lost) == (2, 0, 2)
    assert (summary.unexplained, summary.longest_gap) == (0, 4.5)
    assert summary.passed


def test_numbers_in_flight_on_a_destroyed_link_are_blamed_on_what_destroyed_it():
    ledger = ledger_of((1, (1,), 1), (2, (1,), 0), (3, (2,), 1))

    summary = summary_of(ledger, faults=[fault(after=2, until=3, links=[1])])

    assert (summary.gaps[0].unheard, summary.gaps[0].in_flight) == (0, 1)
    assert summary.passed


@pytest.mark.parametrize("reached", [(), (2,)])
def test_a_loss_that_no_fault_accounts_for_is_a_problem(reached):
    ledger = ledger_of((1, (1,), 1), (2, reached, 0), (3, (2,), 1))

    summary = summary_of(ledger, faults=[fault(after=2, until=3, links=[1])])

    assert summary.unexplained == 1
    assert summary.problems == ("1 messages were lost and no fault accounts for them",)


def test_a_loss_in_a_handover_is_said_to_be_one():
    ledger = ledger_of((1, (1,), 1), (2, (1, 2), 0), (3, (2,), 1))

    summary = summary_of(ledger, handovers=[range(1, 3)])

    assert summary.lost_in_handovers == 1
    assert "1 messages were lost in hand-overs" in summary.problems


def test_a_message_that_was_never_written_is_a_problem():
    ledger = ledger_of((1, (1,), 1), (2, (1,), 2))
    ledger.hear(99)

    summary = summary_of(ledger)

    assert summary.invented == 2
    assert not summary.passed


def test_first_copies_out_of_order_are_a_problem_and_second_copies_are_not():
    ledger = ledger_of((1, (1, 2), 0), (2, (1, 2), 0), (3, (1, 2), 0))
    for number in (1, 2, 1, 2, 3):
        ledger.hear(number)
    in_order = summary_of(ledger)
    ledger = ledger_of((1, (1,), 0), (2, (1,), 0))
    for number in (2, 1):
        ledger.hear(number)

    assert (in_order.out_of_order, in_order.passed) == (0, True)
    assert summary_of(ledger).out_of_order == 1


def test_a_gap_that_nobody_scripted_is_a_problem():
    summary = summary_of(ledger_of((1, (1,), 1)), gaps=[0.5])

    assert (summary.reconnects, summary.longest_gap) == (1, 0.5)
    assert summary.problems == ("1 gaps, and the script caused 0",)


def test_a_failed_step_an_expired_link_and_other_errors_are_problems():
    step = Step(name="silent", title="", passed=False, outcome="no LinkLost", took=1.0)

    summary = summary_of(
        ledger_of((1, (1,), 1)), steps=[step], expired_links=1, errors=["the gateway failed"]
    )

    assert summary.problems == (
        "silent: no LinkLost",
        "1 links were still open when their token expired",
        "the gateway failed",
    )


def test_hearing_nothing_at_all_is_a_problem():
    assert summary_of(Ledger()).problems == ("nothing was received",)


def test_it_can_be_written_as_json_with_its_verdict():
    summary = summary_of(
        ledger_of((1, (1,), 1), (2, (), 0), (3, (2,), 1)),
        faults=[fault(after=1, until=3, links=[1])],
    )

    plain = json.loads(json.dumps(summary.as_json()))

    assert (plain["passed"], plain["problems"], plain["gaps"][0]["lost"]) == (True, [], 1)
