"""A demonstration is recorded as lines that can be drawn, and is shown all the same."""

import io
import json
import xml.etree.ElementTree as ET

from dromos.demo.plain import PlainView
from dromos.demo.record import Recording
from dromos.demo.run import run
from dromos.demo.script import STEPS
from dromos.timeline.fold import fold
from dromos.timeline.picture import draw
from dromos.timeline.read import Problems, entries
from dromos.timeline.svg import to_svg

FIRST, *_, LAST = STEPS
KILLED = next(plan for plan in STEPS if plan.name == "killed")


async def test_a_recorded_run_has_its_events_samples_and_marks_and_can_be_drawn():
    out, shown = io.StringIO(), io.StringIO()
    summary = await run(
        Recording(out, PlainView(shown)),
        plans=(FIRST, KILLED, LAST),
        pace=0.5,
        rate=100.0,
        lifetime=60.0,  # or a slow machine would see a renewal as well
    )
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    problems = Problems()
    read = entries(io.BytesIO(out.getvalue().encode()), "demo", problems)
    story = fold(read, problems.note)
    [track] = story.tracks

    assert summary.passed
    assert "connect with a token from the gateway" in shown.getvalue()
    assert {"bridge.session_started", "bridge.sampled", "mark", "bridge.session_ended"} <= {
        line["event"] for line in told
    }
    assert not list(problems)
    assert ["far side killed"] == [mark.text for mark in story.marks]
    assert [link.fate for link in track.links] == ["lost", "released"]
    assert 1 == len(track.gaps)
    assert track.gaps[0].since >= story.marks[0].at
    assert max(track.samples.received) > 0
    ET.fromstring(to_svg(draw(story.tracks, story.marks)))
