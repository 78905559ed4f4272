"""A bridge's metrics for Prometheus, where its client is installed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dromos.telemetry.prometheus import PrometheusMetrics

__all__ = ["prometheus"]


def prometheus() -> "PrometheusMetrics | None":
    """Return metrics in the client's own registry; None where it is not installed."""
    try:
        from dromos.telemetry.prometheus import PrometheusMetrics

        return PrometheusMetrics()
    except ImportError:
        return None
