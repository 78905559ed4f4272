"""Metrics of whole bridges, scraped through prometheus-client's text format."""

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest

from dromos import Bridge, ConnectionClosed, HandshakeError, Outbox, RetryPolicy, TokenError, events
from dromos.events import BridgeEvent
from dromos.telemetry.loop_lag import measure_loop_lag
from dromos.telemetry.measuring import OTHER
from dromos.telemetry.prometheus import METRICS, PrometheusMetrics
from dromos.testing.memory import HANG, MemoryLink
from tests.driver.harness import URL, PlainNotes, Tokens, until
from tests.telemetry.examples import KINDS, example
from tests.telemetry.scrape import ObservedStage, Scrape, scripted_run

prometheus_client = pytest.importorskip("prometheus_client", reason='needs "dromos[prometheus]"')

pytestmark = pytest.mark.looptime

FOUR = (
    "bridge_connections_total",
    "bridge_disconnects_total",
    "bridge_token_refreshes_total",
    "bridge_connection_status",
)


@pytest.fixture
def registry() -> Any:
    return prometheus_client.CollectorRegistry()


@pytest.fixture
def metrics(registry: Any) -> PrometheusMetrics:
    return PrometheusMetrics(registry=registry)


def observed(metrics: PrometheusMetrics, **options: Any) -> ObservedStage:
    stage = ObservedStage(metrics.on_event, **options)
    metrics.watch(stage.bridge)
    return stage


async def test_a_run_with_everything_in_it_adds_up(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = await scripted_run(metrics.on_event)
    metrics.watch(stage.bridge)

    seen = Scrape(registry)
    await stage.cancel()

    at = {"endpoint": URL}
    assert 3 == seen.value("bridge_connections_total", **at)
    assert 1 == seen.value("bridge_disconnects_total", **at, cause="transient", code="1006")
    assert 1 == seen.value("bridge_disconnects_total", **at, cause="permanent", code="1008")
    assert 1 == seen.value("bridge_token_refreshes_total", outcome="renewed")
    assert 1 == seen.value("bridge_connection_status")
    assert 1 == seen.value("bridge_sessions", state="open") == seen.total("bridge_sessions")
    assert 1 == seen.value("bridge_sessions_ended_total", **at, outcome="permanent")
    assert 4 == seen.value("bridge_connect_attempts_total", **at, outcome="opened")
    assert 1 == seen.value("bridge_connect_attempts_total", **at, outcome="refused")
    assert 1 == seen.value("bridge_connect_attempts_total", **at, outcome="unreachable")
    assert 4 == seen.value("bridge_connect_duration_seconds_count", **at)
    [reconnected] = [event for event in stage.of(events.Connected) if event.gap is not None]
    assert reconnected.gap == seen.value("bridge_gap_seconds_sum", **at, cause="lost")
    assert 1 == seen.value("bridge_handovers_total", outcome="completed")
    assert 1 == seen.value("bridge_handover_overlap_seconds_count")
    assert 1 == seen.value("bridge_token_refresh_duration_seconds_count", outcome="renewed")
    assert 0 < seen.value("bridge_token_min_ttl_seconds") <= 600
    assert 2 == seen.value("bridge_messages_total", direction="sent")
    assert 2 == seen.value("bridge_messages_total", direction="received")
    assert 1 == seen.value("bridge_handler_failures_total", method="on_message")
    pings = len(stage.of(events.LatencyMeasured))
    assert pings == seen.value("bridge_ping_rtt_seconds_count", **at) > 0


async def test_after_such_a_run_every_metric_of_the_table_is_there_and_no_other(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = await scripted_run(metrics.on_event)
    metrics.watch(stage.bridge)
    metrics.observe_loop_lag(0.002)
    metrics.timed(PlainNotes()).on_disconnect(None)

    seen = Scrape(registry)
    await stage.cancel()

    wanted = set()
    for metric in METRICS:
        suffixes = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        wanted |= {metric.name + suffix for suffix in suffixes}
    assert wanted == seen.names
    for metric in METRICS:
        family = seen.families[metric.name.removesuffix("_total")]
        assert (metric.kind, metric.meaning) == (family.type, family.documentation)
        for sample in family.samples:
            assert set(metric.labels) == set(sample.labels) - {"le"}


async def test_a_handover_touches_none_of_the_four_original_figures(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, tokens=Tokens(lifetime=600))
    stage.start()
    await until(lambda: stage.handler.sends)
    before = Scrape(registry)

    await until(lambda: stage.of(events.HandedOver))
    await asyncio.sleep(20)
    after = Scrape(registry)
    await stage.cancel()

    assert 1 == after.value("bridge_handovers_total", outcome="completed")
    for name in (*FOUR[:2], FOUR[3]):
        assert before.total(name) == after.total(name)
    assert 1 == after.total(FOUR[2]), "the refresh itself counts"


async def test_the_four_agree_with_what_the_metrics_protocol_is_told(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = await scripted_run(metrics.on_event)

    seen = Scrape(registry)
    told = stage.metrics
    assert told.connections == seen.total(FOUR[0])
    assert told.disconnects == seen.total(FOUR[1])
    assert told.token_refreshes == seen.total(FOUR[2])
    assert told.status == seen.value(FOUR[3])
    await stage.cancel()
    seen = Scrape(registry)
    assert (told.disconnects, told.status) == (seen.total(FOUR[1]), seen.value(FOUR[3]))


@pytest.mark.parametrize(
    ("outcome", "script"),
    [
        ("refused", HandshakeError("no", status=503)),
        ("unreachable", HandshakeError("no route to host")),
        ("failed", RuntimeError("a dialer's own")),
        ("unreachable", HANG),
    ],
)
async def test_an_attempt_is_counted_once_by_what_came_of_it(
    metrics: PrometheusMetrics, registry: Any, outcome: str, script: Any
) -> None:
    stage = observed(metrics)
    stage.dialer.then(script)
    stage.start()
    await until(lambda: stage.handler.sends)

    seen = Scrape(registry)
    await stage.cancel()

    name = "bridge_connect_attempts_total"
    assert {outcome: 1.0, "opened": 1.0} == {
        labels["outcome"]: seen.value(name, **labels) for labels in seen.labels(name)
    }


async def test_without_a_token_there_is_an_attempt_and_no_dial(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    tokens = Tokens(get_errors=[TokenError("busy", status=503)] * 9)
    stage = observed(metrics, tokens=tokens, initial_token="retry")
    stage.start()
    await until(lambda: stage.handler.sends)

    seen = Scrape(registry)
    await stage.cancel()

    attempts = len(stage.of(events.AttemptFailed))
    at = {"endpoint": URL}
    assert attempts == seen.value("bridge_connect_attempts_total", **at, outcome="no_token") > 0
    assert 1 == seen.value("bridge_connect_attempts_total", **at, outcome="opened")


async def test_a_dial_that_is_cancelled_is_an_attempt_as_well(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics)
    stage.dialer.then(HANG)
    stage.start()
    await until(lambda: stage.of(events.AttemptStarted))
    await stage.cancel()

    seen = Scrape(registry)
    at = {"endpoint": URL}
    assert 1 == seen.total("bridge_connect_attempts_total")
    assert 1 == seen.value("bridge_connect_attempts_total", **at, outcome="cancelled")
    assert 1 == seen.value("bridge_sessions_ended_total", **at, outcome="cancelled")


async def test_a_refresh_that_fails_is_told_from_one_that_renews(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    tokens = Tokens(lifetime=600, takes=2.0)
    stage = observed(metrics, tokens=tokens)
    stage.start()
    await until(lambda: stage.handler.sends)
    tokens.refresh_errors = [TokenError("busy", status=503)]
    await until(lambda: stage.of(events.HandedOver))

    seen = Scrape(registry)
    await stage.cancel()

    assert 1 == seen.value("bridge_token_refreshes_total", outcome="failed")
    assert 1 == seen.value("bridge_token_refreshes_total", outcome="renewed")
    assert len(tokens.refreshes) == seen.total("bridge_token_refreshes_total")
    assert 2.0 <= seen.value("bridge_token_refresh_duration_seconds_sum", outcome="renewed")


async def test_a_refresh_that_prolongs_the_same_token_has_renewed_it(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, tokens=Tokens(lifetime=600, slides=True))
    stage.start()
    await until(lambda: stage.of(events.HandedOver))

    seen = Scrape(registry)
    await stage.cancel()

    assert 1 == seen.value("bridge_token_refreshes_total", outcome="renewed")
    assert 1 == seen.total("bridge_token_refreshes_total")
    assert 1 == seen.value("bridge_token_refresh_duration_seconds_count", outcome="renewed")


async def test_a_refresh_whose_session_ends_is_cancelled(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, tokens=Tokens(lifetime=600, takes=30.0))
    stage.start()
    await until(lambda: stage.of(events.RefreshStarted))
    await stage.cancel()

    assert 1 == Scrape(registry).value("bridge_token_refreshes_total", outcome="cancelled")


async def test_a_handover_that_fails_leaves_the_connection_as_it_was(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, tokens=Tokens(lifetime=600))
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.dialer.then(HandshakeError("no", status=503))
    await until(lambda: stage.of(events.HandedOver))

    seen = Scrape(registry)
    await stage.cancel()

    assert 1 == seen.value("bridge_handovers_total", outcome="failed")
    assert 1 == seen.value("bridge_handovers_total", outcome="completed")
    assert 0 == seen.total("bridge_disconnects_total")
    at = {"endpoint": URL}
    assert 1 == seen.value("bridge_connect_attempts_total", **at, outcome="refused")


async def test_a_handover_during_which_the_session_is_cancelled_did_not_fail(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, tokens=Tokens(lifetime=600))
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.dialer.then(HANG)
    await until(lambda: 2 == len(stage.of(events.AttemptStarted)))
    await stage.cancel()

    seen = Scrape(registry)
    assert 1 == seen.value("bridge_handovers_total", outcome="cancelled")
    assert 1 == seen.total("bridge_handovers_total")


async def test_a_handover_whose_old_link_is_lost_first_is_a_gap(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, tokens=Tokens(lifetime=600), dial_latency=2.0)
    stage.start()
    await until(lambda: 2 == len(stage.of(events.AttemptStarted)))
    stage.far.drop()
    await until(lambda: 2 == len(stage.of(events.Connected)))
    first = Scrape(registry)
    # What the link was dialled for is over: neither another gap nor the end fails it once more.
    stage.far.drop()
    await until(lambda: 3 == len(stage.of(events.Connected)))
    second = Scrape(registry)
    await stage.cancel()
    over = Scrape(registry)

    assert 1 == first.total("bridge_gap_seconds_count")
    assert 2 == first.value("bridge_connect_attempts_total", endpoint=URL, outcome="opened")
    assert 2 == second.total("bridge_gap_seconds_count")
    for seen in (first, second, over):
        assert 1 == seen.value("bridge_handovers_total", outcome="failed")
        assert 1 == seen.total("bridge_handovers_total")


async def test_the_overlap_is_the_time_in_which_both_links_were_open(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, tokens=Tokens(lifetime=600), latency=0.25)
    stage.start()
    await until(lambda: stage.handler.sends)
    await until(lambda: len(stage.of(events.LinkLost)) == 1)

    opened = next(event for event in stage.of(events.LinkOpened) if event.handover)
    [lost] = stage.of(events.LinkLost)
    seen = Scrape(registry)
    await stage.cancel()

    assert lost.released
    assert lost.at - opened.at == seen.value("bridge_handover_overlap_seconds_sum") > 0


async def scraped(
    metrics: PrometheusMetrics, registry: Any, message: str, counts: tuple[int, int]
) -> list[Scrape]:
    """Scrape while each of two links is open, after its end, and after that of the session."""
    stage = observed(metrics)
    stage.start()
    await until(lambda: stage.handler.sends)
    seen = []
    for count in counts:
        for _ in range(count):
            await stage.handler.sends[-1](message)
        await asyncio.sleep(1)
        seen.append(Scrape(registry))
        links = len(stage.handler.sends)
        stage.far.drop()
        await until(lambda links=links: len(stage.handler.sends) > links)
        seen.append(Scrape(registry))
    await stage.cancel()
    return [*seen, Scrape(registry)]


async def test_messages_are_counted_while_the_link_is_open_and_never_fall(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    seen = await scraped(metrics, registry, "hello", (3, 4))

    for direction in ("received", "sent"):
        counts = [one.value("bridge_messages_total", direction=direction) for one in seen]
        assert [3, 3, 7, 7, 7] == counts


async def test_bytes_on_the_wire_are_counted_as_messages_are(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    seen = await scraped(metrics, registry, "x" * 1000, (1, 1))

    for direction in ("received", "sent"):
        counts = [one.value("bridge_message_bytes_total", direction=direction) for one in seen]
        assert sorted(counts) == counts
        assert 1000 < counts[0] <= counts[1] < 1100
        assert 2000 < counts[2] <= counts[4] < 2200


async def test_where_no_link_tells_its_bytes_there_are_none(
    metrics: PrometheusMetrics, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(MemoryLink, "wire_bytes")
    stage = observed(metrics)
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.far.drop()
    await until(lambda: 2 == len(stage.handler.sends))

    seen = Scrape(registry)
    await stage.cancel()

    assert "bridge_message_bytes_total" not in seen.names


async def test_callbacks_are_timed_where_that_is_asked_for(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    name = "bridge_handler_duration_seconds_count"
    for timed in (False, True):
        stage = observed(metrics := PrometheusMetrics(registry=registry, labels={"t": str(timed)}))
        agent = stage.handler
        if timed:
            stage.handler = metrics.timed(agent)
        stage.start()
        await until(lambda agent=agent: agent.sends)
        await agent.sends[0]("hello")
        await until(lambda agent=agent: agent.messages)
        await stage.cancel()

    seen = Scrape(registry)
    assert {"True"} == {labels["t"] for labels in seen.labels(name)}
    for method in ("on_connect", "on_message", "on_disconnect"):
        assert 1 == seen.value(name, t="True", method=method)


async def test_what_may_not_have_arrived_or_was_given_up_is_counted(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, outbox=Outbox(ttl=5.0), far_side=None, ping_interval=None)
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.far.go_silent()
    stage.handler.sends[-1]("perhaps")
    stage.dialer.go_down()
    stage.link.abort()
    await until(lambda: stage.of(events.Disconnected))
    stage.handler.sends[-1]("never")
    await until(lambda: stage.of(events.MessagesUnsent))
    await stage.cancel()

    seen = Scrape(registry)
    assert 1 == seen.value("bridge_messages_lost_total", reason="unsent")
    unknown = [event.count for event in stage.of(events.DeliveryUnknown) if not event.resent]
    assert [1] == unknown
    assert 1 == seen.value("bridge_messages_lost_total", reason="unknown")


async def test_where_every_session_is_can_be_seen(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics, retry_policy=RetryPolicy(min_backoff=30))
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.dialer.go_down()
    await until(lambda: stage.of(events.RetryScheduled))
    waiting = Scrape(registry)
    await stage.cancel()
    over = Scrape(registry)

    assert (
        1 == waiting.value("bridge_sessions", state="waiting") == waiting.total("bridge_sessions")
    )
    assert 0 == waiting.value("bridge_connection_status")
    assert 0 == over.total("bridge_sessions")
    assert "bridge_token_min_ttl_seconds" not in over.names


async def test_bridges_with_the_same_labels_add_up(registry: Any) -> None:
    stages = []
    for _ in range(2):
        stage = observed(PrometheusMetrics(registry=registry, labels={"agent_id": "a-7"}))
        stage.start()
        await until(lambda stage=stage: stage.handler.sends)
        stages.append(stage)
    await stages[0].cancel()

    seen = Scrape(registry)
    await stages[1].cancel()

    labels = {"agent_id": "a-7", "endpoint": URL}
    assert 2 == seen.value("bridge_connections_total", **labels)
    assert 1 == seen.value("bridge_sessions", agent_id="a-7", state="open")
    assert 1 == seen.value("bridge_connection_status", agent_id="a-7")


async def test_bridges_with_other_labels_stand_beside_them(registry: Any) -> None:
    wanted: list[dict[str, str]] = [{}, {"agent_id": "a-7"}, {"team": "red", "version": "2"}]
    for labels in wanted:
        stage = observed(PrometheusMetrics(registry=registry, labels=labels))
        stage.start()
        await until(lambda stage=stage: stage.handler.sends)
        await stage.cancel()

    seen = Scrape(registry)

    assert wanted == [
        {name: value for name, value in labels.items() if name != "endpoint"}
        for labels in seen.labels("bridge_connections_total")
    ]


async def test_no_metric_has_a_connection_id_unless_asked(registry: Any) -> None:
    plain = PrometheusMetrics(registry=registry)
    asked = PrometheusMetrics(registry=registry, labels={"fleet": "x"}, per_connection=True)
    for metrics in (plain, asked):
        stage = await scripted_run(metrics.on_event)
        await stage.cancel()

    seen = Scrape(registry)

    having = [labels for name in seen.names for labels in seen.labels(name)]
    assert {"x"} == {labels["fleet"] for labels in having if "connection_id" in labels}
    ids = {labels.get("connection_id") for labels in seen.labels("bridge_connections_total")}
    assert {None, "c-1", "c-2"} == ids


def lived(metrics: PrometheusMetrics, connection_id: str, session: int, at: float) -> None:
    """A session that began, had a link and ended, at one moment."""
    whose: Any = {"connection_id": connection_id, "session": session, "at": at}
    metrics.on_event(events.SessionStarted(endpoint=URL, **whose))
    metrics.on_event(events.AttemptStarted(link=1, handover=False, **whose))
    metrics.on_event(events.LinkOpened(link=1, handover=False, took=0.1, **whose))
    metrics.on_event(events.Connected(link=1, gap=None, **whose))
    metrics.on_event(events.SessionEnded(error=None, **whose))


def told_apart(registry: Any) -> set[str]:
    seen = Scrape(registry)
    return {
        labels["connection_id"]
        for name in seen.names
        for labels in seen.labels(name)
        if "connection_id" in labels
    }


def test_the_series_of_a_connection_that_has_ended_stay_for_a_while_and_not_for_ever(
    registry: Any,
) -> None:
    metrics = PrometheusMetrics(registry=registry, per_connection=True)

    for number in range(1000):
        lived(metrics, f"c-{number}", number, at=60.0 * number)

    assert {f"c-{number}" for number in range(984, 1000)} == told_apart(registry)
    seen = Scrape(registry)
    name = "bridge_sessions_ended_total"
    assert 1 == seen.value(name, endpoint=URL, outcome="closed", connection_id="c-990")


def test_the_series_of_a_connection_that_runs_or_runs_again_stay(registry: Any) -> None:
    metrics = PrometheusMetrics(registry=registry, per_connection=True)
    running = events.SessionStarted(endpoint=URL, connection_id="runs", session=1, at=0.0)
    metrics.on_event(running)
    # Two sessions of one connection: it has ended when both have.
    metrics.on_event(events.SessionStarted(endpoint=URL, connection_id="twice", session=2, at=0.0))
    lived(metrics, "twice", 3, at=0.0)
    lived(metrics, "again", 4, at=0.0)
    metrics.on_event(
        events.SessionStarted(endpoint=URL, connection_id="again", session=5, at=600.0)
    )

    lived(metrics, "late", 6, at=100_000.0)

    assert {"runs", "twice", "again", "late"} == told_apart(registry)
    lived(metrics, "again", 7, at=100_000.0)
    seen = Scrape(registry)
    ended = {"endpoint": URL, "outcome": "closed"}
    assert 2 == seen.value("bridge_sessions_ended_total", **ended, connection_id="again")


def test_a_connection_that_comes_back_after_its_series_have_gone_begins_at_0(
    registry: Any,
) -> None:
    metrics = PrometheusMetrics(registry=registry, per_connection=True)
    lived(metrics, "c-1", 1, at=0.0)
    lived(metrics, "c-2", 2, at=10_000.0)
    assert {"c-2"} == told_apart(registry)

    lived(metrics, "c-1", 3, at=10_000.0)

    ended = {"endpoint": URL, "outcome": "closed"}
    seen = Scrape(registry)
    assert 1 == seen.value("bridge_sessions_ended_total", **ended, connection_id="c-1")


def test_endpoints_are_told_apart_up_to_a_number(registry: Any) -> None:
    metrics = PrometheusMetrics(registry=registry, max_endpoints=3)

    for number in range(50):
        metrics.on_event(events.SessionStarted(session=number, endpoint=f"wss://x/{number}"))
        metrics.on_event(events.Connected(session=number, link=1, gap=None))

    seen = Scrape(registry)
    name = "bridge_connections_total"
    assert {"wss://x/0", "wss://x/1", "wss://x/2", OTHER} == {
        labels["endpoint"] for labels in seen.labels(name)
    }
    assert (47, 50) == (seen.value(name, endpoint=OTHER), seen.total(name))


def test_a_far_side_can_not_make_a_series_of_each_close_code(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    metrics.on_event(events.SessionStarted(session=1, endpoint=URL))
    for code in range(3000, 5000):
        metrics.on_event(events.Connected(session=1, link=1, gap=1.0))
        metrics.on_event(events.Disconnected(session=1, error=ConnectionClosed(code=code)))

    seen = Scrape(registry)
    assert 41 == len(seen.labels("bridge_disconnects_total"))
    assert 2000 == seen.total("bridge_disconnects_total")


def test_the_default_registry_is_the_one_that_is_served_by_default() -> None:
    first = PrometheusMetrics(labels={"test": "default"})
    PrometheusMetrics(labels={"test": "default"})

    first.on_event(events.SessionStarted(session=1, endpoint=URL))
    first.on_event(events.Connected(session=1, link=1, gap=None))

    seen = Scrape(prometheus_client.REGISTRY)
    assert 1 == seen.value("bridge_connections_total", test="default", endpoint=URL)


def test_how_sessions_end_is_there_before_one_has() -> None:
    # Prometheus sees no growth in a series that begins at 1, and the alert would be missed.
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry=registry)

    metrics.on_event(events.SessionStarted(session=1, endpoint=URL))

    seen = Scrape(registry)
    for outcome in ("closed", "cancelled", "permanent", "interaction"):
        assert 0 == seen.value("bridge_sessions_ended_total", endpoint=URL, outcome=outcome)
    assert 0 == seen.value("bridge_connections_total", endpoint=URL)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_of_a_session_that_nobody_knows_does_no_harm(
    kind: type[BridgeEvent], metrics: PrometheusMetrics, registry: Any
) -> None:
    metrics.on_event(example(kind))

    Scrape(registry)


def test_a_clock_that_is_set_back_makes_no_negative_duration(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    for event in (
        events.SessionStarted(session=1, endpoint=URL),
        events.RefreshStarted(session=1, at=100.0),
        events.TokenObtained(
            session=1, at=40.0, generation=2, strategy="oauth2", expires_in=None, renewed=True
        ),
    ):
        metrics.on_event(event)

    seen = Scrape(registry)
    assert 0 == seen.value("bridge_token_refresh_duration_seconds_sum", outcome="renewed")


async def test_one_exporter_watches_one_bridge(metrics: PrometheusMetrics) -> None:
    stage = observed(metrics)
    metrics.watch(stage.bridge)

    with pytest.raises(ValueError, match="make another PrometheusMetrics"):
        metrics.watch(Bridge(Tokens()))


def test_a_bridge_that_is_gone_is_not_kept(registry: Any) -> None:
    metrics = PrometheusMetrics(registry=registry)
    metrics.watch(Bridge(Tokens(), on_event=metrics.on_event))
    gc.collect()

    assert 0 == Scrape(registry).total("bridge_sessions")


async def test_a_scrape_from_another_thread_sees_whole_figures_while_sessions_come_and_go(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    stage = observed(metrics)
    wall = stage.clock()
    stage.bridge._wall = lambda: wall  # pyright: ignore[reportPrivateUsage]
    seen: list[Scrape] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def scrape() -> None:
        try:
            while not done.is_set():
                seen.append(Scrape(registry))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        for _ in range(100):
            stage.start()
            await until(lambda: stage.handler.sends)
            stage.handler.sends.pop()("hello")
            await asyncio.sleep(0.1)
            await stage.cancel()
            # Virtual time never waits, so the other thread would hardly have its turn.
            thread.join(0.002)
    finally:
        done.set()
        thread.join()

    assert [] == failed
    counts = [one.value("bridge_messages_total", direction="sent") for one in seen]
    assert sorted(counts) == counts
    assert 100 == Scrape(registry).value("bridge_messages_total", direction="sent")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"labels": ["agent"]}, TypeError, "labels must be a mapping, not list"),
        ({"labels": {"agent": 7}}, TypeError, "labels must have names and values that are str"),
        ({"labels": {"agent-id": "7"}}, ValueError, "not 'agent-id'"),
        ({"labels": {"__name__": "7"}}, ValueError, "not '__name__'"),
        ({"labels": {"endpoint": "7"}}, ValueError, "'endpoint', which metrics have themselves"),
        ({"max_endpoints": 0}, ValueError, "max_endpoints must be at least 1, not 0"),
    ],
)
def test_bad_input_is_refused_by_name(
    registry: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        PrometheusMetrics(registry=registry, **options)


def test_one_set_of_labels_has_one_set_of_options(registry: Any) -> None:
    PrometheusMetrics(registry=registry)

    with pytest.raises(ValueError, match="per_connection must be the same"):
        PrometheusMetrics(registry=registry, per_connection=True)


def test_a_name_that_the_registry_has_already_is_refused(registry: Any) -> None:
    prometheus_client.Counter("bridge_connections_total", "Somebody else's.", registry=registry)

    with pytest.raises(ValueError, match="bridge_connections"):
        PrometheusMetrics(registry=registry)


async def test_the_lag_of_the_loop_is_what_a_sleep_takes_too_long(
    metrics: PrometheusMetrics, registry: Any
) -> None:
    observed: list[float] = []

    def observe(seconds: float) -> None:
        observed.append(seconds)
        metrics.observe_loop_lag(seconds)

    task = asyncio.create_task(measure_loop_lag(observe, every=0.5))
    await asyncio.sleep(5.1)
    task.cancel()
    await asyncio.wait([task])

    assert 10 == len(observed) == Scrape(registry).value("bridge_loop_lag_seconds_count")
    assert 0 == max(observed)


def test_the_table_says_what_each_metric_is() -> None:
    assert len(METRICS) == len({m.name for m in METRICS}) == len({m.otel for m in METRICS})
    for metric in METRICS:
        assert metric.name.startswith("bridge_")
        assert ("counter" == metric.kind) == metric.name.endswith("_total")
        assert ("s" == metric.unit) == metric.name.endswith("_seconds")
        assert bool(metric.buckets) == ("histogram" == metric.kind)
        assert metric.meaning.endswith(".")
        assert not metric.values or 1 == len(metric.labels)


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(ImportError, match=r'pip install "dromos\[prometheus\]"'):
        PrometheusMetrics()
