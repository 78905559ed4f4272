"""Handlers whose callbacks are timed: they do what they did, and tell how long it took."""

import asyncio
import inspect
from typing import Any

import pytest

from dromos import Handler, events
from dromos.errors import BridgeError
from dromos.telemetry.timing import CALLBACKS, timed
from tests.driver.harness import Notes, Stage, Tokens, until

pytestmark = pytest.mark.looptime


class Seconds:
    """What was told, by method."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def of(self, handler: Any) -> Any:
        return timed(handler, self.note, now=asyncio.get_running_loop().time)

    def note(self, method: str, seconds: float) -> None:
        self.told.append((method, seconds))


class Slow(Handler):
    """Takes its time, each callback another."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def on_connect(self, send: Any) -> None:
        await asyncio.sleep(3)
        send("hello")

    async def on_message(self, message: object) -> None:
        self.heard.append(message)
        await asyncio.sleep(2)

    def on_disconnect(self, error: object) -> Any:
        return asyncio.sleep(1)  # a plain function that returns what is to be awaited


async def test_a_session_with_a_timed_handler_tells_how_long_each_callback_took() -> None:
    seconds, slow = Seconds(), Slow()
    stage = Stage(handler=seconds.of(slow))
    stage.start()
    await until(lambda: slow.heard)
    await asyncio.sleep(5)
    await stage.cancel()

    assert ["hello"] == slow.heard
    assert [("on_connect", 3), ("on_message", 2), ("on_disconnect", 1)] == seconds.told


async def test_a_callback_that_is_missing_is_missing_still() -> None:
    class Least:
        def on_connect(self, send: object) -> None: ...
        def on_message(self, message: object) -> None: ...
        def on_disconnect(self, error: object) -> None: ...

    class Most(Least):
        def on_handover(self, send: object) -> None: ...
        async def on_token_refresh(self, token: object, send: object) -> bool:
            return False

    seconds = Seconds()
    least, most = seconds.of(Least()), seconds.of(Most())

    assert {"on_connect", "on_message", "on_disconnect"} == {
        name for name in CALLBACKS if hasattr(least, name)
    }
    assert all(hasattr(most, name) for name in CALLBACKS)
    assert await most.on_token_refresh(None, None) is False
    assert [("on_token_refresh", 0)] == seconds.told


async def test_a_callback_that_raises_or_is_cancelled_is_timed_as_well() -> None:
    class Bad(Handler):
        def on_connect(self, send: object) -> None:
            raise ValueError("no")

        async def on_message(self, message: object) -> None:
            await asyncio.sleep(7)

    seconds = Seconds()
    bad = seconds.of(Bad())
    with pytest.raises(ValueError, match="no"):
        bad.on_connect(None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4):
            await bad.on_message("x")

    assert [("on_connect", 0), ("on_message", 4)] == seconds.told


async def test_a_failure_is_still_told_by_the_handlers_own_name() -> None:
    class Picky(Notes):
        async def on_message(self, message: object) -> None:
            raise ValueError("not this")

    stage = Stage(handler=Seconds().of(picky := Picky()), handler_errors="raise")
    stage.start()
    await until(lambda: picky.sends)
    await picky.sends[0]("hello")

    with pytest.raises(BridgeError, match=r"Picky.on_message raised"):
        await stage.task


async def test_a_plain_callback_stays_plain_and_one_that_is_async_stays_so() -> None:
    class Mixed(Handler):
        def on_message(self, message: object) -> None: ...
        async def on_connect(self, send: object) -> None: ...

    made = Seconds().of(Mixed())

    assert made.on_message("x") is None
    assert asyncio.iscoroutinefunction(made.on_connect)
    assert not asyncio.iscoroutinefunction(made.on_message)


async def test_a_handover_without_a_callback_of_its_own_is_timed_as_on_connect() -> None:
    seconds = Seconds()
    stage = Stage(handler=seconds.of(Notes()), tokens=Tokens(lifetime=600))
    stage.start()
    await until(lambda: stage.of(events.HandedOver))
    await stage.cancel()

    assert ["on_connect", "on_connect"] == [
        method for method, _ in seconds.told if method in ("on_connect", "on_handover")
    ]


async def test_a_class_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"not the class Notes; pass Notes\(\)"):
        Seconds().of(Notes)


async def test_the_watchdog_can_see_the_users_own_code_behind_it() -> None:
    slow = Slow()
    made = Seconds().of(slow)

    assert slow.on_message == inspect.unwrap(made.on_message)
    assert slow.on_disconnect == inspect.unwrap(made.on_disconnect)
