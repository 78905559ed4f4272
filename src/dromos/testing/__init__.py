"""Scriptable stand-ins for the world, for your tests and for ours.

`Gateway` and `FarSide` are servers on loopback, with real sockets; `FaultProxy` stands
between a client and one of them, and breaks connections as networks do; `MemoryDialer`
opens links without a network (see `dromos.testing.memory`).
"""

from dromos.testing._loopback import Headers, Request
from dromos.testing.far_side import FarLink, FarSide, TokenAuthority
from dromos.testing.faults import FaultProxy, FaultRecord, ProxiedConnection
from dromos.testing.gateway import ConnectionRecord, Gateway, IssuedToken
from dromos.testing.memory import MemoryDialer

__all__ = [
    "ConnectionRecord",
    "FarLink",
    "FarSide",
    "FaultProxy",
    "FaultRecord",
    "Gateway",
    "Headers",
    "IssuedToken",
    "MemoryDialer",
    "ProxiedConnection",
    "Request",
    "TokenAuthority",
]
