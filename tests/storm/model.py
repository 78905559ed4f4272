"""A storm as arithmetic: all links are gone at once, and so many a second are let in.

What is assumed is in docs/scale.md.  Delays come from the core's own functions, turns as
well, and who is let in from the class that the real far side uses.
"""

import math
import random
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from dromos._core.commands import TakeTurn
from dromos._core.turns import Turns
from tests.many.admission import Admission
from tests.storm.policies import Contender

TICK: Final = 0.01
"""Seconds; whatever is due within one happens in the order in which it was planned."""


@dataclass(frozen=True, kw_only=True)
class Storm:
    """What happens.

    Attributes:
        clients: Connections that are dropped at once.
        admitted: Upgrades that the far side lets in each second; it refuses the others.
        horizon: Seconds after which we stop looking.
        attempt_rate: Attempts a second of one group.
        group_size: Sessions in one group.
        capacity: Attempts that all clients together can begin in a second, because they
            share a processor; None for clients that do not.
        seed: Of chance.
    """

    clients: int
    admitted: float
    horizon: float
    attempt_rate: float = 100.0
    group_size: int = 5000
    capacity: float | None = None
    seed: int = 1


@dataclass(kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        clients: How many there were.
        attempts: How many attempts each second had.
        back: When each that came back did, in seconds, in order.
    """

    clients: int
    attempts: list[int] = field(default_factory=list)
    back: list[float] = field(default_factory=list)

    @property
    def peak(self) -> int:
        """Attempts in the worst second."""
        return max(self.attempts, default=0)

    @property
    def attempts_each(self) -> float:
        """Attempts that each client made, on average."""
        return sum(self.attempts) / self.clients

    def when(self, share: float) -> float | None:
        """Seconds until this share was back; None if it never was."""
        needed = int(self.clients * share)
        return self.back[needed - 1] if len(self.back) >= needed else None


def play(storm: Storm, contender: Contender) -> Outcome:
    """Return what becomes of a storm."""
    roll = random.Random(storm.seed).random
    delay = contender.delay
    ticks = int(storm.horizon / TICK)
    admission = Admission(storm.admitted)
    outcome = Outcome(clients=storm.clients, attempts=[0] * (int(storm.horizon) + 1))
    failures = array("H", bytes(2 * storm.clients))
    groups = -(-storm.clients // storm.group_size) if contender.grouped else 0
    turns = [Turns(every=1 / storm.attempt_rate)] * groups
    room = math.inf if storm.capacity is None else storm.capacity * TICK
    credit = 0.0
    late: deque[int] = deque()
    due: list[list[int]] = [[] for _ in range(ticks + 1)]
    in_turn: list[list[int]] = [[] for _ in range(ticks + 1)] if groups else []

    def plan(who: int, at: float, agenda: list[list[int]]) -> None:
        tick = int(at / TICK)
        if tick < ticks:
            agenda[tick].append(who)

    for who in range(storm.clients):
        plan(who, delay(0, roll()), due)
    for tick in range(ticks):
        now = tick * TICK
        dialling = due[tick]
        due[tick] = []
        if groups:
            for who in dialling:
                group = who % groups
                turn = turns[group].next(now)
                turns[group] = turns[group].after(TakeTurn(turn))
                plan(who, turn, in_turn)
            dialling, in_turn[tick] = in_turn[tick], []
        if room < math.inf:
            late.extend(dialling)
            credit = min(credit + room, max(room, len(late)))
            dialling = [late.popleft() for _ in range(min(int(credit), len(late)))]
            credit -= len(dialling)
        outcome.attempts[int(now)] += len(dialling)
        for who in dialling:
            if admission.admits(now):
                outcome.back.append(now)
            else:
                failures[who] += 1
                plan(who, now + delay(failures[who], roll()), due)
        if len(outcome.back) == storm.clients:
            break
    return outcome
