"""Keeps a persistent, authenticated WebSocket connection alive for months."""

import importlib
from typing import TYPE_CHECKING, Any

from dromos.bridge import Bridge
from dromos.connection import Connection
from dromos.errors import (
    BridgeError,
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    MessageTooBig,
    NotConnected,
    PermanentError,
    ReceivePaused,
    SendBufferFull,
    TokenError,
)
from dromos.group import Group
from dromos.interfaces import (
    Dialer,
    Handler,
    Limits,
    Link,
    LinkListener,
    Logger,
    Metrics,
    Send,
    TokenProvider,
    TokenSource,
    WireBytes,
)
from dromos.model import (
    AuthStrategy,
    Credentials,
    Handshake,
    Outbox,
    RetryPolicy,
    SessionFailure,
    Token,
    Verdict,
)
from dromos.snapshot import Census, Counters, Snapshot, Vitals

if TYPE_CHECKING:
    from dromos.config import Config
    from dromos.service.launch import run

__all__ = [
    "AuthStrategy",
    "Bridge",
    "BridgeError",
    "Census",
    "Config",
    "Connection",
    "ConnectionClosed",
    "Counters",
    "Credentials",
    "Dialer",
    "Group",
    "Handler",
    "Handshake",
    "HandshakeError",
    "InteractionRequired",
    "Limits",
    "Link",
    "LinkListener",
    "Logger",
    "MessageTooBig",
    "Metrics",
    "NotConnected",
    "Outbox",
    "PermanentError",
    "ReceivePaused",
    "RetryPolicy",
    "Send",
    "SendBufferFull",
    "SessionFailure",
    "Snapshot",
    "Token",
    "TokenError",
    "TokenProvider",
    "TokenSource",
    "Verdict",
    "Vitals",
    "WireBytes",
    "__version__",
    "run",
]

__version__ = "0.1.0"

_LATER = {"Config": "dromos.config", "run": "dromos.service.launch"}
"""Imported when they are asked for: most programs that embed a bridge have no use for them."""


def __getattr__(name: str) -> Any:
    home = _LATER.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
