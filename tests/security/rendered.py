"""Everything that a bridge's events are rendered to, as one text to be searched."""

import io
import logging
from collections.abc import Callable
from typing import Any

import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from dromos import Bridge
from dromos._http_server import Headers, Request
from dromos.events import BridgeEvent
from dromos.service.health import Health
from dromos.telemetry.formatters import JsonFormatter, TerminalFormatter
from dromos.telemetry.json_lines import as_line, sample, write_events
from dromos.telemetry.logs import adapt, log_events
from dromos.telemetry.otel_metrics import OtelMetrics
from dromos.telemetry.otel_spans import OtelSpans
from dromos.telemetry.prometheus import PrometheusMetrics

__all__ = ["Rendered"]


def answer(bridge: Bridge, path: str) -> str:
    """What the health port says."""
    request = Request(method="GET", target=path, headers=Headers(), body=b"", at=0.0)
    reply = Health(bridge).answer(request)
    return f"{reply.headers}\n{reply.body.decode()}"


class Rendered:
    """All renderers at once.

    Attributes:
        events: How many events they were given.
    """

    def __init__(self) -> None:
        self.events = 0
        self._out = io.StringIO()
        self._registry = CollectorRegistry()
        self._reader = InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self._metrics = PrometheusMetrics(registry=self._registry, per_connection=True)
        self._otel = OtelMetrics(meter_provider=MeterProvider(metric_readers=[self._reader]))
        self._observers: list[Callable[[BridgeEvent], None]] = [
            write_events(self._out),
            log_events(adapt(self._stdlib())),
            log_events(adapt(self._structlog())),
            self._metrics.on_event,
            self._otel.on_event,
            OtelSpans(tracer_provider=provider).on_event,
        ]

    def hear(self, event: BridgeEvent) -> None:
        """Render an event in every way."""
        self.events += 1
        for observer in self._observers:
            observer(event)

    def text(self, bridge: Bridge) -> str:
        """All that was rendered so far, and what is read from the bridge."""
        self._metrics.watch(bridge)
        self._otel.watch(bridge)
        seen = bridge.census()
        collected = self._reader.get_metrics_data()
        return "\n".join(
            [
                self._out.getvalue(),
                *(as_line(record) for record in sample(bridge.snapshots(), at=seen.at)),
                generate_latest(self._registry).decode(),
                "" if collected is None else collected.to_json(),
                *(span.to_json() for span in self._spans.get_finished_spans()),
                repr(seen),
                *(answer(bridge, path) for path in ("/", "/livez", "/readyz", "/sessions")),
            ]
        )

    def _stdlib(self) -> logging.Logger:
        logger = logging.Logger("rendered", logging.DEBUG)
        for formatter in (JsonFormatter(), TerminalFormatter()):
            handler = logging.StreamHandler(self._out)
            handler.setFormatter(formatter)
            logger.addHandler(handler)
        return logger

    def _structlog(self) -> Any:
        return structlog.wrap_logger(
            structlog.PrintLogger(self._out),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
