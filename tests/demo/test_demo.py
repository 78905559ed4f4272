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
from dromos.demo.ledger import Ledger
from dromos.demo.live import LiveView
from dromos.demo.overlap import HandOver
from dromos.demo.plain import PlainView
from dromos.demo.run import run
from dromos.demo.script import STEPS
from dromos.demo.summary import add_up
from dromos.demo.world import PREPARATION, Plan, StepFailed
from dromos.events import Connected

SOURCE = str(Path(dromos.__file__).parents[1])
FIRST, *_, LAST = STEPS
NOTHING = {
    "steps": (),
    "faults": (),
    "handovers": (),
    "gaps": (),
    "took": 1.0,
    "links": 1,
    "refreshes": 0,
    "expired_links": 0,
}
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
    assert summary["handovers"] == events.count("bridge.handed_over") >= 1
    assert (
        summary["reconnects"] == events.count("bridge.connected") - 1 == len(summary["gaps"]) == 4
    )
    assert summary["links"] == events.count("bridge.link_opened")
    assert summary["refreshes"] == events.count("bridge.refresh_started")
    assert summary["lost_in_handovers"] == summary["expired_links"] == 0
    # One hand-over in detail: the new link was open before the old one was let go.
    [shown] = [line for line in lines if line["type"] == "handover"]
    assert shown["new_token"] == shown["old_token"] + 1
    assert shown["token_at"] <= shown["dialled"] <= shown["opened"] <= shown["ready"]
    assert shown["ready"] <= shown["proven"] <= shown["switched"] <= shown["ended"]
    assert shown["overlap_ms"] >= PREPARATION * 1000
    assert min(shown["messages_on_old"], shown["messages_on_new"]) > 0
    assert shown["lost"] == 0


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


HANDOVER = HandOver(
    old=1,
    new=2,
    old_token=1,
    new_token=2,
    token_at=5.0,
    old_opened=0.1,
    dialled=5.001,
    opened=5.002,
    ready=5.062,
    proven=5.0625,
    switched=5.0627,
    ended=5.063,
    until=6.0,
    on_old=(5.01, 5.05),
    on_new=(5.01, 5.05),
    lost=0,
)


@pytest.mark.parametrize(("encoding", "lane"), [("utf-8", "━━━"), ("ascii", "===")])
def test_plain_lines_draw_a_hand_over_with_what_the_output_can_show(encoding, lane):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)

    PlainView(out).on_handover(HANDOVER)

    out.seek(0)
    text = out.read()
    assert "link 2 took over from link 1, both open for 61.0 ms" in text
    assert f"link 1      {lane}" in text


def test_json_tells_a_hand_over_in_one_object():
    out = io.StringIO()

    JsonView(out).on_handover(HANDOVER)

    told = json.loads(out.getvalue())
    assert (told["type"], told["t"], told["old"], told["new"]) == ("handover", 6.0, 1, 2)
    assert (told["overlap_ms"], told["messages_on_old"], told["lost"]) == (61.0, 2, 0)


@pytest.mark.parametrize("height", [24, 45, 60])
def test_the_live_view_draws_a_hand_over_if_it_fits_and_leaves_it_in_the_end(height):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=height)
    view = LiveView(console)
    view.on_handover(HANDOVER)
    fits = height > 24

    with console.capture() as running:
        console.print(view.render())
    view.end(add_up(Ledger(), **NOTHING))

    title = "one hand-over, on two lanes"
    assert (title in running.get(), title in console.file.getvalue()) == (fits, True)
    assert ("what the bridge reports" in running.get()) == (height == 60)


async def test_the_live_view_gives_the_room_back_to_the_events(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=45)
    view = LiveView(console)
    view.on_handover(HANDOVER)
    monkeypatch.setattr("dromos.demo.live.LANES_FOR", 0.0)

    with console.capture() as running:
        console.print(view.render())

    assert "two lanes" not in running.get()
    assert "what the bridge reports" in running.get()


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
