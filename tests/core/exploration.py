"""Plays every interleaving of session and world, breadth first."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeAlias

from dromos._core.policy import Policy
from dromos._core.states import Open, State
from tests.core.world import Scope, World, first_world, key

POLICIES = {
    "handover": Policy(refresh_buffer=30.0),
    "in-band": Policy(refresh_buffer=30.0, in_band=True, max_link_age=80.0),
    "keep": Policy(refresh_buffer=30.0, renewal="keep"),
}


class Seen:
    """What an exploration went through."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self.edges: set[tuple[str, str, str]] = set()
        self.worlds = 0

    def note(self, world: World) -> None:
        self.states[name_of(world.state)] += 1
        self.worlds += 1

    def heard(self, before: World, after: World, commands: tuple[Any, ...]) -> None:
        event = type(before.queue[0]).__name__
        self.edges.add((name_of(before.state), event, name_of(after.state)))
        self.commands.update(type(command).__name__ for command in commands)


def name_of(state: State) -> str:
    step = f".{type(state.step).__name__}" if isinstance(state, Open) else ""
    return type(state).__name__ + step


Explore: TypeAlias = Callable[[str, Scope, int], Seen]


def explore(name: str, scope: Scope, in_flight: int) -> Seen:
    """Play every interleaving; raise with the shortest way to what must not be."""
    policy = POLICIES[name]
    seen_keys: set[Any] = set()
    seen = Seen()
    first = first_world(scope)
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
                seen.heard(world, after, commands)
                assert not after.is_stuck(policy), "nothing will ever happen again"
                moves.append(((waited, commands), after))
    except AssertionError as error:
        raise AssertionError(f"{error}\n" + "\n".join(_story(trail)) + f"\n{world}") from None
    return moves


def _story(trail: tuple[Any, ...]) -> list[str]:
    lines: list[str] = []
    while trail:
        trail, move = trail
        if isinstance(move, tuple):
            waited, commands = move
            move = f"... heard after {waited:g} s: {commands}"
        lines.append(str(move))
    return lines[::-1]
