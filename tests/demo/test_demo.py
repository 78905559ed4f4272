"""The demonstration runs, what it says is true, and it says so when it is not."""

import asyncio
import io
import json
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

import dromos
from dromos.demo.jsonl import JsonView
from dromos.demo.live import LiveView
from dromos.demo.plain import PlainView
from dromos.demo.run import run
from dromos.demo.script import STEPS
from dromos.demo.world import Plan, StepFailed
from dromos.events import Connected

SOURCE = str(Path(dromos.__file__).parents[1])
FIRST, *_, LAST = STEPS
# Only connect and close: less than a second, and every view has something to show.
SHORT = {"plans": (FIRST, LAST), "pace": 0.2, "rate": 100.0}


@pytest.mark.slow  # tokens of 8 s have to run out, and a far side has to be waited for
@pytest.mark.timeout(120)
async def test_the_whole_demonstration_goes_as_scripted_and_its_summary_adds_up():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dromos", "demo", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": SOURCE},
    )
    out, err = await process.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    summary = lines[-1]

    assert (process.returncode, err) == (0, b""), summary["problems"]
    assert (summary["type"], summary["passed"], summary["problems"]) == ("summary", True, [])
    assert [step["name"] for step in summary["steps"]] == [plan.name for plan in STEPS]
    assert all(step["passed"] for step in summary["steps"])
    # Every number is accounted for: received, or lost to a fault of the script.
    assert summary["published"] == summary["received"] + summary["lost"]
    assert summary["lost"] == sum(gap["lost"] for gap in summary["gaps"])
    assert summary["handled"] == summary["received"] + summary["duplicates"]
    in_flight = sum(gap["in_flight"] for gap in summary["gaps"])
    assert summary["written"] >= summary["handled"] + in_flight
    # What the bridge reported agrees with what the far side and the gateway counted.
    events = [line["event"] for line in lines if line["type"] == "event"]
    assert summary["handovers"] == events.count("HandedOver") >= 1
    assert summary["reconnects"] == events.count("Connected") - 1 == len(summary["gaps"]) == 4
    assert summary["links"] == events.count("LinkOpened")
    assert summary["refreshes"] == events.count("RefreshStarted")
    assert summary["lost_in_handovers"] == summary["expired_links"] == 0


async def test_every_link_is_authenticated_and_greeted():
    out = io.StringIO()

    summary = await run(JsonView(out), **SHORT)

    assert summary.passed, summary.problems
    assert (summary.links, summary.lost, summary.reconnects) == (1, 0, 0)
    kinds = [json.loads(line)["type"] for line in out.getvalue().splitlines()]
    assert (kinds[0], kinds[-1], set(kinds)) == (
        "begin",
        "summary",
        {"begin", "step", "event", "summary"},
    )


async def test_plain_lines_tell_steps_events_and_sums():
    out = io.StringIO()

    await run(PlainView(out), **SHORT)

    text = out.getvalue()
    for words in ("STEP 1/2", "connected, on link 1", "OK: closed", "everything went as scripted"):
        assert words in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("height", "has_events"), [(40, True), (24, False)])
async def test_the_live_view_shows_what_fits_and_leaves_the_summary(height, has_events):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=height)
    with LiveView(console) as view:
        await run(view, **SHORT)

    text = console.file.getvalue()
    assert ("what the bridge reports" in text) == has_events
    for words in ("CONNECTED", "s of life left", "hand-overs: 0", "everything went as scripted"):
        assert words in text


async def test_a_step_that_fails_ends_the_script_and_is_a_problem():
    async def fail(world):
        raise StepFailed("no LinkLost within 3 s")

    plan = Plan(name="silent", title="a title", story="a story", act=fail)
    out = io.StringIO()

    summary = await run(PlainView(out), **SHORT | {"plans": (FIRST, plan, LAST)})

    assert [step.name for step in summary.steps] == ["connect", "silent"]
    assert not summary.passed
    assert "silent: no LinkLost within 3 s" in summary.problems
    assert "PROBLEM: silent: no LinkLost within 3 s" in out.getvalue()
    assert "NOT as scripted" in out.getvalue()


async def test_a_session_that_ends_too_early_is_a_problem():
    async def betray(world):
        world.gateway.set_status("demo", "attention")
        world.gateway.revoke("demo")
        world.far.drop_all()
        await world.expect(Connected, since=len(world.journal), within=5)
        return "unreachable"

    plan = Plan(name="betrayed", title="", story="", act=betray)
    summary = await run(PlainView(io.StringIO()), **SHORT | {"plans": (FIRST, plan)})

    assert "betrayed: the session ended before Connected" in summary.problems
    assert any("the session ended with InteractionRequired" in p for p in summary.problems)
