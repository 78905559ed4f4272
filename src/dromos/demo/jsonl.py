"""The demonstration as JSON, one object a line: events, steps, and the summary last."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any

from dromos.demo.overlap import HandOver
from dromos.demo.summary import Step, Summary
from dromos.demo.world import Plan, World
from dromos.events import BridgeEvent
from dromos.telemetry.json_lines import as_record

__all__ = ["JsonView"]


class JsonView:
    """Writes a JSON object for each event and step.

    Each has a `type`: `"begin"`, `"event"`, `"step"`, `"handover"` or `"summary"`; and `t`,
    the seconds since the beginning.  An event has all that `dromos.telemetry.json_lines` writes
    besides, so whatever reads such lines reads a demonstration too.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def begin(self, world: World, plans: Sequence[Plan]) -> None:
        """Write what stands where."""
        self._write("begin", 0.0, gateway=world.gateway.url, far_side=world.far.url)

    def on_event(self, event: BridgeEvent, elapsed: float) -> None:
        """Write an event."""
        self._write("event", elapsed, **as_record(event))

    def on_step(self, plan: Plan, step: Step | None, elapsed: float) -> None:
        """Write that a step began, or what came of it."""
        if step is None:
            self._write("step", elapsed, name=plan.name, title=plan.title, passed=None)
        else:
            self._write("step", elapsed, **asdict(step))

    def on_handover(self, handover: HandOver) -> None:
        """Write its times and counts."""
        self._write("handover", handover.until, **handover.as_json())

    def tick(self) -> None:
        """Nothing moves between lines."""

    def end(self, summary: Summary) -> None:
        """Write the summary."""
        self._write("summary", summary.took, **summary.as_json())

    def _write(self, kind: str, elapsed: float, **members: Any) -> None:
        line = {"type": kind, "t": round(elapsed, 3)} | members
        print(json.dumps(line, default=str), file=self._out, flush=True)
