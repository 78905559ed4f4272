"""A thousand days of sessions in virtual time; and whether the checks could fail."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from dromos.oauth.cache import TokenCache
from tests.simulation import world as worlds
from tests.simulation.run import reports, seeds_for, table
from tests.simulation.world import Fault, Plan, World, draw, simulate, smallest

DAYS = 1000.0


PARTS = 4
"""Tests that share the days: on a busy machine one alone would outlive what a test may take."""


def test_the_parts_have_a_thousand_days():
    played = [seed for part in range(PARTS) for seed in seeds_for(DAYS)[part::PARTS]]

    assert sorted(set(played)) == sorted(played)
    assert sum(draw(seed).session_days for seed in played) >= DAYS


@pytest.mark.slow  # a minute or two of computing in all, on every core
@pytest.mark.timeout(590)
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_violated_in_a_thousand_days(part: int):
    found = list(reports(seeds_for(DAYS)[part::PARTS]))

    assert [] == [(each.plan.seed, each.violations[:3]) for each in found if each.violations]
    assert list(table(found, 1.0))[-1].startswith("PASSED")
    counts: Counter[str] = Counter()
    for report in found:
        counts.update(report.counts)
    wanted = """
        HandedOver RenewalFailed AttemptFailed RetryScheduled Disconnected SuspendDetected
        RefreshStarted DepartureAnnounced
    """
    assert [] == [name for name in wanted.split() if not counts[name]]
    assert 10 == sum(1 for name in counts if name.startswith("fault: "))


def test_a_seed_plays_the_same_each_time():
    first, second = (simulate(calm(faults=draw(1).faults[:12])) for _ in range(2))

    assert first.counts == second.counts
    assert first.turns == second.turns


# --- Can the checks fail? -------------------------------------------------------------------------


def calm(**changes: Any) -> Plan:
    """A small world in which nothing goes wrong but what is asked for."""
    plan = replace(
        draw(0),
        days=0.5,
        sessions=2,
        shared=True,
        lifetime=1800.0,
        latency=0.05,
        gateway_latency=0.1,
        skew=0.0,
        closes_expired=True,
        renewals=("handover", "handover"),
        faults=(),
    )
    return replace(plan, **changes)


def violations(plan: Plan) -> str:
    return "\n".join(simulate(plan).violations)


def test_a_calm_world_violates_nothing():
    assert "" == violations(calm())


def test_two_refreshes_at_once_are_noticed(monkeypatch: pytest.MonkeyPatch):
    """What destroys a connection at the real gateway: nobody arbitrates between sessions."""

    async def refresh_alone(self: TokenCache, *arguments: Any, **options: Any) -> Any:
        options["need"] = worlds_need_renew
        entries, self._entries = self._entries, {}
        try:
            return await real(self, *arguments, **options)
        finally:
            self._entries = entries

    from dromos._core.schedule import Need

    worlds_need_renew = Need.RENEW
    real = TokenCache.obtain
    monkeypatch.setattr(TokenCache, "obtain", refresh_alone)

    assert "two refreshes of one connection" in violations(calm())


def test_a_session_that_stays_away_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(World, "_recover", lambda *_: None)
    outage = Fault(at=3600.0, what="far", seconds=60.0, how="refuse")

    assert "is not open, 600 s after the last fault" in violations(calm(faults=(outage,)))


def test_an_expired_link_is_noticed():
    assert "token" in violations(calm(closes_expired=True, renewals=("keep", "keep")))


def test_a_session_that_ends_is_noticed(monkeypatch: pytest.MonkeyPatch):
    plan = calm(faults=(Fault(at=3600.0, what="consent"),))
    monkeypatch.setattr(World, "_withdraw", withdraw_without_a_word)

    assert "ended" in violations(plan)


def withdraw_without_a_word(self: World, name: str) -> None:
    self.gateway.connections[name].lost = True


def test_hammering_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worlds, "MOST_AN_HOUR", 10)
    outage = Fault(at=3600.0, what="far", seconds=1800.0, how="refuse")

    assert "within an hour" in violations(calm(faults=(outage,)))


def test_a_failing_schedule_is_cut_down_to_what_matters(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(World, "_withdraw", withdraw_without_a_word)
    noise = tuple(Fault(at=600.0 * n, what="drop", who=n % 2) for n in range(1, 12))
    matters = Fault(at=3600.0, what="consent")

    assert (matters,) == smallest(calm(faults=(*noise, matters))).faults
