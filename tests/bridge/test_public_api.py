"""The public names are pinned, and importing them is cheap."""

import subprocess
import sys

import pytest

import dromos

NAMES = {
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
}


def test_the_public_names_are_these() -> None:
    assert NAMES == set(dromos.__all__)
    assert all(hasattr(dromos, name) for name in NAMES)


@pytest.mark.parametrize("module", ["dromos", "dromos.oauth"])
def test_importing_it_loads_no_library_that_may_not_be_needed(module: str) -> None:
    heavy = [
        "httpx2",
        "httpcore2",
        "picows",
        "click",
        "rich",
        "websockets",
        "h11",
        "prometheus_client",
        "opentelemetry",
    ]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()
