"""A bridge's options from a file and from the environment."""

from dromos.config.config import Config
from dromos.config.errors import ConfigError
from dromos.config.settings import (
    ConnectionSettings,
    DialerSettings,
    ServiceSettings,
    TokenSettings,
)

__all__ = [
    "Config",
    "ConfigError",
    "ConnectionSettings",
    "DialerSettings",
    "ServiceSettings",
    "TokenSettings",
]
