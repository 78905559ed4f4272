"""What a service manager wants to hear, as sd_notify(3) has it: one datagram each time."""

import os
import socket
from collections.abc import Mapping
from typing import Self

__all__ = ["Notifier"]


class Notifier:
    """Tells the service manager how it goes; tells nobody where there is none.

    Attributes:
        watchdog: Seconds within which the manager wants to hear that we live; None if it
            does not.
    """

    def __init__(self, address: str | None, *, watchdog: float | None = None) -> None:
        """Open nothing but a socket.

        Args:
            address: The manager's socket: a path, or one that begins with `@` for the
                abstract name space (unix(7)).  None tells nobody.
            watchdog: Seconds, or None.
        """
        self.watchdog = watchdog
        self._socket: socket.socket | None = None
        if address is not None and address[:1] in ("/", "@"):
            self._address = f"\0{address[1:]}" if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | _CLOSED_ON_EXEC)
            self._socket.setblocking(False)

    @classmethod
    def of(cls, environ: Mapping[str, str], *, pid: int) -> Self:
        """Return the one that the environment speaks of.

        sd_watchdog_enabled(3): the watchdog is meant for us if `WATCHDOG_PID` is ours, or
        is not said.
        """
        usec = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog = int(usec) / 1e6 if is_ours and usec.isdecimal() and int(usec) else None
        return cls(environ.get("NOTIFY_SOCKET"), watchdog=watchdog)

    @property
    def is_heard(self) -> bool:
        """Whether there is a manager to tell."""
        return self._socket is not None

    def tell(self, *lines: str) -> bool:
        """Tell assignments such as `READY=1`; False if that was not possible now."""
        if self._socket is None or not lines:
            return True
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:  # its queue is full, or it is gone: the next beat tells again
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()


_CLOSED_ON_EXEC = getattr(socket, "SOCK_CLOEXEC", 0)


def here() -> Notifier:
    """Return the notifier of this process."""
    return Notifier.of(os.environ, pid=os.getpid())
