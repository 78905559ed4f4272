"""Renders bridge events as OpenTelemetry metrics, for whichever SDK the program runs."""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from dromos.events import BridgeEvent
from dromos.snapshot import Census
from dromos.telemetry.measuring import OTHER, Capped, Measurer
from dromos.telemetry.otel_names import SCOPE, SYSTEM, Attributes, where
from dromos.telemetry.table import METRICS

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider, Observation

__all__ = ["MESSAGES", "OtelMetrics"]

MESSAGES: Final = {
    "sent": "messaging.client.sent.messages",
    "received": "messaging.client.consumed.messages",
}
"""The messages of each direction, for which OpenTelemetry has names."""

ENDPOINTS: Final = 100
"""Endpoints that are told apart."""

CODES: Final = 40
"""Close codes that are."""

_FINE: Final = frozenset({"opened", "renewed", "completed", "cancelled", "closed"})
"""Outcomes that are no errors."""

_BY_NAME: Final = {metric.name: metric for metric in METRICS}


class Watched(Protocol):
    """A `dromos.Bridge`, as its metrics see it."""

    def census(self) -> Census:
        """Return its running sessions added up."""
        ...


class OtelMetrics:
    """The metrics of one bridge.  Without an SDK they go nowhere, at next to no cost.

        metrics = OtelMetrics()
        bridge = Bridge(tokens, on_event=metrics.on_event)
        metrics.watch(bridge)

    `dromos.telemetry.table.METRICS` has their names.  Messages are called as in the
    conventions for messaging, what has no convention `bridge.*`.
    """

    def __init__(self, *, meter_provider: "MeterProvider | None" = None) -> None:
        """Make the instruments, unless another bridge has made them.

        Args:
            meter_provider: Who collects.  None (default) is the global one.

        Raises:
            ImportError: If `opentelemetry-api` is not installed.
        """
        self._instruments = _instruments_of(meter_provider or _api().get_meter_provider())
        self._measurer = Measurer(endpoint=Capped(ENDPOINTS), code=Capped(CODES))
        self._instruments.follow(self._measurer)

    def on_event(self, event: BridgeEvent) -> None:
        """Count an event: what `Bridge(on_event=...)` takes."""
        for name, labels, value in self._measurer.measure(event):
            self._instruments.add(name, labels, value)

    def watch(self, bridge: Watched) -> None:
        """Read from this bridge, whenever somebody collects, what makes no events."""
        self._instruments.watch(bridge)

    def observe_loop_lag(self, seconds: float) -> None:
        """Count how late the event loop was; see `dromos.telemetry.loop_lag`."""
        self._instruments.add("bridge_loop_lag_seconds", (), max(0.0, seconds))


class _Instruments:
    """One instrument for each metric, which all bridges of a meter provider share."""

    def __init__(self, meter: "Meter") -> None:
        self._lock = threading.Lock()
        # Weakly: a bridge that nobody has any more has no sessions either.
        self._measurers = weakref.WeakSet[Measurer]()
        self._bridges = weakref.WeakSet[Watched]()
        self._ended: Counter[str] = Counter()
        self._most: Counter[str] = Counter()
        self._attributes: dict[tuple[str, ...], Attributes] = {}
        self._add: dict[str, Callable[..., None]] = dict(self._made(meter))
        self._observe(meter)

    def follow(self, measurer: Measurer) -> None:
        """Have a bridge's sessions counted in the status."""
        with self._lock:
            self._measurers.add(measurer)

    def watch(self, bridge: Watched) -> None:
        """Have a bridge read whenever somebody collects."""
        with self._lock:
            self._bridges.add(bridge)

    def add(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Count a measurement."""
        if name == "bridge_messages_total":
            self._ended[labels[0]] += int(value)
            return
        attributes = self._attributes.get((name, *labels))
        if attributes is None:
            attributes = self._attributes[name, *labels] = _attributes(name, labels)
        self._add[name](value, attributes)

    def _made(self, meter: "Meter") -> Iterator[tuple[str, Callable[..., None]]]:
        for metric in METRICS:
            about: Any = {"unit": metric.unit, "description": metric.meaning}
            if metric.kind == "histogram":
                buckets = metric.buckets
                made = meter.create_histogram(
                    metric.otel, **about, explicit_bucket_boundaries_advisory=buckets
                )
                yield metric.name, made.record
            elif metric.kind == "counter" and metric.name != "bridge_messages_total":
                yield metric.name, meter.create_counter(metric.otel, **about).add

    def _observe(self, meter: "Meter") -> None:
        for name, see in (
            ("bridge_connection_status", self._status),
            ("bridge_token_min_ttl_seconds", self._min_ttl),
        ):
            metric = _BY_NAME[name]
            meter.create_observable_gauge(
                metric.otel, [see], unit=metric.unit, description=metric.meaning
            )
        states = _BY_NAME["bridge_sessions"]
        meter.create_observable_up_down_counter(
            states.otel, [self._states], unit=states.unit, description=states.meaning
        )
        messages = _BY_NAME["bridge_messages_total"]
        for direction, name in MESSAGES.items():
            meter.create_observable_counter(
                name,
                [self._seer_of(direction)],
                unit=messages.unit,
                description=f"{messages.meaning}  Here: those {direction}.",
            )

    def _census(self) -> list[Census]:
        with self._lock:
            bridges = list(self._bridges)
        return [bridge.census() for bridge in bridges]

    def _status(self, options: object) -> "list[Observation]":
        with self._lock:
            measurers = list(self._measurers)
        running = sum(measurer.running for measurer in measurers)
        connected = sum(measurer.connected for measurer in measurers)
        return [_api().Observation(connected / running if running else 0.0)]

    def _min_ttl(self, options: object) -> "list[Observation]":
        left = [
            census.token_expires_at - census.at
            for census in self._census()
            if census.token_expires_at is not None
        ]
        return [_api().Observation(min(left))] if left else []

    def _states(self, options: object) -> "list[Observation]":
        counted: Counter[str] = Counter(dict.fromkeys(_BY_NAME["bridge_sessions"].values, 0))
        for census in self._census():
            counted.update(census.states)
        return [
            _api().Observation(count, {"bridge.state": state}) for state, count in counted.items()
        ]

    def _seer_of(self, direction: str) -> "Callable[[object], list[Observation]]":
        def see(options: object) -> "list[Observation]":
            # These first: a link that ends meanwhile is then missed once, not counted twice.
            ended = self._ended[direction]
            live = sum(getattr(census, direction) for census in self._census())
            self._most[direction] = max(self._most[direction], ended + live)
            return [_api().Observation(self._most[direction], SYSTEM)]

        return see


_known: Final = weakref.WeakKeyDictionary["MeterProvider", _Instruments]()

_making: Final = threading.Lock()


def _instruments_of(provider: "MeterProvider") -> _Instruments:
    """Return a provider's instruments: an SDK complains about those that are made twice."""
    with _making:
        instruments = _known.get(provider)
        if instruments is None:
            instruments = _known[provider] = _Instruments(provider.get_meter(SCOPE))
    return instruments


def _attributes(name: str, labels: tuple[str, ...]) -> Attributes:
    told: Attributes = {}
    for label, value in zip(_BY_NAME[name].labels, labels, strict=True):
        if label == "endpoint":
            told |= {} if value == OTHER else where(value)
        elif value:
            told[f"bridge.{label}"] = value
        if label == "outcome" and value not in _FINE:
            told["error.type"] = value
    return told


def _api() -> Any:
    try:
        from opentelemetry import metrics
    except ImportError as error:
        raise ImportError(
            'OpenTelemetry metrics need opentelemetry-api: pip install "dromos[otel]"'
        ) from error
    return metrics
