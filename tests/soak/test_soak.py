"""A minute of the soak with few bridges; and whether its verdict can fail."""

import asyncio
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.soak.plot import chart
from tests.soak.run import Sample, Soak


@pytest.mark.slow  # most of a minute of real sockets: memory is the kernel's to tell
@pytest.mark.timeout(300)
def test_bridges_live_through_faults_and_nothing_grows():
    soak = Soak(20, 45.0, seed=3)
    asyncio.run(soak.run())
    lines = list(soak.table())

    assert lines[-1].startswith("PASSED"), "\n".join([*lines, *map(str, soak.faults)])
    assert len(soak.faults) >= 5
    assert soak.events["HandedOver"] > 0
    ElementTree.fromstring(chart(soak.samples, soak.faults, 20))


def soaked(**changes: float) -> Soak:
    """A soak whose last quarter differs in this from the rest."""
    soak = Soak(10, 60.0, seed=1)
    sample = Sample(at=1.0, rss_mib=50.0, descriptors=20, tasks=40, open=10, messages=1, cpu=1.0)
    late = replace(sample, **changes)  # type: ignore[arg-type]
    soak.samples = [sample] * 30 + [late] * 10
    return soak


def test_a_soak_in_which_nothing_changes_passes():
    assert [] == list(soaked().problems())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rss_mib": 90.0}, "memory grew from 50 to 90"),
        ({"descriptors": 500}, "500 descriptors"),
        ({"tasks": 5000}, "tasks pile up"),
        ({"open": 8}, "only 8 of 10"),
    ],
)
def test_what_grows_fails(changes: dict[str, float], words: str):
    assert words in " ".join(soaked(**changes).problems())


def test_a_session_that_ends_fails():
    soak = soaked()
    soak.ended.append("refused")

    assert ["a session ended: refused"] == list(soak.problems())
