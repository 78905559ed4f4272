"""Every fault on real sockets: the session recovers, or ends as its verdict says."""

import asyncio
import gc
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dromos
from dromos import Bridge, ConnectionClosed, Handshake, Limits
from dromos.events import BridgeEvent, EndDeferred, LinkLost, RetryScheduled
from dromos.testing import FarSide, FaultProxy
from tests.chaos.cell import DIALERS, Cell
from tests.chaos.leaks import CELL, descriptors, nothing_left, survivors, watch_tasks
from tests.chaos.matrix import broken, every_cell, play, some_cells
from tests.chaos.rows import ROWS, STATES, close, link
from tests.dialers.recorder import Recorder
from tests.driver.harness import Notes, Tokens


@pytest.mark.slow  # the timeouts, backoffs and token lifetimes of the sessions are real
@pytest.mark.timeout(400)
async def test_every_fault_once_and_every_state_leave_nothing_broken_and_nothing_behind() -> None:
    before, living = descriptors(), survivors()

    outcomes = await play(some_cells(), quick=True)

    assert "" == "\n".join(broken(outcomes))
    assert descriptors() <= before
    assert living == survivors()


def test_the_short_selection_covers_each_fault_and_each_state() -> None:
    places = some_cells()

    assert {row.name for row in ROWS} == {row.name for _, row, _ in places}
    assert set(STATES) == {state for _, _, state in places}
    assert {row.name for row in ROWS} <= {row.name for _, row, _ in every_cell()}
    keys = [(dialer, row.name, state) for dialer, row, state in every_cell()]
    assert len(set(keys)) == len(keys)


@pytest.mark.slow  # several rounds of the above: what a cell leaves shows in the sum only
@pytest.mark.timeout(400)
async def test_memory_does_not_grow_with_the_rounds() -> None:
    names = ("silent", "reset", "half-close", "truncate", "corrupt", "503", "close 1000", "401")
    places = [
        ("picows", row, state)
        for row in ROWS
        for state in ("handshake", "sending", "closing")
        if row.name in names
    ]
    await play(places, quick=True)  # whatever is made once
    gc.collect()
    tracemalloc.start()
    try:
        sizes: list[int] = []
        for _ in range(3):
            outcomes = await play(places, quick=True)
            assert "" == "\n".join(broken(outcomes))
            del outcomes
            gc.collect()
            sizes.append(held_by_dromos())
    finally:
        tracemalloc.stop()

    assert sizes[-1] - sizes[0] < len(places) * 2 * PER_CELL, sizes


PER_CELL = 2048
"""Bytes that a cell may leave: the rounds' noise, and far less than a forgotten link."""


def held_by_dromos() -> int:
    """Return how many bytes are held that our own code has asked for.

    Not those of the interpreter and of pytest, which on a busy machine keep what the
    watchdog says of a blocked loop, and the source that it quotes.
    """
    ours = tracemalloc.Filter(True, f"{Path(dromos.__file__).parent}/*")
    snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    return sum(each.size for each in snapshot.traces)


@pytest.mark.slow  # five real seconds in which nothing happens
@pytest.mark.parametrize("dialer", DIALERS)
async def test_a_link_with_nothing_on_it_but_pings_is_kept(dialer: str) -> None:
    """The kernel's clock is coarse: an answer from nearby seemed older than its ping."""
    events: list[BridgeEvent] = []
    async with FarSide() as far, FaultProxy(far.url) as proxy:
        bridge = Bridge(
            Tokens(),
            dialer=DIALERS[dialer](),
            on_event=events.append,
            ping_interval=0.05,
            ping_timeout=1.5,
        )
        session = asyncio.get_running_loop().create_task(
            bridge.maintain_websocket("c-1", proxy.url, Notes())
        )
        link = await far.wait_for_link(1)
        await asyncio.sleep(5)
        lost = [event for event in events if isinstance(event, LinkLost)]
        await bridge.close()
        await session

    assert [] == lost
    assert 3 <= len(link.pings)


async def test_a_cell_notices_what_is_left_behind() -> None:
    watch_tasks(asyncio.get_running_loop())
    owner = object()

    async def leave_something() -> "asyncio.Task[None]":
        CELL.set(owner)
        return asyncio.get_running_loop().create_task(asyncio.sleep(60), name="forgotten")

    left = await asyncio.get_running_loop().create_task(leave_something())
    with pytest.raises(AssertionError, match="forgotten"):
        await nothing_left(owner, [], within=0)
    left.cancel()
    await asyncio.wait([left])
    async with FarSide() as far:
        with pytest.raises(AssertionError, match="listening"):
            await nothing_left(owner, [far.port], within=0)
    await nothing_left(owner, [far.port])


@pytest.mark.parametrize("dialer", DIALERS)
async def test_a_link_that_something_holds_on_to_is_noticed(dialer: str) -> None:
    living = survivors()
    async with FarSide() as far:
        link = await DIALERS[dialer]().dial(Handshake(url=far.url), Recorder(), Limits())
        link.abort()

    assert 1 == len(survivors()) - len(living)
    del link
    assert living == survivors()


async def test_a_session_that_ends_on_its_own_breaks_its_cell_and_no_other() -> None:
    def refuse(proxy: FaultProxy, **which: Any) -> None:
        raise RuntimeError("nobody meant this")

    bad = link("bad", refuse)

    outcomes = await play([("picows", bad, "idle"), ("picows", ROWS[3], "idle")], quick=True)

    assert ["!", "+"] == [outcome.mark for outcome in outcomes.values()]
    assert "! picows: bad × idle: nobody meant this" in "".join(broken(outcomes))


async def test_a_cell_notices_a_session_that_does_not_recover() -> None:
    """Each expectation can fail: here a fault that is to be told, and isn't one."""
    watch_tasks(asyncio.get_running_loop())
    harmless = link("harmless", lambda proxy, **which: proxy.stall(0.0, live=True))

    cell = Cell(harmless, "idle", quick=True)
    cell.patience = 2.0
    outcome = await cell.run()

    assert "!" == outcome.mark


@pytest.mark.slow  # a token lives four real seconds before its link is replaced
async def test_a_cell_notices_an_old_link_that_was_told_as_something_else() -> None:
    watch_tasks(asyncio.get_running_loop())
    other = replace(close(4000), told=close(4001).told)

    cell = Cell(other, "old link", quick=True)
    cell.patience = 8.0
    outcome = await cell.run()

    assert "!" == outcome.mark


TEMPORARY, FINAL = ConnectionClosed(code=1011), ConnectionClosed(code=1008)


@pytest.mark.parametrize(
    ("error", "events", "wrong"),
    [
        (TEMPORARY, [], None),
        (FINAL, [EndDeferred(error=FINAL)], None),
        (None, [], None),
        (TEMPORARY, [EndDeferred(error=TEMPORARY)], "announced"),
        (FINAL, [], "announced"),
        (None, [EndDeferred(error=FINAL)], "announced"),
        (TEMPORARY, [RetryScheduled(delay=1, failures=1, error=TEMPORARY)], "waited"),
    ],
)
def test_what_an_old_link_has_told_is_compared_with_its_verdict(
    error: Exception | None, events: list[BridgeEvent], wrong: str | None
) -> None:
    cell = Cell(close(1000), "old link", quick=True)
    cell.events = events

    with nullcontext() if wrong is None else pytest.raises(AssertionError, match=wrong):
        cell._check_that_it_goes_on(error)


def test_a_reset_has_a_direction_only_where_the_bytes_are_counted() -> None:
    down = [state for _, row, state in every_cell() if row.name == "reset down"]

    assert {"handshake"} == set(down)
