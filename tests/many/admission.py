"""How many a far side lets in: a rate, and a little at once."""

from dataclasses import dataclass


@dataclass(slots=True)
class Admission:
    """A bucket of places that fills evenly; the real far side and its model share this.

    Attributes:
        rate: Places a second.
        burst: Seconds of places that are kept for whoever comes late: a far side that gets
            no processor for a moment would lose them else.
        free: When the next place is to be had.
    """

    rate: float
    burst: float = 1.0
    free: float = float("-inf")

    def admits(self, now: float) -> bool:
        """Whether somebody who knocks now is let in."""
        due = max(self.free, now - self.burst)
        if due > now:
            return False
        self.free = due + 1 / self.rate
        return True
