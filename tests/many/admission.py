"""How many a far side lets in: a rate, and a little at once."""

from dataclasses import dataclass


@dataclass(slots=True)
class Admission:
    """Lets so many in a second in, evenly; the real far side and its model share this.

    Attributes:
        rate: How many a second.
        slack: Seconds that it may run ahead of that: what one turn of a busy loop takes.
        free: When the next one is due.
    """

    rate: float
    slack: float = 0.05
    free: float = float("-inf")

    def admits(self, now: float) -> bool:
        """Whether somebody who knocks now is let in."""
        due = max(self.free, now)
        if due > now + self.slack:
            return False
        self.free = due + 1 / self.rate
        return True
