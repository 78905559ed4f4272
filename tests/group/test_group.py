"""Sessions in a group, in virtual time: begun, ended and listed, and each failure told."""

import asyncio
import gc
import logging
import weakref
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from dromos import (
    Bridge,
    ConnectionClosed,
    Group,
    HandshakeError,
    PermanentError,
    TokenError,
)
from dromos._streams import FAILURES_KEPT
from dromos.events import AttemptStarted, RetryScheduled, SessionEnded
from dromos.oauth import StaticToken
from dromos.testing.clock import EPOCH
from dromos.testing.memory import HANG, FarEnd, echo
from tests.driver.harness import URL, Notes, Stage, until

pytestmark = pytest.mark.looptime

POLICY_VIOLATION = 1008
GONE = HandshakeError("gone", status=410)


async def refusing(link: FarEnd) -> None:
    """A far side for which every link is one too many."""
    link.close(POLICY_VIOLATION, "not you")
    await link.wait_closed()


def opened(group: Group) -> int:
    return sum(one.state == "open" for one in group.sessions())


# --- Begin and end --------------------------------------------------------------------------------


async def test_sessions_begin_at_once_and_leaving_the_block_ends_them_all() -> None:
    stage = Stage()
    agents = [Notes() for _ in range(5)]

    async with stage.bridge.supervise() as group:
        for number, agent in enumerate(agents):
            group.start(f"c-{number}", URL, agent)
        assert 5 == len(group)
        assert [f"c-{number}" for number in range(5)] == list(group)
        await until(lambda: opened(group) == 5)

    assert 0 == len(group)
    assert [["connect", "disconnect"]] * 5 == [agent.names for agent in agents]
    assert [1000] * 5 == [link.far.closed.code for link in stage.dialer.links if link.far.closed]
    assert [None] * 5 == [event.error for event in stage.of(SessionEnded)]


async def test_a_session_is_stopped_politely_and_may_be_started_again() -> None:
    stage = Stage()
    first, second = Notes(), Notes()

    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, first)
        await until(lambda: first.sends)
        assert await group.stop("c-1")
        assert "c-1" not in group
        assert ["connect", "disconnect"] == first.names
        group.start("c-1", URL, second)
        await until(lambda: second.sends)
        assert "c-1" in group


async def test_stopping_what_does_not_run_says_so() -> None:
    stage = Stage()
    async with stage.bridge.supervise() as group:
        assert not await group.stop("nobody")


async def test_a_session_may_be_stopped_before_it_has_begun() -> None:
    stage = Stage()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, Notes())
        assert await group.stop("c-1")
        group.start("c-1", URL, Notes())

    assert [] == stage.dialer.dials


async def test_a_connection_runs_only_once_in_a_group() -> None:
    stage = Stage()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, Notes())
        with pytest.raises(RuntimeError, match=r"'c-1' runs in this group already; await group"):
            group.start("c-1", URL, Notes())

        async with stage.bridge.supervise() as other:
            other.start("c-1", URL, Notes())  # another group is another matter


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((7, URL, Notes()), "connection_id must be a str, not int"),
        (("", URL, Notes()), "connection_id must not be empty"),
        (("c-1", 7, Notes()), "endpoint_url must be a str or a callable, not int"),
        (("c-1", "http://host/", Notes()), "endpoint_url must begin with ws:// or wss://"),
        (("c-1", URL, Notes), "handler must be an object, not the class Notes"),
    ],
)
async def test_bad_input_is_refused_before_anything_begins(arguments: Any, words: str) -> None:
    stage = Stage()
    async with stage.bridge.supervise() as group:
        with pytest.raises((TypeError, ValueError), match=words):
            group.start(*arguments)
        with pytest.raises(TypeError, match="unknown session options: speed"):
            group.start("c-1", URL, Notes(), speed=9)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="timeout"):
            await group.stop("c-1", timeout=-1)
        with pytest.raises(TypeError, match="timeout"):
            await group.close(timeout="soon")  # type: ignore[arg-type]
        assert 0 == len(group)


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0, "above 0 a second, not 0"),
        (-1.5, "not -1.5"),
        (float("inf"), "finite"),
        (float("nan"), "finite"),
        ("fast", "attempt_rate must be a number a second, not str"),
        (True, "not bool"),
        (timedelta(seconds=1), "not timedelta"),
    ],
)
async def test_a_rate_that_can_not_work_is_refused(rate: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Stage().bridge.supervise(attempt_rate=rate)


async def test_a_group_is_entered_once_and_before_it_is_used() -> None:
    stage = Stage()
    group = stage.bridge.supervise()
    with pytest.raises(RuntimeError, match="enter the group first"):
        group.start("c-1", URL, Notes())
    async with group:
        pass
    with pytest.raises(RuntimeError, match="the group is closed"):
        group.start("c-1", URL, Notes())
    with pytest.raises(RuntimeError, match="entered once"):
        await group.__aenter__()

    await stage.bridge.close()
    with pytest.raises(RuntimeError, match="the bridge is closed"):
        stage.bridge.supervise()


def test_a_group_belongs_to_the_loop_it_was_entered_on() -> None:
    bridge = Bridge(StaticToken("t"))
    group = bridge.supervise()
    asyncio.run(group.__aenter__())

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            group.start("c-1", URL, Notes())

    asyncio.run(elsewhere())


async def test_options_of_one_session_go_before_those_of_the_bridge() -> None:
    stage = Stage(max_link_age=None)
    agent = Notes()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, agent, max_link_age=10)
        await until(lambda: len(agent.sends) == 2)


async def test_a_handler_may_stop_its_own_session_and_its_own_group() -> None:
    stage = Stage(far_side=echo)

    class Quitter(Notes):
        async def on_message(self, message: Any) -> None:
            await super().on_message(message)
            if message == "stop":
                assert await group.stop("c-1")
            else:
                await group.close()

    one, other = Quitter(), Quitter()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, one)
        group.start("c-2", URL, other)
        await until(lambda: one.sends and other.sends)
        await one.sends[0]("stop")
        await until(lambda: list(group) == ["c-2"])
        await other.sends[0]("close")
        await until(lambda: not group)

    assert "disconnect" == one.names[-1] == other.names[-1]


async def test_a_handler_that_blocks_its_end_is_given_up_after_the_deadline() -> None:
    class Stubborn(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(1e6)

    loop = asyncio.get_running_loop()
    stage = Stage()
    agent = Stubborn()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, agent)
        await until(lambda: agent.sends)
        await agent.sends[0]("hold on")
        await asyncio.sleep(1)
        began = loop.time()
        assert await group.stop("c-1", timeout=3)

    assert 3.0 <= loop.time() - began <= 3.0 + 5.0


async def test_a_cancelled_stop_leaves_the_session_to_end_at_once() -> None:
    class Stubborn(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(1e6)

    stage = Stage()
    agent = Stubborn()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, agent)
        await until(lambda: agent.sends)
        await agent.sends[0]("hold on")
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await group.stop("c-1", timeout=1e6)
        assert 0 == len(group)


async def test_closing_the_bridge_ends_the_group_and_the_iteration() -> None:
    stage = Stage()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, Notes())
        await until(lambda: opened(group) == 1)
        closing = asyncio.get_running_loop().create_task(stage.bridge.close())
        told = [failure async for failure in group.failures()]
        await closing
        with pytest.raises(RuntimeError, match="closed"):
            group.start("c-2", URL, Notes())

    assert [] == told


# --- Failures -------------------------------------------------------------------------------------


async def test_a_session_that_fails_is_told_and_leaves_the_others_alone() -> None:
    stage = Stage()
    well, ill = Notes(), Notes()
    async with stage.bridge.supervise() as group:
        group.start("well", URL, well)
        await until(lambda: well.sends)
        stage.dialer.then(GONE)
        group.start("ill", URL + "?key=secret", ill)
        failure = await anext(group.failures())
        await asyncio.sleep(3600)

        assert ("ill", 2, URL) == (failure.connection_id, failure.session, failure.endpoint)
        assert GONE is failure.error.__cause__
        assert EPOCH <= failure.at <= EPOCH + asyncio.get_running_loop().time() - 3600
        assert ["well"] == list(group)
        assert ["connect"] == well.names
        assert [] == ill.calls


async def test_a_failed_connection_may_be_started_again() -> None:
    stage = Stage()
    stage.dialer.then(GONE)
    agent = Notes()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, Notes())
        async for failure in group.failures():
            group.start(failure.connection_id, URL, agent)
            break
        await until(lambda: agent.sends)


async def test_a_permanent_error_of_a_handler_fails_its_session_only() -> None:
    class Finicky(Notes):
        async def on_connect(self, send: Any) -> None:
            raise PermanentError("not like this")

    stage = Stage()
    agents = [Notes() for _ in range(3)]
    async with stage.bridge.supervise() as group:
        for number, agent in enumerate(agents):
            group.start(f"c-{number}", URL, agent)
        group.start("finicky", URL, Finicky())
        failure = await anext(group.failures())
        await asyncio.sleep(100)

        assert ("finicky", "not like this") == (failure.connection_id, str(failure.error))
        assert 3 == opened(group)


async def test_a_session_that_is_closed_by_its_handler_is_no_failure() -> None:
    class Short(Notes):
        async def on_connect(self, send: Any) -> None:
            send.close()

    stage = Stage()
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, Short())
        await until(lambda: not group)

    assert [None] == [event.error for event in stage.of(SessionEnded)]


async def test_failures_that_nobody_took_are_raised_at_the_end() -> None:
    stage = Stage(far_side=refusing)

    async def play() -> None:
        async with stage.bridge.supervise() as group:
            group.start("c-1", URL, Notes())
            group.start("c-2", URL, Notes())
            await until(lambda: not group)

    with pytest.raises(ExceptionGroup, match="2 sessions of the group failed") as raised:
        await play()

    assert all(isinstance(error, PermanentError) for error in raised.value.exceptions)
    notes = [error.__notes__ for error in raised.value.exceptions]
    assert [[f"session of 'c-1' at {URL}"], [f"session of 'c-2' at {URL}"]] == notes


async def test_failures_that_somebody_took_are_not_raised() -> None:
    stage = Stage(far_side=refusing)

    async def play() -> None:
        async with stage.bridge.supervise() as group:
            group.start("c-1", URL, Notes())
            assert "c-1" == (await anext(group.failures())).connection_id
            group.start("c-2", URL, Notes())
            await until(lambda: not group)

    with pytest.raises(ExceptionGroup, match="1 sessions") as raised:
        await play()

    (error,) = raised.value.exceptions
    assert [f"session of 'c-2' at {URL}"] == error.__notes__


async def test_if_the_block_is_left_by_an_error_they_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(far_side=refusing)

    async def play() -> None:
        async with stage.bridge.supervise() as group:
            group.start("c-1", URL, Notes())
            await until(lambda: not group)
            raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "dromos"), pytest.raises(ZeroDivisionError):
        await play()

    assert "nobody took this failure: session of 'c-1' failed" in caplog.text


async def test_failures_nobody_takes_are_bounded_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(far_side=refusing)
    too_many = 3

    async def play() -> None:
        async with stage.bridge.supervise(attempt_rate=1e6) as group:
            for number in range(FAILURES_KEPT + too_many):
                group.start(f"c-{number}", URL, Notes())
            await until(lambda: not group)
            assert too_many == group.failures().dropped

    words = f"{FAILURES_KEPT} sessions .*, and {too_many} before"
    with caplog.at_level(logging.ERROR, "dromos"), pytest.raises(ExceptionGroup, match=words):
        await play()

    assert too_many == caplog.text.count("too many failures that nobody took")


async def test_a_failure_does_not_keep_its_session_in_memory() -> None:
    stage = Stage(far_side=refusing)
    agent = Notes()
    gone = weakref.ref(agent)
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, agent)
        del agent
        failure = await anext(group.failures())
        await asyncio.sleep(60)  # until no timer is left
        stage.events.clear()
        stage.dialer.links.clear()
        gc.collect()

        assert gone() is None
        assert "not you" in str(failure.error)


async def test_the_iteration_goes_on_while_the_group_is_empty_and_ends_with_it() -> None:
    stage = Stage(far_side=refusing)

    async def listen() -> list[str]:
        return [failure.connection_id async for failure in group.failures()]

    async with stage.bridge.supervise() as group:
        listening = asyncio.get_running_loop().create_task(listen())
        for connection_id in ("c-1", "c-2"):
            group.start(connection_id, URL, Notes())
            await until(lambda: not group)
            await asyncio.sleep(3600)
        assert not listening.done()

    assert ["c-1", "c-2"] == await listening


async def test_the_iteration_may_end_when_nothing_runs_any_more() -> None:
    class Short(Notes):
        async def on_connect(self, send: Any) -> None:
            await asyncio.sleep(20)
            send.close()

    stage = Stage(far_side=refusing)
    async with stage.bridge.supervise() as group:
        assert [] == [failure async for failure in group.failures(until_idle=True)]
        group.start("c-1", URL, Notes())
        group.start("c-2", URL, Notes())
        await until(lambda: not group)
        stage.dialer.then(echo)
        group.start("short", URL, Short())  # which is no failure, and the last to end
        group.start("c-3", URL, Notes())

        told = [one.connection_id async for one in group.failures(until_idle=True)]
        assert 0 == len(group)

    assert {"c-1", "c-2", "c-3"} == set(told)
    assert asyncio.get_running_loop().time() >= 20


async def test_one_task_waits_for_failures_at_a_time() -> None:
    stage = Stage()
    async with stage.bridge.supervise() as group:
        waiting = asyncio.get_running_loop().create_task(anext(group.failures()))
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="somebody is waiting for a failure already"):
            await anext(group.failures())
        waiting.cancel()


# --- Turns ----------------------------------------------------------------------------------------


def attempts(stage: Stage) -> list[float]:
    times = zip(stage.event_times, stage.events, strict=True)
    return [at for at, event in times if isinstance(event, AttemptStarted)]


async def test_sessions_begin_at_the_rate_of_the_group() -> None:
    stage = Stage()
    async with stage.bridge.supervise(attempt_rate=10) as group:
        for number in range(50):
            group.start(f"c-{number}", URL, Notes())
        waiting = [one.next_attempt_at for one in group.sessions()]
        await until(lambda: opened(group) == 50)

    assert 50 == len(attempts(stage))
    assert all(late - early >= 0.1 - 1e-3 for early, late in pairwise(attempts(stage)))
    assert attempts(stage)[-1] <= 5.0
    assert [None] * 50 == waiting  # they begin when the loop runs them


async def test_who_waits_for_a_turn_can_be_seen() -> None:
    stage = Stage()
    async with stage.bridge.supervise(attempt_rate=1) as group:
        for number in range(3):
            group.start(f"c-{number}", URL, Notes())
        await asyncio.sleep(0.5)

        seen = [(one.state, one.next_attempt_at, one.attempts) for one in group.sessions()]
        expected = [("waiting", EPOCH + 1, 0), ("waiting", EPOCH + 2, 0)]
        assert [("open", None, 0), *expected] == seen
        assert [1.0, 2.0] == [event.delay for event in stage.of(RetryScheduled)]


async def test_a_far_side_that_restarts_is_dialled_at_the_rate_of_the_group() -> None:
    """All links at once, and nobody home for a minute."""
    stage = Stage()
    async with stage.bridge.supervise(attempt_rate=20) as group:
        for number in range(200):
            group.start(f"c-{number}", URL, Notes())
        await until(lambda: opened(group) == 200)
        await asyncio.sleep(60)
        before = len(attempts(stage))

        stage.dialer.go_down()
        await asyncio.sleep(60)
        stage.dialer.come_back()
        await until(lambda: opened(group) == 200)

    again = attempts(stage)[before:]
    assert all(late - early >= 0.05 - 2e-3 for early, late in pairwise(again))
    assert 200 == len({event.connection_id for event in stage.of(AttemptStarted)[before:]})


async def test_one_lost_link_among_many_does_not_wait_for_a_crowd() -> None:
    stage = Stage()
    async with stage.bridge.supervise(attempt_rate=1) as group:
        for number in range(30):
            group.start(f"c-{number}", URL, Notes())
        await until(lambda: opened(group) == 30)
        await asyncio.sleep(60)
        lost_at = asyncio.get_running_loop().time()
        stage.dialer.links[0].far.drop()
        await asyncio.sleep(0.1)
        await until(lambda: opened(group) == 30)

        assert asyncio.get_running_loop().time() - lost_at <= 1.2


async def test_groups_have_turns_of_their_own_and_lone_sessions_need_none() -> None:
    stage = Stage()
    async with stage.bridge.supervise(attempt_rate=0.01) as slow, stage.bridge.supervise() as quick:
        slow.start("c-1", URL, Notes())
        slow.start("c-2", URL, Notes())
        quick.start("c-1", URL, Notes())
        quick.start("c-2", URL, Notes())
        stage.start()
        await until(lambda: opened(quick) == 2 and stage.handler.sends)

        assert 1 == opened(slow)
        await stage.cancel()


async def test_dials_that_hang_are_bounded_and_hold_up_only_themselves() -> None:
    stage = Stage(max_concurrent_dials=4)
    stage.dialer.then(*[HANG] * 4)
    async with stage.bridge.supervise(attempt_rate=1000) as group:
        for number in range(20):
            group.start(f"c-{number}", URL, Notes())
        await asyncio.sleep(10)
        assert 4 == len(stage.dialer.dials)
        await until(lambda: opened(group) == 20)


# --- Isolation ------------------------------------------------------------------------------------


async def test_handlers_that_raise_or_never_return_leave_the_others_alone() -> None:
    class Raising(Notes):
        async def on_message(self, message: Any) -> None:
            raise ValueError("not this one")

    class Hanging(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(1e6)

    async def far_side(link: FarEnd) -> None:
        for number in range(200):
            link.send(str(number))
        await link.wait_closed()

    stage = Stage(far_side=far_side)
    agents = [Notes() for _ in range(10)]
    async with stage.bridge.supervise() as group:
        group.start("raising", URL, Raising())
        group.start("hanging", URL, Hanging())
        for number, agent in enumerate(agents):
            group.start(f"c-{number}", URL, agent)
        await until(lambda: all(len(agent.messages) == 200 for agent in agents), within=10)
        assert 12 == opened(group)


async def test_a_source_of_tokens_that_fails_for_one_fails_one() -> None:
    class Source:
        async def get_token(self, connection_id: str) -> Any:
            if connection_id == "bad":
                raise PermanentError("unknown connection")
            if connection_id == "slow":
                await asyncio.sleep(50)
            if connection_id == "flaky":
                raise TokenError("busy", status=503)
            return await StaticToken("t").get_token(connection_id)

    stage = Stage(tokens=Source())  # type: ignore[arg-type]
    async with stage.bridge.supervise() as group:
        for connection_id in ("bad", "slow", "flaky", "well"):
            group.start(connection_id, URL, Notes())
        await asyncio.sleep(30)
        states = {one.connection_id: one.state for one in group.sessions()}
        assert {"slow": "authorizing", "well": "open"} == states

        failures = group.failures()
        told = {(await anext(failures)).connection_id for _ in range(2)}
        assert {"bad", "flaky"} == told
        await until(lambda: opened(group) == 2)


async def test_a_repr_says_how_many() -> None:
    stage = Stage(far_side=refusing)
    async with stage.bridge.supervise() as group:
        group.start("c-1", URL, Notes())
        assert "<Group of 1 running sessions, 0 failures to tell>" == repr(group)
        await until(lambda: not group)
        assert "<Group of 0 running sessions, 1 failures to tell>" == repr(group)
        failure = await anext(group.failures())
        assert isinstance(failure.error.__cause__, ConnectionClosed)
