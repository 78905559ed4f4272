"""Log records as JSON, and as lines for people."""

import io
import json
import logging
import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from dromos import HandshakeError, events
from dromos.telemetry.formatters import JsonFormatter, TerminalFormatter
from dromos.telemetry.json_lines import as_record
from dromos.telemetry.logs import adapt, log_events
from tests.telemetry.examples import KINDS, example


class Written:
    """A logger with a handler of its own, and what that has written."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.out = io.StringIO()
        self.logger = logging.getLogger("tests.formatters")
        self.handler = logging.StreamHandler(self.out)
        self.handler.setFormatter(formatter)
        self.logger.addHandler(self.handler)
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False

    @property
    def text(self) -> str:
        return self.out.getvalue()

    @property
    def line(self) -> dict[str, Any]:
        [line] = self.text.splitlines()
        read: dict[str, Any] = json.loads(line, parse_constant=_refuse)
        return read


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    formatter = getattr(request, "param", None) or JsonFormatter()
    written = Written(formatter)
    yield written
    written.logger.removeHandler(written.handler)


def test_what_is_logged_of_an_event_reads_like_its_json_line(written: Written) -> None:
    log = log_events(adapt(written.logger))

    for kind in KINDS:
        log(example(kind, connection_id="c-1"))

    lines = [json.loads(line) for line in written.text.splitlines()]
    assert len(KINDS) == len(lines)
    for kind, line in zip(KINDS, lines, strict=True):
        wanted = as_record(example(kind, connection_id="c-1"))
        del wanted["at"]  # a log has the time of its record, to a few microseconds the same
        assert wanted == {name: line[name] for name in wanted}
        assert {"time", "level", "logger", "at"} == set(line) - set(wanted) - {"traceback"}


class Replacing(logging.LoggerAdapter[logging.Logger]):
    """An adapter as it is up to Python 3.12: what it adds replaces what the caller brought."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        kwargs["extra"] = self.extra
        return f"[a-7] {msg}", kwargs


def test_an_adapter_adds_to_an_events_facts_and_replaces_none(written: Written) -> None:
    adapter = Replacing(written.logger, {"agent": "a-7", "tenant": "red", "at": "noon"})
    event = events.RetryScheduled(connection_id="c-1", delay=2.5, failures=3, error=None)

    log_events(adapt(adapter))(event)

    line = written.line
    assert ("bridge.retry_scheduled", "c-1", 2.5) == tuple(
        line[name] for name in ("event", "connection_id", "delay")
    )
    assert ("a-7", "red") == (line["agent"], line["tenant"])
    assert isinstance(line["at"], float)


def test_adapters_around_an_adapter_all_add_theirs(written: Written) -> None:
    inner = Replacing(written.logger, {"tenant": "red", "dromos_delay": "not so"})
    outer = Replacing(inner, {"agent": "a-7"})  # type: ignore[arg-type]

    log_events(adapt(outer))(events.RetryScheduled(delay=2.5, failures=3, error=None))

    line = written.line
    assert ("a-7", "red", 2.5) == tuple(line[name] for name in ("agent", "tenant", "delay"))


@pytest.mark.parametrize("written", [TerminalFormatter()], indirect=True)
def test_what_an_adapter_says_besides_is_part_of_the_message(written: Written) -> None:
    log_events(adapt(Replacing(written.logger, None)))(
        events.RetryScheduled(delay=2.5, failures=3, error=None)
    )

    assert "[a-7] bridge.retry_scheduled" in written.text
    assert "delay=2.500" in written.text


def test_the_time_is_utc_to_the_millisecond(written: Written) -> None:
    record = logging.makeLogRecord({"created": 1_800_000_000.25, "msg": "hello"})

    line = json.loads(written.handler.format(record))

    assert "2027-01-15T08:00:00.250Z" == line["time"]


def test_another_record_has_its_text_and_its_extras(written: Written) -> None:
    written.logger.warning("got %d", 3, extra={"order": {"id": 7}, "share": math.nan})

    line = written.line
    assert ("got 3", "warning", "tests.formatters") == (
        line["message"],
        line["level"],
        line["logger"],
    )
    assert ({"id": 7}, None) == (line["order"], line["share"])


def test_an_extra_replaces_none_of_the_lines_own_members(written: Written) -> None:
    theirs = {"time": "noon", "level": "loud", "logger": "mine"}

    written.logger.info("hello", extra=theirs)

    line = written.line
    assert ["time", "level", "logger"] == list(line)[:3]
    assert ("info", "tests.formatters") == (line["level"], line["logger"])
    assert line["time"].endswith("Z")


def test_whatever_an_extra_is_the_line_stays_valid(written: Written) -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    endless: list[Any] = []
    endless.append(endless)

    written.logger.info(
        "hello",
        extra={
            "mute": Mute(),
            "endless": endless,
            "inside": [math.inf],
            "kind": JsonFormatter,
            "error": ValueError("no"),
        },
    )

    line = written.line
    assert ("<Mute>", "<list>", "<list>") == (line["mute"], line["endless"], line["inside"])
    assert "JsonFormatter" in line["kind"]
    assert "no" == line["error"]


def test_a_traceback_is_a_member_and_not_more_lines(written: Written) -> None:
    try:
        raise ZeroDivisionError("in the agent")
    except ZeroDivisionError as error:
        log_events(adapt(written.logger))(events.HandlerFailed(method="on_message", error=error))

    line = written.line
    assert "error" == line["level"]
    assert "in test_a_traceback_is_a_member" in line["traceback"]
    assert line["traceback"].endswith("ZeroDivisionError: in the agent")


def test_a_stack_that_was_asked_for_is_shown(written: Written) -> None:
    written.logger.info("where", stack_info=True)

    assert "in test_a_stack_that_was_asked_for" in written.line["traceback"]


@pytest.mark.parametrize("written", [JsonFormatter(labels={"agent": "a-7"})], indirect=True)
def test_every_line_has_the_labels(written: Written) -> None:
    log_events(adapt(written.logger))(events.RefreshStarted())
    written.logger.info("hello")

    assert ["a-7", "a-7"] == [json.loads(line)["agent"] for line in written.text.splitlines()]


TOLD = {name for kind in KINDS for name in as_record(example(kind))}
"""Every member of an event's line, but those that only some errors bring."""


@pytest.mark.parametrize(
    "name",
    sorted(TOLD | {"time", "level", "logger", "message", "traceback", "status", "retry_after"}),
)
def test_a_label_can_not_take_the_place_of_a_member(name: str) -> None:
    with pytest.raises(ValueError, match=f"labels must not hold {name!r}"):
        JsonFormatter(labels={name: "x"})


@pytest.mark.parametrize("written", [TerminalFormatter()], indirect=True)
def test_for_people_an_event_is_one_line(written: Written) -> None:
    log_events(adapt(written.logger))(
        events.AttemptFailed(
            connection_id="c-1",
            session=2,
            error=HandshakeError("refused by the far side", status=503),
            verdict="TRANSIENT",
            link=4,
        )
    )

    [line] = written.text.splitlines()
    clock, level, rest = line.split(maxsplit=2)
    assert (12, "warning") == (len(clock), level)
    assert (
        "bridge.attempt_failed connection_id=c-1 session=2 verdict=TRANSIENT link=4 "
        "error_type=HandshakeError status=503 error=refused by the far side"
    ) == rest


@pytest.mark.parametrize("written", [TerminalFormatter(colour=True)], indirect=True)
def test_colours_are_those_of_levels_and_of_nobody_else(written: Written) -> None:
    written.logger.error("\x1b[2Jgone \x9b31m and\ttab\r")
    written.logger.info("plain")

    first, second = written.text.splitlines()
    assert "\x1b[31merror   \x1b[0m \\x1b[2Jgone \\x9b31m and\ttab\\r" in first
    assert "\x1b" not in second


@pytest.mark.parametrize("written", [TerminalFormatter()], indirect=True)
def test_for_people_a_traceback_stands_below(written: Written) -> None:
    try:
        raise ZeroDivisionError("\x1b[2J")
    except ZeroDivisionError:
        written.logger.error("no", exc_info=sys.exc_info())

    assert written.text.splitlines()[-1] == "ZeroDivisionError: \\x1b[2J"


def test_a_text_with_spaces_or_line_breaks_looks_like_no_other_fact(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    log_events(adapt(logging.getLogger("agent")))(
        events.RetryScheduled(
            connection_id="c-1 delay=0\nbridge.session_ended", delay=1.0, failures=1, error=None
        )
    )
    log_events(adapt(logging.getLogger("agent")))(
        events.HandlerFailed(method="on_message", error=ValueError("two\nlines"))
    )

    assert 'connection_id="c-1 delay=0\\nbridge.session_ended" session=0' in caplog.text
    assert 'error="two\\nlines"' in caplog.text


def test_where_a_callback_is_blocked_is_shown_in_lines(caplog: pytest.LogCaptureFixture) -> None:
    log_events(adapt(logging.getLogger("agent")))(
        events.LoopBlocked(method="on_message", seconds=2.0, stack="first\nsecond")
    )

    assert "seconds=2.000\nfirst\nsecond" in caplog.text
