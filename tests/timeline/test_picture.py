"""A picture is well-formed, stays small, keeps its labels apart, and shows what there is."""

import itertools
import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from dromos.timeline.axis import Axis
from dromos.timeline.packing import Bar, Dot, dense, fitted, gathered, lanes, text_width
from dromos.timeline.palette import DARK, LIGHT, style_sheet
from dromos.timeline.picture import draw
from dromos.timeline.rates import nice, rates
from dromos.timeline.shapes import Label
from dromos.timeline.svg import to_svg
from dromos.timeline.words import duration, rate
from tests.timeline.support import RUN, line, lost, opened, told

DOCS = Path(__file__).parents[2] / "docs"


def picture(*lines, **options):
    story, _ = told(*lines)
    return draw(story.tracks, story.marks, **options)


def texts(made):
    return [shape.text for shape in made.shapes if isinstance(shape, Label)]


def test_a_picture_has_a_row_for_each_thing_and_a_legend_for_no_other():
    made = picture(*RUN)

    assert {"links", "tokens", "attempts", "troubles", "messages/s", "no link"} <= set(texts(made))
    assert {"link lost", "refresh", "noted while recording", "trouble"} <= set(texts(made))
    assert "no gap" not in made.description
    bare = texts(picture(*opened(1, 1), line("flapped", 2)))
    assert not {"tokens", "attempts", "no link", "link lost", "refresh"} & set(bare)


def test_the_picture_is_one_well_formed_document_that_loads_nothing():
    svg = to_svg(picture(*RUN))
    root = ET.fromstring(svg)

    assert root.tag.endswith("svg")
    assert "prefers-color-scheme:dark" in svg
    for outside in ("href", "url(", "@import", "<script", "<image", "<foreignObject"):
        assert outside not in svg


HOSTILE = [
    "</title><script>alert(1)</script>",
    "]]><svg onload=alert(1)>",
    "\"'><&amp;\x00\x1b[31m\u202egnp.exe\ufffe\ud800",
    "é漢字🙂" * 200,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_and_control_characters_in_a_text_stay_text(text):
    made = picture(
        line("session_started", connection=text, endpoint=text),
        line("handler_failed", 1, connection=text, method=text, error=text),
        line("attempt_failed", 2, connection=text, error=text, error_type=text, link=1),
        line("session_ended", 3, connection=text, error=text),
        line("mark", 1, text=text),
        title=text,
    )
    svg = to_svg(made)
    root = ET.fromstring(svg.encode("utf-8"))

    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names <= {"svg", "title", "desc", "style", "rect", "path", "text"}
    assert not any(name.startswith("on") for each in root.iter() for name in each.attrib)
    assert "\u202e" not in svg


@pytest.mark.parametrize(
    ("theme", "there", "absent"), [("light", LIGHT, DARK), ("dark", DARK, LIGHT)]
)
def test_a_theme_has_its_own_colours_only(theme, there, absent):
    sheet = style_sheet(theme)

    assert all(colour in sheet for colour in there.values())
    assert absent["paper"] not in sheet
    assert "@media" not in sheet


def flapping(days):
    """A session that loses a link every half minute."""
    chance = random.Random(7)
    at, link = 0.0, 0
    yield line("session_started")
    while at < days * 86400:
        at += chance.uniform(1, 60)
        link += 1
        yield line("token_obtained", at, generation=link, expires_in=60.0)
        yield line("refresh_started", at)
        yield from opened(link, at + 0.5, handover=link > 1 and chance.random() < 0.3)
        yield line("sampled", at + 0.6, received=link * 9, sent=link)
        yield lost(link, at + 0.8)
        yield line("disconnected", at + 0.8, error="x")
        yield line("retry_scheduled", at + 0.8, delay=0.4)
        yield line("attempt_failed", at + 0.9, error="x", status=503)
        yield line("handler_failed", at + 0.9, method="on_message", error=f"x {link}")


def test_a_long_run_makes_no_larger_picture_than_a_short_one():
    short, long = (len(to_svg(picture(*flapping(days)))) for days in (0.4, 2))

    assert long < 1.3 * short
    assert long < 400_000


def test_labels_of_a_row_do_not_lie_over_each_other():
    made = picture(*flapping(0.2))
    rows = {}
    for shape in made.shapes:
        if isinstance(shape, Label) and shape.anchor != "end":
            rows.setdefault((round(shape.y), shape.style), []).append(shape)

    for labels in rows.values():
        ends = sorted(_ends(label) for label in labels)
        for (_, right), (left, _) in itertools.pairwise(ends):
            assert right <= left + 1


def _ends(label):
    width = text_width(label.text, 11)
    left = label.x - (width / 2 if label.anchor == "middle" else 0)
    return left, left + width


def test_a_drain_that_failed_shows_on_its_link_as_a_trouble_and_in_words():
    end = lost(1, 660, released=True) | {"sent": 30_000, "unconfirmed": 22_465}
    over = (line("disconnected", 660), line("session_ended", 660))
    made = picture(*opened(1, 1), end, *over)

    assert {"troubles", "our close unanswered"} <= set(texts(made))
    assert "1 link closed without an answer" in made.description
    assert "22,465 messages of unknown delivery" in made.description
    marks = [shape for shape in made.shapes if getattr(shape, "style", "") == "end"]
    assert ["link 1 did not answer our CLOSE: 1006", ""] == [mark.told for mark in marks]


def test_messages_that_were_given_up_stand_in_the_summary():
    unsent = line("messages_unsent", 2, count=4, reason="closed")
    made = picture(*opened(1, 1), unsent, line("messages_dropped", 3, count=1))

    assert "4 messages unsent, 1 message dropped" in made.description


def outage(link, at, *labels, every=2.0, seconds=12.0):
    """A link that opens and is lost, a gap with failed attempts in it, and the next one."""
    yield from opened(link, at)
    yield lost(link, at + 1)
    yield line("disconnected", at + 1, error="gone")
    for number, status in enumerate(labels, 1):
        yield line("attempt_failed", at + 1 + number * every, error="x", status=status)
    yield from opened(link + 1, at + seconds)


def said_of_attempts(made):
    return [s.text for s in made.shapes if isinstance(s, Label) and s.style == "lostword"]


def test_a_gap_says_how_many_attempts_failed_in_it_and_not_how_many_lie_together():
    apart_and_together = [
        *opened(1, 1),
        lost(1, 2),
        line("disconnected", 2, error="gone"),
        *(line("attempt_failed", at, error="x", status=503) for at in (2.1, 2.15, 7, 20, 40)),
        *opened(2, 60),
    ]

    assert ["503 ×5"] == said_of_attempts(picture(*apart_and_together))


def test_a_gap_says_each_cause_with_its_number():
    made = picture(*outage(1, 1, 503, 401, 503), line("flapped", 20))

    assert ["503 ×2, 401"] == said_of_attempts(made)


def test_each_of_many_gaps_has_its_number_and_the_numbers_are_all_failures():
    lines = [each for n in range(12) for each in outage(2 * n + 1, 1 + 40 * n, 503, 503, 503)]
    made = picture(*lines, line("flapped", 500), width=700)

    assert ["×3"] * 12 == [text.removeprefix("503 ") for text in said_of_attempts(made)]


def test_gaps_too_near_to_each_other_for_a_number_each_share_one():
    lines = [each for n in range(200) for each in outage(2 * n + 1, 1 + 40 * n, 503, 401)]
    made = picture(*lines)
    numbers = [text.rpartition("×")[2] for text in said_of_attempts(made)]

    assert 400 == sum(map(int, numbers))


def test_a_gap_in_which_nothing_failed_has_its_wait_and_no_label():
    disconnected = line("disconnected", 2, error="gone")
    made = picture(
        *opened(1, 1),
        lost(1, 2),
        disconnected,
        line("retry_scheduled", 2, delay=1.0, failures=0, error="gone"),
        *opened(2, 4),
    )

    assert [] == said_of_attempts(made)
    told = [getattr(shape, "told", "") for shape in made.shapes]
    assert "waits 1.0 s for the next attempt" in told


def test_attempts_that_fail_before_the_first_link_are_counted_together():
    lines = [line("attempt_failed", at, error="x", status=503) for at in (1, 10, 20, 30)]

    assert ["503 ×4"] == said_of_attempts(picture(line("session_started"), *lines, *opened(1, 40)))


def test_successors_that_fail_while_a_link_is_open_have_a_label_where_they_are():
    failed = [line("attempt_failed", at, error="x", status=409) for at in (10, 40)]

    assert ["409", "409"] == said_of_attempts(picture(*opened(1, 1), *failed, line("flapped", 60)))


def test_a_label_at_the_right_end_of_the_axis_stays_in_the_picture():
    made = picture(*opened(1, 1), lost(1, 2), line("attempt_failed", 60, error="x", status=503))

    assert ["503"] == said_of_attempts(made)
    [label] = [s for s in made.shapes if isinstance(s, Label) and s.style == "lostword"]
    assert _ends(label)[1] <= 960


def test_a_hand_over_between_links_that_nobody_saw_opens_is_left_out():
    beside = line("handed_over", 1.05, old=7, new=8)
    made = picture(*opened(1, 0.5), *opened(2, 1, handover=True), beside)

    ET.fromstring(to_svg(made))


def test_every_session_has_a_panel_of_its_own_on_one_axis():
    made = picture(*[line("session_started", n, session=n) for n in range(3)])

    assert "3 sessions" == made.title
    assert [f"c-1  (session {n})" for n in range(3)] == [t for t in texts(made) if "(session" in t]


def test_a_session_of_no_length_can_be_drawn():
    ET.fromstring(to_svg(picture(line("session_started"))))


# --- The parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0.0, 0.02, 1, 7, 45, 600, 5000, 86400, 6e5, 4e7, 2e11])
def test_ticks_are_some_and_apart_and_on_the_axis(length):
    axis = Axis.over(1.7955e9, min(1.7955e9 + length, 2.5e11), left=100, width=800)
    ticks = axis.ticks()

    assert 1 <= len(ticks) <= 12
    assert all(100 <= tick.x <= 900 for tick in ticks)
    assert all(b.x - a.x >= 60 for a, b in itertools.pairwise(ticks))


def test_one_that_takes_over_lies_beside_the_one_it_relieves():
    assert [0, 1, 0, 1] == lanes([(0, 10), (9, 20), (19, 30), (40, 50)], most=4)
    assert [0, 1, 2, 2] == lanes([(0, 10), (1, 10), (2, 9), (3, 10)], most=3)


def test_bars_that_are_too_narrow_become_one_that_knows_how_much_it_covers():
    bars = [Bar(n * 0.5, n * 0.5 + 0.25, "link", f"{n}") for n in range(100)]

    [one] = dense(bars)
    assert (0, 49.75, 100) == (one.left, one.right, one.count)
    assert 0.5 == pytest.approx(one.share, abs=0.01)
    wide = [Bar(0, 10, "link", ""), Bar(10, 20, "link", "")]
    assert wide == dense(wide)


def test_dots_keep_a_label_only_if_all_have_it():
    assert ["503", ""] == [
        dot.label
        for dot in gathered(
            [Dot(0, "503", ""), Dot(1, "503", ""), Dot(9, "401", ""), Dot(10, "503", "")], apart=4
        )
    ]


def test_rates_are_differences_and_a_counter_that_began_anew_is_no_negative_rate():
    found = rates([0, 1, 2, 4], [0, 10, 0, 40], most=10)

    assert [10, 0, 20] == [each.value for each in found]


def test_many_samples_become_few_rates_with_the_same_sum():
    at = [float(n) for n in range(1001)]
    found = rates(at, [n * n for n in at], most=50)

    assert 50 == len(found)
    assert 1e6 == pytest.approx(sum(each.value * (each.until - each.since) for each in found))


@pytest.mark.parametrize("samples", [([], []), ([1.0], [5.0]), ([1.0, 1.0], [5.0, 6.0])])
def test_too_few_samples_are_no_rate(samples):
    assert [] == rates(*samples, most=10)


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.07, 0.08), (1, 1), (187, 200), (201, 250)])
def test_a_scale_ends_with_a_round_number(value, top):
    assert top == pytest.approx(nice(value))


def test_a_text_is_cut_to_its_room():
    assert "short" == fitted("short", 11, 100)
    cut = fitted("a long text that does not fit", 11, 60)
    assert cut.endswith("…")
    assert text_width(cut, 11) <= 72


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0.0004, "0.4 ms"), (0.434, "434 ms"), (2.24, "2.2 s"), (59, "59 s"), (600, "10 min")),
        *((7500, "2 h 5 min"), (7200, "2 h"), (90000, "25 h"), (604800, "7 d"), (7e5, "8 d 2 h")),
    ],
)
def test_durations_read_as_people_say_them(seconds, said):
    assert said == duration(seconds)


def test_a_rate_that_was_measured_roughly_has_fewer_digits():
    assert ["0.051", "1", "1.5", "40", "42", "1,250"] == [
        rate(value, digits=2) for value in (0.0512, 0.999, 1.52, 40.2, 42, 1250)
    ]


def test_rates_have_the_digits_that_count():
    assert ["0", "0.05", "1.5", "42", "1,250"] == [
        rate(value) for value in (0, 0.05, 1.5, 42, 1250)
    ]
