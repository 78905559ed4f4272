"""Metrics and spans of whole bridges, collected by OpenTelemetry's own SDK."""

import asyncio
import sys
import threading
from typing import Any

import pytest

from dromos import Bridge, Census, HandshakeError, TokenError, events
from dromos.events import BridgeEvent
from dromos.telemetry.otel_metrics import MESSAGES, OtelMetrics
from dromos.telemetry.otel_spans import OtelSpans
from dromos.telemetry.table import METRICS
from dromos.testing.clock import EPOCH
from dromos.testing.memory import HANG
from tests.driver.harness import PlainNotes, Tokens, until
from tests.telemetry.examples import KINDS, example
from tests.telemetry.scrape import ObservedStage, scripted_run

sdk_metrics = pytest.importorskip("opentelemetry.sdk.metrics", reason="needs OpenTelemetry's SDK")
sdk_trace = pytest.importorskip("opentelemetry.sdk.trace", reason="needs OpenTelemetry's SDK")

from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)
from opentelemetry.trace import StatusCode  # noqa: E402

pytestmark = pytest.mark.looptime

FAR = {
    "network.protocol.name": "websocket",
    "server.address": "far.example",
    "server.port": 443,
}


class Collected:
    """Metrics as an SDK reads them."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = sdk_metrics.MeterProvider(metric_readers=[self.reader])

    @property
    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        metric = self.metrics.get(name)
        return [] if metric is None else [(dict(p.attributes), p) for p in metric.data.data_points]

    def value(self, name: str, **attributes: Any) -> float:
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return sum(
            getattr(point, "value", None) or getattr(point, "count", 0)
            for having, point in self.points(name)
            if wanted.items() <= having.items()
        )


class Traced:
    """Spans as an SDK exports them."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = sdk_trace.TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.observe = OtelSpans(tracer_provider=self.provider).on_event

    def named(self, name: str) -> list[Any]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def collected() -> Collected:
    return Collected()


@pytest.fixture
def traced() -> Traced:
    return Traced()


# --- Metrics --------------------------------------------------------------------------------------


async def test_a_run_with_everything_in_it_adds_up(collected: Collected) -> None:
    metrics = OtelMetrics(meter_provider=collected.provider)
    stage = await scripted_run(metrics.on_event)
    metrics.watch(stage.bridge)

    assert 3 == collected.value("bridge.connections", **FAR)
    assert 1 == collected.value("bridge.disconnects", bridge__cause="permanent")
    assert 1 == collected.value("bridge.token.refreshes", bridge__outcome="renewed")
    assert 1 == collected.value("bridge.connection.status")
    assert 1 == collected.value("bridge.sessions", bridge__state="open")
    assert 1 == collected.value("bridge.connect.attempts", error__type="refused", **FAR)
    assert 4 == collected.value("bridge.connect.attempts", bridge__outcome="opened")
    assert 4 == collected.value("bridge.connect.duration", **FAR)
    assert 1 == collected.value("bridge.handovers", bridge__outcome="completed")
    assert 2 == collected.value(MESSAGES["sent"], messaging__system="websocket")
    assert 2 == collected.value(MESSAGES["received"], messaging__system="websocket")
    assert 10 < collected.value("bridge.message.bytes", bridge__direction="sent") < 1000
    assert 10 < collected.value("bridge.message.bytes", bridge__direction="received") < 1000
    [(_, ttl)] = collected.points("bridge.token.min_ttl")
    assert 0 < ttl.value <= 600
    await stage.cancel()


async def test_every_metric_of_the_table_is_collected_with_its_unit(collected: Collected) -> None:
    metrics = OtelMetrics(meter_provider=collected.provider)
    stage = await scripted_run(metrics.on_event)
    metrics.watch(stage.bridge)
    metrics.observe_loop_lag(0.002)
    metrics.timed(PlainNotes()).on_disconnect(None)
    metrics.on_event(events.MessagesDropped(session=1, count=1))

    found = collected.metrics
    await stage.cancel()

    names = {metric.otel: metric for metric in METRICS}
    messages = names.pop("messaging.client.*.messages")
    names |= dict.fromkeys(MESSAGES.values(), messages)
    assert set(names) == set(found)
    for name, metric in names.items():
        assert metric.unit == found[name].unit
        assert "connection_id" not in str(found[name].data)
    [(_, gap)] = collected.points("bridge.gap.duration")
    [metric] = [m for m in METRICS if m.otel == "bridge.gap.duration"]
    assert metric.buckets == gap.explicit_bounds


async def test_bridges_of_one_provider_share_their_instruments(
    collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    stages = []
    for _ in range(2):
        metrics = OtelMetrics(meter_provider=collected.provider)
        stage = ObservedStage(metrics.on_event)
        metrics.watch(stage.bridge)
        stage.start()
        await until(lambda stage=stage: stage.handler.sends)
        await stage.handler.sends[0]("hello")
        stages.append(stage)

    assert 2 == collected.value("bridge.sessions", bridge__state="open")
    assert 2 == collected.value(MESSAGES["sent"])
    for stage in stages:
        await stage.cancel()
    assert 2 == collected.value(MESSAGES["sent"])
    assert 0 == collected.value("bridge.sessions")
    assert "has been created already" not in caplog.text


def test_an_endpoint_that_is_made_has_no_address_but_a_name(collected: Collected) -> None:
    metrics = OtelMetrics(meter_provider=collected.provider)

    metrics.on_event(events.SessionStarted(session=1, endpoint="Agent.make_url"))
    metrics.on_event(events.Connected(session=1, link=1, gap=None))

    [(attributes, _)] = collected.points("bridge.connections")
    assert {
        "network.protocol.name": "websocket",
        "bridge.endpoint": "Agent.make_url",
    } == attributes


def test_two_bridges_on_two_threads_lose_no_message(collected: Collected) -> None:
    both = [OtelMetrics(meter_provider=collected.provider) for _ in range(2)]
    lost, ready = example(events.LinkLost, messages=1, sent=1), threading.Barrier(2)

    def run(metrics: OtelMetrics) -> None:
        metrics.on_event(events.SessionStarted(session=lost.session, endpoint="wss://x"))
        ready.wait()
        for _ in range(20_000):
            metrics.on_event(lost)

    threads = [threading.Thread(target=run, args=[metrics]) for metrics in both]
    often, before = 1e-6, sys.getswitchinterval()
    sys.setswitchinterval(often)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    assert 40_000 == collected.value(MESSAGES["received"]) == collected.value(MESSAGES["sent"])


def test_a_collection_looks_at_a_bridge_once_and_the_next_one_again(
    collected: Collected,
) -> None:
    class Counting:
        looks = 0

        def census(self) -> Census:
            self.looks += 1
            return Census(at=0.0, states={"open": self.looks}, received=self.looks)

    metrics, bridge = OtelMetrics(meter_provider=collected.provider), Counting()
    metrics.watch(bridge)

    seen = [collected.value("bridge.sessions", bridge__state="open") for _ in range(3)]

    assert [1, 2, 3] == seen
    assert 3 == bridge.looks
    assert 4 == collected.value(MESSAGES["received"])


def test_one_exporter_watches_one_bridge(collected: Collected) -> None:
    metrics, bridge = OtelMetrics(meter_provider=collected.provider), Bridge(Tokens())
    metrics.watch(bridge)
    metrics.watch(bridge)

    with pytest.raises(ValueError, match="make another OtelMetrics"):
        metrics.watch(Bridge(Tokens()))


# --- Spans ----------------------------------------------------------------------------------------


async def test_attempts_refreshes_and_handovers_are_spans_and_nothing_else_is(
    traced: Traced,
) -> None:
    stage = await scripted_run(traced.observe)
    await stage.cancel()

    attempts, refreshes = traced.named("bridge.attempt"), traced.named("bridge.refresh")
    handovers = traced.named("bridge.handover")
    assert (6, 1, 1) == (len(attempts), len(refreshes), len(handovers))
    assert 8 == len(traced.exporter.get_finished_spans())
    for span in traced.exporter.get_finished_spans():
        assert FAR.items() <= span.attributes.items()
        assert span.attributes["bridge.connection_id"] in ("c-1", "c-2")


async def test_a_handovers_attempt_is_its_child_and_others_have_no_parent(traced: Traced) -> None:
    stage = ObservedStage(traced.observe, tokens=Tokens(lifetime=600))
    stage.start()
    await until(lambda: stage.of(events.HandedOver))
    await stage.cancel()

    [first, second] = traced.named("bridge.attempt")
    [handover] = traced.named("bridge.handover")
    assert (None, None) == (first.parent, handover.parent)
    assert handover.context.span_id == second.parent.span_id
    assert handover.context.trace_id == second.context.trace_id != first.context.trace_id
    assert handover.start_time <= second.start_time <= second.end_time <= handover.end_time
    assert StatusCode.UNSET is handover.status.status_code


async def test_spans_last_as_long_as_what_they_stand_for(traced: Traced) -> None:
    stage = ObservedStage(traced.observe, tokens=Tokens(lifetime=600, takes=2.0), dial_latency=0.5)
    stage.start()
    await until(lambda: stage.of(events.HandedOver))
    await stage.cancel()

    [refresh] = traced.named("bridge.refresh")
    attempt = traced.named("bridge.attempt")[0]
    assert 2.0 == pytest.approx((refresh.end_time - refresh.start_time) / 1e9)
    assert 0.5 == pytest.approx((attempt.end_time - attempt.start_time) / 1e9)
    assert EPOCH <= attempt.start_time / 1e9 < EPOCH + 60


async def test_a_refresh_that_prolongs_the_same_token_is_no_error(traced: Traced) -> None:
    stage = ObservedStage(traced.observe, tokens=Tokens(lifetime=600, slides=True))
    stage.start()
    await until(lambda: stage.of(events.HandedOver))
    await stage.cancel()

    [refresh] = traced.named("bridge.refresh")
    assert StatusCode.UNSET is refresh.status.status_code
    assert 1 == refresh.attributes["bridge.token.generation"]


async def test_a_refresh_that_failed_is_an_error_though_the_old_token_will_do(
    traced: Traced,
) -> None:
    stage = ObservedStage(traced.observe, tokens=Tokens(lifetime=100), refresh_buffer=5)
    stage.tokens.refresh_errors = [TokenError("busy", status=503)]
    stage.start()
    await until(lambda: stage.handler.sends)
    await asyncio.sleep(80)
    stage.far.drop()  # with too little life left for a dial
    await until(lambda: 2 == len(stage.handler.sends))
    await stage.cancel()

    [refresh] = traced.named("bridge.refresh")
    assert StatusCode.ERROR is refresh.status.status_code
    assert "failed" == refresh.attributes["error.type"]


async def test_a_failure_is_told_by_its_class_and_its_status(traced: Traced) -> None:
    stage = ObservedStage(
        traced.observe, tokens=Tokens(get_errors=[TokenError("busy", status=503)])
    )
    stage.dialer.then(HandshakeError("refused", status=502), HandshakeError("no route"))
    stage.start()
    await until(lambda: stage.handler.sends)
    await stage.cancel()

    told = [
        (span.attributes.get("error.type"), span.attributes.get("http.response.status_code"))
        for span in traced.named("bridge.attempt")
    ]
    assert [("HandshakeError", 502), ("HandshakeError", None), (None, None)] == told[-3:]
    for span in traced.named("bridge.attempt")[:-1]:
        assert StatusCode.ERROR is span.status.status_code
        assert () == span.events, "an exception's traceback holds what frames hold"


async def test_a_handover_that_fails_is_an_error_and_the_next_one_is_another_span(
    traced: Traced,
) -> None:
    stage = ObservedStage(traced.observe, tokens=Tokens(lifetime=600))
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.dialer.then(HandshakeError("refused", status=503))
    await until(lambda: stage.of(events.HandedOver))
    await stage.cancel()

    [failed, completed] = traced.named("bridge.handover")
    [_, refused, opened] = traced.named("bridge.attempt")
    assert "HandshakeError" == failed.attributes["error.type"]
    assert StatusCode.UNSET is completed.status.status_code
    assert [failed.context.span_id, completed.context.span_id] == [
        refused.parent.span_id,
        opened.parent.span_id,
    ]


def test_a_clock_that_is_set_back_ends_no_span_before_it_began(traced: Traced) -> None:
    for event in (
        events.SessionStarted(session=1, endpoint="wss://far.example/ws", at=100.0),
        events.RefreshStarted(session=1, at=100.0),
        events.AttemptStarted(session=1, link=1, handover=True, at=100.0),
        events.SessionEnded(session=1, error=None, at=40.0),
    ):
        traced.observe(event)

    spans = traced.exporter.get_finished_spans()
    assert 3 == len(spans)
    assert {(100 * 10**9, 100 * 10**9)} == {(span.start_time, span.end_time) for span in spans}


async def test_two_sessions_that_overlap_keep_their_spans_apart(traced: Traced) -> None:
    stage = ObservedStage(traced.observe, tokens=Tokens(lifetime=600), dial_latency=1.0)
    tasks = [
        asyncio.ensure_future(
            stage.bridge.maintain_websocket(f"c-{n}", "wss://far.example/ws", stage.handler)
        )
        for n in (1, 2)
    ]
    await until(lambda: 2 == len(stage.of(events.HandedOver)))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    handovers = {span.context.span_id: span for span in traced.named("bridge.handover")}
    children = [span for span in traced.named("bridge.attempt") if span.parent is not None]
    assert 2 == len(handovers) == len(children)
    for child in children:
        parent = handovers[child.parent.span_id]
        assert parent.attributes["bridge.session"] == child.attributes["bridge.session"]


async def test_what_is_under_way_ends_with_the_session(traced: Traced) -> None:
    stage = ObservedStage(traced.observe, tokens=Tokens(lifetime=600))
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.dialer.then(HANG)
    await until(lambda: 2 == len(stage.of(events.AttemptStarted)))
    await stage.cancel()

    [handover] = traced.named("bridge.handover")
    [_, attempt] = traced.named("bridge.attempt")
    for span in (handover, attempt):
        assert "cancelled" == span.attributes["bridge.outcome"]
        assert span.end_time == int(stage.events[-1].at * 1e9)


async def test_a_trace_does_not_last_for_months_but_is_linked_to_who_began(traced: Traced) -> None:
    stage = ObservedStage(traced.observe)
    with traced.provider.get_tracer("mine").start_as_current_span("serve") as around:
        stage.start()
        await until(lambda: stage.handler.sends)
    await stage.cancel()

    [attempt] = traced.named("bridge.attempt")
    assert attempt.parent is None
    [link] = attempt.links
    assert around.get_span_context() == link.context


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_of_a_session_that_nobody_knows_does_no_harm(
    kind: type[BridgeEvent], traced: Traced, collected: Collected
) -> None:
    traced.observe(example(kind))
    OtelMetrics(meter_provider=collected.provider).on_event(example(kind))

    assert () == traced.exporter.get_finished_spans()


# --- Without --------------------------------------------------------------------------------------


async def test_without_an_sdk_everything_works_and_goes_nowhere() -> None:
    metrics = OtelMetrics()
    stage = await scripted_run(metrics.on_event, OtelSpans().on_event)
    metrics.watch(stage.bridge)
    metrics.observe_loop_lag(0.1)

    await stage.cancel()


@pytest.mark.parametrize(
    ("make", "module"),
    [(OtelMetrics, "opentelemetry.metrics"), (OtelSpans, "opentelemetry.trace")],
)
def test_without_the_library_the_error_names_the_extra(
    make: Any, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ImportError, match=r'pip install "dromos\[otel\]"'):
        make()
