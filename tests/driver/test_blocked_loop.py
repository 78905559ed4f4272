"""A session tells which of its callbacks blocks the event loop."""

import asyncio
import time
from typing import Any

import pytest

from dromos import Bridge
from dromos._driver import Watchdog
from dromos.events import LoopBlocked
from dromos.testing.memory import MemoryDialer
from tests.driver.harness import URL, Notes, Tokens, until


class Blocking(Notes):
    async def on_message(self, message: Any) -> None:
        await super().on_message(message)
        secret = "hunter2"  # noqa: F841 - must not show
        time.sleep(0.3)  # noqa: ASYNC251 - the mistake that is looked for


@pytest.mark.slow  # blocks a real loop, for a third of a second
async def test_a_callback_that_blocks_the_loop_is_named_with_the_line_it_is_on() -> None:
    seen: list[Any] = []
    watchdog = Watchdog(blocked_after=0.05, pause=0.01)
    bridge = Bridge(Tokens(), dialer=MemoryDialer(), on_event=seen.append)
    bridge._watchdog = watchdog
    handler = Blocking()
    session = asyncio.create_task(bridge.maintain_websocket("c-1", URL, handler))
    await until(lambda: handler.sends)
    await handler.sends[0]("hello")
    await until(lambda: any(isinstance(event, LoopBlocked) for event in seen))
    await bridge.close()
    await session

    [event] = [event for event in seen if isinstance(event, LoopBlocked)]
    assert "Blocking.on_message" == event.method
    assert "time.sleep(0.3)" in event.stack
    assert "hunter2" not in event.stack
    assert 0.1 < event.seconds < 5
    assert watchdog.join(5), "no thread is left when no session runs"
