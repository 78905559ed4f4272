"""The clients, one a file.  Each does the same three jobs as its users would.

receive(where, laps)     take `laps` of messages
send(where, laps, size)  send them, and wait until the far side has all
echo(where, laps, size)  one message at a time, there and back
"""

import importlib
import ssl
from dataclasses import dataclass
from types import ModuleType
from typing import Final

__all__ = ["CLIENTS", "Where", "module_of"]

CLIENTS: Final = {
    "picows": "picows_raw",
    "dromos": "dromos_def",
    "dromos, async": "dromos_async",
    "dromos, iterated": "dromos_iterated",
    "websockets": "websockets_recv",
    "websockets, reconnecting": "websockets_reconnecting",
    "aiohttp": "aiohttp_ws",
    "websocket-client": "websocket_client",
}
"""The name in tables, and the file.  The first is what the others are compared with."""


@dataclass(frozen=True, slots=True)
class Where:
    """An address, and whom to trust there."""

    url: str
    trust: str

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, where the address wants one."""
        return ssl.create_default_context(cafile=self.trust) if self.url[:4] == "wss:" else None


def module_of(client: str) -> ModuleType:
    """Import a client."""
    return importlib.import_module(f"benchmarks.clients.{CLIENTS[client]}")
