"""Renders bridge events as Prometheus metrics, with `prometheus-client`."""

import re
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from dromos.events import BridgeEvent
from dromos.snapshot import Census
from dromos.telemetry.measuring import Capped, Measurer
from dromos.telemetry.table import METRICS, Metric

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Sample

__all__ = ["METRICS", "Metric", "PrometheusMetrics", "Watched"]

CODES: Final = 40
"""Close codes that are told apart; a far side may make up 4,000."""

_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

_OWN_LABELS: Final = {"connection_id", "le", *(label for m in METRICS for label in m.labels)}

_BY_NAME: Final = {metric.name: metric for metric in METRICS}


class Watched(Protocol):
    """A `dromos.Bridge`, as its metrics see it."""

    def census(self) -> Census:
        """Return its running sessions added up."""
        ...


class PrometheusMetrics:
    """The metrics of one bridge, in a registry that any number of bridges may share.

        metrics = PrometheusMetrics(labels={"agent_id": "a-7"})
        bridge = Bridge(tokens, on_event=metrics.on_event)
        metrics.watch(bridge)

    Bridges with the same labels add up; those with other labels stand beside them.  What is
    counted for each message costs nothing: it is read when somebody scrapes.
    """

    def __init__(
        self,
        *,
        registry: "CollectorRegistry | None" = None,
        labels: Mapping[str, str] | None = None,
        per_connection: bool = False,
        max_endpoints: int = 100,
    ) -> None:
        """Register with a registry what is not registered there yet.

        Args:
            registry: Where to.  None (default) is `prometheus_client.REGISTRY`, which
                `start_http_server` and most frameworks serve.
            labels: What every metric of this bridge is labelled with, such as the agent's
                id.  None (default): nothing.
            per_connection: Whether metrics with an endpoint get the label `connection_id`
                as well.  Default False: ten thousand of them make a scrape of megabytes.
            max_endpoints: How many endpoints are told apart; the rest are `"other"`.
                Default 100.

        Raises:
            ImportError: If `prometheus-client` is not installed.
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has a value that can't work, or the registry has a
                metric of the same name that is not ours.
        """
        if registry is None:
            registry = cast("CollectorRegistry", _client().REGISTRY)
        if max_endpoints < 1:
            raise ValueError(f"max_endpoints must be at least 1, not {max_endpoints}")
        self._figures = _collector_in(registry).figures_for(
            _checked(labels or {}), per_connection=per_connection, max_endpoints=max_endpoints
        )
        self._measurer = Measurer(endpoint=self._figures.endpoint, code=self._figures.code)
        self._figures.follow(self._measurer)
        self._bridge: weakref.ref[Watched] | None = None

    def on_event(self, event: BridgeEvent) -> None:
        """Count an event: what `Bridge(on_event=...)` takes."""
        for name, labels, value in self._measurer.measure(event):
            self._figures.add(name, labels, value, event.connection_id)

    def watch(self, bridge: Watched) -> None:
        """Read from this bridge, at each scrape, what makes no events.

        Those are the states of its sessions, the messages on its open links and its tokens'
        expiry.

        Raises:
            ValueError: If another one is watched already: its sessions have the same numbers.
        """
        if self._bridge is not None and self._bridge() is not bridge:
            raise ValueError("another bridge is watched already: make another PrometheusMetrics")
        self._bridge = weakref.ref(bridge)
        self._figures.watch(bridge)

    def observe_loop_lag(self, seconds: float) -> None:
        """Count how late the event loop was; see `dromos.telemetry.loop_lag`."""
        self._figures.add("bridge_loop_lag_seconds", (), max(0.0, seconds), "")


class _Figures:
    """The metrics of all bridges that have the same labels.

    Their events come on one thread or several, and a scrape on yet another.
    """

    def __init__(self, *, per_connection: bool, max_endpoints: int) -> None:
        self.per_connection = per_connection
        self.max_endpoints = max_endpoints
        self.endpoint = Capped(max_endpoints)
        self.code = Capped(CODES)
        self._lock = threading.Lock()
        # Weakly: a bridge that nobody has any more has no sessions either.
        self._measurers = weakref.WeakSet[Measurer]()
        self._bridges = weakref.WeakSet[Watched]()
        self._metrics = {
            metric.name: _make(metric, per_connection=per_connection)
            for metric in METRICS
            if metric.kind != "gauge"
        }
        self._children: dict[tuple[str, ...], Any] = {}
        self._most: Counter[str] = Counter()

    def follow(self, measurer: Measurer) -> None:
        """Have a bridge's sessions counted in the status."""
        with self._lock:
            self._measurers.add(measurer)

    def watch(self, bridge: Watched) -> None:
        """Have a bridge read at each scrape."""
        with self._lock:
            self._bridges.add(bridge)

    def add(self, name: str, labels: tuple[str, ...], value: float, connection_id: str) -> None:
        """Count a measurement."""
        metric = _BY_NAME[name]
        if self.per_connection and "endpoint" in metric.labels:
            if metric.kind == "counter" and not value:
                return  # there are enough series as it is
            labels = (*labels, connection_id)
        # A look-up among a metric's children costs more than the counting does.
        count = self._children.get((name, *labels))
        if count is None:
            made = self._metrics[name]
            child = made.labels(*labels) if labels else made
            count = child.observe if metric.kind == "histogram" else child.inc
            self._children[name, *labels] = count
        count(value)

    def collect(self) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
        """Yield what there is to see now: a metric, and a sample's name, labels and value."""
        # These first: a link that ends meanwhile is then missed once, and not counted twice.
        counted = [(name, self._samples(name)) for name in self._metrics]
        with self._lock:
            bridges, measurers = list(self._bridges), list(self._measurers)
        seen = _added_up([bridge.census() for bridge in bridges])
        for name, samples in counted:
            for sample in samples:
                value = sample.value
                if name == "bridge_messages_total":
                    direction = sample.labels["direction"]
                    value = self._never_less(direction, value + getattr(seen, direction))
                yield name, sample.name, sample.labels, value
        for name, labels, value in _gauges(seen, measurers):
            yield name, name, labels, value

    def _samples(self, name: str) -> "list[Sample]":
        (family,) = self._metrics[name].collect()
        return [sample for sample in family.samples if not sample.name.endswith("_created")]

    def _never_less(self, direction: str, value: float) -> float:
        """Prometheus takes a counter that falls for one that began anew."""
        self._most[direction] = most = max(self._most[direction], int(value))
        return most


class _Collector:
    """What a registry asks: the figures of every set of labels, as one family a metric."""

    def __init__(self) -> None:
        self._figures: dict[tuple[tuple[str, str], ...], _Figures] = {}
        self._lock = threading.Lock()

    def figures_for(
        self, labels: Mapping[str, str], *, per_connection: bool, max_endpoints: int
    ) -> _Figures:
        """Return the figures of these labels, made at the first call for them.

        Raises:
            ValueError: If they were made with other options.
        """
        made = _Figures(per_connection=per_connection, max_endpoints=max_endpoints)
        with self._lock:
            figures = self._figures.setdefault(tuple(sorted(labels.items())), made)
        for name in ("per_connection", "max_endpoints"):
            if getattr(figures, name) != getattr(made, name):
                raise ValueError(
                    f"{name} must be the same for all bridges with the same labels in a registry"
                )
        return figures

    def describe(self) -> "list[Family]":
        """Say what the families are called; a registry refuses a name that it has already."""
        return list(_families().values())

    def collect(self) -> "list[Family]":
        """Return every family, with its samples of now."""
        families = _families()
        with self._lock:
            sets = list(self._figures.items())
        for constant, figures in sets:
            for name, sample, labels, value in figures.collect():
                families[name].add_sample(sample, {**labels, **dict(constant)}, value)
        return list(families.values())


_collectors: Final = weakref.WeakKeyDictionary["CollectorRegistry", _Collector]()

_registering: Final = threading.Lock()


def _collector_in(registry: "CollectorRegistry") -> _Collector:
    with _registering:
        collector = _collectors.get(registry)
        if collector is None:
            collector = _Collector()
            registry.register(collector)
            _collectors[registry] = collector
    return collector


def _added_up(seen: list[Census]) -> Census:
    states: Counter[Any] = Counter()
    for census in seen:
        states.update(census.states)
    expiries = [census.token_expires_at for census in seen if census.token_expires_at is not None]
    return Census(
        at=max((census.at for census in seen), default=0.0),
        states=states,
        received=sum(census.received for census in seen),
        sent=sum(census.sent for census in seen),
        token_expires_at=min(expiries, default=None),
    )


def _gauges(
    seen: Census, measurers: list[Measurer]
) -> Iterator[tuple[str, Mapping[str, str], float]]:
    running = sum(measurer.running for measurer in measurers)
    connected = sum(measurer.connected for measurer in measurers)
    yield "bridge_connection_status", {}, connected / running if running else 0.0
    states: Mapping[Any, int] = seen.states
    for state in _BY_NAME["bridge_sessions"].values:
        yield "bridge_sessions", {"state": state}, states.get(state, 0)
    if seen.token_expires_at is not None:
        yield "bridge_token_min_ttl_seconds", {}, seen.token_expires_at - seen.at


def _families() -> "dict[str, Family]":
    from prometheus_client.metrics_core import Metric as Family

    return {
        metric.name: Family(metric.name.removesuffix("_total"), metric.meaning, metric.kind)
        for metric in METRICS
    }


def _make(metric: Metric, *, per_connection: bool) -> Any:
    client = _client()
    labels = metric.labels
    if per_connection and "endpoint" in labels:
        labels = (*labels, "connection_id")
    # In no registry of its own: constant labels are added when it is read.
    about = metric.name, metric.meaning, labels
    if metric.kind == "counter":
        made = client.Counter(*about, registry=None)
    else:
        made = client.Histogram(*about, registry=None, buckets=metric.buckets)
    for value in metric.values:
        made.labels(value)  # so that a rate is 0 and not unknown before the first
    return made


def _checked(labels: object) -> dict[str, str]:
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels must be a mapping, not {type(labels).__name__}")
    for name, value in cast("Mapping[object, object]", labels).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("labels must have names and values that are str")
        if not _LABEL.fullmatch(name) or name.startswith("__"):
            raise ValueError(f"labels must have names such as agent_id, not {name!r}")
        if name in _OWN_LABELS:
            raise ValueError(f"labels must not hold {name!r}, which metrics have themselves")
    return dict(cast("Mapping[str, str]", labels))


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError as error:
        raise ImportError(
            'Prometheus metrics need prometheus-client: pip install "dromos[prometheus]"'
        ) from error
    return prometheus_client
