"""Every interleaving of session and world, breadth first."""

import os
from collections import Counter, deque
from typing import Any

import pytest

from dromos._core.policy import Policy
from dromos._core.states import Open
from tests.core.world import DEEP, WIDE, Scope, World, first_world, key

DEEP_IN_FLIGHT = int(os.environ.get("EXPLORE_DEEP", "3"))
WIDE_IN_FLIGHT = int(os.environ.get("EXPLORE_WIDE", "1"))

POLICIES = {
    "handover": Policy(refresh_buffer=30.0),
    "in-band": Policy(refresh_buffer=30.0, in_band=True),
    "keep": Policy(refresh_buffer=30.0, renewal="keep"),
}


class Seen:
    """What an exploration went through."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self.worlds = 0

    def note(self, world: World) -> None:
        state = world.state
        step = type(state.step).__name__ if isinstance(state, Open) else ""
        self.states[f"{type(state).__name__} {step}".strip()] += 1
        self.worlds += 1


def explore(policy: Policy, scope: Scope, in_flight: int) -> Seen:
    """Play every interleaving; raise with the shortest way to what must not be."""
    seen_keys: set[Any] = set()
    seen = Seen()
    first = first_world()
    todo: deque[tuple[World, tuple[Any, ...]]] = deque([(first, ())])
    seen_keys.add(key(first, scope))
    while todo:
        world, trail = todo.popleft()
        seen.note(world)
        for move, after in _moves(world, policy, scope, in_flight, trail, seen):
            mark = key(after, scope)
            if mark not in seen_keys:
                seen_keys.add(mark)
                todo.append((after, (trail, move)))
    return seen


def _moves(
    world: World,
    policy: Policy,
    scope: Scope,
    in_flight: int,
    trail: tuple[Any, ...],
    seen: Seen,
) -> list[tuple[Any, World]]:
    moves: list[tuple[Any, World]] = []
    if len(world.queue) < in_flight:
        moves += [(event, world.happens(event)) for event in world.possible(policy, scope)]
    try:
        if world.queue:
            for waited in scope.waits if len(world.queue) == 1 else (0.0,):
                after, commands = world.hears(policy, waited)
                after.check()
                seen.commands.update(type(command).__name__ for command in commands)
                assert not after.is_stuck(policy), "nothing will ever happen again"
                moves.append((f"... heard after {waited:g} s: {commands}", after))
    except AssertionError as error:
        raise AssertionError(f"{error}\n" + "\n".join(_story(trail)) + f"\n{world}") from None
    return moves


def _story(trail: tuple[Any, ...]) -> list[str]:
    lines: list[str] = []
    while trail:
        trail, move = trail
        lines.append(str(move))
    return lines[::-1]


@pytest.mark.parametrize("name", POLICIES)
def test_every_interleaving_with_three_events_in_flight_keeps_the_promises(name: str) -> None:
    """Finishes once, orphans no link, dials nothing after a stop, pairs the callbacks."""
    seen = explore(POLICIES[name], DEEP, DEEP_IN_FLIGHT)

    assert seen.worlds > 5_000


@pytest.mark.parametrize("name", POLICIES)
def test_every_kind_of_failure_at_any_time_keeps_the_promises(name: str) -> None:
    """The same, with refused tokens, limits, expiry and stability in play."""
    seen = explore(POLICIES[name], WIDE, WIDE_IN_FLIGHT)

    assert seen.worlds > 5_000


def test_the_exploration_reaches_every_state_and_command() -> None:
    """A walk that goes nowhere proves nothing."""
    total = [explore(policy, WIDE, 1) for policy in POLICIES.values()]
    states = set().union(*(seen.states for seen in total))
    commands = set().union(*(seen.commands for seen in total))

    assert {
        "Waiting",
        "Authorizing",
        "Dialing",
        "Greeting",
        "Open Settled",
        "Open Postponed",
        "Open Asking",
        "Open InBand",
        "Open Succeeding",
        "Open Doomed",
        "Stopped",
    } == states
    assert {
        "Abort",
        "Adopt",
        "Announce",
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
