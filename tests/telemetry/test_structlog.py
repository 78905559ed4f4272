"""A structlog logger, taken as it is: the real library, with its own processors."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from dromos import Bridge, HandshakeError, events
from dromos.telemetry.logs import adapt, log_events
from dromos.testing.clock import on_loop_time
from dromos.testing.memory import FarEnd, MemoryDialer
from tests.driver.harness import Notes, Tokens, until

pytestmark = pytest.mark.looptime

URL = "wss://far.example/ws"


class Log:
    """What structlog's JSON renderer has written."""

    def __init__(self) -> None:
        self.out = io.StringIO()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def named(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == name]


@pytest.fixture
def log() -> Iterator[Log]:
    written = Log()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(written.out),
        cache_logger_on_first_use=False,
    )
    yield written
    structlog.reset_defaults()


async def drops(far: FarEnd) -> None:
    """Ends each link after a second, in the context in which it was dialled."""
    await asyncio.sleep(1)
    far.drop()


def bridge_that_logs(logger: Any) -> Bridge:
    return on_loop_time(Bridge(Tokens(), dialer=MemoryDialer(drops), logger=logger), seed=1)


async def test_a_whole_session_is_logged_with_names_fields_and_levels(log: Log) -> None:
    bridge = bridge_that_logs(structlog.get_logger(agent="a-7"))
    handler = Notes()
    task = asyncio.create_task(bridge.maintain_websocket("c-1", URL, handler))
    await until(lambda: len(handler.sends) == 2)
    await bridge.close()
    await task

    [lost, _] = log.named("bridge.link_lost")
    assert ("info", "a-7", "c-1", 1) == tuple(
        lost[name] for name in ("level", "agent", "connection_id", "session")
    )
    assert (1006, "ConnectionClosed") == (lost["code"], lost["error_type"])
    assert ["warning", "info"] == [line["level"] for line in log.named("bridge.disconnected")]
    assert "bridge.session_ended" == log.lines[-1]["event"]


def test_an_error_is_its_text_and_not_its_repr(log: Log) -> None:
    refused = HandshakeError("refused", status=503, retry_after=7.0)

    log_events(adapt(structlog.get_logger()))(
        events.AttemptFailed(error=refused, verdict="TRANSIENT")
    )

    [line] = log.lines
    assert ("refused", 503, 7.0, "warning") == tuple(
        line[name] for name in ("error", "status", "retry_after", "level")
    )
    assert "exception" not in line


def test_what_a_handler_raised_is_logged_with_its_traceback(log: Log) -> None:
    try:
        raise ZeroDivisionError("in the agent")
    except ZeroDivisionError as error:
        event = events.HandlerFailed(method="on_message", error=error)

    log_events(adapt(structlog.get_logger()))(event)

    [line] = log.lines
    assert ("error", "in the agent") == (line["level"], line["error"])
    [trace] = line["exception"]
    assert "ZeroDivisionError" == trace["exc_type"]
    assert trace["frames"][-1]["filename"].endswith("test_structlog.py")


def test_a_level_that_a_program_has_renamed_is_still_the_loggers_method(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `addLevelName` holds for the whole process, so it is undone with the test.
    for level in (logging.INFO, logging.WARNING):
        monkeypatch.setitem(logging._levelToName, level, "notice")  # type: ignore[attr-defined]  # pyright: ignore

    log_events(adapt(structlog.get_logger()))(events.RefreshStarted(connection_id="c-1"))
    log_events(adapt(structlog.get_logger()))(events.Flapped(links=5))

    assert ["info", "warning"] == [line["level"] for line in log.lines]


def test_a_ping_is_not_worth_a_line_at_info(log: Log) -> None:
    log_events(adapt(structlog.get_logger()))(events.LatencyMeasured(link=1, seconds=0.1))

    assert [] == log.lines


async def test_each_session_keeps_the_context_that_its_task_was_started_in(log: Log) -> None:
    bridge = bridge_that_logs(structlog.get_logger())
    handlers = {name: Notes() for name in ("red", "blue")}

    async def serve(tenant: str) -> None:
        structlog.contextvars.bind_contextvars(tenant=tenant)
        await bridge.maintain_websocket(f"c-{tenant}", URL, handlers[tenant])

    tasks = [asyncio.create_task(serve(tenant)) for tenant in handlers]
    await until(lambda: all(len(handler.sends) == 2 for handler in handlers.values()))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    heard = {(line["connection_id"], line["tenant"]) for line in log.lines}
    assert {("c-red", "red"), ("c-blue", "blue")} == heard


async def test_a_logger_whose_methods_are_coroutines_is_written_to_at_once(log: Log) -> None:
    # Deprecated by structlog, and still in programs: an un-awaited coroutine would be a warning.
    logger = structlog.wrap_logger(
        structlog.PrintLogger(log.out), wrapper_class=structlog.stdlib.AsyncBoundLogger
    )

    log_events(adapt(logger))(events.RefreshStarted(connection_id="c-1"))

    assert "bridge.refresh_started" == log.lines[0]["event"]


def test_what_is_configured_after_the_bridge_was_made_counts() -> None:
    observer = log_events(adapt(structlog.get_logger()))

    with structlog.testing.capture_logs() as captured:
        observer(events.RefreshStarted(connection_id="c-1", session=4))

    assert [
        {
            "event": "bridge.refresh_started",
            "log_level": "info",
            "connection_id": "c-1",
            "session": 4,
        }
    ] == captured
