"""What waits for a slow handler, seen from inside a bridge and from a handler that counts."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from dromos import Bridge, Send
from dromos.model import Message


class Slow:
    """A handler that takes a while for each numbered message, keeps none, and looks around."""

    def __init__(self, takes: float, look: Callable[[], None]) -> None:
        self.heard = 0
        self.first_wrong: Message | None = None
        self.disconnects: list[Exception | None] = []
        self._takes = takes
        self._look = look

    async def on_connect(self, send: Send) -> None:
        pass

    async def on_message(self, message: Message) -> None:
        if int(message) != self.heard and self.first_wrong is None:
            self.first_wrong = message
        self.heard += 1
        await asyncio.sleep(self._takes)
        self._look()  # in that time all that there was room for has come

    async def on_disconnect(self, error: Exception | None) -> None:
        self.disconnects.append(error)


@dataclass(slots=True)
class Peak:
    """The most that ever waited in a while."""

    messages: int = 0
    size: int = 0
    behind: int = 0


@dataclass
class Peaks:
    """Peaks by the number of the while; so few that they hide no growth."""

    of: dict[int, Peak] = field(default_factory=lambda: defaultdict(Peak))

    def note(self, number: int, bridge: Bridge, *, behind: int) -> None:
        """Note what the bridge holds, and how many bytes wait behind that, unread."""
        peak = self.of[number]
        records = [record for session in bridge._sessions.values() for record in session._links]
        peak.messages = max(peak.messages, sum(len(record.held) for record in records))
        peak.size = max(peak.size, sum(record._held_size for record in records))
        peak.behind = max(peak.behind, behind)

    def between(self, first: int, last: int) -> Peak:
        """The most of several whiles, the last one included."""
        peaks = [self.of[number] for number in range(first, last + 1)]
        return Peak(
            messages=max(peak.messages for peak in peaks),
            size=max(peak.size for peak in peaks),
            behind=max(peak.behind for peak in peaks),
        )
