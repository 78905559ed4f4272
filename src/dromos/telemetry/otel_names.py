"""What things are called in OpenTelemetry: its own names where it has some, ours elsewhere."""

import urllib.parse
from typing import Any, Final, TypeAlias

__all__ = ["SCOPE", "SYSTEM", "Attributes", "where"]

Attributes: TypeAlias = dict[str, str | int | float | bool]

SCOPE: Final = "dromos"
"""The instrumentation scope."""

SYSTEM: Final[Attributes] = {"messaging.system": "websocket"}
"""Not a registered value: there is no convention for WebSockets (semantic-conventions#2841)."""

_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}


def where(endpoint: str) -> Attributes:
    """Return what is known of a far side: `server.address` and `server.port`.

    An endpoint that a callable makes is known by the callable's name only.
    """
    known: Attributes = {"network.protocol.name": "websocket"}
    parts: Any = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return known | {"bridge.endpoint": endpoint}
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return known | {"server.address": parts.hostname, "server.port": port}
