"""The drawing of a hand-over fits, and shows what happened where it happened."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos.demo.lanes import ASCII, LINES, WIDTH, axis_of, draw, glyphs_for
from dromos.demo.overlap import HandOver

USUAL = {
    "old": 1,
    "new": 2,
    "old_token": 1,
    "new_token": 2,
    "token_at": 5.0,
    "old_opened": 0.1,
    "dialled": 5.001,
    "opened": 5.002,
    "ready": 5.062,
    "proven": 5.0625,
    "switched": 5.0627,
    "ended": 5.063,
    "until": 6.0,
    "on_old": (),
    "on_new": (),
    "lost": 0,
}
MARGIN = len("  messages") + 2

seconds = st.one_of(st.just(0.0), st.floats(-6, 1).map(lambda power: 10**power))


def handover(**given):
    return HandOver(**(USUAL | given))


@st.composite
def handovers(draw):
    names = ("token_at", "dialled", "opened", "ready", "proven", "switched", "ended", "until")
    at, times = 100.0, {}
    for name in names:
        at += draw(seconds)
        times[name] = at
    for name in ("token_at", "ready", "proven"):
        times[name] = draw(st.sampled_from([None, times[name]]))
    written = st.lists(st.floats(times["dialled"], times["until"]), max_size=50).map(tuple)
    return handover(
        **times,
        old=draw(st.integers(1, 9999)),
        new=draw(st.integers(1, 9999)),
        old_opened=times["dialled"] - draw(seconds),
        on_old=draw(written),
        on_new=draw(written),
        lost=draw(st.integers(0, 9999)),
    )


def lanes(given, width=WIDTH, glyphs=LINES):
    """Return the rows of the drawing, without their labels, by what they are."""
    lines = draw(given, width=width, glyphs=glyphs)
    first = lines.index("") + 1
    names = ("marks", "old", "on_old", "new", "on_new", "overlap")
    margin = max(MARGIN, len(f"link {given.old}") + 2, len(f"link {given.new}") + 2)
    rows = (line[margin:] for line in lines[first : first + len(names)])
    return dict(zip(names, rows, strict=True)), axis_of(given, width - margin)


def columns(row, *signs):
    return {column for column, sign in enumerate(row) if sign in signs}


@given(handovers(), st.integers(40, 200), st.sampled_from([LINES, ASCII]))
def test_no_line_is_wider_than_was_asked_for(given, width, glyphs):
    lines = draw(given, width=width, glyphs=glyphs)

    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() and line.isprintable() for line in lines)


@given(handovers(), st.integers(40, 120))
def test_both_lanes_are_open_where_the_new_link_is_open_and_the_old_one_has_not_ended(given, width):
    rows, axis = lanes(given, width)

    old = columns(rows["old"], LINES.open, LINES.serving)
    new = columns(rows["new"], LINES.open, LINES.serving)
    overlap = set(range(axis.column(given.opened), axis.column(given.ended) + 1))
    assert old & new == overlap
    assert set(range(len(rows["overlap"]))) - columns(rows["overlap"], " ") >= {
        min(overlap),
        max(overlap),
    }
    assert (len(rows["overlap"]), rows["overlap"].find(LINES.left)) == (
        max(overlap) + 1,
        min(overlap),
    )


@given(handovers())
def test_an_overlap_is_seen_however_short_or_long(given):
    rows, axis = lanes(given)

    shown = len(rows["overlap"].strip())
    assert shown <= axis.columns * 0.6
    if given.overlap >= 1e-5:
        assert shown >= axis.columns * 0.18
    assert axis.start < given.opened <= given.ended < axis.end


@given(handovers())
def test_every_moment_is_told_in_order_and_marked_where_it_lies(given):
    rows, axis = lanes(given)
    told = [line.split() for line in draw(given) if " ms  " in line and line.startswith("  ")]
    times = [given.token_at, given.dialled, given.opened, given.ready, given.proven]
    times = [at for at in (*times, given.switched, given.ended) if at is not None]

    signs = [words[0] for words in told]
    assert len(signs) == len(times)
    for sign, at in zip(signs, times, strict=True):
        assert rows["marks"][axis.column(at)] == sign
    assert columns(rows["marks"], *signs) == {axis.column(at) for at in times}
    offsets = [float(words[1]) for words in told]
    assert offsets == sorted(offsets)
    assert math.isclose(offsets[-1], (given.ended - times[0]) * 1000, abs_tol=0.01)


@given(handovers())
def test_each_message_on_the_axis_is_counted_in_its_column(given):
    rows, axis = lanes(given)

    for row, written in (("on_old", given.on_old), ("on_new", given.on_new)):
        shown = [at for at in written if axis.holds(at)]
        assert columns(rows[row], *"123456789+") == set(map(axis.column, shown))
        if "+" not in rows[row]:
            assert sum(map(int, rows[row].replace(" ", ""))) == len(shown)


def test_an_overlap_of_less_than_a_millisecond_is_told_and_drawn():
    given = handover(ready=None, proven=5.0022, switched=5.0023, ended=5.0028)

    rows, _ = lanes(given)

    assert draw(given)[0].endswith("link 2 took over from link 1, both open for 0.80 ms")
    assert "─ 0.80 ms ─" in rows["overlap"]


def test_an_overlap_of_seconds_is_told_and_drawn():
    rows, _ = lanes(handover(ready=7.1, proven=7.2, switched=7.3, ended=7.502, until=9.0))

    assert " 2.50 s " in rows["overlap"]


def test_a_dial_that_took_much_longer_than_the_overlap_is_marked_as_before_the_drawing():
    rows, _ = lanes(handover(token_at=1.0, dialled=1.1))

    assert rows["marks"].startswith("<")
    assert rows["new"].startswith(LINES.dialling * 20)


def test_the_lane_of_a_young_old_link_begins_when_it_opened():
    given = handover(old_opened=5.0)
    rows, axis = lanes(given)

    assert rows["old"].index(LINES.serving) == axis.column(5.0) > 0


def test_the_lane_of_the_new_link_ends_with_what_is_known():
    given = handover(until=5.07)
    rows, axis = lanes(given)

    assert len(rows["new"]) == axis.column(5.07) + 1 < axis.columns


def test_ten_messages_in_a_column_are_a_plus_which_is_explained():
    given = handover(on_old=(5.03,) * 10, on_new=(5.03,) * 9)
    rows, _ = lanes(given)

    assert "(+ ten or more)" in " ".join(draw(given))
    assert "ten or more" not in " ".join(draw(handover()))
    assert (rows["on_old"].strip(), rows["on_new"].strip()) == ("+", "9")


def test_the_sum_counts_the_messages_of_the_overlap_only():
    given = handover(on_old=(4.9, 5.01, 5.02), on_new=(5.01, 5.02, 5.03, 5.07), lost=4)

    assert draw(given)[-1] == ("while both were open: 2 messages on link 1, 3 on link 2; 4 lost")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "no such encoding"])
def test_an_encoding_without_these_characters_gets_ascii(encoding):
    assert glyphs_for(encoding) is ASCII
    assert "\n".join(draw(handover(), glyphs=ASCII)).isascii()


@pytest.mark.parametrize("encoding", [None, "utf-8", "cp437", "utf-16"])
def test_an_encoding_with_these_characters_gets_lines(encoding):
    assert glyphs_for(encoding) in (LINES, ASCII)
    assert (glyphs_for(encoding) is LINES) == (encoding != "cp437")  # which lacks heavy lines
