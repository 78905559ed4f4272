"""Renders bridge events as OpenTelemetry metrics, for whichever SDK the program runs."""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dromos.telemetry.measuring import OTHER, Capped, Measurement, Measurer
from dromos.telemetry.otel_names import SCOPE, SYSTEM, Attributes, where
from dromos.telemetry.table import METRICS
from dromos.telemetry.watched import (
    BY_NAME,
    CARRYING,
    CODES,
    ENDPOINTS,
    Exporter,
    Figures,
    Seen,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider, Observation

__all__ = ["MESSAGES", "OtelMetrics"]

MESSAGES: Final = {
    "sent": "messaging.client.sent.messages",
    "received": "messaging.client.consumed.messages",
}
"""The messages of each direction, for which OpenTelemetry has names."""

_FINE: Final = frozenset({"opened", "renewed", "completed", "cancelled", "closed"})
"""Outcomes that are no errors."""


class OtelMetrics(Exporter):
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
        instruments = _instruments_of(meter_provider or _api().get_meter_provider())
        super().__init__(instruments, Measurer(endpoint=Capped(ENDPOINTS), code=Capped(CODES)))


class _Instruments(Figures):
    """One instrument for each metric, which all bridges of a meter provider share."""

    def __init__(self, meter: "Meter") -> None:
        super().__init__()
        self._attributes: dict[tuple[str, ...], Attributes] = {}
        self._looking = threading.Lock()
        self._seen: Seen | None = None
        self._seen_by: set[str] = set()
        self._add: dict[str, Callable[..., None]] = dict(self._made(meter))
        self._observe(meter)

    def count(self, measurement: Measurement, connection_id: str) -> None:
        """Count a measurement; whose it was is nobody's attribute."""
        name, labels, value = measurement
        if value is None:
            if BY_NAME[name].kind == "histogram":
                return
            value = 0
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
            elif metric.kind == "counter" and metric.name not in CARRYING:
                yield metric.name, meter.create_counter(metric.otel, **about).add

    def _observe(self, meter: "Meter") -> None:
        for name, see in (
            ("bridge_connection_status", self._status),
            ("bridge_token_min_ttl_seconds", self._min_ttl),
        ):
            metric = BY_NAME[name]
            meter.create_observable_gauge(
                metric.otel, [see], unit=metric.unit, description=metric.meaning
            )
        states = BY_NAME["bridge_sessions"]
        meter.create_observable_up_down_counter(
            states.otel, [self._states], unit=states.unit, description=states.meaning
        )
        size = BY_NAME["bridge_message_bytes_total"]
        meter.create_observable_counter(
            size.otel, [self._bytes], unit=size.unit, description=size.meaning
        )
        messages = BY_NAME["bridge_messages_total"]
        for direction, name in MESSAGES.items():
            meter.create_observable_counter(
                name,
                [self._seer_of(direction)],
                unit=messages.unit,
                description=f"{messages.meaning}  Here: those {direction}.",
            )

    def _look_of(self, asker: str) -> Seen:
        """Return one look for all of a collection: a new one for who has had the last.

        The SDK asks instrument by instrument, and a look at ten thousand sessions is not cheap.
        """
        with self._looking:
            if self._seen is None or asker in self._seen_by:
                self._seen = self.look()
                self._seen_by.clear()
            self._seen_by.add(asker)
            return self._seen

    def _status(self, options: object) -> "list[Observation]":
        return [_api().Observation(self.status())]

    def _min_ttl(self, options: object) -> "list[Observation]":
        census = self._look_of("min_ttl").census
        if census.token_expires_at is None:
            return []
        return [_api().Observation(census.token_expires_at - census.at)]

    def _states(self, options: object) -> "list[Observation]":
        counted: Counter[str] = Counter(dict.fromkeys(BY_NAME["bridge_sessions"].values, 0))
        counted.update(self._look_of("states").census.states)
        return [
            _api().Observation(count, {"bridge.state": state}) for state, count in counted.items()
        ]

    def _bytes(self, options: object) -> "list[Observation]":
        return [
            _api().Observation(count, {"bridge.direction": direction})
            for (name, direction), count in self._look_of("bytes").carried.items()
            if name == "bridge_message_bytes_total"
        ]

    def _seer_of(self, direction: str) -> "Callable[[object], list[Observation]]":
        def see(options: object) -> "list[Observation]":
            carried = self._look_of(direction).carried["bridge_messages_total", direction]
            return [_api().Observation(carried, SYSTEM)]

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
    for label, value in zip(BY_NAME[name].labels, labels, strict=True):
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
