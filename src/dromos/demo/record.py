"""A recording of the demonstration: every event, what was done to it, and samples, as lines."""

import time
from collections.abc import Sequence
from typing import IO, Final

from dromos.demo.overlap import HandOver
from dromos.demo.run import View
from dromos.demo.summary import Step, Summary
from dromos.demo.world import Plan, World
from dromos.events import BridgeEvent
from dromos.telemetry.json_lines import as_line, as_record, sample

__all__ = ["Recording"]

TICKS: Final = 2
"""Tenths of a second between two samples: a gap of the demonstration takes about one second."""


class Recording:
    """Writes what `dromos timeline` draws, and lets another view show the demonstration.

    Args:
        out: Where to.  Whoever opened it closes it.
        shown: Who shows the demonstration meanwhile.
    """

    def __init__(self, out: IO[str], shown: View) -> None:
        self._out = out
        self._shown = shown
        self._world: World | None = None
        self._ticks = 0
        self._marks = 0

    def begin(self, world: World, plans: Sequence[Plan]) -> None:
        """Remember whom to ask."""
        self._world = world
        self._shown.begin(world, plans)

    def on_event(self, event: BridgeEvent, elapsed: float) -> None:
        """Write an event."""
        self._out.write(as_line(as_record(event)) + "\n")
        self._shown.on_event(event, elapsed)

    def on_step(self, plan: Plan, step: Step | None, elapsed: float) -> None:
        """Nothing to write: what a step does is marked when it does it."""
        self._shown.on_step(plan, step, elapsed)

    def on_handover(self, handover: HandOver) -> None:
        """Nothing to write: the events say it all."""
        self._shown.on_handover(handover)

    def tick(self) -> None:
        """Write how many messages there have been, now and then."""
        self._ticks += 1
        if self._ticks % TICKS == 0 and self._world is not None:
            for record in sample(self._world.snapshots(), at=time.time()):
                self._out.write(as_line(record) + "\n")
            self._write_marks(self._world)
        self._shown.tick()

    def end(self, summary: Summary) -> None:
        """Write what is left."""
        if self._world is not None:
            self._write_marks(self._world)
        self._out.flush()
        self._shown.end(summary)

    def _write_marks(self, world: World) -> None:
        for at, text in world.struck[self._marks :]:
            self._out.write(as_line({"event": "mark", "at": at, "text": text}) + "\n")
        self._marks = len(world.struck)
