"""A bridge as a service: signals, a health port, logs, and what a service manager wants to hear."""

from dromos.service.server import HealthServer

__all__ = ["HealthServer"]
