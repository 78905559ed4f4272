"""Events as log lines."""

import logging
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from dromos import events
from dromos.errors import ConnectionClosed
from dromos.events import BridgeEvent
from dromos.telemetry.logs import NAMES, adapt, log_events

KINDS = [
    kind
    for name in events.__all__
    if (kind := getattr(events, name)) is not BridgeEvent and issubclass(kind, BridgeEvent)
]


class Lines:
    """A structured logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, msg: str, /, **facts: Any) -> None:
        self.lines.append(("info", msg, facts))

    def error(self, msg: str, /, **facts: Any) -> None:
        self.lines.append(("error", msg, facts))


def example(kind: type[BridgeEvent]) -> BridgeEvent:
    """An event of this kind, with something in every field."""
    hints = get_type_hints(kind)
    samples: dict[Any, Any] = {int: 3, float: 1.5, str: "x", bool: True}
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name == "error":
            values["error"] = ConnectionClosed(code=1006)
        else:
            values[field.name] = samples.get(hints[field.name], 2)
    return kind(**values)


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
