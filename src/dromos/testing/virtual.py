"""A whole bridge in virtual time: an hour of outage passes in milliseconds."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from dromos.bridge import Bridge
from dromos.interfaces import TokenProvider, TokenSource
from dromos.oauth.static import StaticToken
from dromos.testing.clock import LoopClock, on_loop_time
from dromos.testing.memory import MemoryDialer

__all__ = ["VirtualLoop", "VirtualTime"]

T = TypeVar("T")


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without a selector: when nothing is ready, it is later.

    It has no sockets, subprocesses or signals, and knows nothing of other threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Take the place of the selector: once in each turn of the loop.

        Raises:
            RuntimeError: If nothing will ever happen again, and somebody waits for it.
        """
        if timeout is None:
            raise RuntimeError("nothing will ever happen again, and somebody waits for it")
        if timeout > 0:
            self._now = max(self._now, self.timers()[0].when())
        return []

    def timers(self) -> list[asyncio.TimerHandle]:
        """The heap of timers, the cancelled ones included."""
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        return cast("list[asyncio.TimerHandle]", scheduled)

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class VirtualTime:
    """Plays a story in which time passes at once, with a bridge that has no network.

        def test_my_agent_greets_again_after_an_hour(virtual_time):
            async def story():
                agent = MyAgent()
                async with virtual_time.bridge() as bridge:
                    serving = bridge.maintain_websocket("c-1", "wss://far/ws", agent)
                    session = asyncio.create_task(serving)
                    await asyncio.sleep(60)
                    await virtual_time.outage(3600)
                    await asyncio.sleep(120)
                assert agent.greetings == 2
            virtual_time.run(story())

    What a handler does must be asyncio's: threads and sockets know nothing of this time.

    Attributes:
        far_side: What the bridge dials: each link's other end is `far_side.links[n].far`.
        clock: The wall clock of the bridges; `clock.step(seconds)` sets it.
    """

    def __init__(self) -> None:
        self.far_side = MemoryDialer()
        self.clock = LoopClock()

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and return its result; what it left running is cancelled.

        Raises:
            RuntimeError: If it waits for what can't happen.
        """
        loop = VirtualLoop()
        try:
            return loop.run_until_complete(story)
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=60))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def outage(self, seconds: float) -> None:
        """Have every link drop and every dial fail, and return when that is over.

        Args:
            seconds: How long, in this time.
        """
        self.far_side.go_down()
        await asyncio.sleep(seconds)
        self.far_side.come_back()

    def bridge(
        self, tokens: TokenProvider | TokenSource | None = None, *, seed: int = 1, **options: Any
    ) -> Bridge:
        """Return a bridge that lives in this time, and dials `far_side`.

        Args:
            tokens: Where tokens come from.  None (default) is one that never expires.
            seed: Makes its jitter the same in each run.  Default 1.
            **options: As for `Bridge`.
        """
        options.setdefault("dialer", self.far_side)
        bridge = Bridge(tokens or StaticToken("virtual-token"), **options)
        return on_loop_time(bridge, clock=self.clock, seed=seed)
