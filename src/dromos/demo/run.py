"""Runs the script, shows it, and adds it up."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import IO, Literal, Protocol

from dromos.bridge import Bridge
from dromos.demo.overlap import HandOver
from dromos.demo.script import STEPS
from dromos.demo.summary import Step, Summary, add_up
from dromos.demo.world import CONNECTION, Plan, StepFailed, World
from dromos.events import BridgeEvent, Connected, HandlerFailed
from dromos.model import RetryPolicy
from dromos.oauth import OAuthClient

__all__ = ["Form", "View", "run", "show"]

Form = Literal["live", "plain", "json"]


class View(Protocol):
    """Who shows it."""

    def begin(self, world: World, plans: Sequence[Plan]) -> None:
        """The demonstration begins."""

    def on_event(self, event: BridgeEvent, elapsed: float) -> None:
        """The bridge reported something, so many seconds after the beginning."""

    def on_step(self, plan: Plan, step: Step | None, elapsed: float) -> None:
        """A step began, or is over with this result."""

    def on_handover(self, handover: HandOver) -> None:
        """The first hand-over is over, and all of it is known."""

    def tick(self) -> None:
        """A tenth of a second has passed."""

    def end(self, summary: Summary) -> None:
        """The demonstration is over."""


async def show(form: Form, *, rate: float = 200.0, record: IO[str] | None = None) -> bool:
    """Run the demonstration on standard output; return whether all went as scripted.

    Args:
        form: `"live"` for a terminal, `"plain"` for lines, `"json"` for machines.
        rate: Numbered messages a second that the far side sends.
        record: Gets what `dromos timeline` draws.  None (default) records nothing.
    """
    # Its tokens live seconds on purpose, and standard error is for what goes wrong.
    logging.getLogger("dromos.oauth").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        view = _view(form, stack)
        if record is not None:
            from dromos.demo.record import Recording

            view = Recording(record, view)
        return (await run(view, rate=rate)).passed


def _view(form: Form, stack: contextlib.ExitStack) -> View:
    if form == "live":
        from dromos.demo.live import LiveView

        return stack.enter_context(LiveView())
    if form == "plain":
        from dromos.demo.plain import PlainView

        return PlainView(sys.stdout)
    from dromos.demo.jsonl import JsonView

    return JsonView(sys.stdout)


async def run(
    view: View,
    *,
    plans: Sequence[Plan] = STEPS,
    rate: float = 200.0,
    lifetime: float = 8.0,
    pace: float = 1.0,
) -> Summary:
    """Run the demonstration, and return what it counted.

    Args:
        view: Who shows it.
        plans: The steps.  Default: all of the script.
        rate: Numbered messages a second that the far side sends.  Default 200.
        lifetime: Seconds that each token lives.  Default 8.
        pace: Seconds of peace between two steps.  Default 1.
    """

    def observe(event: BridgeEvent) -> None:
        # If nobody reads on, the next step's line says so to whom it concerns.
        with contextlib.suppress(BrokenPipeError):
            view.on_event(event, world.elapsed)

    world = World(observe, rate=rate, lifetime=lifetime)
    world.gateway.add(CONNECTION, lifetime=lifetime)
    async with (
        world.gateway,
        world.far,
        OAuthClient(world.gateway.url) as tokens,
        Bridge(
            tokens,
            on_event=world.observe,
            ping_interval=1,
            ping_timeout=1,
            retry_policy=RetryPolicy(min_backoff=0.5, max_backoff=4, stable_after=1),
            refresh_buffer=2,
        ) as bridge,
    ):
        world.snapshots = bridge.snapshots
        view.begin(world, plans)
        world.session = asyncio.create_task(
            bridge.maintain_websocket(CONNECTION, world.far.url, world.agent), name="session"
        )
        world.session.add_done_callback(lambda _: world.wake())
        clock = asyncio.create_task(_tick(view), name="view")
        try:
            steps = await _play(world, view, plans, pace)
            errors = await _end(world)
        finally:
            clock.cancel()
            world.session.cancel()
            await asyncio.gather(clock, world.session, return_exceptions=True)
        summary = _summary(world, steps, errors)
    view.end(summary)
    return summary


async def _tick(view: View) -> None:
    while True:
        await asyncio.sleep(0.1)
        view.tick()


async def _play(world: World, view: View, plans: Sequence[Plan], pace: float) -> list[Step]:
    steps: list[Step] = []
    shown: HandOver | None = None
    for plan in plans:
        began = world.elapsed
        view.on_step(plan, None, began)
        try:
            outcome, passed = await plan.act(world), True
        except (StepFailed, TimeoutError, LookupError) as error:
            outcome, passed = str(error) or type(error).__name__, False
        step = Step(
            name=plan.name,
            title=plan.title,
            passed=passed,
            outcome=outcome,
            took=world.elapsed - began,
        )
        steps.append(step)
        view.on_step(plan, step, world.elapsed)
        if not passed:
            break
        if plan is not plans[-1]:
            await asyncio.sleep(pace)
        # Not before the pause, in which what the new link had held reached the agent.
        if shown is None and (shown := world.first_handover()) is not None:
            view.on_handover(shown)
    return steps


async def _end(world: World) -> list[str]:
    """Return what went wrong beside the steps."""
    assert world.session is not None
    if not world.session.done():
        world.session.cancel()
    [outcome] = await asyncio.gather(world.session, return_exceptions=True)
    errors = [] if outcome is None else [f"the session ended with {outcome!r}"]
    errors += [f"the far side failed: {error!r}" for error in world.far.errors]
    errors += [f"the gateway failed: {error!r}" for error in world.gateway.errors]
    errors += [f"link {n.number}: {n.violation}" for n in world.far.links if n.violation]
    errors += [
        f"{event.method} raised {event.error!r}"
        for event in world.journal
        if isinstance(event, HandlerFailed)
    ]
    return errors


def _summary(world: World, steps: list[Step], errors: list[str]) -> Summary:
    return add_up(
        world.ledger,
        steps=steps,
        faults=world.faults,
        handovers=world.handovers,
        gaps=[e.gap for e in world.journal if isinstance(e, Connected) and e.gap is not None],
        took=world.elapsed,
        links=len(world.far.links),
        refreshes=world.gateway.refreshes,
        expired_links=sum(1 for link in world.far.links if link.closed_with == 4401),
        errors=errors,
    )
