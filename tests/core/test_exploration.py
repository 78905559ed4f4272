"""Every interleaving of session and world keeps the promises."""

import os

import pytest

from tests.core.exploration import POLICIES, Explore
from tests.core.world import DEEP, DEPARTING, QUEUING, WIDE

DEEP_IN_FLIGHT = int(os.environ.get("EXPLORE_DEEP", "3"))
WIDE_IN_FLIGHT = int(os.environ.get("EXPLORE_WIDE", "1"))


@pytest.mark.parametrize("name", POLICIES)
def test_every_interleaving_with_three_events_in_flight_keeps_the_promises(
    name: str, explored: Explore
) -> None:
    """Finishes once, orphans no link, dials nothing after a stop, pairs the callbacks."""
    seen = explored(name, DEEP, DEEP_IN_FLIGHT)

    assert seen.worlds > {1: 50, 2: 500}.get(DEEP_IN_FLIGHT, 5_000)


@pytest.mark.slow  # a hundred thousand worlds
@pytest.mark.parametrize("name", POLICIES)
def test_every_kind_of_failure_at_any_time_keeps_the_promises(name: str, explored: Explore) -> None:
    """The same, with refused tokens, limits, expiry and stability in play."""
    seen = explored(name, WIDE, WIDE_IN_FLIGHT)

    assert seen.worlds > 5_000


@pytest.mark.slow  # as many again
@pytest.mark.parametrize("name", POLICIES)
def test_a_far_side_that_goes_away_at_any_time_keeps_the_promises(
    name: str, explored: Explore
) -> None:
    seen = explored(name, DEPARTING, WIDE_IN_FLIGHT)

    assert seen.worlds > 1_000


def test_a_session_that_takes_turns_keeps_the_promises_as_well(explored: Explore) -> None:
    """It waits once more before each attempt, whatever happens meanwhile."""
    in_flight = min(2, DEEP_IN_FLIGHT)
    alone = explored("handover", DEEP, in_flight)
    queuing = explored("handover", QUEUING, in_flight)

    line = {"StandInLine", "LeaveLine"}

    assert queuing.worlds > alone.worlds
    assert line <= set(queuing.commands)
    assert line.isdisjoint(alone.commands)
    assert ("Waiting", "TimerFired", "Waiting") in queuing.edges


@pytest.mark.slow  # the same worlds, unless they were seen already
def test_the_exploration_reaches_every_state_and_command(explored: Explore) -> None:
    """A walk that goes nowhere proves nothing."""
    scopes = (WIDE, DEPARTING)
    total = [explored(name, scope, WIDE_IN_FLIGHT) for name in POLICIES for scope in scopes]
    states = set().union(*(seen.states for seen in total))
    commands = set().union(*(seen.commands for seen in total))

    assert {
        "Waiting",
        "Authorizing",
        "Dialing",
        "Greeting",
        "Open.Settled",
        "Open.Postponed",
        "Open.Asking",
        "Open.InBand",
        "Open.Succeeding",
        "Open.Doomed",
        "Stopped",
    } == states
    assert {
        "Abort",
        "Adopt",
        "Announce",
        "Answer",
        "Authorize",
        "Dial",
        "Drop",
        "Finish",
        "Greet",
        "Part",
        "Prove",
        "Reauthenticate",
        "Release",
    } == commands
