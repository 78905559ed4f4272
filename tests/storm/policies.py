"""The policies that are compared: when a client whose link is gone dials again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dromos._core import backoff
from dromos.model import RetryPolicy

Delay = Callable[[int, float], float]
"""Seconds before the next attempt, given failures in a row so far (0 after a loss) and chance."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to come back.

    Attributes:
        name: For the table.
        delay: When it dials.
        retry: Ours, as a bridge takes it; None for the Go original's, which is a loop.
        grouped: Whether the sessions of a process take turns.
    """

    name: str
    delay: Delay
    retry: RetryPolicy | None = None
    grouped: bool = False


def _ours(name: str, retry: RetryPolicy, *, grouped: bool = False) -> Contender:
    def delay(failures: int, roll: float) -> float:
        return backoff.delay(retry, failures=failures, roll=roll)

    return Contender(name=name, delay=delay, retry=retry, grouped=grouped)


STABLE: Final = 2.0
"""Seconds after which a link counts as stable here, so that a run need not wait longer."""

FULL: Final = _ours("ours, full jitter", RetryPolicy(stable_after=STABLE))
GROUP: Final = _ours("ours, as a group", RetryPolicy(stable_after=STABLE), grouped=True)
ADDED: Final = _ours("the specification's jitter", RetryPolicy(jitter=0.5, stable_after=STABLE))
GO: Final = Contender(name="the Go original's 2 s", delay=lambda _, roll: 2.0 + roll)

CONTENDERS: Final = (FULL, GROUP, ADDED, GO)
