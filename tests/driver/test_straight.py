"""An `async def on_message` begins as its message comes, and the order of callbacks holds."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from dromos import Send
from dromos.events import HandlerFailed
from dromos.model import Message, Token
from tests.driver.harness import Notes, Stage, until, with_and_without

pytestmark = pytest.mark.looptime

bound = contextvars.ContextVar[str]("bound")


class Agent(Notes):
    """Does with each message what it is made with, and notes when that begins and ends."""

    def __init__(self, work: Callable[[str], Awaitable[object]]) -> None:
        super().__init__()
        self.work = work
        self.said: list[str] = []
        self.tasks: set[asyncio.Task[object] | None] = set()

    async def on_connect(self, send: Send) -> None:
        bound.set("by on_connect")
        self.tasks.add(asyncio.current_task())
        await super().on_connect(send)

    async def on_message(self, message: Message) -> None:
        assert isinstance(message, str)
        self.tasks.add(asyncio.current_task())
        self.said.append(f"begin {message}")
        try:
            await self.work(message)
        except asyncio.CancelledError:
            self.said.append(f"cancelled {message}")
            raise
        self.said.append(f"end {message}")

    async def on_disconnect(self, error: Exception | None) -> None:
        self.said.append("disconnect")
        await super().on_disconnect(error)


has_reads = with_and_without("deliver_reads_to")


def arrive(it: Stage, *messages: str) -> None:
    """Have them read together, and now."""
    it.link._inbox.extend(("message", (message, 1), len(message)) for message in messages)
    it.link._read()


async def nothing(message: str) -> None:
    """Wait for nothing."""


async def warm(agent: Agent) -> Stage:
    """A session whose link hands its messages straight to the handler."""
    it = Stage(handler=agent)
    it.start()
    await until(lambda: agent.sends)
    it.far.send("first")
    await until(lambda: "end first" in agent.said)
    await asyncio.sleep(0)
    agent.said.clear()
    return it


async def test_what_waits_for_nothing_is_over_before_the_loop_turns() -> None:
    agent = Agent(nothing)
    it = await warm(agent)
    heard: list[str] = []

    def read() -> None:
        arrive(it, "now")
        heard.extend(agent.said)

    asyncio.get_running_loop().call_soon(read)
    await until(lambda: heard)

    assert ["begin now", "end now"] == heard
    await it.cancel()


async def test_it_runs_as_the_task_and_in_the_context_of_all_callbacks() -> None:
    seen: list[str] = []

    async def look(message: str) -> None:
        seen.append(bound.get("nowhere"))
        async with asyncio.timeout(1):  # which needs a task to cancel
            await nothing(message)
        bound.set(message)

    agent = Agent(look)
    it = await warm(agent)
    it.far.send("second")
    it.far.send("third")
    await until(lambda: "end third" in agent.said)
    await it.cancel()

    assert 1 == len(agent.tasks)
    assert ["by on_connect", "first", "second"] == seen
    assert [] == it.of(HandlerFailed)


@pytest.mark.parametrize("seconds", [0, 0.5])
async def test_the_next_one_begins_when_one_that_waits_has_ended(seconds: float) -> None:
    agent = Agent(lambda message: asyncio.sleep(seconds if message != "first" else 0))
    it = await warm(agent)
    for message in ("a", "b", "c"):
        it.far.send(message)
    await until(lambda: "end c" in agent.said)
    await it.cancel()

    assert [f"{what} {m}" for m in "abc" for what in ("begin", "end")] == agent.said[:6]


@pytest.mark.parametrize("seconds", [0, 0.5])
async def test_what_was_read_with_one_that_waits_is_begun_after_its_end(seconds: float) -> None:
    agent = Agent(lambda message: asyncio.sleep(seconds) if message == "b" else nothing(message))
    it = await warm(agent)
    asyncio.get_running_loop().call_soon(arrive, it, *"abcd")
    await until(lambda: "end d" in agent.said)
    await it.cancel()

    assert [f"{what} {m}" for m in "abcd" for what in ("begin", "end")] == agent.said[:8]


async def test_one_that_has_its_link_deliver_more_and_then_waits_comes_to_its_end() -> None:
    async def ask(message: str) -> None:
        if message == "a":
            arrive(it, "b")  # as a link does whose far side answers within `send`
            await asyncio.sleep(0)

    agent = Agent(ask)
    it = await warm(agent)
    asyncio.get_running_loop().call_soon(arrive, it, "a")
    await until(lambda: "end b" in agent.said)
    await it.cancel()

    assert [f"{what} {m}" for m in "ab" for what in ("begin", "end")] == agent.said[:4]


async def test_what_one_raises_before_it_waits_is_told_and_the_rest_of_the_read_goes_on() -> None:
    async def fail(message: str) -> None:
        if message == "bad":
            raise LookupError(message)
        if message == "worse":
            raise asyncio.CancelledError

    agent = Agent(fail)
    it = await warm(agent)
    asyncio.get_running_loop().call_soon(arrive, it, "bad", "worse", "good")
    await until(lambda: "end good" in agent.said)
    await it.cancel()

    told = [repr(event.error) for event in it.of(HandlerFailed)]
    assert ["LookupError('bad')", "BridgeError('on_message was cancelled from within')"] == told


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_what_ends_more_than_a_callback_does_not_end_those_to_come(
    end: type[BaseException],
) -> None:
    async def leave(message: str) -> None:
        if message == "bad":
            raise end

    def read() -> None:
        with pytest.raises(end):
            arrive(it, "bad")

    agent = Agent(leave)
    it = await warm(agent)
    asyncio.get_running_loop().call_soon(read)
    await asyncio.sleep(1)
    it.far.send("next")
    it.far.send("last")
    await asyncio.sleep(1)
    await it.cancel()

    assert ["begin bad", "begin next", "end next", "begin last", "end last"] == agent.said[:-1]
    assert [] == it.of(HandlerFailed)


async def test_what_one_raises_after_its_wait_is_told_and_the_link_goes_on() -> None:
    async def fail(message: str) -> None:
        if message == "bad":
            await asyncio.sleep(1)
            raise LookupError(message)

    agent = Agent(fail)
    it = await warm(agent)
    it.far.send("bad")
    it.far.send("good")
    await until(lambda: "end good" in agent.said)
    await it.cancel()

    assert ["LookupError('bad')"] == [repr(event.error) for event in it.of(HandlerFailed)]


async def test_a_cancellation_in_the_turn_in_which_it_began_is_heard_where_it_waits() -> None:
    agent = Agent(lambda message: asyncio.sleep(60 if message != "first" else 0))
    it = await warm(agent)
    # Both are due in the next turn, in this order; the lane would go on in the one after.
    asyncio.get_running_loop().call_soon(arrive, it, "cut short")
    await it.cancel()

    assert ["begin cut short", "cancelled cut short", "disconnect"] == agent.said


async def test_what_another_task_reads_waits_for_its_turn() -> None:
    agent = Agent(nothing)
    it = await warm(agent)
    arrive(it, "one")
    it.far.send("two")
    assert [] == agent.said
    await until(lambda: "end two" in agent.said)
    await it.cancel()

    assert ["begin one", "end one", "begin two", "end two", "disconnect"] == agent.said
    assert 1 == len(agent.tasks)


async def test_one_that_waits_is_cancelled_with_the_session() -> None:
    agent = Agent(lambda message: asyncio.sleep(60 if message != "first" else 0))
    it = await warm(agent)
    it.far.send("cut short")
    await until(lambda: agent.said)
    await asyncio.sleep(1)
    await it.cancel()

    assert ["begin cut short", "cancelled cut short", "disconnect"] == agent.said


async def test_one_that_goes_on_after_its_cancellation_is_waited_for() -> None:
    async def stubborn(message: str) -> None:
        if message != "first":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
                agent.said.append("cleaned up")
                raise

    agent = Agent(stubborn)
    it = await warm(agent)
    it.far.send("cut short")
    await until(lambda: agent.said)
    await it.cancel()

    assert ["begin cut short", "cleaned up", "cancelled cut short", "disconnect"] == agent.said


async def test_one_that_bears_failure_after_failure_goes_on() -> None:
    async def persistent(message: str) -> None:
        for _ in range(3000 if message != "first" else 0):  # more than frames may be nested
            failing = asyncio.get_running_loop().create_future()
            failing.set_exception(LookupError())
            with suppress(LookupError):
                await failing

    agent = Agent(persistent)
    it = await warm(agent)
    it.far.send("second")
    await until(lambda: "end second" in agent.said)
    await it.cancel()


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_timeout_that_is_over_at_once_ends_what_it_is_around(seconds: float) -> None:
    async def hasty(message: str) -> None:
        if message == "late":
            async with asyncio.timeout(seconds):
                await asyncio.sleep(60)

    agent = Agent(hasty)
    it = await warm(agent)
    it.far.send("late")
    it.far.send("next")
    await until(lambda: "end next" in agent.said)
    await it.cancel()

    assert ["begin late", "begin next", "end next", "disconnect"] == agent.said
    assert ["TimeoutError()"] == [repr(event.error) for event in it.of(HandlerFailed)]


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has it")
@pytest.mark.parametrize("waits", [False, True])
async def test_a_child_that_fails_at_once_ends_its_task_group_alone(waits: bool) -> None:
    async def fail() -> None:
        raise LookupError

    async def group(message: str) -> None:
        if message == "bad":
            with suppress(BaseExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
                    if waits:
                        await asyncio.sleep(60)

    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
    agent = Agent(group)
    it = await warm(agent)
    it.far.send("bad")
    it.far.send("next")
    await until(lambda: "end next" in agent.said)
    await it.cancel()

    assert ["begin bad", "end bad", "begin next", "end next", "disconnect"] == agent.said
    assert [] == it.of(HandlerFailed)


async def test_a_cancellation_that_was_taken_back_is_not_heard_by_the_next_of_the_read() -> None:
    """As a task group does whose child, an eager task, has failed before it was waited for."""

    async def scoped(message: str) -> None:
        if message == "scoped":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            task.uncancel()
        elif message == "waits":
            await asyncio.sleep(1)

    agent = Agent(scoped)
    it = await warm(agent)
    asyncio.get_running_loop().call_soon(arrive, it, "scoped", "waits")
    await asyncio.sleep(2)
    await it.cancel()

    assert ["begin scoped", "end scoped", "begin waits", "end waits", "disconnect"] == agent.said
    assert [] == it.of(HandlerFailed)


async def test_a_cancellation_ends_what_it_awaits_and_can_be_undone_in_its_context() -> None:
    children: list[asyncio.Task[None]] = []

    async def work(message: str) -> None:
        if message == "cut short":
            token = bound.set("for now")
            children.append(asyncio.get_running_loop().create_task(asyncio.sleep(60)))
            try:
                await children[0]
            finally:
                bound.reset(token)

    agent = Agent(work)
    it = await warm(agent)
    asyncio.get_running_loop().call_soon(arrive, it, "cut short")
    await it.cancel()

    assert ["begin cut short", "cancelled cut short", "disconnect"] == agent.said
    assert children[0].cancelled()
    assert [] == it.of(HandlerFailed)


async def test_a_new_token_is_offered_after_a_message_that_waits() -> None:
    class Renewing(Agent):
        async def on_token_refresh(self, token: Token, send: Send) -> None:
            self.said.append(f"begin {token.access_token}")
            await asyncio.sleep(1)
            self.said.append(f"end {token.access_token}")

    agent = Renewing(lambda message: asyncio.sleep(1 if message != "first" else 0))
    it = await warm(agent)
    (session,) = it.bridge._sessions.values()
    (record,) = session.records
    asyncio.get_running_loop().call_soon(arrive, it, "message")
    await asyncio.sleep(0)
    for value in ("token-1", "token-2"):
        session._lane.offer_token(record, Token({"access_token": value}))
    await until(lambda: "end token-2" in agent.said)
    await it.cancel()

    order = ("message", "token-1", "token-2")
    assert [f"{what} {each}" for each in order for what in ("begin", "end")] == agent.said[:6]
