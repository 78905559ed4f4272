"""Tells the service manager, again and again, how it goes with a bridge."""

import asyncio
from typing import Final

from dromos.bridge import Bridge
from dromos.service.sessions import is_ready
from dromos.service.systemd import Notifier
from dromos.snapshot import Vitals

__all__ = ["Pulse"]

BEAT: Final = 1.0
"""Seconds between two looks at the bridge, at most."""

EXTENSION: Final = 10.0
"""Seconds by which a time limit of the manager's is put off, with each beat."""


class Pulse:
    """Beats as long as the event loop turns, which is what a watchdog watches for.

    `READY=1` is told once every session has had its first token; the manager's limit for the
    start is put off until then, since it is the gateway that is waited for.
    """

    def __init__(self, bridge: Bridge, notifier: Notifier) -> None:
        self._bridge = bridge
        self._notifier = notifier
        self._status = ""
        self._was_ready = False

    async def beat_on(self) -> None:
        """Beat until cancelled; return at once where nobody listens."""
        if not self._notifier.is_heard:
            return
        # sd_watchdog_enabled(3) recommends half of the time.
        watchdog = self._notifier.watchdog
        every = BEAT if watchdog is None else min(BEAT, watchdog / 2)
        while True:
            self.beat()
            await asyncio.sleep(every)

    def beat(self) -> None:
        """Tell what is to be told now."""
        vitals = self._bridge.vitals()
        lines = list(self._lines(vitals))
        status = f"STATUS={_status(vitals)}"
        if status != self._status:
            lines.append(status)
        if self._notifier.tell(*lines):
            self._status = status
            self._was_ready = self._was_ready or "READY=1" in lines

    def stop(self) -> None:
        """Tell that we stop."""
        self._notifier.tell("STOPPING=1", _extend())

    def _lines(self, vitals: Vitals) -> list[str]:
        lines = [] if vitals.stalled else ["WATCHDOG=1"]
        if vitals.draining:
            return [*lines, _extend()]
        if not self._was_ready:
            lines.append("READY=1" if is_ready(vitals) else _extend())
        return lines


def _extend() -> str:
    """Put off the limit for starting or stopping, whichever runs."""
    return f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}"


def _status(vitals: Vitals) -> str:
    """Say it for `systemctl status`."""
    sessions = f"{vitals.open} of {vitals.sessions} sessions open"
    if vitals.draining:
        return f"draining: {vitals.sessions} sessions left"
    if vitals.stalled:
        return f"{sessions}, {vitals.stalled} stalled"
    return sessions
