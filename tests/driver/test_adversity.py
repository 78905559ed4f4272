"""What a hostile review found, in virtual time: each was once a way to fail in silence."""

import asyncio
from typing import Any

import pytest

from dromos import HandshakeError, PermanentError, TokenError
from dromos.events import (
    Disconnected,
    HandedOver,
    HandlerFailed,
    LinkLost,
    LinkOpened,
    MessagesDropped,
    RetryScheduled,
    SessionEnded,
    SuspendDetected,
)
from dromos.testing.memory import FarEnd
from tests.driver.harness import Notes, PlainNotes, Stage, Tokens, until

pytestmark = pytest.mark.looptime


class Odd(BaseException):
    """What is not an `Exception`."""


class Ready(Notes):
    """Has a method of its own for hand-overs."""

    async def on_handover(self, send: Any) -> None:
        self.calls.append(("handover", send.link))
        self.sends.append(send)


# ---------------------------------------------------------------- no way out is silent


async def test_a_handler_that_kills_its_task_ends_the_session_in_an_error() -> None:
    class Killer(Notes):
        async def on_message(self, message: Any) -> None:
            raise Odd

    async def far_side(link: FarEnd) -> None:
        link.send("x")
        await link.wait_closed()

    stage = Stage(handler=Killer(), far_side=far_side)

    with pytest.raises(PermanentError, match="defect"):
        await stage.start()

    assert ["connect", "disconnect"] == stage.handler.names
    assert stage.far.closed is not None


@pytest.mark.parametrize("method", ["on_connect", "on_message", "on_disconnect"])
async def test_a_plain_method_that_raises_a_cancellation_is_reported(method: str) -> None:
    handler = PlainNotes()
    original, raised = getattr(handler, method), []

    def once(argument: Any) -> None:
        original(argument)
        if not raised:
            raised.append(method)
            raise asyncio.CancelledError

    async def far_side(link: FarEnd) -> None:
        for number in range(3):
            link.send(str(number))
            await asyncio.sleep(1)
        link.drop()
        await link.wait_closed()

    setattr(handler, method, once)
    stage = Stage(handler=handler, far_side=far_side)
    stage.start()
    await until(lambda: len(handler.names) > 20)
    await stage.cancel()

    assert [method] == [event.method for event in stage.of(HandlerFailed)]


async def test_an_observer_that_raises_a_cancellation_ends_nothing() -> None:
    stage = Stage()
    seen: list[Any] = []

    def observe(event: Any) -> None:
        seen.append(event)
        raise asyncio.CancelledError

    stage.bridge._observers.append(observe)
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.far.drop()
    await until(lambda: len(stage.handler.sends) == 2)
    await stage.cancel()

    assert len(stage.events) == len(seen)


async def test_verdicts_that_are_none_are_ignored() -> None:
    verdicts: Any = lambda error: "P"  # noqa: E731
    stage = Stage(verdicts=verdicts)
    stage.dialer.then(HandshakeError("busy", status=503))
    stage.start()
    await until(lambda: stage.handler.sends)
    await stage.cancel()


@pytest.mark.parametrize("reason", [b"bye", "\ud800", 7])
async def test_a_close_with_a_wrong_reason_is_refused_at_once(reason: Any) -> None:
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)

    with pytest.raises((TypeError, ValueError)):
        stage.handler.sends[0].close(4000, reason)
    with pytest.raises(ValueError, match="code"):
        stage.handler.sends[0].close(1006)

    await stage.cancel()


async def test_a_permanent_error_in_a_group_ends_the_session() -> None:
    enough = PermanentError("enough")

    class Grouped(Notes):
        async def on_connect(self, send: Any) -> None:
            raise ExceptionGroup("a task group's", [ValueError(), ExceptionGroup("", [enough])])

    stage = Stage(handler=Grouped())

    with pytest.raises(PermanentError) as caught:
        await stage.start()

    assert enough is caught.value


async def test_a_session_that_is_cancelled_many_times_still_tells_its_end() -> None:
    class Stubborn(Notes):
        async def on_disconnect(self, error: Any) -> None:
            await super().on_disconnect(error)
            await asyncio.sleep(3)

    stage = Stage(handler=Stubborn())
    task = stage.start()
    await until(lambda: stage.handler.sends)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.1)
    await asyncio.wait([task])

    assert 1 == len(stage.of(SessionEnded))
    assert 0.0 == stage.metrics.status


# ---------------------------------------------------------------- order and bounds


async def test_a_far_side_that_begins_with_a_flood_can_be_handed_over() -> None:
    """A hundred messages at once, and a handler that takes its time."""

    class Slow(Ready):
        async def on_handover(self, send: Any) -> None:
            await asyncio.sleep(0.5)
            await super().on_handover(send)

    async def far_side(link: FarEnd) -> None:
        for number in range(100):
            link.send(str(number))
        await link.wait_closed()

    stage = Stage(tokens=Tokens(lifetime=100), refresh_buffer=30, handler=Slow(), far_side=far_side)
    stage.start()
    await until(lambda: len(stage.of(HandedOver)) == 2)
    await asyncio.sleep(5)
    await stage.cancel()

    assert [str(number) for number in range(100)] * 3 == stage.handler.messages


async def test_a_suspend_does_not_cost_a_link_that_we_have_stopped_reading() -> None:
    class Slow(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(1)
            await super().on_message(message)

    async def far_side(link: FarEnd) -> None:
        for number in range(300):
            link.send(str(number))
        await link.wait_closed()

    stage = Stage(handler=Slow(), far_side=far_side)
    stage.start()
    await asyncio.sleep(5)
    stage.clock.step(60)
    await asyncio.sleep(200)
    await stage.cancel()

    assert 1 == len(stage.of(SuspendDetected))
    assert 1 == len(stage.dialer.links)


@pytest.mark.parametrize("then_stop", [False, True])
async def test_every_connect_has_its_disconnect_while_an_old_link_still_closes(
    then_stop: bool,
) -> None:
    async def far_side(link: FarEnd) -> None:
        number = len(stage.dialer.links)
        if number == 1:
            link.answer_close = False
        elif number == 2:
            await until(lambda: stage.of(HandedOver))
            await asyncio.sleep(0.05)
            link.close(4000)
        elif number == 3 and not then_stop:
            link.close(4000)
        await link.wait_closed()

    stage = Stage(handler=Ready(), far_side=far_side, max_link_age=20, latency=0.01)
    stage.start()
    await until(lambda: len(stage.dialer.links) == 3)
    await asyncio.sleep(0.05 if then_stop else 6)
    await stage.bridge.close()

    pairs = [name for name in stage.handler.names if name in ("connect", "disconnect")]
    assert ["connect", "disconnect"] * (len(pairs) // 2) == pairs


async def test_the_end_of_a_failed_successor_lets_no_message_pass_another() -> None:
    class Picky(Ready):
        async def on_handover(self, send: Any) -> None:
            if send.link == 2:
                raise ValueError("no")
            await super().on_handover(send)

    async def first(link: FarEnd) -> None:
        link.answer_close = False
        await until(lambda: stage.of(HandedOver))
        for number in range(8):
            link.send(f"A{number}")
            await asyncio.sleep(0.2)
        await link.wait_closed()

    async def far_side(link: FarEnd) -> None:
        if len(stage.dialer.links) == 2:
            link.answer_close = False
        else:
            await until(lambda: stage.of(HandedOver))
            link.send("B0")
        await link.wait_closed()

    stage = Stage(handler=Picky(), far_side=far_side, max_link_age=20, close_timeout=1)
    stage.dialer.then(first)
    stage.start()
    await until(lambda: "B0" in stage.handler.messages)
    await stage.cancel()

    assert [*(f"A{number}" for number in range(8)), "B0"] == stage.handler.messages


async def test_what_a_lost_successor_said_comes_before_on_disconnect() -> None:
    class Slow(Ready):
        async def on_handover(self, send: Any) -> None:
            await asyncio.sleep(2)
            await super().on_handover(send)

    async def far_side(link: FarEnd) -> None:
        if len(stage.dialer.links) == 1:
            await until(lambda: len(stage.dialer.links) == 2)
            await asyncio.sleep(0.2)
        else:
            link.send("last words")
            await asyncio.sleep(0.5)
        link.close(4000)
        await link.wait_closed()

    stage = Stage(handler=Slow(), far_side=far_side, max_link_age=20)
    stage.start()
    await until(lambda: "disconnect" in stage.handler.names)
    await stage.cancel()

    assert ["connect", "handover", "message", "disconnect"] == stage.handler.names[:4]


async def test_a_stuck_handler_does_not_collect_the_links_that_came_and_went() -> None:
    class Stuck(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.Event().wait()

    async def far_side(link: FarEnd) -> None:
        for number in range(50):
            link.send(str(number))
        await asyncio.sleep(1)
        link.drop()
        await link.wait_closed()

    stage = Stage(handler=Stuck(), far_side=far_side)
    stage.start()
    await asyncio.sleep(3600)
    [session] = stage.bridge._sessions.values()
    steps = len(session._lane._steps)
    await stage.cancel()

    assert len(stage.dialer.links) > 10
    assert steps <= 3
    dropped = sum(event.count for event in stage.of(MessagesDropped))
    assert 50 * len(stage.dialer.links) - 1 == dropped, "all but the one in hand"


async def test_a_plain_method_may_return_an_awaitable_at_any_time() -> None:
    seen: list[str] = []

    class Moody(PlainNotes):
        def on_message(self, message: Any) -> Any:
            if int(message) < 3:
                seen.append(message)
                return None
            return self.work(message)

        async def work(self, message: str) -> None:
            await asyncio.sleep(0.1)
            seen.append(message)

    stage = Stage(handler=Moody())
    stage.start()
    await until(lambda: stage.handler.sends)
    for number in range(10):
        await stage.handler.sends[0](str(number))
        await asyncio.sleep(0.05)
    await until(lambda: len(seen) == 10)
    await stage.cancel()

    assert [str(number) for number in range(10)] == seen


async def test_two_introductions_never_run_at_once() -> None:
    running: list[int] = []

    class Slow(Notes):
        async def on_handover(self, send: Any) -> None:
            running.append(send.link)
            assert 1 == len(running)
            try:
                await asyncio.sleep(20)
            finally:
                running.remove(send.link)

    async def far_side(link: FarEnd) -> None:
        if len(stage.dialer.links) == 2:
            await asyncio.sleep(0.1)
            link.drop()
        await link.wait_closed()

    stage = Stage(handler=Slow(), far_side=far_side, max_link_age=20)
    stage.start()
    await until(lambda: stage.of(HandedOver))
    await stage.cancel()

    assert [] == stage.of(HandlerFailed)


async def test_a_link_after_a_gap_is_no_hand_over() -> None:
    async def far_side(link: FarEnd) -> None:
        if len(stage.dialer.links) == 1:
            await until(lambda: len(stage.dialer.dials) == 2)
            link.drop()
        await link.wait_closed()

    stage = Stage(far_side=far_side, max_link_age=20, dial_latency=1)
    stage.start()
    await until(lambda: len(stage.handler.sends) == 2)
    await stage.cancel()

    assert [False, False] == [send.handover for send in stage.handler.sends]


async def test_a_slow_consumer_loses_nothing_in_a_hand_over() -> None:
    class Slow(Ready):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(0.1)
            await super().on_message(message)

    async def far_side(link: FarEnd) -> None:
        if len(stage.dialer.links) == 1:
            for number in range(300):
                link.send(str(number))
        await link.wait_closed()

    stage = Stage(handler=Slow(), far_side=far_side, max_link_age=20)
    stage.start()
    await until(lambda: len(stage.handler.messages) == 300)
    await stage.cancel()

    assert [str(number) for number in range(300)] == stage.handler.messages


# ---------------------------------------------------------------- renewal and time


@pytest.mark.parametrize("slow", ["on_token_refresh", "on_message"])
async def test_an_in_band_renewal_that_hangs_becomes_a_hand_over(slow: str) -> None:
    class Hanging(Ready):
        async def on_token_refresh(self, token: Any, send: Any) -> None:
            if slow == "on_token_refresh":
                await asyncio.Event().wait()

        async def on_message(self, message: Any) -> None:
            if slow == "on_message":
                await asyncio.sleep(300)

    async def far_side(link: FarEnd) -> None:
        link.send("x")
        await link.wait_closed()

    stage = Stage(
        handler=Hanging(), far_side=far_side, tokens=Tokens(lifetime=100), refresh_buffer=30
    )
    stage.start()
    await until(lambda: len(stage.of(LinkOpened)) == 2)

    assert asyncio.get_running_loop().time() < 100
    await stage.cancel()


@pytest.mark.parametrize("step", [-3.0, 3.0, 3600.0])
async def test_a_clock_step_does_not_cut_what_the_far_side_asked_for(step: float) -> None:
    stage = Stage()
    stage.dialer.then(HandshakeError("later", status=503, retry_after=600))
    stage.start()
    await until(lambda: stage.of(RetryScheduled))
    await asyncio.sleep(40)
    stage.clock.step(step)
    await asyncio.sleep(500)

    assert 1 == len(stage.dialer.dials)
    await until(lambda: stage.handler.sends)
    await stage.cancel()


async def test_a_suspend_cuts_a_backoff_short() -> None:
    stage = Stage()
    stage.dialer.then(*[HandshakeError("busy", status=503) for _ in range(9)])
    stage.start()
    await until(lambda: len(stage.of(RetryScheduled)) == 9)
    stage.clock.step(3600)
    began = asyncio.get_running_loop().time()
    await until(lambda: stage.handler.sends)

    assert asyncio.get_running_loop().time() - began <= 31.5
    await stage.cancel()


async def test_a_refused_successors_token_is_not_used_again_after_a_loss() -> None:
    stage = Stage(tokens=Tokens(lifetime=1000), refresh_buffer=30)
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.dialer.then(HandshakeError("who?", status=401))
    await until(lambda: len(stage.dialer.dials) == 2)
    stage.far.drop()
    await until(lambda: len(stage.handler.sends) == 2)
    await stage.cancel()

    used = [dict(handshake.headers)["Authorization"] for handshake in stage.dialer.dials]
    assert 1 == used.count("Bearer t2")


async def test_no_dial_uses_a_token_that_expired_while_it_waited_for_its_turn() -> None:
    lives: list[float] = []
    stage = Stage(tokens=Tokens(lifetime=10), max_concurrent_dials=1, dial_latency=12)

    def endpoint(token: Any) -> str:
        lives.append(token.expires_at - stage.clock())
        return "wss://far.example"

    stage.endpoint = endpoint
    tasks = [stage.start() for _ in range(3)]
    await asyncio.sleep(120)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert lives
    assert all(life > 0 for life in lives)


# ---------------------------------------------------------------- closing


@pytest.mark.parametrize("method", ["on_connect", "on_message"])
async def test_a_handler_may_close_its_own_bridge(method: str) -> None:
    class Closer(Notes):
        async def on_connect(self, send: Any) -> None:
            await super().on_connect(send)
            if method == "on_connect":
                await stage.bridge.close()
            else:
                await send("x")

        async def on_message(self, message: Any) -> None:
            await stage.bridge.close()

    stage = Stage(handler=Closer())

    await stage.start()

    assert asyncio.get_running_loop().time() < 1
    assert ["connect", "disconnect"] == stage.handler.names


async def test_close_waits_for_sessions_and_touches_no_task_of_the_callers() -> None:
    stage = Stage()
    worked: list[str] = []

    async def caller() -> None:
        await stage.bridge.maintain_websocket("c-1", "wss://far.example", stage.handler)
        await asyncio.sleep(60)
        worked.append("undisturbed")

    task = asyncio.get_running_loop().create_task(caller())
    await until(lambda: stage.handler.sends)
    began = asyncio.get_running_loop().time()
    await stage.bridge.close()
    assert asyncio.get_running_loop().time() - began < 1

    await task
    assert ["undisturbed"] == worked


async def test_close_ends_a_session_whose_handler_hangs_without_cancelling_its_caller() -> None:
    class Stuck(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.Event().wait()

    stage = Stage(handler=Stuck())
    task = stage.start()
    await until(lambda: stage.handler.sends)
    await stage.handler.sends[0]("x")
    await asyncio.sleep(1)

    await stage.bridge.close(timeout=3)

    assert task.done()
    assert None is task.result()
    assert ["connect", "disconnect"] == stage.handler.names


async def test_a_running_on_disconnect_is_not_cut_by_a_cancellation() -> None:
    class Careful(Notes):
        async def on_disconnect(self, error: Any) -> None:
            await asyncio.sleep(2)
            await super().on_disconnect(error)

    stage = Stage(handler=Careful())
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.far.drop()
    await until(lambda: stage.of(Disconnected))
    await stage.cancel()

    [(_, error)] = [call for call in stage.handler.calls if call[0] == "disconnect"]
    assert error is stage.of(LinkLost)[0].error


async def test_a_provider_that_fails_oddly_is_judged_like_any_other() -> None:
    stage = Stage(tokens=Tokens(get_errors=[KeyError("no such secret")]))

    with pytest.raises(PermanentError) as caught:
        await stage.start()

    assert isinstance(caught.value.__cause__, KeyError)


async def test_whole_seconds_of_retry_after_are_honoured() -> None:
    assert 600.0 == HandshakeError("x", status=503, retry_after=600).retry_after
    assert 600.0 == TokenError("x", status=503, retry_after=600).retry_after
