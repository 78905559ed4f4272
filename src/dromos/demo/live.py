"""The demonstration on a terminal: what is going on, and why, at a glance."""

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dromos.demo.lanes import WIDTH, draw, glyphs_for
from dromos.demo.overlap import HandOver
from dromos.demo.plain import report
from dromos.demo.summary import Step, Summary
from dromos.demo.words import describe
from dromos.demo.world import Plan, World
from dromos.events import (
    AttemptStarted,
    BridgeEvent,
    Connected,
    Disconnected,
    HandedOver,
    LinkOpened,
    RetryScheduled,
    SessionEnded,
    TokenObtained,
)

__all__ = ["LiveView"]

OTHER_LINES: Final = 24
"""How many lines everything but the events takes, more or less."""

LEAST_EVENTS: Final = 3
"""Lines of events that are worth a panel; for fewer, "now:" has to do."""

LANES_FOR: Final = 8.0
"""Seconds for which a hand-over takes the place of the events, if there is room for one only."""

FRAME: Final = 2
"""Lines that a panel takes beside what is in it."""

RATE_WINDOW: Final = 1.0
QUIET: Final = 0.5
"""Seconds without a message that are worth a word."""


class LiveView:
    """Draws the state of the session, the script and the last events, ten times a second."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._world: World | None = None
        self._plans: Sequence[Plan] = ()
        self._plan: Plan | None = None
        self._results: dict[str, Step] = {}
        self._events: deque[Text] = deque(maxlen=12)
        self._lanes: list[str] = []
        self._lanes_since = 0.0
        self._now = "starting"
        self._link: int | None = None
        self._dialling: int | None = None
        self._retry_at: float | None = None
        self._token: TokenObtained | None = None
        self._gap_since: float | None = None
        self._handled: deque[tuple[float, int]] = deque()
        self._heard = (0, 0.0)
        # Made last, since it asks for a frame at once.  `transient`: the last frame makes
        # room for the summary, which stays.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, get_renderable=self.render
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    # --- What the demonstration tells ---------------------------------------------------

    def begin(self, world: World, plans: Sequence[Plan]) -> None:
        """Remember whom to ask."""
        self._world, self._plans = world, plans

    def on_event(self, event: BridgeEvent, elapsed: float) -> None:
        """Take in what happened."""
        self._follow(event)
        text = describe(event)
        if text is not None:
            self._now = text
            line = Text(f"{elapsed:5.1f}  ", style="dim")
            self._events.append(line.append(text, style=_style(event)))
        # Not drawn before the next tick: that takes as long as a whole hand-over on loopback.

    def on_step(self, plan: Plan, step: Step | None, elapsed: float) -> None:
        """Take in where the script is."""
        self._plan = plan
        if step is not None:
            self._results[plan.name] = step
        self._live.refresh()

    def on_handover(self, handover: HandOver) -> None:
        """Draw it, from now on."""
        width = min(WIDTH, self._console.width - 4)
        self._lanes = draw(handover, width=width, glyphs=glyphs_for(self._console.encoding))
        self._lanes_since = time.monotonic()
        self._live.refresh()

    def tick(self) -> None:
        """Draw again."""
        handled = self._world.ledger.handled if self._world else 0
        if handled != self._heard[0]:
            self._heard = (handled, time.time())
        self._live.refresh()

    def end(self, summary: Summary) -> None:
        """Leave the hand-over, the steps and the summary on the screen."""
        self._live.stop()
        if self._lanes:
            self._console.print(self._lanes_panel())
        colour = "green" if summary.passed else "red"
        body = Group(self._steps(), Text(), *(Text(line) for line in report(summary)))
        self._console.print(Panel(body, title="dromos demo", border_style=colour))

    def _follow(self, event: BridgeEvent) -> None:
        match event:
            case TokenObtained():
                self._token = event
            case AttemptStarted():
                self._dialling, self._retry_at = event.link, None
            case LinkOpened():
                self._dialling = None
            case Connected():
                self._link, self._gap_since, self._retry_at = event.link, None, None
            case HandedOver():
                self._link = event.new
            case Disconnected():
                self._link, self._gap_since = None, event.at
            case RetryScheduled():
                self._retry_at = event.at + event.delay
            case SessionEnded():
                self._link, self._gap_since = None, None
            case _:
                pass

    # --- What is drawn ------------------------------------------------------------------

    def render(self) -> RenderableType:
        """Return the whole picture."""
        elapsed = self._world.elapsed if self._world else 0.0
        story = self._plan.story if self._plan else ""
        panels = [
            Panel(
                Group(self._state(), Text(), self._figures()),
                title=f"dromos demo  {elapsed:.0f} s",
                border_style="cyan",
            ),
            Panel(Group(self._steps(), Text(), Text(story, style="italic")), title="script"),
        ]
        return Group(*panels, *self._what_fits(self._console.height - OTHER_LINES))

    def _what_fits(self, room: int) -> list[RenderableType]:
        """Return the hand-over and the events, as far as there is room for them."""
        panels: list[RenderableType] = []
        needed = len(self._lanes) + FRAME
        is_new = time.monotonic() - self._lanes_since < LANES_FOR
        if self._lanes and room >= needed and (is_new or room >= needed + FRAME + LEAST_EVENTS):
            panels.append(self._lanes_panel())
            room -= needed + FRAME
        room = min(12, room)
        if room >= LEAST_EVENTS:
            shown = list(self._events)[-room:]
            blank = [Text()] * (room - len(shown))
            panels.append(Panel(Group(*shown, *blank), title="what the bridge reports"))
        return panels

    def _lanes_panel(self) -> Panel:
        lines = (Text(line, no_wrap=True) for line in self._lanes)
        return Panel(Group(*lines), title="one hand-over, on two lanes", border_style="cyan")

    def _state(self) -> Text:
        now = time.time()
        text = Text()
        if self._link is not None:
            text.append("● CONNECTED ", style="bold green").append(f"on link {self._link}")
            quiet = now - self._heard[1]
            if self._heard[0] and quiet > QUIET:
                text.append(f", but nothing has come for {quiet:.1f} s", style="yellow")
            if self._dialling is not None:
                text.append(f", opening link {self._dialling} beside it", style="yellow")
        elif self._gap_since is not None:
            gap = now - self._gap_since
            text.append("○ NO LINK ", style="bold red").append(f"for {gap:.1f} s")
            if self._dialling is not None:
                text.append(f", dialling link {self._dialling}", style="yellow")
            elif self._retry_at is not None:
                text.append(f", next attempt in {max(0.0, self._retry_at - now):.1f} s")
        else:
            text.append("○ NOT CONNECTED", style="bold")
        return text.append(f"\n  now: {self._now}", style="dim")

    def _figures(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="dim")
        table.add_column()
        table.add_row("token", self._countdown())
        if self._world is not None:
            ledger = self._world.ledger
            table.add_row(
                "messages",
                f"{ledger.handled} received, {self._per_second(ledger.handled):.0f}/s",
            )
            table.add_row(
                "links",
                f"{len(self._world.far.links)} opened; hand-overs: {len(self._world.handovers)}; "
                f"gaps: {len(self._world.faults)}",
            )
        return table

    def _countdown(self) -> RenderableType:
        if self._world is None or self._token is None:
            return Text("none yet")
        left = max(0.0, self._world.token_left())
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(
            total=self._world.lifetime,
            completed=left,
            width=30,
            complete_style="green" if left > 2 else "yellow",
            finished_style="green",
        )
        grid.add_row(bar, f"{left:3.1f} s of life left (token {self._token.generation})")
        return grid

    def _per_second(self, handled: int) -> float:
        now = time.monotonic()
        self._handled.append((now, handled))
        while now - self._handled[0][0] > RATE_WINDOW:
            self._handled.popleft()
        began, count = self._handled[0]
        return (handled - count) / (now - began) if now > began else 0.0

    def _steps(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        for plan in self._plans:
            result = self._results.get(plan.name)
            if result is None:
                running = plan is self._plan
                style = "bold yellow" if running else "dim"
                table.add_row(Text("▶" if running else "·", style=style), Text(plan.title, style))
            else:
                mark = Text("✔", "green") if result.passed else Text("✘", "bold red")
                table.add_row(mark, Text(plan.title), Text(result.outcome, style="dim"))
        return Padding(table, 0)


def _style(event: BridgeEvent) -> str:
    name = type(event).__name__
    if name in ("Connected", "HandedOver"):
        return "green"
    if "Failed" in name or (name in ("LinkLost", "Disconnected") and not _calm(event)):
        return "red"
    return "yellow" if name in ("RetryScheduled", "RefreshStarted") else ""


def _calm(event: BridgeEvent) -> bool:
    return getattr(event, "released", False) or getattr(event, "error", None) is None
