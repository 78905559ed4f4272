"""Events as JSON, one object a line."""

import io
import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos import Counters, HandshakeError, PermanentError, Snapshot, TokenError, events
from dromos.errors import ConnectionClosed
from dromos.events import BridgeEvent
from dromos.telemetry.json_lines import as_line, as_record, sample, write_events
from dromos.telemetry.logs import NAMES
from tests.driver.harness import Stage, until
from tests.telemetry.examples import KINDS, example

pytestmark = pytest.mark.looptime

RESERVED = ["event", "at", "connection_id", "session"]


def strictly(line: str) -> dict[str, Any]:
    """Read JSON as RFC 8259 has it, which Python alone does not insist on."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return record


def written(*happened: BridgeEvent) -> list[dict[str, Any]]:
    out = io.StringIO()
    write = write_events(out)
    for event in happened:
        write(event)
    assert out.getvalue().endswith("\n")
    return [strictly(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_a_line_with_its_name_and_its_facts(kind: type[BridgeEvent]) -> None:
    [line] = written(example(kind, connection_id="c-1", session=7, at=12.5))

    assert RESERVED == list(line)[:4]
    assert [NAMES[kind], 12.5, "c-1", 7] == [line[name] for name in RESERVED]
    assert {field.name for field in fields(kind) if field.repr} <= set(line)


@pytest.mark.parametrize("kind", KINDS)
def test_no_line_holds_a_messages_content(kind: type[BridgeEvent]) -> None:
    [line] = written(example(kind))

    assert "a message's content" not in json.dumps(line)
    assert "messages" not in line or isinstance(line["messages"], int)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            HandshakeError("refused", status=503, retry_after=7.0, body=b"secret"),
            {"error_type": "HandshakeError", "status": 503, "retry_after": 7.0},
        ),
        (
            TokenError("no", status=400, code="invalid_grant"),
            {"error_type": "TokenError", "status": 400, "code": "invalid_grant"},
        ),
        (
            ConnectionClosed(code=1008, by_peer=False),
            {"error_type": "ConnectionClosed", "code": 1008, "by_peer": False},
        ),
        (PermanentError("over"), {"error_type": "PermanentError", "error": "over"}),
        (ValueError(), {"error_type": "ValueError", "error": "ValueError"}),
    ],
)
def test_an_error_is_its_text_its_class_and_its_numbers(
    error: Exception, told: dict[str, Any]
) -> None:
    [line] = written(events.AttemptFailed(error=error, verdict="TRANSIENT", link=2))

    del line["link"], line["verdict"]
    for name in RESERVED:
        del line[name]
    assert {"error": str(error), **told} == line


def test_the_attributes_of_somebody_elses_error_are_not_read() -> None:
    class Theirs(Exception):
        code = "a secret"

        def __str__(self) -> str:
            raise RuntimeError("and its text does not work")

    [line] = written(events.HandlerFailed(method="on_message", error=Theirs()))

    assert ("Theirs", "Theirs") == (line["error"], line["error_type"])
    assert "code" not in line


def test_no_error_leaves_no_trace() -> None:
    [line] = written(events.Disconnected(error=None))

    assert RESERVED == list(line)


@given(number=st.floats(), text=st.text())
def test_whatever_an_event_holds_is_one_line_of_valid_json(number: float, text: str) -> None:
    event = events.ReadingPaused(
        connection_id=text, session=1, at=number, link=1, method=text, seconds=number
    )

    [line] = written(event)

    assert (number if math.isfinite(number) else None) == line["seconds"]
    assert text == line["method"] == line["connection_id"]


async def test_a_sample_tells_what_each_session_has_received_and_sent() -> None:
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)
    for number in range(3):
        await stage.handler.sends[0](f"message {number}")
    await until(lambda: 3 == len(stage.handler.messages))

    [record] = sample(stage.bridge.snapshots(), at=stage.clock())
    await stage.cancel()

    assert {
        "event": "bridge.sampled",
        "at": record["at"],
        "connection_id": "c-1",
        "session": 1,
        "received": 3,
        "sent": 3,
    } == strictly(as_line(record))
    assert [] == sample(stage.bridge.snapshots(), at=stage.clock())


def test_a_sample_names_its_session() -> None:
    shots = [
        Snapshot(
            connection_id=f"c-{n}", session=n, state="open", since=0.0, counters=Counters(sent=n)
        )
        for n in (1, 2)
    ]

    told = [(r["connection_id"], r["session"], r["sent"]) for r in sample(shots, at=5.0)]

    assert [("c-1", 1, 1), ("c-2", 2, 2)] == told


async def test_a_whole_session_can_be_read_back_line_by_line() -> None:
    out = io.StringIO()
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.far.drop()
    await until(lambda: 2 == len(stage.handler.sends))
    await stage.cancel()
    for event in stage.events:
        write_events(out)(event)

    lines = [strictly(line) for line in out.getvalue().splitlines()]

    assert [as_record(event) for event in stage.events] == lines
    assert ["bridge.session_started", "bridge.session_ended"] == [
        lines[0]["event"],
        lines[-1]["event"],
    ]
    assert sorted(line["at"] for line in lines) == [line["at"] for line in lines]
