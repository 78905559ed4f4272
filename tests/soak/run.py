"""Hundreds of bridges on real sockets for a while, with faults; memory and descriptors sampled.

python -m tests.soak.run --minutes 10 --bridges 500 --plot soak.svg
"""

import argparse
import asyncio
import gc
import json
import logging
import os
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dromos import Bridge, Handler, RetryPolicy
from dromos.events import BridgeEvent, SessionEnded
from dromos.oauth import OAuthClient
from tests.soak.plot import chart

GROWTH_ALLOWED = 0.05
"""Of the memory in the second quarter: what may have come on top by the last one."""

SLACK_MIB = 8.0
DESCRIPTORS_FOR_EACH = 2
"""Of a session: its link, and the next one while it is being taken over."""

QUIET = 25.0
"""Seconds at the end, and a quarter of the time at least, without a fault, so that what
stays broken shows: a 1013 or 429 alone keeps a session away for over ten."""

OPEN_AT_THE_END = 0.99
"""Share of sessions that have to be open when faults have ceased for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was measured at one moment."""

    at: float
    rss_mib: float
    descriptors: int
    tasks: int
    open: int
    messages: int
    cpu: float


class Agent(Handler):
    """Counts messages, and whether it is connected."""

    def __init__(self, tally: Counter[str]) -> None:
        self.tally = tally

    def on_connect(self, send: object) -> None:
        self.tally["open"] += not getattr(send, "handover", False)

    def on_message(self, message: str | bytes) -> None:
        self.tally["messages"] += 1

    def on_disconnect(self, error: Exception | None) -> None:
        self.tally["open"] -= 1


class Soak:
    """The bridges, and what is known of them."""

    def __init__(self, bridges: int, seconds: float, *, seed: int) -> None:
        self.wanted = bridges
        self.seconds = seconds
        self.seed = seed
        self.tally: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.faults: list[tuple[float, str]] = []
        self.samples: list[Sample] = []
        self.ended: list[str] = []
        self.began = 0.0

    async def run(self) -> None:
        """Start everything, wait, and stop everything."""
        every = max(2.0, self.seconds / 60)
        quiet = max(QUIET, self.seconds / 4)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.far"),
            *map(str, (self.wanted, every, self.seconds - quiet, self.seed)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            where = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
            self.began = time.monotonic()
            listening = asyncio.create_task(self._hear(process.stdout))
            async with OAuthClient(where["gateway"]) as oauth:
                await self._play(oauth, where["far"])
            listening.cancel()
        finally:
            process.stdin.close()
            await asyncio.wait_for(process.wait(), 30)

    async def _hear(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            self.faults.append((time.monotonic() - self.began, json.loads(line)["fault"]))

    async def _play(self, oauth: OAuthClient, url: str) -> None:
        policy = RetryPolicy(min_backoff=0.5, max_backoff=5, stable_after=2)
        bridges = [
            Bridge(
                oauth,
                retry_policy=policy,
                on_event=self._on_event,
                ping_interval=5,
                ping_timeout=5,
                connect_timeout=5,
                initial_token="retry",
            )
            for _ in range(self.wanted)
        ]
        sessions = [
            asyncio.create_task(bridge.maintain_websocket(f"c-{n}", url, Agent(self.tally)))
            for n, bridge in enumerate(bridges)
        ]
        try:
            while time.monotonic() - self.began < self.seconds:
                await asyncio.sleep(min(2.0, self.seconds / 60))
                self.samples.append(self._sample())
        finally:
            await asyncio.gather(*(bridge.close() for bridge in bridges))
            await asyncio.gather(*sessions, return_exceptions=True)

    def _on_event(self, event: BridgeEvent) -> None:
        self.events[type(event).__name__] += 1
        if isinstance(event, SessionEnded) and event.error is not None:
            self.ended.append(str(event.error))

    def _sample(self) -> Sample:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Sample(
            at=time.monotonic() - self.began,
            rss_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            tasks=len(asyncio.all_tasks()),
            open=self.tally["open"],
            messages=self.tally["messages"],
            cpu=usage.ru_utime + usage.ru_stime,
        )

    # --- The verdict -------------------------------------------------------------------------

    def problems(self) -> Iterator[str]:
        """Say what should not be."""
        quarter = max(1, len(self.samples) // 4)
        before = statistics.median(s.rss_mib for s in self.samples[quarter : 2 * quarter])
        after = statistics.median(s.rss_mib for s in self.samples[-quarter:])
        if after > before * (1 + GROWTH_ALLOWED) + SLACK_MIB:
            yield f"memory grew from {before:.0f} to {after:.0f} MiB"
        most = max(sample.descriptors for sample in self.samples)
        if most > self.wanted * DESCRIPTORS_FOR_EACH + 100:
            yield f"{most} descriptors were open"
        if max(sample.tasks for sample in self.samples) > self.wanted * 8 + 50:
            yield "tasks pile up"
        best = max(sample.open for sample in self.samples[-quarter:])
        if best < self.wanted * OPEN_AT_THE_END:
            yield f"only {best} of {self.wanted} sessions were open at best in the last quarter"
        for error in self.ended[:5]:
            yield f"a session ended: {error}"

    def table(self) -> Iterator[str]:
        """Yield lines; the last one is the verdict."""
        last = self.samples[-1]
        kept = ("Connected", "Disconnected", "HandedOver", "RefreshStarted", "AttemptFailed")
        rows = [
            ("bridges", f"{self.wanted:,}"),
            ("minutes", f"{self.seconds / 60:.1f}"),
            ("faults", f"{len(self.faults):,}"),
            ("messages", f"{last.messages:,}"),
            *((name, f"{self.events[name]:,}") for name in kept),
            ("memory, first and last", f"{self.samples[0].rss_mib:.0f} and {last.rss_mib:.0f} MiB"),
            ("descriptors, at most", f"{max(s.descriptors for s in self.samples):,}"),
            ("CPU", f"{last.cpu / max(last.at, 1) * 100:.0f} % of one core"),
        ]
        for name, value in rows:
            yield f"{name:<24}{value:>24}"
        problems = list(self.problems())
        bad = f"FAILED: {'; '.join(problems)}"
        yield bad if problems else "PASSED: nothing grew, and no session ended"


def main() -> None:
    """Soak, and exit with 1 if something should not be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--bridges", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="write an SVG")
    parser.add_argument("--json", type=Path, help="write the samples, a line each")
    asked = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, asked.bridges * 4)), hard))
    logging.getLogger("dromos").setLevel(logging.ERROR)  # faults are meant, and so is the crowd
    soak = Soak(asked.bridges, asked.minutes * 60, seed=asked.seed)
    asyncio.run(soak.run())
    if asked.json is not None:
        lines = [json.dumps(asdict(sample)) for sample in soak.samples]
        asked.json.write_text("\n".join(lines) + "\n")
    if asked.plot is not None:
        asked.plot.write_text(chart(soak.samples, soak.faults, soak.wanted))
    lines = list(soak.table())
    print("\n".join(lines))
    sys.exit(lines[-1].startswith("FAILED"))


if __name__ == "__main__":
    main()
