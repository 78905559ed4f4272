"""What the kernel knows about a TCP connection, where it tells."""

import socket
import struct
import sys
from contextlib import suppress
from typing import Final, Protocol

from dromos.interfaces import WireBytes

__all__ = [
    "SocketLike",
    "ending",
    "idle_seconds",
    "set_user_timeout",
    "unacknowledged",
    "wire_bytes",
]

USER_TIMEOUT: Final = 40_000
"""Milliseconds until the kernel gives up on a peer that takes nothing, while reading is paused."""

_LINUX: Final = sys.platform.startswith("linux")
_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None) if _LINUX else None
_TCP_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
# struct tcp_info (linux/tcp.h): eight bytes of flags, then words; the twelfth is
# tcpi_last_data_recv, in milliseconds.
_LAST_DATA_RECV: Final = 8 + 4 * 11
# After 24 words and two long ones: tcpi_bytes_acked and tcpi_bytes_received (Linux 4.1).
_BYTES: Final = 8 + 4 * 24 + 8 * 2
_TWO_LONG: Final = struct.Struct("=QQ")
_UP_TO_BYTES: Final = _BYTES + _TWO_LONG.size
_RESET_STATE: Final = 7  # TCP_CLOSE (net/tcp_states.h)
_HALF_CLOSED_STATES: Final = frozenset({8, 9, 11})  # CLOSE_WAIT, LAST_ACK, CLOSING


class SocketLike(Protocol):
    """What is needed of a socket; asyncio's `TransportSocket` has it."""

    def fileno(self) -> int: ...
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def idle_seconds(sock: SocketLike) -> float | None:
    """Return the seconds since any data arrived; None where the kernel does not say."""
    if _TCP_INFO is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA_RECV + 4)
    except OSError:
        return None
    if len(info) < _LAST_DATA_RECV + 4:
        return None
    return float(struct.unpack_from("=I", info, _LAST_DATA_RECV)[0]) / 1000


def ending(sock: SocketLike) -> str:
    """Return how a connection ended that had no CLOSE, as far as can be told."""
    state = None
    if _TCP_INFO is not None:
        with suppress(OSError, IndexError):
            state = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0]
    if state == _RESET_STATE:
        return "connection reset or timed out"
    if state in _HALF_CLOSED_STATES:
        return "end of stream without a CLOSE"
    return "no CLOSE received"


def unacknowledged(sock: SocketLike) -> int | None:
    """Return the written bytes that the far side's kernel has not taken; None where unknown."""
    if not _LINUX:
        return None
    import fcntl
    import termios

    try:
        # SIOCOUTQ has the number of TIOCOUTQ (linux/sockios.h).
        waiting = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):
        return None
    return int(struct.unpack("=i", waiting)[0])


def wire_bytes(sock: SocketLike) -> WireBytes | None:
    """Return how many bytes a connection has carried; None where the kernel does not say.

    They are those of the TCP stream: what TLS and a proxy add is in it, and headers of IP
    and TCP are not (RFC 4898, HCThruOctetsAcked and HCThruOctetsReceived).
    """
    if _TCP_INFO is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _UP_TO_BYTES)
    except OSError:
        return None
    if len(info) < _UP_TO_BYTES:
        return None
    acknowledged, received = _TWO_LONG.unpack_from(info, _BYTES)
    # Our SYN was acknowledged like a byte.  By position: by name takes three times as long,
    # and a scrape asks ten thousand links.
    return WireBytes(received, acknowledged and acknowledged - 1)


def set_user_timeout(sock: SocketLike, milliseconds: int) -> None:
    """Bound how long written data may stay unacknowledged; 0 is the system's default.

    RFC 5482.  Without effect where the platform has no such option.
    """
    if _TCP_USER_TIMEOUT is not None:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds)
