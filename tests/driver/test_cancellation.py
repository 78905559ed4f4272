"""Cancelling `maintain_websocket` in every state it can be in."""

import asyncio
from typing import Any

import pytest

from dromos import HandshakeError, PermanentError
from dromos.events import AttemptStarted, HandedOver, LinkLost, MessagesDropped, RetryScheduled
from dromos.testing.memory import HANG, FarEnd, echo
from tests.driver.harness import URL, Notes, Stage, Tokens, until

pytestmark = pytest.mark.looptime

CLOSE_TIMEOUT = 5.0


def timers() -> int:
    """How many timers the loop still has."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


async def cancelled(stage: Stage) -> float:
    """Cancel, check that nothing is left, and return how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await stage.cancel()
    took = loop.time() - began

    for link in stage.dialer.links:
        assert link.far.closed is not None, "a link is left open"
    await asyncio.sleep(0)
    tasks = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    for task in tasks:
        # The far side's own function may take another turn to hear of the end.
        await asyncio.wait([task], timeout=CLOSE_TIMEOUT)
    left = {task for task in tasks if not task.done()}
    assert not left, f"tasks left: {left}"
    assert 0 == timers(), "timers left"
    return took


async def test_while_waiting() -> None:
    """B03: a backoff sleep is cut short."""
    stage = Stage()
    stage.dialer.then(*[HandshakeError("busy", status=503) for _ in range(99)])
    stage.start()
    await until(lambda: len(stage.of(RetryScheduled)) == 6)

    took = await cancelled(stage)

    assert 0.0 == took
    assert [] == stage.handler.calls


async def test_while_a_token_is_fetched() -> None:
    """B24: no permanent error comes of it."""
    stage = Stage(tokens=Tokens(takes=1000))
    stage.start()
    await until(lambda: stage.tokens.gets)

    stage.task.cancel()  # type: ignore[union-attr]
    with pytest.raises(asyncio.CancelledError):
        await stage.task  # type: ignore[misc]

    assert asyncio.get_running_loop().time() < 1


async def test_while_dialling() -> None:
    """B31: a dial is dropped at once."""
    stage = Stage(connect_timeout=1000)
    stage.dialer.then(HANG)
    stage.start()
    await until(lambda: stage.of(AttemptStarted))

    took = await cancelled(stage)

    assert 0.0 == took
    assert [] == stage.handler.calls


async def test_while_on_connect_runs() -> None:
    class Slow(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            await asyncio.Event().wait()

    stage = Stage(handler=Slow())
    stage.start()
    await until(lambda: stage.handler.sends)

    took = await cancelled(stage)

    assert took <= CLOSE_TIMEOUT
    assert ["connect", "disconnect"] == stage.handler.names
    assert closed_politely(stage)


async def test_in_the_turn_in_which_the_session_ends_by_itself() -> None:
    """The cancellation goes first; the handler hears of one end, and nothing is left."""
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)
    (session,) = stage.bridge._sessions.values()

    stage.task.cancel()  # type: ignore[union-attr]
    session.handler_failed("on_message", PermanentError("enough"))
    crashed = session._is_hurried
    await cancelled(stage)

    assert not crashed
    assert ["connect", "disconnect"] == stage.handler.names


async def test_while_open() -> None:
    """B30: a close frame is sent, and on_disconnect is called."""
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)

    took = await cancelled(stage)

    assert took <= CLOSE_TIMEOUT
    assert ["connect", "disconnect"] == stage.handler.names
    assert ("disconnect", None) == stage.handler.calls[-1]
    assert closed_politely(stage)


async def test_while_open_and_the_far_side_does_not_answer_the_close() -> None:
    async def mute(link: FarEnd) -> None:
        link.answer_close = False
        await link.wait_closed()

    stage = Stage(far_side=mute)
    stage.start()
    await until(lambda: stage.handler.sends)

    took = await cancelled(stage)

    assert CLOSE_TIMEOUT == pytest.approx(took, abs=0.1)
    assert ["connect", "disconnect"] == stage.handler.names


async def test_while_on_message_runs_and_more_are_queued() -> None:
    class Slow(Notes):
        async def on_message(self, message: Any) -> None:
            await super().on_message(message)
            await asyncio.Event().wait()

    async def far_side(link: FarEnd) -> None:
        for number in range(10):
            link.send(str(number))
        await link.wait_closed()

    stage = Stage(handler=Slow(), far_side=far_side)
    stage.start()
    await until(lambda: stage.handler.messages)
    await asyncio.sleep(1)

    took = await cancelled(stage)

    assert took <= CLOSE_TIMEOUT
    assert ["connect", "message", "disconnect"] == stage.handler.names
    assert [9] == [event.count for event in stage.of(MessagesDropped)]


async def test_while_on_disconnect_hangs() -> None:
    class Stuck(Notes):
        async def on_disconnect(self, error: Any) -> None:
            await super().on_disconnect(error)
            await asyncio.Event().wait()

    stage = Stage(handler=Stuck())
    stage.start()
    await until(lambda: stage.handler.sends)

    took = await cancelled(stage)

    assert took <= CLOSE_TIMEOUT + 0.1
    assert ["connect", "disconnect"] == stage.handler.names


async def test_while_a_callback_swallows_its_cancellation() -> None:
    class Stubborn(Notes):
        async def on_message(self, message: Any) -> None:
            await super().on_message(message)
            for _ in range(3):
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    continue

    stage = Stage(handler=Stubborn())
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.handler.sends[0]("x")
    await until(lambda: stage.handler.messages)

    took = await cancelled(stage)

    assert took <= CLOSE_TIMEOUT
    assert 1 == stage.handler.names.count("disconnect")


@pytest.mark.parametrize("phase", ["token", "dial", "greet", "prove"])
async def test_while_handing_over(phase: str) -> None:
    class Slow(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            if send.handover and phase == "greet":
                await asyncio.Event().wait()

    async def far_side(link: FarEnd) -> None:
        if len(stage.dialer.links) == 2 and phase == "prove":
            link.answer_pings = False
        await link.wait_closed()

    tokens = Tokens(lifetime=100)
    stage = Stage(tokens=tokens, handler=Slow(), far_side=far_side, refresh_buffer=30)
    stage.start()
    await until(lambda: stage.handler.sends)
    if phase == "dial":
        stage.dialer.then(HANG)
    if phase == "token":
        tokens.takes = 3
    await until(lambda: tokens.refreshes)
    await asyncio.sleep(1)
    assert [] == stage.of(HandedOver)

    took = await cancelled(stage)

    assert took <= CLOSE_TIMEOUT
    assert 1 == stage.handler.names.count("disconnect")
    assert "disconnect" == stage.handler.names[-1]
    assert closed_politely(stage)


async def test_while_closing() -> None:
    async def mute(link: FarEnd) -> None:
        link.answer_close = False
        await link.wait_closed()

    stage = Stage(far_side=mute)
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.handler.sends[0].close()
    await asyncio.sleep(1)

    took = await cancelled(stage)

    assert took <= CLOSE_TIMEOUT
    assert ["connect", "disconnect"] == stage.handler.names


async def test_while_reconnecting_after_a_stop_was_asked_for() -> None:
    """After the end nothing is dialled."""
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.far.drop()
    await until(lambda: stage.of(LinkLost))

    await cancelled(stage)
    await asyncio.sleep(600)

    assert 1 == len(stage.dialer.dials)


async def test_cancelling_twice_is_no_worse() -> None:
    async def mute(link: FarEnd) -> None:
        link.answer_close = False
        await link.wait_closed()

    stage = Stage(far_side=mute)
    task = stage.start()
    await until(lambda: stage.handler.sends)
    task.cancel()
    await asyncio.sleep(1)
    took = await cancelled(stage)

    assert took <= 1.0
    assert 1 == stage.handler.names.count("disconnect")


async def test_a_timeout_around_it_works() -> None:
    stage = Stage(far_side=echo)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(7):
            await stage.bridge.maintain_websocket("c-1", "wss://far.example", stage.handler)

    assert ["connect", "disconnect"] == stage.handler.names


def closed_politely(stage: Stage) -> bool:
    """Whether every link got a CLOSE of ours with 1000."""
    ends = [link.far.closed for link in stage.dialer.links]
    return all(end is not None and end.code == 1000 and end.by_peer for end in ends)


async def test_a_cancellation_while_on_disconnect_runs_waits_for_that_and_no_longer() -> None:
    class Slow(Notes):
        async def on_disconnect(self, error: Exception | None) -> None:
            await asyncio.sleep(1)
            await super().on_disconnect(error)

    it = Stage(handler=Slow())
    it.start()
    await until(lambda: it.handler.sends)
    it.far.drop()
    await asyncio.sleep(0.5)
    began = asyncio.get_running_loop().time()
    await it.cancel()

    assert ["connect", "disconnect"] == it.handler.names
    assert asyncio.get_running_loop().time() - began < 1


async def test_a_session_whose_task_is_cancelled_before_its_first_step_is_over() -> None:
    """As `asyncio.run` does at its end with tasks that were made a moment ago."""
    it = Stage()
    before = asyncio.all_tasks()
    connection = await it.bridge.connect("c-1", URL).__aenter__()
    group = await it.bridge.supervise().__aenter__()
    group.start("c-2", URL, Notes())
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await until(lambda: not it.bridge.snapshots())

    assert ("closed", 0) == (connection.state, len(group))
    async with asyncio.timeout(1):
        await connection.close()
        await group.close()
        await it.bridge.close()
