"""Keeps a persistent, authenticated WebSocket connection alive for months."""

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
from dromos.snapshot import Counters, Snapshot

__all__ = [
    "AuthStrategy",
    "Bridge",
    "BridgeError",
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
    "__version__",
]

__version__ = "0.1.0"
