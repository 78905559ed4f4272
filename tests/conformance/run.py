"""Plays Autobahn's cases: each is one session of a `Bridge`, with a handler that echoes."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from dromos import Bridge, PermanentError, Verdict
from dromos.errors import BridgeError
from dromos.interfaces import Send
from dromos.model import Message
from dromos.oauth import StaticToken
from tests.conformance.cases import ENGINES, HEAVY, Engine, group_of, options_for
from tests.conformance.judge import Results, unfit
from tests.oauth.servers import Process

__all__ = ["Report", "run"]

SERVER: Final = Path(__file__).with_name("fuzzing_server.py")

AT_ONCE: Final = 12
"""Short cases in parallel: most of them do nothing but wait for a second."""

HEAVY_AT_ONCE: Final = 2
"""Heavy ones: one computes while the other one's server does."""

CASE_WITHIN: Final = 60.0
HEAVY_CASE_WITHIN: Final = 600.0
"""Seconds, over all that Autobahn grants such a case."""

AGAIN: Final = 20
"""At most so many cases get a second chance; where more fail, that is no chance."""

Job = tuple[Engine, str]
Tell = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run found.

    Attributes:
        cases: All that the server offered.
        results: By engine and case.
        again: The cases that passed only when they were played again, alone.
        versions: Of the server's side.
        seconds: How long it took.
    """

    cases: Sequence[str] = ()
    results: Mapping[str, Results] = field(default_factory=dict[str, Results])
    again: list[str] = field(default_factory=list[str])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0


class Echo:
    """Sends each message back, and ends its session with its first link."""

    def __init__(self) -> None:
        self._send: Send | None = None

    def on_connect(self, send: Send) -> None:
        if self._send is not None:
            # The far side announced that it goes away (7.7.2), and we have a link elsewhere.
            send.close()
        self._send = send

    async def on_message(self, message: Message) -> None:
        assert self._send is not None
        with suppress(BridgeError):  # a case may end with a message that nobody answers
            await self._send(message)

    def on_disconnect(self, error: Exception | None) -> None: ...


class Ear(Echo):
    """Keeps each message, and says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Message] = []

    async def on_message(self, message: Message) -> None:
        self.heard.append(message)


class Server:
    """A fuzzing server that listens, and what can be asked of it."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.cases: list[str] = process.ready["cases"]
        self.versions: dict[str, str] = process.ready["versions"]
        self._url = f"ws://127.0.0.1:{process.ready['port']}"
        self._folder = folder

    async def play(self, engine: Engine, case: str) -> None:
        """Have a case played; what came of it, the server knows."""
        number = self.cases.index(case) + 1
        within = HEAVY_CASE_WITHIN if group_of(case) in HEAVY else CASE_WITHIN
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._session(engine, f"/runCase?case={number}", Echo(), case=case)

    async def count(self, engine: Engine) -> int:
        """Return how many cases there are; shows that the server answers."""
        ear = Ear()
        async with asyncio.timeout(CASE_WITHIN):
            await self._session(engine, "/getCaseCount", ear)
        return int(ear.heard[0])

    async def results(self, engine: Engine) -> dict[str, Results]:
        """Return what came of all that was played, by engine and case."""
        async with asyncio.timeout(CASE_WITHIN):
            await self._session(engine, "/updateReports", Ear())
        index = await asyncio.to_thread((self._folder / "index.json").read_text)
        return dict(json.loads(index))

    async def _session(
        self, engine: Engine, path: str, handler: Echo, *, case: str = "1.1.1"
    ) -> None:
        """Run one session; it ends with its link, whatever ended that."""
        query = urlencode({"agent": engine.name})
        first = f"{path}{'&' if '?' in path else '?'}{query}"
        # A successor is a case of its own; on any other path the server listens quietly.
        paths: Iterator[str] = iter([first])
        bridge = Bridge(
            StaticToken("of-no-value"),
            dialer=engine.dialer,
            verdicts=lambda _: Verdict.PERMANENT,
            handler_errors="raise",
        )
        async with bridge:
            with suppress(PermanentError):
                await bridge.maintain_websocket(
                    f"{engine.name}-{case}",
                    lambda _: self._url + next(paths, "/elsewhere"),
                    handler,
                    **options_for(case),
                )


async def run(
    python: Path, patterns: Sequence[str], folder: Path, *, within: float, tell: Tell
) -> Report:
    """Play the cases that match, with every engine, and report.

    Args:
        python: The CPython 2.7 that has Autobahn's test suite.
        patterns: Of cases, as Autobahn writes them: "*", "1.*", "9.1.1".
        folder: Where the server writes its own reports.
        within: Seconds for all of it.
        tell: Called with a line now and then.

    Raises:
        RuntimeError: If the server does not start.
        TimeoutError: If it does not answer any more, or all of it takes too long.
    """
    began = time.monotonic()
    spec = {
        "outdir": str(folder),
        "cases": list(patterns),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    process = await asyncio.to_thread(Process, [str(python), str(SERVER)], spec)
    try:
        async with asyncio.timeout(within):
            report = await _play_all(Server(process, folder), tell)
    finally:
        await asyncio.to_thread(process.end, grace=5)
    report.seconds = time.monotonic() - began
    return report


async def _play_all(server: Server, tell: Tell) -> Report:
    for engine in ENGINES:
        assert await server.count(engine) == len(server.cases)
    # A case of each engine in turn, so that what is alike does not run at the same time.
    jobs = [
        (engine, case)
        for case in server.cases
        for engine in ENGINES
        if group_of(case) in engine.groups
    ]
    short = [job for job in jobs if group_of(job[1]) not in HEAVY]
    heavy = [job for job in jobs if group_of(job[1]) in HEAVY]
    await _play(server, short, AT_ONCE, tell)
    await _play(server, heavy, HEAVY_AT_ONCE, tell)
    again = await _second_chances(server, jobs, tell)
    results = await server.results(ENGINES[0])
    return Report(cases=server.cases, results=results, again=again, versions=server.versions)


async def _play(server: Server, jobs: Sequence[Job], at_once: int, tell: Tell) -> None:
    left = iter(jobs)
    done = 0

    async def play_some() -> None:
        nonlocal done
        for engine, case in left:
            await server.play(engine, case)
            done += 1
            if done % 50 == 0 or done == len(jobs):
                tell(f"{done} of {len(jobs)} cases, the last one {case}")

    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(play_some(), name=f"player {number}")


async def _second_chances(server: Server, jobs: Sequence[Job], tell: Tell) -> list[str]:
    """Play again alone what failed: Autobahn waits for one second, and a busy machine longer."""
    first = await server.results(ENGINES[0])
    failed = [job for job in jobs if _failed(first, *job)]
    if not 0 < len(failed) <= AGAIN:
        return []
    await _play(server, failed, 1, tell)
    second = await server.results(ENGINES[0])
    return [
        f"{case} ({engine.name})" for engine, case in failed if not _failed(second, engine, case)
    ]


def _failed(results: Mapping[str, Any], engine: Engine, case: str) -> bool:
    return case not in engine.exceptions and unfit(results.get(engine.name, {}).get(case))
