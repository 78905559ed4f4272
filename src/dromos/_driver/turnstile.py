"""Remembers, between the sessions of a group, whose turn comes next."""

from dromos._core.commands import InLine
from dromos._core.turns import Turns

__all__ = ["Turnstile"]


class Turnstile:
    """Lets the attempts of many sessions through one by one.

    Args:
        rate: How many in a second.
    """

    def __init__(self, rate: float) -> None:
        self._turns = Turns(every=1.0 / rate)

    def next(self, now: float) -> float:
        """When an attempt that is due now may begin."""
        return self._turns.next(now)

    def obey(self, command: InLine) -> None:
        """Note what a session does about its turns."""
        self._turns = self._turns.after(command)
