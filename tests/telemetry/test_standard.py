"""`Bridge.standard`: JSON logs and Prometheus metrics, as the Go original's NewStandard."""

import asyncio
import json
import logging
import sys
import uuid
from typing import Any

import pytest

from dromos import Bridge
from dromos.events import BridgeEvent
from dromos.testing.clock import on_loop_time
from dromos.testing.memory import MemoryDialer
from tests.driver.harness import URL, Notes, Tokens, until
from tests.telemetry.scrape import Scrape

prometheus_client = pytest.importorskip("prometheus_client", reason='needs "dromos[prometheus]"')

pytestmark = pytest.mark.looptime


@pytest.fixture
def labels() -> dict[str, str]:
    """Labels of this test's own: the default registry belongs to the process."""
    return {"agent_id": f"a-{uuid.uuid4().hex[:8]}"}


async def lived(bridge: Bridge) -> None:
    """Play one session, from its beginning to its end."""
    on_loop_time(bridge, seed=1)
    handler = Notes()
    task = asyncio.create_task(bridge.maintain_websocket("c-1", URL, handler))
    await until(lambda: handler.sends)
    await handler.sends[0]("hello")
    await bridge.close()
    await task


async def test_it_logs_json_and_counts_with_the_same_labels(
    labels: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    await lived(Bridge.standard(Tokens(), labels=labels, dialer=MemoryDialer()))

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ("bridge.session_started", "bridge.session_ended") == (
        lines[0]["event"],
        lines[-1]["event"],
    )
    assert {("c-1", labels["agent_id"])} == {(x["connection_id"], x["agent_id"]) for x in lines}
    seen = Scrape(prometheus_client.REGISTRY)
    assert 1 == seen.value("bridge_connections_total", endpoint=URL, **labels)
    assert 1 == seen.value("bridge_messages_total", direction="sent", **labels)


async def test_it_may_be_called_twice_and_with_other_labels(
    labels: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    # The Go original panics: its metrics are registered anew by each call.
    for given in (labels, labels, labels | {"team": "red"}):
        await lived(Bridge.standard(Tokens(), labels=given, dialer=MemoryDialer()))

    seen = Scrape(prometheus_client.REGISTRY)
    assert 2 == seen.value("bridge_connections_total", endpoint=URL, **labels)
    assert 1 == seen.value("bridge_connections_total", endpoint=URL, team="red", **labels)
    lines = capsys.readouterr().out.splitlines()
    started = [line for line in lines if "bridge.session_started" in line]
    assert 3 == len(started), "no line is written twice"


async def test_what_the_user_brings_is_used(
    labels: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    heard: list[BridgeEvent] = []

    bridge = Bridge.standard(
        Tokens(),
        labels=labels,
        dialer=MemoryDialer(),
        logger=logging.getLogger("agent"),
        on_event=heard.append,
    )
    await lived(bridge)

    assert "" == capsys.readouterr().out
    assert "bridge.session_ended" in caplog.text
    assert heard
    seen = Scrape(prometheus_client.REGISTRY)
    assert 1 == seen.value("bridge_connections_total", endpoint=URL, **labels)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"labels": {"agent-id": "x"}}, ValueError, "labels must have names such as agent_id"),
        ({"labels": {"message": "x"}}, ValueError, "labels must not hold 'message'"),
        ({"on_event": 7}, TypeError, "on_event must be callable, not int"),
        ({"ping_interval": -1}, ValueError, "ping_interval"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_bad_input_is_refused_by_name(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Bridge.standard(Tokens(), **options)


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(ImportError, match=r'pip install "dromos\[prometheus\]"'):
        Bridge.standard(Tokens())


def test_a_subclass_stays_one() -> None:
    class Mine(Bridge):
        pass

    assert isinstance(Mine.standard(Tokens()), Mine)
