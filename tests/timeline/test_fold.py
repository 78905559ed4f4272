"""What was recorded becomes what is known of a session, broken files included."""

import json

import pytest

from dromos import ConnectionClosed
from dromos.telemetry.facts import error_facts
from dromos.timeline import read
from dromos.timeline.entry import LATEST
from dromos.timeline.picture import draw
from dromos.timeline.svg import to_svg
from dromos.timeline.track import Wait
from tests.timeline.support import RUN, START, line, lost, opened, told


def seconds(at):
    return None if at is None else round(at - START, 3)


def test_a_run_is_told_as_links_tokens_gaps_and_troubles():
    story, problems = told(*RUN)
    [track] = story.tracks

    assert not problems
    assert ("c-1", "wss://far.example/ws", True) == (
        track.connection,
        track.endpoint,
        track.is_over,
    )
    assert [
        (1, 0.2, 0.3, 5.5, "released"),
        (2, 5.2, 5.3, 6.1, "lost"),
        (4, 7.6, 7.7, 9, "released"),
    ] == [
        (each.number, seconds(each.dialled), seconds(each.opened), seconds(each.ended), each.fate)
        for each in track.links
    ]
    assert (5.35, 5.35) == (seconds(track.links[0].relieved), seconds(track.links[1].served))
    assert [(1, 0.1, 8.1, 5.1), (2, 5.1, 13.1, None)] == [
        (each.generation, seconds(each.obtained), seconds(each.expires), seconds(each.replaced))
        for each in track.tokens
    ]
    assert [(6.1, 7.7)] == [(seconds(gap.since), seconds(gap.until)) for gap in track.gaps]
    assert [(6.7, "503")] == [(seconds(each.at), each.label) for each in track.failures]
    assert 2 == len([each for each in track.waits if isinstance(each, Wait)])
    assert ["handler failed"] == [each.label for each in track.notes]
    assert [5] == [seconds(at) for at in track.refreshes]
    assert ["far side killed"] == [mark.text for mark in story.marks]
    assert [0, 100, 130] == list(track.samples.received)


def test_a_token_that_is_prolonged_lasts_longer_and_stays_the_same():
    story, _ = told(
        line("token_obtained", 0, generation=1, strategy="oauth2", expires_in=8.0),
        line("refresh_started", 5),
        line("token_obtained", 5, generation=1, strategy="oauth2", expires_in=8.0, renewed=True),
        line("token_obtained", 6, generation=1, strategy="oauth2", expires_in=7.0),
    )

    [token] = story.tracks[0].tokens
    assert (0, 13, None) == (seconds(token.obtained), seconds(token.expires), token.replaced)


def test_our_own_close_is_no_gap():
    story, _ = told(*opened(1, 1), lost(1, 2, released=True), line("disconnected", 2))

    assert [] == story.tracks[0].gaps


def test_a_gap_that_does_not_end_lasts_to_the_last_line():
    gone = line("disconnected", 2, error="x")
    story, _ = told(*opened(1, 1), lost(1, 2), gone, line("flapped", 9))

    assert 7.0 == pytest.approx(story.tracks[0].without_link())


def test_a_recording_that_begins_in_the_middle_has_the_links_that_end_in_it():
    story, problems = told(line("latency_measured", 10), lost(7, 12, lived=3600))
    [link] = story.tracks[0].links

    assert not problems
    assert (7, 10, 12) == (link.number, seconds(link.opened), seconds(link.ended))


def test_links_whose_end_was_not_recorded_end_with_their_session():
    story, _ = told(*opened(1, 1), *opened(2, 2), line("session_ended", 5), line("flapped", 9))

    assert [(5, "released"), (5, "released")] == [
        (seconds(link.ended), link.fate) for link in story.tracks[0].links
    ]


def test_a_link_whose_end_is_told_after_its_session_s_is_the_one_that_was_open():
    story, _ = told(*opened(1, 1), line("session_ended", 5), lost(1, 6))
    [link] = story.tracks[0].links

    assert (6, "lost") == (seconds(link.ended), link.fate)


def test_sessions_are_told_apart_and_a_process_that_starts_again_begins_another():
    story, _ = told(
        line("session_started", 0, session=1),
        line("session_started", 1, session=2),
        line("session_started", 2, connection="c-2"),
        line("session_started", 60, session=1),
    )

    assert [("c-1", 1), ("c-1", 2), ("c-2", 1), ("c-1", 1)] == [
        (track.connection, track.session) for track in story.tracks
    ]


def started(session, at, **facts):
    return line("session_started", at, session=session, **facts)


def test_a_run_begins_where_a_number_of_a_session_comes_again():
    story, _ = told(
        *(started(1, 0), started(2, 1, connection="c-2")),
        line("flapped", 2, session=2, connection="c-2"),
        *(started(1, 60), started(2, 61, connection="c-2"), started(3, 62, connection="c-3")),
        started(1, 120, connection="c-2"),
    )

    assert [1, 1, 2, 2, 2, 3] == [track.run for track in story.tracks]
    assert 3 == story.runs


def test_sessions_that_start_in_another_order_than_they_are_numbered_are_one_run():
    story, _ = told(started(2, 0), started(1, 1), started(3, 2))

    assert [1, 1, 1] == [track.run for track in story.tracks]


def test_a_recording_whose_beginning_was_cut_off_begins_with_a_run():
    story, _ = told(line("flapped", 0), started(2, 10), started(1, 60))

    assert [(1, 1), (2, 1), (1, 2)] == [(track.session, track.run) for track in story.tracks]


def test_a_clock_that_is_set_back_is_said_and_what_follows_keeps_its_length():
    story, problems = told(
        line("session_started", 0), *opened(1, 100), *opened(2, -3000), lost(2, -2990)
    )

    [problem] = problems
    assert "run.jsonl:5: the clock went back by 3100" in problem
    assert 10 == pytest.approx(story.tracks[0].links[1].ended - story.tracks[0].links[1].opened)


def test_a_clock_that_is_set_right_again_counts_as_it_is():
    story, problems = told(
        line("session_started", 0), *opened(1, 100), line("flapped", -3000), lost(1, 200)
    )

    assert 1 == len(list(problems))
    assert (200, 200) == (seconds(story.tracks[0].links[0].ended), seconds(story.tracks[0].end))


@pytest.mark.parametrize(
    "moments",
    [
        *((2e11, 0, 2e11), (2e11, 0, 1.9e11), (0, 1e11, 0, 2e11, 1e11), (0, 2e11) * 20),
        *((0, 2.499e11), (2.49999e11, 2.499999e11)),
    ],
)
def test_a_clock_that_is_far_out_leaves_no_calendar(moments):
    story, _ = told(*[line("flapped") | {"at": at} for at in moments])
    [track] = story.tracks

    assert moments[0] <= track.start <= track.end < LATEST
    to_svg(draw(story.tracks, story.marks))


def test_a_line_a_little_late_is_nothing_to_speak_of():
    story, problems = told(line("session_started", 1), line("flapped", 0.5))

    assert not problems
    assert 1 == seconds(story.tracks[0].end)


BROKEN = [
    (b'{"event": "bridge.link_op', "it is not JSON, or was cut off"),
    (b"\xff\xfe\x00", "it is not JSON, or was cut off"),
    (b"[" * 100_000, "it is not JSON, or was cut off"),
    (b"[1, 2]", "it is not a JSON object"),
    (json.dumps(line("flapped") | {"at": None}).encode(), 'its "at" is no Unix time'),
    (b'{"event": "bridge.flapped", "at": NaN}', 'its "at" is no Unix time'),
    (b'{"event": "bridge.flapped", "at": 1e300}', 'its "at" is no Unix time'),
    (b'{"event": "bridge.flapped", "at": 253402300799}', 'its "at" is no Unix time'),
    (b'{"event": "bridge.flapped", "at": -1}', 'its "at" is no Unix time'),
    (json.dumps(line("flapped") | {"session": "1"}).encode(), 'its "session" is no number'),
    (json.dumps(line("flapped") | {"session": 10**400}).encode(), 'its "session" is no number'),
    (json.dumps(line("flapped") | {"connection_id": 7}).encode(), 'its "connection_id" is no text'),
]


@pytest.mark.parametrize(("raw", "why"), BROKEN)
def test_a_line_that_can_not_be_used_is_named_and_passed_over(raw, why):
    story, problems = told(line("session_started"), raw, line("flapped", 5))

    assert [f"run.jsonl:2: passed over: {why}"] == list(problems)
    assert 5 == seconds(story.tracks[0].end)


def test_lines_about_something_else_are_no_problem():
    _, problems = told(
        {"message": "hello", "level": "info"},
        {"type": "summary", "event": 7},
        {"event": "user.clicked"},
        line("flapped"),
        b"",
    )

    assert not problems
    assert (3, 1) == (problems.others, problems.used)


def test_a_line_without_end_is_passed_over_and_not_kept(monkeypatch):
    monkeypatch.setattr(read, "LONGEST_LINE", 100)
    long = json.dumps(line("session_ended", error="x" * 500)).encode()
    story, problems = told(line("flapped", 1), long, line("flapped", 3))

    assert len(json.dumps(line("flapped", 1))) <= 100
    assert ["run.jsonl:2: passed over: it is longer than 100 bytes"] == list(problems)
    assert (1, 3) == (seconds(story.tracks[0].start), seconds(story.tracks[0].end))


def test_many_problems_are_told_in_few_lines():
    _, problems = told(*[b"{"] * 1000)

    assert 6 == len(list(problems))
    assert "995 more: passed over: it is not JSON, or was cut off" == list(problems)[-1]


def test_a_file_is_not_looked_at_for_ever(monkeypatch):
    monkeypatch.setattr(read, "MOST_LINES", 3)
    _, problems = told(*[line("flapped", at) for at in range(9)])

    assert ["run.jsonl:4: not looked at, like all after line 3"] == list(problems)
    assert 3 == problems.used


def test_members_of_a_wrong_type_count_as_absent():
    story, problems = told(
        line("session_started", endpoint=["x"]),
        line("link_opened", 1, link="1", took=True),
        line("link_opened", 2, link=2.5),
        line("link_opened", 3, link=-1),
        line("link_opened", 4, link=4, took=float("inf")),
        line("token_obtained", 5, generation=None, expires_in="soon"),
        line("retry_scheduled", 6, delay={}),
        line("sampled", 7, received=None, sent=10**30),
        line("handed_over", 8, old=None, new=4),
        line("session_ended", 9, error=7),
    )
    [track] = story.tracks

    assert not problems
    assert [4] == [link.number for link in track.links]
    assert (None, "", "") == (track.tokens[0].expires, track.endpoint, track.verdict)


# --- Messages of which nobody knows, and links that ended without a word --------------------------


GONE = ConnectionClosed(code=1006, by_peer=False)


def drained(*, code=1006, unconfirmed=22_465, **facts):
    """A session that is drained: its only link is let go, and ends so."""
    end = lost(1, 660, released=True, code=code, lived=659.0)
    facts = error_facts(ConnectionClosed(code=code, by_peer=code == 1011)) | facts
    return [
        line("session_started"),
        *opened(1, 1),
        end | {"sent": 30_000, "unconfirmed": unconfirmed} | facts,
        line("disconnected", 660),
        line("session_ended", 660, cancelled=False),
    ]


def test_a_link_that_leaves_our_close_unanswered_is_no_clean_end():
    story, _ = told(*drained())
    [track] = story.tracks

    assert ("unanswered", "1006") == (track.links[0].fate, track.links[0].why)
    assert 22_465 == track.unknown
    [note] = track.notes
    assert ("delivery unknown", f"22,465 messages on link 1: {GONE}") == (note.label, note.text)


def test_a_link_with_nothing_unconfirmed_that_leaves_our_close_unanswered_is_marked_too():
    story, _ = told(*drained(unconfirmed=0))
    [track] = story.tracks

    assert ("unanswered", 0) == (track.links[0].fate, track.unknown)
    assert [("close unanswered", f"link 1: {GONE}")] == [(n.label, n.text) for n in track.notes]


def test_a_link_whose_end_crossed_our_close_with_messages_on_it_is_no_clean_end():
    story, _ = told(*drained(code=1011, unconfirmed=3))

    assert ("unanswered", 3) == (story.tracks[0].links[0].fate, story.tracks[0].unknown)


@pytest.mark.parametrize(("code", "unconfirmed"), [(1000, 0), (1000, 3), (4000, 3), (1011, 0)])
def test_a_close_that_was_answered_is_a_clean_end(code, unconfirmed):
    story, _ = told(*drained(code=code, unconfirmed=unconfirmed))
    [track] = story.tracks

    assert ("released", 0, []) == (track.links[0].fate, track.unknown, track.notes)


def test_an_old_link_that_ends_without_a_word_once_it_was_relieved_is_the_hand_over():
    story, _ = told(*opened(1, 1), *opened(2, 5, handover=True), lost(1, 5.1, released=True))

    assert ("released", []) == (story.tracks[0].links[0].fate, story.tracks[0].notes)


def test_an_old_link_that_leaves_our_close_unanswered_tells_of_the_messages_on_it():
    end = lost(1, 5.1, released=True) | {"unconfirmed": 1}
    story, _ = told(*opened(1, 1), *opened(2, 5, handover=True), end)

    assert ("unanswered", 1) == (story.tracks[0].links[0].fate, story.tracks[0].unknown)


def test_a_successor_that_never_served_and_was_dropped_is_no_trouble():
    beside = opened(2, 5, handover=True)[:2]
    story, _ = told(*opened(1, 1), *beside, lost(2, 5.1, released=True))

    assert ("released", []) == (story.tracks[0].links[1].fate, story.tracks[0].notes)


def test_a_lost_link_tells_how_many_messages_it_took_with_it():
    story, _ = told(*opened(1, 1), lost(1, 9) | {"unconfirmed": 2})

    assert ("lost", 2) == (story.tracks[0].links[0].fate, story.tracks[0].unknown)


def test_what_the_outbox_says_of_a_link_counts_in_place_of_what_the_link_says():
    story, _ = told(
        *opened(1, 1),
        line("delivery_unknown", 9, link=1, count=2, resent=True),
        lost(1, 9) | {"unconfirmed": 2},
        *opened(2, 10),
        line("delivery_unknown", 19, link=2, count=3, resent=False),
        lost(2, 19) | {"unconfirmed": 4},
    )
    [track] = story.tracks

    assert 3 == track.unknown
    assert ["2 messages on link 1, sent again", "3 messages on link 2"] == [
        note.text for note in track.notes
    ]


def test_an_end_of_which_the_outbox_has_told_is_one_trouble_and_not_two():
    first, *rest = drained()
    story, _ = told(first, line("delivery_unknown", 660, link=1, count=7, resent=False), *rest)
    [track] = story.tracks

    assert ("unanswered", 7) == (track.links[0].fate, track.unknown)
    assert ["delivery unknown"] == [note.label for note in track.notes]


def test_messages_that_were_given_up_are_counted_and_told():
    story, _ = told(
        line("messages_unsent", 1, count=1200, reason="expired"),
        line("messages_dropped", 2, count=1),
        line("messages_dropped", 3, count=None),
    )
    [track] = story.tracks

    assert (1200, 1) == (track.unsent, track.dropped)
    assert ["1,200 messages, expired", "1 message", ""] == [note.text for note in track.notes]
