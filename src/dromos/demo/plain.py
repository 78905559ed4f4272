"""The demonstration as plain lines, for pipes and logs."""

from collections.abc import Sequence
from typing import IO

from dromos.demo.lanes import draw, glyphs_for
from dromos.demo.overlap import HandOver
from dromos.demo.summary import Step, Summary
from dromos.demo.words import describe
from dromos.demo.world import Plan, World
from dromos.events import BridgeEvent

__all__ = ["PlainView", "report"]


class PlainView:
    """Writes a line for each event and step, and draws a hand-over."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._glyphs = glyphs_for(getattr(out, "encoding", None))
        self._plans: Sequence[Plan] = ()

    def begin(self, world: World, plans: Sequence[Plan]) -> None:
        """Say what stands where."""
        self._plans = plans
        self._say(0.0, f"gateway {world.gateway.url}, far side {world.far.url}")

    def on_event(self, event: BridgeEvent, elapsed: float) -> None:
        """Write what happened."""
        text = describe(event)
        if text is not None:
            self._say(elapsed, f"  {text}")

    def on_step(self, plan: Plan, step: Step | None, elapsed: float) -> None:
        """Write what begins, or what came of it."""
        if step is None:
            place = f"{self._plans.index(plan) + 1}/{len(self._plans)}"
            self._say(elapsed, f"STEP {place} {plan.title}")
            self._say(elapsed, f"  ({plan.story})")
        else:
            self._say(elapsed, f"{'OK' if step.passed else 'FAILED'}: {step.outcome}")

    def on_handover(self, handover: HandOver) -> None:
        """Draw it."""
        print(file=self._out)
        for line in draw(handover, glyphs=self._glyphs):
            print(line, file=self._out)
        print(file=self._out, flush=True)

    def tick(self) -> None:
        """Nothing moves between lines."""

    def end(self, summary: Summary) -> None:
        """Write the summary."""
        print(file=self._out)
        for line in report(summary):
            print(line, file=self._out)

    def _say(self, elapsed: float, text: str) -> None:
        print(f"{elapsed:6.2f}  {text}", file=self._out, flush=True)


def report(summary: Summary) -> list[str]:
    """Return the summary as lines of text."""
    lines = [
        f"{'took':<12}{summary.took:.1f} s",
        f"{'messages':<12}{summary.published} published, {summary.received} received, "
        f"{summary.lost} lost; {summary.duplicates} received twice (links overlap)",
        f"{'links':<12}{summary.links} opened, {summary.handovers} of them hand-overs, "
        f"{summary.lost_in_handovers} messages lost in those",
        f"{'tokens':<12}{summary.refreshes} refreshes; {summary.expired_links} links met the "
        "end of their token",
        f"{'gaps':<12}{summary.reconnects}, the longest {summary.longest_gap:.1f} s",
    ]
    lines += [
        f"  {gap.step:<10}{gap.seconds:4.1f} s ({gap.without_link:.1f} s of it without a link); "
        f"{gap.lost} lost: {gap.unheard} published meanwhile, {gap.in_flight} in flight"
        for gap in summary.gaps
    ]
    lines.append(f"{'unexplained':<12}{summary.unexplained} lost")
    lines += [f"PROBLEM: {problem}" for problem in summary.problems]
    lines.append("everything went as scripted" if summary.passed else "NOT as scripted")
    return lines
