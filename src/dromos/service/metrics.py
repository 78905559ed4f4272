"""A bridge's metrics for Prometheus, where its client is installed."""

from typing import TYPE_CHECKING

from dromos.config.errors import ConfigError

if TYPE_CHECKING:
    from dromos.telemetry.prometheus import PrometheusMetrics

__all__ = ["prometheus", "timing_metrics"]


def prometheus() -> "PrometheusMetrics | None":
    """Return metrics in the client's own registry; None where it is not installed."""
    try:
        from dromos.telemetry.prometheus import PrometheusMetrics

        return PrometheusMetrics()
    except ImportError:
        return None


def timing_metrics() -> "PrometheusMetrics":
    """Return the same, for handlers that are to be timed.

    Raises:
        ConfigError: If the client is not installed.
    """
    metrics = prometheus()
    if metrics is None:
        said = 'time_handlers needs: pip install "dromos[prometheus]"'
        raise ConfigError(said, key="service.time_handlers")
    return metrics
