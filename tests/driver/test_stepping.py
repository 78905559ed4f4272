"""A stepper begins callbacks as a task, and hands over what is left of those that wait."""

import asyncio
import contextvars
import functools
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from dromos._driver.stepping import Begun, Stepper
from dromos.model import Message

raised: list[BaseException] = []
held: list[bool] = []
begun: list[Begun] = []


def note(error: BaseException) -> None:
    raised.append(error)


def let_through(error: BaseException) -> None:
    raise error


@asynccontextmanager
async def stepper(
    on_message: Callable[[Message], object], fail: Callable[[BaseException], None] = note
) -> AsyncIterator[Stepper]:
    """One whose task rests meanwhile."""
    raised.clear()
    held.clear()
    begun.clear()
    task = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    try:
        context = contextvars.copy_context()
        yield Stepper(
            task,
            context,
            on_message,
            fail=fail,
            hold=lambda: held.append(True),
            go_on_with=begun.append,
        )
    finally:
        task.cancel()
        await asyncio.wait([task])


async def in_a_callback(call: Callable[[], object]) -> object:
    """Call it while no task is at work, as a link does."""
    result: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def do() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(RuntimeError(repr(error)))

    asyncio.get_running_loop().call_soon(do)
    return await result


async def test_it_is_the_task_while_it_steps_and_not_afterwards() -> None:
    seen: list[asyncio.Task[object] | None] = []

    async def look(message: Message) -> None:
        seen.append(asyncio.current_task())

    async with stepper(look) as it:
        assert await in_a_callback(lambda: it.begin("one")) is None
        assert await in_a_callback(asyncio.current_task) is None
        assert [it._task] == seen


async def test_it_takes_any_number_that_came_together() -> None:
    seen: list[Message] = []

    async def look(message: Message) -> None:
        assert asyncio.current_task() is it._task
        seen.append(message)

    async with stepper(look) as it:
        await in_a_callback(lambda: it.take(iter(["a", b"b", "c"])))
        await in_a_callback(lambda: it.take(iter(["d"])))
        assert await in_a_callback(asyncio.current_task) is None
    assert ["a", b"b", "c", "d"] == seen
    assert [] == held
    assert [] == begun


async def test_it_leaves_what_comes_after_a_message_that_has_to_wait() -> None:
    seen: list[Message] = []

    async def work(message: Message) -> None:
        seen.append(message)
        if message == "waits":
            await asyncio.sleep(0)
            seen.append("done")

    messages = iter(["a", "waits", "b", "c"])
    async with stepper(work) as it:
        await in_a_callback(lambda: it.take(messages))
        (left,) = begun
        assert ["b", "c"] == [*messages]
        await left
        await in_a_callback(lambda: it.take(iter(["d"])))
    assert ["a", "waits", "done", "d"] == seen


async def test_what_one_raises_is_told_and_the_next_one_is_taken() -> None:
    seen: list[Message] = []

    async def work(message: Message) -> None:
        seen.append(message)
        if message == "bad":
            raise LookupError(message)

    async with stepper(work) as it:
        await in_a_callback(lambda: it.take(iter(["bad", "good"])))
    assert ["bad", "good"] == seen
    assert ["LookupError('bad')"] == [repr(error) for error in raised]


async def test_it_is_no_task_while_another_one_is_at_work() -> None:
    async def nothing(message: Message) -> None: ...

    messages = iter(["one"])
    async with stepper(nothing) as it:
        it.take(messages)  # in the test's own task
    assert [True] == held
    assert ["one"] == [*messages]


async def test_it_is_the_task_no_more_after_what_ends_more_than_a_callback() -> None:
    async def leave(message: Message) -> None:
        raise SystemExit

    messages = iter(["exit", "next"])
    async with stepper(leave, let_through) as it:
        with pytest.raises(RuntimeError, match="SystemExit"):
            await in_a_callback(lambda: it.take(messages))
        assert await in_a_callback(asyncio.current_task) is None
    assert ["next"] == [*messages]


async def test_what_waits_without_a_future_is_told_from_what_is_done() -> None:
    async with stepper(lambda _: asyncio.sleep(0)) as it:
        left = await in_a_callback(lambda: it.begin("one"))
        assert left is not None
        assert isinstance(left, Awaitable)
        await left


@pytest.mark.parametrize("result", [None, "a word"])
async def test_a_callback_that_makes_no_coroutine_may_return_anything(result: object) -> None:
    async with stepper(lambda _: result) as it:
        assert await in_a_callback(lambda: it.begin("one")) is None


async def test_a_callback_that_makes_no_coroutine_may_return_a_future() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with stepper(lambda _: future) as it:
        left = await in_a_callback(lambda: it.begin("one"))
        future.set_result(None)
        assert isinstance(left, Awaitable)
        await left


async def test_what_ends_more_than_a_callback_passes_and_the_next_one_begins() -> None:
    async def leave(message: Message) -> None:
        if message == "exit":
            raise SystemExit

    async with stepper(leave, let_through) as it:
        with pytest.raises(RuntimeError, match="SystemExit"):
            await in_a_callback(lambda: it.begin("exit"))
        assert await in_a_callback(lambda: it.begin("one")) is None


async def test_its_own_end_is_no_failure() -> None:
    async def nothing(message: Message) -> None: ...

    async with stepper(nothing) as it:
        await in_a_callback(functools.partial(it.begin, "one"))
    del it
    gc.collect()
    assert [] == raised


async def test_it_keeps_no_message() -> None:
    class Text(str):
        __slots__ = ("__weakref__",)

    async def nothing(message: Message) -> None: ...

    async with stepper(nothing) as it:
        message = Text("one")
        ref = weakref.ref(message)
        await in_a_callback(lambda message=message: it.take(iter([message])))
        del message
        gc.collect()
        assert ref() is None
