"""Keeps a persistent, authenticated WebSocket connection alive for months."""

from dromos.bridge import Bridge
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
)
from dromos.model import AuthStrategy, Credentials, Handshake, RetryPolicy, Token, Verdict

__all__ = [
    "AuthStrategy",
    "Bridge",
    "BridgeError",
    "ConnectionClosed",
    "Credentials",
    "Dialer",
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
    "PermanentError",
    "ReceivePaused",
    "RetryPolicy",
    "Send",
    "SendBufferFull",
    "Token",
    "TokenError",
    "TokenProvider",
    "Verdict",
    "__version__",
]

__version__ = "0.1.0"
