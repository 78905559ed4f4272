"""Renders bridge events as Prometheus metrics, with `prometheus-client`."""

import re
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from dromos.events import BridgeEvent
from dromos.telemetry.ended import Ended
from dromos.telemetry.measuring import Capped, Measurement, Measurer
from dromos.telemetry.table import METRICS, Metric
from dromos.telemetry.watched import BY_NAME, CARRYING, CODES, ENDPOINTS, Exporter, Figures, Seen

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.samples import Sample

__all__ = ["METRICS", "Metric", "PrometheusMetrics"]

_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

_OWN_LABELS: Final = {"connection_id", "le", *(label for m in METRICS for label in m.labels)}

_COUNTED: Final = [m for m in METRICS if m.kind != "gauge" and m.name not in CARRYING]


class PrometheusMetrics(Exporter):
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
        max_endpoints: int = ENDPOINTS,
    ) -> None:
        """Register with a registry what is not registered there yet.

        Args:
            registry: Where to.  None (default) is `prometheus_client.REGISTRY`, which
                `start_http_server` and most frameworks serve.
            labels: What every metric of this bridge is labelled with, such as the agent's
                id.  None (default): nothing.
            per_connection: Whether metrics with an endpoint get the label `connection_id`
                as well.  Default False: ten thousand of them make a scrape of megabytes.
                Those of a connection that has ended go after a quarter of an hour.
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
        figures = _collector_in(registry).figures_for(
            _checked(labels or {}), per_connection=per_connection, max_endpoints=max_endpoints
        )
        super().__init__(figures, Measurer(endpoint=figures.endpoint, code=figures.code))


class _Figures(Figures):
    """The metrics of all bridges that have the same labels."""

    def __init__(self, *, per_connection: bool, max_endpoints: int) -> None:
        super().__init__()
        self.per_connection = per_connection
        self.max_endpoints = max_endpoints
        self.endpoint = Capped(max_endpoints)
        self.code = Capped(CODES)
        self._metrics = {
            metric.name: _make(metric, per_connection=per_connection) for metric in _COUNTED
        }
        self._children: dict[tuple[str, ...], Any] = {}
        self._of_connection: dict[str, list[tuple[str, ...]]] = {}
        self._ended_ones = Ended()

    def count(self, measurement: Measurement, connection_id: str) -> None:
        """Count a measurement."""
        name, labels, value = measurement
        metric = BY_NAME[name]
        if self.per_connection and "endpoint" in metric.labels:
            if metric.kind == "histogram" and value is None:
                return  # fifteen series each are enough once there is something to tell
            labels = (*labels, connection_id)
        # A look-up among a metric's children costs more than the counting does.
        count = self._children.get((name, *labels))
        if count is None:
            count = self._made(metric, labels)
        if value is not None:
            count(value)

    def hear(self, event: BridgeEvent) -> None:
        """Let series of connections go that ended long ago."""
        if self.per_connection:
            with self._lock:
                for connection_id in self._ended_ones.hear(event):
                    for name, *labels in self._of_connection.pop(connection_id, ()):
                        del self._children[name, *labels]
                        self._metrics[name].remove(*labels)

    def _made(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        made = self._metrics[metric.name]
        key = metric.name, *labels
        with self._lock:
            child = made.labels(*labels) if labels else made
            count = child.observe if metric.kind == "histogram" else child.inc
            if self.per_connection and "endpoint" in metric.labels and key not in self._children:
                self._of_connection.setdefault(labels[-1], []).append(key)
            self._children[key] = count
        return count

    def collect(self) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
        """Yield what there is to see now: a metric, and a sample's name, labels and value."""
        for name in self._metrics:
            for sample in self._samples(name):
                yield name, sample.name, sample.labels, sample.value
        for name, labels, value in _read(self.look()):
            yield name, name, labels, value

    def _samples(self, name: str) -> "list[Sample]":
        (family,) = self._metrics[name].collect()
        return [sample for sample in family.samples if not sample.name.endswith("_created")]


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


def _read(seen: Seen) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for (name, direction), value in seen.carried.items():
        yield name, {"direction": direction}, value
    census = seen.census
    states: Mapping[Any, int] = census.states
    yield "bridge_connection_status", {}, seen.status
    for state in BY_NAME["bridge_sessions"].values:
        yield "bridge_sessions", {"state": state}, states.get(state, 0)
    if census.token_expires_at is not None:
        yield "bridge_token_min_ttl_seconds", {}, census.token_expires_at - census.at


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
