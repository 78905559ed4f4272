"""The matrix, fault by state: which cells there are, and how many are played at once."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from tests.chaos.cell import DIALERS, Cell, Outcome
from tests.chaos.leaks import watch_tasks
from tests.chaos.rows import EVERY_CLOSE, EVERY_STATUS, ROWS, STATES, Row, State

AT_ONCE = 12

Key: TypeAlias = tuple[str, str, State]
Place: TypeAlias = tuple[str, Row, State]


def every_cell() -> list[Place]:
    """Each fault in each state with both dialers; codes and statuses where they matter."""
    return [
        (dialer, row, state)
        for dialer in DIALERS
        for rows, states in (
            (ROWS, STATES),
            (EVERY_STATUS, ("handshake",)),
            (EVERY_CLOSE, ("handshake", "idle")),
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
    """Play cells, a dozen at a time, and return what became of each."""
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
    return {
        (dialer, row.name, state): outcomes[dialer, row.name, state]
        for dialer, row, state in places
    }


def broken(outcomes: dict[Key, Outcome]) -> Iterable[str]:
    """What went wrong, cell by cell."""
    for (dialer, name, state), outcome in outcomes.items():
        if outcome.mark == "!":
            yield f"! {dialer}: {name} × {state}: {outcome.why}"
