"""The model's arithmetic is the core's; its storms are those of real links; verdicts can fail."""

import asyncio
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos._core import events as heard
from dromos._core.policy import Moment, Policy
from dromos._core.schedule import Lease
from dromos._core.session import decide, start
from dromos._core.states import Waiting
from dromos.errors import ConnectionClosed, HandshakeError
from tests.many.process import allow_descriptors
from tests.storm.model import Storm, play
from tests.storm.plot import draw
from tests.storm.policies import ADDED, CONTENDERS, FULL, GO, GROUP, Contender
from tests.storm.real import Field
from tests.storm.run import PICTURE
from tests.storm.table import Results, document, lines, problems, row

SMALL = Storm(clients=2000, admitted=80, horizon=125)
DROPPED = ConnectionClosed(code=1006)
REFUSED = HandshakeError("busy", status=503)
ROLLS = st.floats(min_value=0, max_value=1, exclude_max=True)


@pytest.mark.parametrize("contender", [FULL, ADDED], ids=str)
@given(st.lists(ROLLS, min_size=1, max_size=12))
def test_the_model_waits_as_a_session_does_that_lost_a_stable_link(
    contender: Contender, rolls: list[float]
) -> None:
    """`decide` is asked, event by event, for what the model takes from `backoff` alone."""
    assert contender.retry is not None
    policy = Policy(retry=contender.retry)

    def moment(now: float, roll: float = 0.5) -> Moment:
        return Moment(now=now, wall=now, roll=roll, link=1, ticket=1)

    state, _ = start(moment(0.0))
    events = heard.TokenObtained(1, Lease(generation=1)), heard.LinkOpened(1), heard.LinkGreeted(1)
    for event in events:
        state, _ = decide(policy, state, event, moment(0.0))
    now = 1000.0
    state, _ = decide(policy, state, heard.LinkLost(1, DROPPED), moment(now, rolls[0]))
    for failures, roll in enumerate(rolls):
        assert isinstance(state, Waiting)
        assert state.until - now == pytest.approx(contender.delay(failures, roll))
        now = state.until
        for event in (heard.TimerFired(), heard.TokenObtained(1, Lease(generation=1))):
            state, _ = decide(policy, state, event, moment(now))
        following = rolls[(failures + 1) % len(rolls)]
        state, _ = decide(policy, state, heard.DialFailed(1, REFUSED), moment(now, following))


def test_everybody_comes_back_once_and_no_faster_than_they_are_let_in() -> None:
    for contender in (FULL, GROUP, GO):
        outcome = play(replace(SMALL, horizon=600), contender)

        assert SMALL.clients == len(outcome.back)
        assert outcome.back == sorted(outcome.back)
        # A second's places are there at once, and the rest comes evenly.
        most = SMALL.admitted * 1.01 + 2
        assert all(n + 1 <= at * SMALL.admitted + most for n, at in enumerate(outcome.back))
        assert sum(outcome.attempts) >= SMALL.clients


def test_clients_that_share_a_processor_begin_no_more_than_it_can() -> None:
    outcome = play(replace(SMALL, capacity=500.0, horizon=600), FULL)

    assert outcome.peak <= 501
    assert SMALL.clients == len(outcome.back)


def test_a_storm_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert play(SMALL, FULL) == play(SMALL, FULL)
    assert play(SMALL, FULL) != play(replace(SMALL, seed=2), FULL)


def test_what_the_model_says_of_the_four() -> None:
    """The order that docs/scale.md tells of; the rate of a group is a bound."""
    outcomes = {each.name: play(SMALL, each) for each in CONTENDERS}
    full, group, added, go = outcomes.values()

    assert group.peak <= SMALL.attempt_rate + 1
    assert group.attempts_each < full.attempts_each < added.attempts_each
    assert added.peak == SMALL.clients
    assert added.when(0.99) is None
    assert go.attempts_each > group.attempts_each


def test_a_group_is_bounded_however_many_processes_there_are() -> None:
    storm = Storm(clients=20_000, admitted=1e9, horizon=30, group_size=2000)

    assert play(storm, GROUP).peak <= 10 * (storm.attempt_rate + 1)


@pytest.mark.slow  # a real storm takes as long as its far side lets people in
@pytest.mark.timeout(300)
@pytest.mark.parametrize("contender", [FULL, GROUP, GO], ids=str)
def test_a_small_real_storm_passes_and_everybody_is_back(contender: Contender) -> None:
    allow_descriptors(1000)
    storm = Storm(clients=150, admitted=30, horizon=60, attempt_rate=40)
    field = Field(storm, contender)
    outcome = asyncio.run(field.play())

    assert storm.clients <= len(outcome.back)
    assert sum(outcome.attempts) >= storm.clients
    # A machine that stalls bunches what was due meanwhile.
    if contender.grouped:
        assert outcome.peak <= 2 * storm.attempt_rate + 2


def results() -> Results:
    rows = [row(each.name, SMALL, play(SMALL, each)) for each in CONTENDERS]
    return Results(real=(SMALL, rows), modelled=rows, queued=rows, million=(SMALL, rows))


def test_a_verdict_passes_and_each_thing_that_is_wrong_fails_it(tmp_path: Path) -> None:
    good = results()
    assert [] == list(problems(good))
    assert "PASSED" in list(lines(good))[-1]

    storm, (full, group, added, go) = good.real
    hasty = replace(good, million=(storm, [full, replace(group, each=99.0), added, go]))
    assert ["a group does not need the fewest attempts, and added jitter the most"] == list(
        problems(hasty)
    )
    for changed, words in [
        ([full, replace(group, late=None), added, go], "a group was not back"),
        ([full, replace(group, peak=999), added, go], "a group made 999 attempts"),
        ([replace(full, late=None), group, added, go], "full jitter was not back"),
        ([full, group, added, replace(go, each=99.0)], "the Go original's 2 s is off by 0.06"),
        ([full, replace(group, late=9.0), added, go], "as a group is off by 0.11 (99 %)"),
    ]:
        bad = replace(good, real=(storm, changed))
        assert any(words in problem for problem in problems(bad)), words
        assert "FAILED" in list(lines(bad))[-1]

    good.save(tmp_path / "storm.json")
    assert good == Results.load(tmp_path / "storm.json")
    text = document("before\n<!-- storm -->\nyesteryear\n<!-- end of storm -->\nafter\n", good)
    assert "yesteryear" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the benchmarks' environment has it")
    draw(results(), tmp_path / "storm.svg")

    ElementTree.parse(tmp_path / "storm.svg")


def test_the_published_picture_is_one() -> None:
    assert "svg" in ElementTree.parse(PICTURE).getroot().tag
    assert PICTURE.stat().st_size < 100_000
