"""The scenarios of a hand-over under random fault schedules, and whether the checks can fail.

SCHEDULES=10000 pytest tests/driver/test_schedules.py        as many seeds
SCHEDULES_SEED=7 pytest -s tests/driver/test_schedules.py    one, with its timeline
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dromos.interfaces import Limits, LinkListener
from dromos.model import Handshake, Outbox
from tests.driver.schedules import Draw, Outcome, WatchedLink, World, draw, play

SEEDS = int(os.environ.get("SCHEDULES", "400"))
ONE = os.environ.get("SCHEDULES_SEED")
CHUNKS = 8


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Handlers that raise on purpose are logged; nobody reads that here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_scenario_passes_under_random_faults(chunk: int) -> None:
    for seed in seeds(chunk):
        outcome = play(draw(seed), keep=ONE is not None)
        if ONE is not None:
            print(outcome)
        assert [] == outcome.violations, str(outcome)


def seeds(chunk: int) -> Sequence[int]:
    """A share of all seeds, or the one that is to be looked at."""
    if ONE is None:
        return range(chunk, SEEDS, CHUNKS)
    return [int(ONE)] if chunk == 0 else []


def test_a_seed_plays_the_same_each_time() -> None:
    first, second = (play(draw(3), keep=True) for _ in range(2))

    assert first.timeline == second.timeline
    assert 100 < len(first.timeline)


def test_the_seeds_reach_every_branch() -> None:
    """What a hundred seeds go through; a branch that nobody enters proves nothing."""
    counts: Counter[str] = Counter()
    for seed in range(100):
        counts.update(play(draw(seed)).counts)

    wanted = """
        HandedOver RenewalFailed RenewalStopped DepartureAnnounced AttemptFailed RetryScheduled
        Disconnected DeliveryUnknown MessagesUnsent MessagesDropped DuplicatesDropped
        HandlerFailed SuspendDetected RefreshStarted LatencyMeasured
    """
    assert [] == [name for name in wanted.split() if not counts[name]]


# ---------------------------------------------------------------- can the checks fail?


class Swallows(World):
    """A far side that loses what it says now and then, and says nothing of it."""

    def say(self, link: WatchedLink, message: str) -> None:
        if self.said % 7 == 3 and message[0] != "a":
            link.said.append(message)
        else:
            super().say(link, message)


class Stammers(World):
    """A far side that says some messages twice, and counts them once."""

    def say(self, link: WatchedLink, message: str) -> None:
        super().say(link, message)
        if self.said % 7 == 3:
            link.far.send(message + " ")


class ForgetsWhatItHeard(World):
    """A far side on whose way some of the agent's messages are lost."""

    def hear(self, link: WatchedLink, message: str) -> None:
        if int(message.partition(":")[2]) % 5:
            super().hear(link, message)


class HearsTwice(World):
    """A far side that is brought some of the agent's messages twice."""

    def hear(self, link: WatchedLink, message: str) -> None:
        super().hear(link, message)
        if int(message.partition(":")[2]) % 5 == 0:
            super().hear(link, message)


class TakesOldTokens(World):
    """A world in which each token that is dialled with was refused a moment before."""

    def check_dial(self, token: str) -> None:
        self.known_refused.add(token)
        super().check_dial(token)


class KeepsLinks(World):
    """A dialer that opens a link more than was asked for."""

    async def dial(
        self, handshake: Handshake, listener: LinkListener, limits: Limits
    ) -> WatchedLink:
        link = await super().dial(handshake, listener, limits)
        self.open.append(WatchedLink(self, link.token, listener, limits))
        return link


class LeavesSomethingBehind(World):
    """A world with a task that nobody ends."""

    async def get_token(self, connection_id: str, /) -> Any:
        self.loop.create_task(asyncio.sleep(1e6), name="forgotten")
        return await super().get_token(connection_id)


class EndsForNothing(World):
    """A far side whose permanent refusals are not on record."""

    def strike(self, fault: Any) -> None:
        self.next_dials.extend([replace(fault, what="refuse", code=410, on="")] * 3)
        super().strike(fault)


def calm(seed: int, **changes: Any) -> Draw:
    """A schedule without faults, so that what fails is what was broken on purpose."""
    plan = replace(draw(seed), faults=(), single="", in_band="", early=False, lethal=False)
    options = plan.options | {"max_link_age": None, "renewal": "handover"}
    return replace(plan, **{"options": options, "ending": "close", "fanout": False, **changes})


def found(world: type[World], **changes: Any) -> str:
    """What is violated in a world that was broken on purpose."""
    outcomes: list[Outcome] = [play(calm(seed, **changes), world=world) for seed in range(12)]
    return "\n".join(violation for outcome in outcomes for violation in outcome.violations)


def test_calm_schedules_violate_nothing() -> None:
    assert "" == found(World)
    assert "" == found(World, fanout=True)
    assert "" == found(World, outbox=Outbox())


@pytest.mark.parametrize("fanout", [False, True])
def test_a_message_that_never_comes_is_noticed(fanout: bool) -> None:
    violations = found(Swallows, fanout=fanout)

    assert "others are missing" in violations or "were not delivered" in violations


@pytest.mark.parametrize("fanout", [False, True])
def test_a_message_that_comes_twice_is_noticed(fanout: bool) -> None:
    violations = found(Stammers, fanout=fanout)

    assert "others are missing" in violations or "was delivered after" in violations


def test_a_message_of_the_agent_that_is_lost_is_noticed() -> None:
    assert "is unaccounted for" in found(ForgetsWhatItHeard, outbox=Outbox())


def test_a_message_of_the_agent_that_arrives_twice_is_noticed() -> None:
    assert "arrived 2 times" in found(HearsTwice)


def test_a_dial_with_a_refused_token_is_noticed() -> None:
    assert "which was refused before" in found(TakesOldTokens)


def test_a_third_link_is_noticed() -> None:
    assert "links are open" in found(KeepsLinks)


def test_a_task_that_is_left_is_noticed() -> None:
    assert "tasks are left: ['forgotten'" in found(LeavesSomethingBehind)


def test_an_end_for_no_reason_is_noticed() -> None:
    outcomes = [play(replace(draw(seed), lethal=False), world=EndsForNothing) for seed in range(8)]

    violations = [violation for outcome in outcomes for violation in outcome.violations]
    assert any("ended without a reason" in violation for violation in violations)
