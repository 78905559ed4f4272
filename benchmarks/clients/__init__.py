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

__all__ = ["CLIENTS", "Where", "available", "module_of", "variables_of"]

_COMPILED: Final = {"dromos, compiled": "dromos_def", "dromos, compiled, async": "dromos_async"}

CLIENTS: Final = {
    "picows": "picows_raw",
    "dromos": "dromos_def",
    "dromos, async": "dromos_async",
    "dromos, iterated": "dromos_iterated",
    **_COMPILED,
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


def available() -> list[str]:
    """Return the names of the clients that can run here: `make compiled` makes two more."""
    from dromos.dialers import PicowsDialer  # here, as other clients' processes need it not

    return [name for name in CLIENTS if PicowsDialer.compiled or name not in _COMPILED]


def variables_of(client: str) -> dict[str, str]:
    """Return what a client's process needs in its environment."""
    return {} if client in _COMPILED else {"DROMOS_NO_EXTENSIONS": "1"}
