"""A bridge's metrics for Prometheus, where its client is installed."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dromos.interfaces import Observer

if TYPE_CHECKING:
    from dromos.telemetry.prometheus import PrometheusMetrics

__all__ = ["observed", "prometheus"]


def prometheus() -> "PrometheusMetrics | None":
    """Return metrics in the client's own registry; None where it is not installed."""
    try:
        from dromos.telemetry.prometheus import PrometheusMetrics

        return PrometheusMetrics()
    except ImportError:
        return None


def observed(options: Mapping[str, Any], observer: Observer) -> dict[str, Any]:
    """Return the options of a bridge whose events this observer hears as well."""
    given: Observer | None = options.get("on_event")
    if given is None:
        return {**options, "on_event": observer}
    if not callable(given):
        return dict(options)  # the bridge says what is wrong with it
    return {**options, "on_event": _both(observer, given)}


def _both(first: Observer, second: Observer) -> Callable[[Any], None]:
    def hear(event: Any) -> None:
        try:
            first(event)
        finally:
            second(event)

    return hear
