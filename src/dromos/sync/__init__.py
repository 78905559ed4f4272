"""The same `Bridge`, `connect` and `run` for threads, on one loop thread for each process.

Options and errors are those of `dromos`.

    from dromos.oauth import OAuthClient
    from dromos.sync import connect

    tokens = OAuthClient("http://localhost:8081")
    with connect(tokens, "your-connection-id", "wss://external.system.com/ws") as connection:
        connection.send("hello from agent")
        for message in connection:
            print("received", message)
"""

from dromos.sync._handler import Handler, Send
from dromos.sync._tokens import PlainTokenProvider, PlainTokenSource
from dromos.sync.bridge import Bridge, BridgeOptions, connect, run
from dromos.sync.connection import Connection, Events

__all__ = [
    "Bridge",
    "BridgeOptions",
    "Connection",
    "Events",
    "Handler",
    "PlainTokenProvider",
    "PlainTokenSource",
    "Send",
    "connect",
    "run",
]
