"""The matrix, fault by state: which cells there are, and how many are played at once."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from tests.chaos.cell import DIALERS, Cell, Outcome
from tests.chaos.leaks import watch_tasks
from tests.chaos.rows import EVERY_CLOSE, EVERY_STATUS, ROWS, STATES, Row, State

AT_ONCE = 12

AGAIN = 10
"""At most so many cells get a second try, alone; where more break, that is no chance."""

Key: TypeAlias = tuple[str, str, State]
Place: TypeAlias = tuple[str, Row, State]


def every_cell() -> list[Place]:
    """Each fault in each state with both dialers; statuses where they matter."""
    return [
        (dialer, row, state)
        for dialer in DIALERS
        for rows, states in (
            (ROWS + EVERY_CLOSE, STATES),
            (EVERY_STATUS, ("handshake",)),
        )
        for row in rows
        for state in STATES
        if state in states and row.fits(state)
    ]


def some_cells() -> list[Place]:
    """Each fault once, with one dialer: neighbours in different states, so that all are met."""
    places: list[Place] = []
    for number, row in enumerate(ROWS):
        states = [state for state in STATES if row.fits(state)]
        places.append(("picows", row, states[number % len(states)]))
    return places


async def play(places: Sequence[Place], *, quick: bool) -> dict[Key, Outcome]:
    """Play cells, a dozen at a time, and return what became of each.

    Where a few did not hold they are played again, one by one: with timeouts this short
    a machine that is busy with something else ends links by itself.
    """
    watch_tasks(asyncio.get_running_loop())
    turns = asyncio.Semaphore(AT_ONCE)
    outcomes: dict[Key, Outcome] = {}

    async def one(dialer: str, row: Row, state: State) -> None:
        async with turns:
            outcomes[dialer, row.name, state] = await Cell(row, state, dialer, quick=quick).run()
            if sys.stderr.isatty():
                print(f"\r{len(outcomes)} of {len(places)}", end="\r", file=sys.stderr)

    async with asyncio.TaskGroup() as group:
        for place in places:
            group.create_task(one(*place))
    failed = {
        (dialer, row.name, state): (dialer, row, state)
        for dialer, row, state in places
        if outcomes[dialer, row.name, state].mark == "!"
    }
    if len(failed) <= AGAIN:
        for key, place in failed.items():
            first = outcomes[key].why
            await one(*place)
            outcomes[key] = replace(outcomes[key], first=first)
    return {
        (dialer, row.name, state): outcomes[dialer, row.name, state]
        for dialer, row, state in places
    }


def broken(outcomes: dict[Key, Outcome]) -> Iterable[str]:
    """What went wrong, cell by cell."""
    for (dialer, name, state), outcome in outcomes.items():
        if outcome.mark == "!":
            yield f"! {dialer}: {name} × {state}: {outcome.why}"


def second_tries(outcomes: dict[Key, Outcome]) -> Iterable[str]:
    """Which cells held only when they were played again, and what had happened first."""
    for (dialer, name, state), outcome in outcomes.items():
        if outcome.first and outcome.mark != "!":
            yield f"played twice: {dialer}: {name} × {state}: {outcome.first}"
