"""Three clocks of a simulated machine: the loop's, the true time, and what the machine shows."""

import asyncio
from typing import Final

EPOCH: Final = 1_800_000_000.0


class Clocks:
    """What time it is.

    The loop's clock stands still while the machine sleeps; the true time goes on; and
    the machine's wall clock is wrong by whatever somebody set it to.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slept = 0.0
        self._set_by = 0.0

    def true(self) -> float:
        """Unix time, as everybody else in the world has it."""
        return EPOCH + self._loop.time() + self._slept

    def wall(self) -> float:
        """Unix time, as this machine has it."""
        return self.true() + self._set_by

    def sleep(self, seconds: float) -> None:
        """Let the machine sleep: suspend, then resume."""
        self._slept += seconds

    def step(self, seconds: float) -> None:
        """Set the machine's wall clock."""
        self._set_by += seconds
