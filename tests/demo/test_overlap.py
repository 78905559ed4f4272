"""A hand-over is told from the bridge's events and the far side's record, and from nothing else."""

import json
from dataclasses import replace

from dromos.demo.ledger import Ledger
from dromos.demo.overlap import Record, first_handover
from dromos.errors import ConnectionClosed
from dromos.events import (
    AttemptFailed,
    AttemptStarted,
    HandedOver,
    LatencyMeasured,
    LinkLost,
    LinkOpened,
    TokenObtained,
)

CLOSED = ConnectionClosed(code=1000, reason="")
BEGAN = 1000.0


def token(at, generation):
    return TokenObtained(at=at, generation=generation, strategy="oauth2", expires_in=8.0)


def link(number, dialled, opened):
    return [
        AttemptStarted(at=dialled, link=number, handover=True),
        LinkOpened(at=opened, link=number, handover=True, took=opened - dialled),
    ]


def lost(at, number, *, released=True):
    return LinkLost(at=at, link=number, error=CLOSED, lived=1, messages=0, released=released)


def record(ledger=None, **given):
    known = {"carriers": {1: 1, 3: 2}, "ready": {3: 1005.06}, "began": BEGAN, "now": 1007.0}
    return Record(ledger=ledger or Ledger(), **(known | given))


# Link 2 was refused, so that the bridge's link 3 is the far side's link 2.
JOURNAL = [
    token(1000.0, 1),
    *link(1, 1000.1, 1000.2),
    AttemptStarted(at=1004.0, link=2, handover=True),
    AttemptFailed(at=1004.1, error=CLOSED, verdict="TRANSIENT", link=2),
    token(1005.0, 2),
    *link(3, 1005.001, 1005.002),
    LatencyMeasured(at=1005.01, link=1, seconds=0.001),
    LatencyMeasured(at=1005.061, link=3, seconds=0.001),
    HandedOver(at=1005.062, old=1, new=3),
    LatencyMeasured(at=1005.0625, link=3, seconds=0.001),
    lost(1005.063, 1),
]


def test_its_times_are_those_of_the_events_counted_from_the_beginning():
    told = first_handover(JOURNAL, record())

    plain = told.as_json()
    assert (told.old, told.new, told.old_token, told.new_token) == (1, 3, 1, 2)
    assert {name: plain[name] for name in ("token_at", "old_opened", "dialled", "opened")} == {
        "token_at": 5.0,
        "old_opened": 0.2,
        "dialled": 5.001,
        "opened": 5.002,
    }
    assert {name: plain[name] for name in ("ready", "proven", "switched", "ended")} == {
        "ready": 5.06,
        "proven": 5.061,
        "switched": 5.062,
        "ended": 5.063,
    }
    assert (plain["overlap_ms"], told.until) == (61.0, 7.0)


def test_its_messages_are_those_that_the_far_side_wrote_to_its_two_links():
    ledger = Ledger()
    for number, links, at in (
        (1, (1,), 1004.9),
        (2, (1,), 1005.0015),
        (3, (1, 2), 1005.02),
        (4, (1, 2), 1005.05),
        (5, (2,), 1005.1),
    ):
        ledger.publish(number, links, at)
        if number not in (1, 3):
            ledger.hear(number)

    told = first_handover(JOURNAL, record(ledger))

    plain = json.loads(json.dumps(told.as_json()))
    assert (len(told.on_old), len(told.on_new)) == (4, 3)
    assert (plain["messages_on_old"], plain["messages_on_new"], plain["lost"]) == (2, 2, 1)


def test_what_nobody_told_is_absent():
    journal = [event for event in JOURNAL if not isinstance(event, LatencyMeasured)]

    told = first_handover(journal, record(ready={}))

    assert (told.ready, told.proven) == (None, None)


def test_a_link_that_was_replaced_with_the_same_token_waited_for_none():
    journal = [
        replace(event, generation=1) if isinstance(event, TokenObtained) else event
        for event in JOURNAL
    ]

    told = first_handover(journal, record())

    assert (told.token_at, told.old_token, told.new_token) == (None, 1, 1)


def test_the_record_ends_with_the_new_link():
    assert first_handover([*JOURNAL, lost(1006.0, 3)], record()).until == 6.0


def test_it_is_not_told_before_the_old_link_has_ended():
    assert first_handover(JOURNAL[:-1], record()) is None


def test_an_old_link_that_broke_first_is_passed_over_for_the_next_hand_over():
    journal = [
        *JOURNAL[:-1],
        lost(1005.063, 1, released=False),
        token(1009.0, 3),
        *link(4, 1009.1, 1009.2),
        HandedOver(at=1009.3, old=3, new=4),
        lost(1009.4, 3),
    ]

    told = first_handover(journal, record())

    assert (told.old, told.new, told.old_token, told.new_token) == (3, 4, 2, 3)


def test_a_journal_that_begins_too_late_tells_nothing():
    assert first_handover(JOURNAL[-3:], record()) is None
    assert first_handover([], record()) is None
