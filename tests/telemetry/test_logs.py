"""Events as log lines."""

import logging
from dataclasses import fields
from typing import Any

import pytest

from dromos import events
from dromos.errors import ConnectionClosed
from dromos.events import BridgeEvent
from dromos.telemetry.logs import NAMES, adapt, log_events
from tests.telemetry.examples import KINDS, example


class Lines:
    """A structured logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, msg: str, /, **facts: Any) -> None:
        self.lines.append(("info", msg, facts))

    def error(self, msg: str, /, **facts: Any) -> None:
        self.lines.append(("error", msg, facts))


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_has_a_stable_name_and_its_facts(kind: type[BridgeEvent]) -> None:
    lines = Lines()
    event = example(kind)

    log_events(lines)(event)

    [(_, name, facts)] = lines.lines
    assert NAMES[kind] == name
    assert name.startswith("bridge.")
    assert {"connection_id", "session"} <= set(facts)
    wanted = {field.name for field in fields(kind) if field.repr} - {"at", "error"}
    assert wanted <= set(facts)


def test_the_names_are_unique() -> None:
    assert len(KINDS) == len(set(NAMES.values())) == len(NAMES)


def test_a_clean_end_is_no_error_and_another_one_is() -> None:
    lines = Lines()
    log = log_events(lines)

    log(events.SessionEnded(error=None))
    log(events.SessionEnded(error=RuntimeError("no")))

    assert ["info", "error"] == [level for level, _, _ in lines.lines]


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (events.LatencyMeasured(link=1, seconds=0.1), logging.DEBUG),
        (events.HandedOver(old=1, new=2), logging.INFO),
        (events.Disconnected(error=None), logging.INFO),
        (events.Disconnected(error=ConnectionClosed(code=1006)), logging.WARNING),
        (events.AttemptFailed(error=ValueError("no"), verdict="TRANSIENT"), logging.WARNING),
        (events.RenewalFailed(error=ValueError("no"), retry_in=5.0), logging.WARNING),
        (events.RenewalFailed(error=ValueError("no"), retry_in=None), logging.ERROR),
        (events.EndDeferred(error=ValueError("no")), logging.ERROR),
        (events.SessionEnded(error=ValueError("no")), logging.ERROR),
    ],
)
def test_it_is_an_error_only_where_the_bridge_can_not_help_itself(
    event: BridgeEvent, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    log_events(adapt(logging.getLogger("agent")))(event)

    assert [level] == [record.levelno for record in caplog.records]


def test_a_logger_with_the_two_methods_of_the_specification_gets_warnings_as_errors() -> None:
    lines = Lines()
    log = log_events(lines)

    log(events.LatencyMeasured(link=1, seconds=0.1))
    log(events.AttemptFailed(error=ValueError("no"), verdict="TRANSIENT"))

    assert ["info", "error"] == [level for level, _, _ in lines.lines]


def test_a_logger_that_has_more_levels_is_called_with_them() -> None:
    class More(Lines):
        def debug(self, msg: str, /, **facts: Any) -> None:
            self.lines.append(("debug", msg, facts))

        def warning(self, msg: str, /, **facts: Any) -> None:
            self.lines.append(("warning", msg, facts))

    lines = More()
    log = log_events(lines)
    failed = ValueError("no")

    log(events.LatencyMeasured(link=1, seconds=0.1))
    log(events.AttemptFailed(error=failed, verdict="TRANSIENT"))

    assert ["debug", "warning"] == [level for level, _, _ in lines.lines]
    assert failed is lines.lines[1][2]["error"]


def test_a_slow_handler_is_told_of_once_a_session() -> None:
    lines = Lines()
    log = log_events(lines)
    paused = events.ReadingPaused(session=1, link=1, method="Agent.on_message", seconds=5.0)
    other = events.ReadingPaused(session=2, link=1, method="Agent.on_message", seconds=5.0)

    for event in (paused, paused, other, events.SessionEnded(session=1, error=None), paused):
        log(event)

    told = [facts["session"] for _, name, facts in lines.lines if name == "bridge.reading_paused"]
    assert [1, 2, 1] == told


def test_a_stdlib_logger_gets_the_facts_as_extra(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    log_events(adapt(logging.getLogger("agent")))(
        events.RetryScheduled(connection_id="c-1", delay=2.5, failures=3, error=None)
    )

    [record] = caplog.records
    assert "bridge.retry_scheduled connection_id=c-1" in record.getMessage()
    assert 2.5 == record.__dict__["dromos_delay"]
    assert "bridge.retry_scheduled" == record.__dict__["dromos_event"]


def test_a_handlers_traceback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ZeroDivisionError("in the agent")
    except ZeroDivisionError as error:
        event = events.HandlerFailed(method="on_message", error=error)

    log_events(adapt(logging.getLogger("agent")))(event)

    assert "ZeroDivisionError: in the agent" in caplog.text
    assert "test_logs.py" in caplog.text


def test_what_the_logger_does_not_want_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    log_events(adapt(logging.getLogger("agent")))(events.RefreshStarted())

    assert [] == caplog.records


def test_an_object_without_the_methods_is_no_logger() -> None:
    with pytest.raises(TypeError, match="logger"):
        adapt(object())
