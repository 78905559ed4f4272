"""The comparison of the README runs, and shows what the README says of it."""

import pytest

from examples import bare_idiom

pytestmark = pytest.mark.slow  # real clients on real sockets, for as long as a token lives


async def test_a_far_side_that_closes_at_once_is_dialled_in_a_loop_by_the_idiom_alone():
    bare = await bare_idiom.a_far_side_that_closes_at_once(bare_idiom.bare, 1)
    ours = await bare_idiom.a_far_side_that_closes_at_once(bare_idiom.bridged, 1)

    assert bare.dials > 20 * ours.dials
    assert "still running" == ours.ended


@pytest.mark.filterwarnings("ignore:tokens live only")
async def test_an_expired_token_ends_the_idiom_and_costs_a_bridge_no_message(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(bare_idiom, "LIFETIME", 2.0)
    bare = await bare_idiom.a_token_that_expires(bare_idiom.bare, 5)
    ours = await bare_idiom.a_token_that_expires(bare_idiom.bridged, 5)

    assert "stopped: HTTP 401" == bare.ended
    assert bare.missed > bare.sent / 3
    assert (0, "still running") == (ours.missed, ours.ended)
    assert ours.dials > 2
