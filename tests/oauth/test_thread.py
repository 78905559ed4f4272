"""Blocking calls on a daemon thread: one at a time, within a deadline, waited for by nobody."""

import asyncio
import contextvars
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dromos._core.verdict import Stage, judge
from dromos.errors import PermanentError, TokenError
from dromos.model import Verdict
from dromos.oauth._thread import MOST_GIVEN_UP, OneThread, in_place_of, kinds, shown, untrusted
from tests.oauth.test_simple_sources import CANARY, told, verdicts


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets whatever hangs go on at the end."""
    event = threading.Event()
    yield event
    event.set()


def patient(thread: OneThread) -> OneThread:
    """Give further calls more time than a busy machine may need."""
    thread._deadline = 30.0
    return thread


def blocked(release: threading.Event) -> Callable[[], bool]:
    return lambda: release.wait(10)


async def test_calls_are_made_one_at_a_time_and_in_order() -> None:
    thread, at_once, order = OneThread("t", deadline=5), [0], list[int]()

    def call(number: int) -> int:
        at_once[0] += 1
        assert at_once[0] == 1
        time.sleep(0.001)
        order.append(number)
        at_once[0] -= 1
        return threading.get_ident()

    found = await asyncio.gather(*(thread.call(lambda n=n: call(n), what="it") for n in range(20)))

    assert list(range(20)) == order
    assert len(set(found)) == 1
    assert threading.get_ident() not in found


async def test_the_thread_ends_when_nobody_waits() -> None:
    thread = OneThread("dromos-test-ends", deadline=5)

    await thread.call(lambda: None, what="it")

    await gone("dromos-test-ends")


async def under_way(thread: OneThread) -> None:
    while thread._running is None:  # noqa: ASYNC110  # no event to wait for
        await asyncio.sleep(0)


async def gone(name: str) -> None:
    for _ in range(200):
        if not any(thread.name == name for thread in threading.enumerate()):
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{name} is still there")


async def test_errors_come_back_as_they_are() -> None:
    thread, error = OneThread("t", deadline=5), PermanentError("no")

    def fail() -> None:
        raise error

    with pytest.raises(PermanentError) as caught:
        await thread.call(fail, what="it")

    assert error is caught.value


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, StopIteration, asyncio.CancelledError, GeneratorExit]
)
async def test_what_would_end_the_loop_or_pass_for_a_cancellation_is_replaced(
    kind: type[BaseException],
) -> None:
    thread = OneThread("t", deadline=5)

    def fail() -> None:
        raise kind(CANARY)

    with pytest.raises(TokenError, match=f"it raised {kind.__name__}") as caught:
        await thread.call(fail, what="it")

    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(caught.value)
    assert CANARY not in told(caught.value)
    assert await thread.call(lambda: 1, what="it") == 1


async def test_a_call_that_hangs_is_given_up_and_the_next_one_gets_another_thread(
    release: threading.Event,
) -> None:
    thread = OneThread("t", deadline=0.02)

    with pytest.raises(TokenError, match="it took over") as caught:
        await thread.call(blocked(release), what="it")

    assert (None, None) == (caught.value.status, caught.value.code)
    assert (Verdict.TRANSIENT, Verdict.TRANSIENT) == verdicts(caught.value)
    assert await patient(thread).call(lambda: 1, what="it") == 1


async def test_a_deadline_does_not_count_the_turn_in_the_queue() -> None:
    thread = OneThread("t", deadline=0.5)

    def slow() -> int:
        time.sleep(0.08)
        return 1

    assert [1] * 8 == await asyncio.gather(*(thread.call(slow, what="it") for _ in range(8)))


async def test_who_waits_behind_a_call_that_hangs_is_served(release: threading.Event) -> None:
    thread = OneThread("t", deadline=0.02)
    hangs = asyncio.gather(thread.call(blocked(release), what="it"), return_exceptions=True)
    await under_way(thread)

    assert await patient(thread).call(lambda: 1, what="it") == 1

    assert isinstance((await hangs)[0], TokenError)


async def test_too_many_hanging_calls_are_enough(release: threading.Event) -> None:
    thread = OneThread("dromos-test-many", deadline=0.01)
    for _ in range(MOST_GIVEN_UP):
        with pytest.raises(TokenError, match="took over"):
            await thread.call(blocked(release), what="it")
    before = threading.active_count()

    with pytest.raises(TokenError, match="4 earlier calls still hang") as caught:
        await thread.call(lambda: 1, what="it")

    assert before == threading.active_count()
    assert (Verdict.TRANSIENT, Verdict.TRANSIENT) == verdicts(caught.value)
    release.set()
    await gone("dromos-test-many")
    assert await patient(thread).call(lambda: 1, what="it") == 1


async def test_who_waits_behind_the_last_thread_is_told_that_it_hangs(
    release: threading.Event,
) -> None:
    thread = OneThread("t", deadline=0.01)

    found = await asyncio.gather(
        *(thread.call(blocked(release), what="it") for _ in range(MOST_GIVEN_UP + 3)),
        return_exceptions=True,
    )

    texts = [str(each) for each in found]
    assert MOST_GIVEN_UP == sum("took over" in text for text in texts)
    assert sum("still hang" in text for text in texts) == 3


async def test_a_cancelled_waiter_leaves_the_call_alone(release: threading.Event) -> None:
    thread, ended = OneThread("t", deadline=5), threading.Event()

    def call() -> None:
        release.wait(10)
        ended.set()

    waiter = asyncio.create_task(thread.call(call, what="it"))
    await under_way(thread)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    behind = asyncio.create_task(thread.call(lambda: 1, what="it"))
    await asyncio.sleep(0.01)

    assert not behind.done()
    release.set()
    assert await behind == 1
    assert ended.is_set()


async def test_a_call_cancelled_before_its_turn_is_left_out(release: threading.Event) -> None:
    thread, called = OneThread("t", deadline=5), list[int]()
    first = asyncio.create_task(thread.call(blocked(release), what="it"))
    second = asyncio.create_task(thread.call(lambda: called.append(1), what="it"))
    await asyncio.sleep(0.01)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second

    release.set()
    await first
    await thread.call(lambda: None, what="it")

    assert [] == called


async def test_an_abandoned_call_that_hangs_does_not_hold_up_the_next(
    release: threading.Event,
) -> None:
    thread = OneThread("t", deadline=0.02)
    waiter = asyncio.create_task(thread.call(blocked(release), what="it"))
    await under_way(thread)
    waiter.cancel()

    assert await patient(thread).call(lambda: 1, what="it") == 1


async def test_a_failure_that_nobody_waits_for_is_not_logged(
    release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    thread = OneThread("t", deadline=5)

    def fail() -> None:
        release.wait(10)
        raise ValueError(CANARY)

    waiter = asyncio.create_task(thread.call(fail, what="it"))
    await under_way(thread)
    waiter.cancel()
    release.set()
    await thread.call(lambda: None, what="it")

    assert CANARY not in caplog.text


def test_one_loop_after_the_other_and_a_loop_that_is_gone(release: threading.Event) -> None:
    thread = OneThread("t", deadline=30)

    async def leave() -> None:
        waiter = asyncio.create_task(thread.call(blocked(release), what="it"))
        await under_way(thread)
        waiter.cancel()

    async def ask() -> int:
        return await thread.call(lambda: 1, what="it")

    assert asyncio.run(ask()) == 1
    thread._deadline = 0.02
    asyncio.run(leave())  # Its call hangs on, in nobody's loop.
    patient(thread)
    assert asyncio.run(ask()) == 1


def test_a_result_for_a_closed_loop_is_dropped(release: threading.Event) -> None:
    thread = OneThread("dromos-test-late", deadline=5)

    async def leave() -> None:
        waiter = asyncio.create_task(thread.call(blocked(release), what="it"))
        await under_way(thread)
        waiter.cancel()

    asyncio.run(leave())
    release.set()

    asyncio.run(gone("dromos-test-late"))


def test_two_loops_at_once() -> None:
    thread, found = OneThread("t", deadline=5), list[int]()

    async def ask() -> None:
        for _ in range(50):
            found.append(await thread.call(lambda: 1, what="it"))

    runs = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(30)

    assert [1] * 100 == found


async def test_a_call_runs_in_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    thread = OneThread("t", deadline=5)

    assert await thread.call(variable.get, what="it") == 7


async def test_without_threads_the_failure_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = OneThread("t", deadline=5)

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(TokenError, match="no thread to be had") as caught:
            await thread.call(lambda: 1, what="it")

    assert (Verdict.TRANSIENT, Verdict.TRANSIENT) == verdicts(caught.value)
    assert await thread.call(lambda: 1, what="it") == 1


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_nothing_waits_for_a_call_when_the_interpreter_ends() -> None:
    script = """
import asyncio, time
from dromos.oauth._thread import OneThread
async def main():
    thread = OneThread("t", deadline=60)
    waiter = asyncio.create_task(thread.call(lambda: time.sleep(60), what="it"))
    await asyncio.sleep(0.05)
    print("end")
started = time.monotonic()
asyncio.run(main())
assert time.monotonic() - started < 20
"""

    assert run(script) == "end\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_starts_afresh() -> None:
    script = """
import asyncio, os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from dromos.oauth._thread import OneThread
thread, release = OneThread("t", deadline=20), threading.Event()
async def ask():
    return await thread.call(lambda: 1, what="it")
async def main():
    waiter = asyncio.create_task(thread.call(lambda: release.wait(20), what="it"))
    await asyncio.sleep(0.05)
    with thread._lock:
        child = os.fork()
    if child == 0:
        asyncio.events._set_running_loop(None)
        os._exit(0 if asyncio.new_event_loop().run_until_complete(ask()) == 1 else 1)
    print(os.waitpid(child, 0)[1])
    release.set()
    await waiter
asyncio.run(main())
"""

    assert run(script) == "0\n"


# --- Their errors ---------------------------------------------------------------------------------


def test_an_error_is_shown_by_its_class_and_its_harmless_words() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert shown(ValueError(f"bad token {CANARY}")) == "ValueError: bad token <redacted>"
    assert shown(ValueError()) == "ValueError"
    assert shown(Odd()) == "Odd"
    assert {"KeyError", "LookupError", "Exception"} <= kinds(KeyError())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(CANARY), Verdict.TRANSIENT),
        (TimeoutError(CANARY), Verdict.TRANSIENT),
        (ValueError(CANARY), Verdict.BOUNDED),
        (PermanentError("no"), Verdict.PERMANENT),
        (TokenError("no", status=501), Verdict.PERMANENT),
    ],
)
def test_a_stranger_is_judged_like_a_users_providers(error: Exception, expected: Verdict) -> None:
    ours = in_place_of(error, "it")

    assert (expected, expected) == verdicts(ours)
    assert CANARY not in told(ours)
    for worked in (False, True):
        plain = judge(error, stage=Stage.TOKEN, worked=worked, rejected=False)
        assert plain is expected


def certificate(where: str) -> Exception:
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    outer: Any = ValueError(inner) if where == "args" else ValueError(CANARY)
    if where != "args":
        setattr(outer, where, inner)
    return outer


@pytest.mark.parametrize("where", ["args", "reason", "inner_exception", "__cause__", "__context__"])
def test_a_refused_certificate_is_found_wherever_it_is_noted(where: str) -> None:
    error = certificate(where)

    ours = in_place_of(error, "it")

    assert untrusted(error)
    assert untrusted(ValueError()) is None
    assert "not trusted" in str(ours)
    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(ours)
    assert CANARY not in told(ours)


def test_errors_that_lead_in_a_circle_are_walked_once() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first

    assert untrusted(first) is None
