"""Tells which connections ended so long ago that nobody looks at their series any more."""

from collections import Counter
from typing import Final

from dromos import events
from dromos.events import BridgeEvent

__all__ = ["KEPT", "Ended"]

KEPT: Final = 900.0
"""Seconds after its end for which a connection is remembered: as far as our alerts look back.

Whoever scrapes has to see once what came last.
"""


class Ended:
    """Follows the sessions of several bridges.  Not for more than one thread at a time."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._at: dict[str, float] = {}

    def hear(self, event: BridgeEvent) -> list[str]:
        """Return the connections that are to be forgotten, each once.

        That is said when another one ends: as long as none does, there are no more of them.
        """
        whose = event.connection_id
        match event:
            case events.SessionStarted():
                self._running[whose] += 1
                self._at.pop(whose, None)
            case events.SessionEnded(at=at):
                self._running[whose] -= 1
                if self._running[whose] <= 0:
                    del self._running[whose]
                    self._at[whose] = at
                return self._forgotten(at)
            case _:
                pass
        return []

    def _forgotten(self, now: float) -> list[str]:
        forgotten: list[str] = []
        # In the order in which they ended.  Somebody may set the wall clock back: an end in
        # the future must not keep all the others.
        for connection_id, at in self._at.items():
            if abs(now - at) <= KEPT:
                break
            forgotten.append(connection_id)
        for connection_id in forgotten:
            del self._at[connection_id]
        return forgotten
