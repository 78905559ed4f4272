"""Events as the specification's four metrics."""

from dromos import events
from dromos.telemetry.figures import count_events
from tests.driver.harness import Counts


def test_one_session_has_the_status_one_or_zero() -> None:
    counts = Counts()
    count = count_events(counts)

    for event in (
        events.SessionStarted(session=1, endpoint="wss://x"),
        events.Connected(session=1, link=1, gap=None),
        events.HandedOver(session=1, old=1, new=2),
        events.Disconnected(session=1, error=None),
        events.SessionEnded(session=1, error=None),
    ):
        count(event)

    assert [0.0, 1.0, 0.0, 0.0] == counts.statuses
    assert (1, 1) == (counts.connections, counts.disconnects)


def test_several_sessions_share_the_status() -> None:
    counts = Counts()
    count = count_events(counts)

    for session in (1, 2, 3, 4):
        count(events.SessionStarted(session=session, endpoint="wss://x"))
    count(events.Connected(session=1, link=1, gap=None))
    count(events.Connected(session=2, link=1, gap=None))

    assert 0.5 == counts.status


def test_a_refresh_is_counted_where_it_began() -> None:
    counts = Counts()
    count = count_events(counts)

    count(events.RefreshStarted(session=1))
    count(events.TokenObtained(session=1, generation=2, strategy="oauth2", expires_in=3.0))

    assert 1 == counts.token_refreshes
    assert [] == counts.statuses
