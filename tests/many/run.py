"""Thousands of sessions in one process, through a full restart of the far side.

python -m tests.many.run --sessions 5000
"""

import argparse
import asyncio
import os
import resource
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from dromos import Bridge, Group, Handler, Token
from dromos.events import (
    AttemptFailed,
    AttemptStarted,
    BridgeEvent,
    Connected,
    Disconnected,
    LinkOpened,
    SessionEnded,
    TokenObtained,
)
from tests.many.process import FarProcess, allow_descriptors

STEADY: Final = 3.0
"""Seconds that everything stays up before the far side is killed."""

OUTAGE: Final = 5.0
"""Seconds that nobody listens."""

BLOCKED: Final = 1.0
"""Seconds that one handler blocks the event loop."""

LOWEST_PATIENCE: Final = 60.0
TICK: Final = 0.05
DIALS: Final = 64
"""The default of `max_concurrent_dials`."""

BATCH: Final = 100
"""Sessions that are begun before the event loop has a turn: five thousand tasks that take
their first step in one turn keep everything else waiting meanwhile."""


class Agent(Handler):
    """Counts."""

    def __init__(self, tally: Counter[str]) -> None:
        self.tally = tally

    def on_message(self, message: str | bytes) -> None:
        self.tally["messages"] += 1


class Raising(Agent):
    """A handler with a bug."""

    def on_message(self, message: str | bytes) -> None:
        raise ValueError("not this one")


class Blocking(Agent):
    """A handler that blocks the event loop for a while."""

    def on_message(self, message: str | bytes) -> None:
        time.sleep(BLOCKED)


class Tokens:
    """A source that counts how many questions are under way for each connection."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self._under_way: Counter[str] = Counter()

    async def get_token(self, connection_id: str) -> Token:
        self.asked[connection_id] += 1
        self._under_way[connection_id] += 1
        self.most_at_once = max(self.most_at_once, self._under_way[connection_id])
        await asyncio.sleep(0.01)
        self._under_way[connection_id] -= 1
        return Token({"access_token": f"token-of-{connection_id}"})


class Many:
    """The sessions, and what is known of them."""

    def __init__(self, sessions: int, rate: float) -> None:
        self.wanted = sessions
        self.rate = rate
        self.tally: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.begun: list[float] = []
        self.dials = self.dialling = self.most_dials = 0
        self.attempts_of: Counter[str] = Counter()
        self.open = 0
        self.longest_stall = 0.0
        self.connected_at: list[float] = []
        self.ended: list[str] = []
        self.figures: dict[str, str] = {}
        self.problems: list[str] = []
        self.tokens = Tokens()

    async def run(self) -> None:
        """Play it all."""
        async with FarProcess() as far, Bridge(self.tokens, on_event=self._on_event) as bridge:
            before = _rss()
            watching = asyncio.get_running_loop().create_task(self._watch_stalls())
            async with bridge.supervise(attempt_rate=self.rate) as group:
                await self._start(group, far)
                self.figures["memory for each"] = f"{(_rss() - before) / self.wanted:.1f} KiB"
                await self._isolate(group, far)
                await self._restart(group, far)
            watching.cancel()
        self._expect("no session ended by itself", not self.ended, str(self.ended[:3]))
        self._expect("one question at a time for a token", self.tokens.most_at_once == 1, "more")

    # --- The acts ----------------------------------------------------------------------------

    async def _start(self, group: Group, far: FarProcess) -> None:
        odd = {0: Raising, 1: Blocking}
        for number in range(self.wanted):
            agent = odd.get(number, Agent)(self.tally)
            group.start(f"c-{number}", far.url(number), agent)
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(0)
        await self._all_open(group, "start")
        self._expect_calm("start")
        await asyncio.sleep(STEADY)

    async def _isolate(self, group: Group, far: FarProcess) -> None:
        """One handler raises, one blocks, one session fails for good."""
        gaps, messages = self.events["Disconnected"], self.tally["messages"]
        group.start("gone", far.url(0, "gone"), Agent(self.tally))
        failure = await asyncio.wait_for(anext(group.failures()), LOWEST_PATIENCE)
        self._expect("one failure was told", failure.connection_id == "gone", repr(failure))
        for path in ("/c-0", "/c-1"):  # and those that begin so, which are well
            await far.order(send="hello", path=path)
        told = (await far.order(send="to all", path="/c-"))["sent"]
        alike = sum(f"c-{number}".startswith(("c-0", "c-1")) for number in range(self.wanted))
        expected = messages + (self.wanted - 2) + (alike - 2)
        await self._until(lambda: self.tally["messages"] >= expected)
        self._expect("all were sent to", told == self.wanted, f"{told}")
        self._expect("the bug was told", self.events["HandlerFailed"] == 2, str(self.events))
        self._expect("nobody else noticed", self.events["Disconnected"] == gaps, "gaps")
        self._expect("all are open", self.open == self.wanted, f"{self.open}")

    async def _restart(self, group: Group, far: FarProcess) -> None:
        self.begun.clear()
        self.dials = 0
        self.attempts_of.clear()
        self.connected_at.clear()
        asked = sum(self.tokens.asked.values())
        self.events.clear()
        began = time.monotonic()
        await far.kill()
        await self._until(lambda: self.open == 0)
        await asyncio.sleep(OUTAGE)
        await far.start()
        up_at = time.monotonic()
        await self._all_open(group, "restart")
        self._expect_calm("restart")
        self.figures["attempts for each"] = f"{self.dials / self.wanted:.2f}"
        self.figures["most attempts of one"] = f"{max(self.attempts_of.values())}"
        self.figures["99 % are back"] = f"{self._share(0.99) - up_at:.1f} s after it was up"
        self.figures["all are back"] = f"{self._share(1.0) - began:.1f} s after it went down"
        far_open = (await far.order())["open"]
        self._expect("the far side has them all", far_open == self.wanted, f"{far_open}")
        more = sum(self.tokens.asked.values()) - asked
        self._expect("no token was fetched again", more == 0, f"{more}")

    # --- What is checked ---------------------------------------------------------------------

    async def _all_open(self, group: Group, what: str) -> None:
        began = time.monotonic()
        await self._until(lambda: self.open == self.wanted)
        seen = sum(one.state == "open" for one in group.sessions())
        self._expect(f"{what}: all are seen to be open", seen == self.wanted, f"{seen}")
        self.figures[f"{what}: all open"] = f"{time.monotonic() - began:.1f} s"
        self._expect(f"{what}: none is lost", len(group) == self.wanted, f"{len(group)}")

    def _expect_calm(self, what: str) -> None:
        """Attempts begin at the rate, and no more than so many dials are under way at once.

        A turn is good for a second, and the answer to its question for a token may be held
        up as well, on a machine that is busy with other things: hence the fourfold.
        """
        peak, stall = most_within_a_second(self.begun), self.longest_stall
        self.longest_stall = 0.0
        self.figures[f"{what}: most attempts begun in a second"] = f"{peak} (rate {self.rate:g})"
        self.figures[f"{what}: most dials under way at once"] = f"{self.most_dials}"
        self.figures[f"{what}: the loop stood still for"] = f"{stall:.1f} s"
        self._expect(f"{what}: no storm", peak <= 4 * self.rate + 2, f"{peak} a second")
        self._expect(f"{what}: dials are bounded", self.most_dials <= DIALS, f"{self.most_dials}")

    async def _watch_stalls(self) -> None:
        """Note by how much timers are late: other programs run on this machine as well."""
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self.longest_stall = max(self.longest_stall, time.monotonic() - due)

    async def _until(self, condition: Callable[[], Any]) -> None:
        patience = LOWEST_PATIENCE + 4 * self.wanted / self.rate
        async with asyncio.timeout(patience):
            while not condition():  # noqa: ASYNC110  # many things together may make it true
                await asyncio.sleep(0.25)

    def _expect(self, what: str, holds: bool, found: str) -> None:
        if not holds:
            self.problems.append(f"not so: {what} ({found})")

    def _share(self, share: float) -> float:
        return sorted(self.connected_at)[max(0, int(self.wanted * share) - 1)]

    def _on_event(self, event: BridgeEvent) -> None:
        self.events[type(event).__name__] += 1
        match event:
            case TokenObtained():
                self.begun.append(time.monotonic())
            case LinkOpened() | AttemptFailed():
                self.dialling -= 1
            case AttemptStarted():
                self.dials += 1
                self.dialling += 1
                self.most_dials = max(self.most_dials, self.dialling)
                self.attempts_of[event.connection_id] += 1
            case Disconnected():
                self.open -= 1
            case Connected():
                self.open += 1
                self.connected_at.append(time.monotonic())
            case SessionEnded(error=error) if error is not None and event.connection_id != "gone":
                self.ended.append(f"{event.connection_id}: {error}")
            case _:
                pass

    def table(self) -> Iterator[str]:
        """Yield lines; the last one is the verdict."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield f"{'sessions in one process':<40}{self.wanted:>24,}"
        for name, value in self.figures.items():
            yield f"{name:<40}{value:>24}"
        yield f"{'CPU, user and system':<40}{usage.ru_utime + usage.ru_stime:>22.1f} s"
        bad = f"FAILED: {'; '.join(self.problems)}"
        yield bad if self.problems else "PASSED: none was lost, and nobody was hammered"


def most_within_a_second(times: list[float]) -> int:
    """Return how many there were at most in any second."""
    ordered = sorted(times)
    return max((bisect_left(ordered, at + 1) - n for n, at in enumerate(ordered)), default=0)


def _rss() -> float:
    """Resident memory in KiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def main() -> None:
    """Play it, and exit with 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=100, help="attempts a second")
    asked = parser.parse_args()
    allow_descriptors(asked.sessions + 1000)
    many = Many(asked.sessions, asked.rate)
    asyncio.run(many.run())
    lines = list(many.table())
    print("\n".join(lines))
    sys.exit(lines[-1].startswith("FAILED"))


if __name__ == "__main__":
    main()
