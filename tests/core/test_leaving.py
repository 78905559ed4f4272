"""A far side that says that it goes away, told one line after the other."""

import pytest

from dromos._core.commands import (
    Adopt,
    Answer,
    Authorize,
    Dial,
    Finish,
    Greet,
    Part,
    Prove,
    Release,
)
from dromos._core.events import (
    DepartureAnnounced,
    DialFailed,
    LinkGreeted,
    LinkLost,
    LinkOpened,
    LinkProven,
    RenewalRequested,
    StopRequested,
    TimerFired,
    TokenFailed,
)
from dromos._core.policy import Policy
from dromos._core.schedule import Need
from dromos._core.states import Asking, Dialing, Doomed, Postponed, Settled, Succeeding, Waiting
from dromos.errors import ConnectionClosed, HandshakeError, InteractionRequired, TokenError
from dromos.events import DepartureAnnounced as Announced
from dromos.events import EndDeferred, Flapped, HandedOver, RenewalFailed
from dromos.model import Verdict
from tests.core.play import Play
from tests.core.test_play import IN_BAND, connected, greeting_successor, succeeding

LEAVING = ConnectionClosed(code=1001, reason="restart")
BUSY = HandshakeError("busy", status=503)
REFUSED = HandshakeError("who?", status=401)
TAKEN = HandshakeError("taken", status=409)
WAIT = 0.2 + 4.8 * 0.5


def stable(policy: Policy | None = None) -> Play:
    """A session whose link has been open for a minute."""
    return connected(policy).after(60)


def left(policy: Policy | None = None) -> Play:
    """A session whose far side has just announced that it goes away."""
    return stable(policy).hears(DepartureAnnounced(1, LEAVING))


def test_the_next_link_is_dialled_while_the_far_side_waits_for_our_answer() -> None:
    play = left().tells(Announced(link=1, error=LEAVING)).orders().waits(WAIT)

    play.until_due().orders(Dial(2, handover=True))
    play.hears(LinkOpened(2)).orders(Greet(2, handover=True, within=30.0)).hears(LinkGreeted(2))
    play.hears(LinkProven(2)).orders(Adopt(2), Release(1, 2.0)).tells(HandedOver(old=1, new=2))
    play.is_in(Settled).waits(3600 - 60 - WAIT - 300 * 1.05)


def test_its_close_is_answered_after_ten_seconds_at_the_latest() -> None:
    play = left().until_due().orders(Dial(2, handover=True)).waits(10 - WAIT)

    play.until_due().orders(Answer(1)).hears(LinkLost(1, LEAVING))
    play.is_in(Dialing).orders(Part(LEAVING)).hears(LinkOpened(2)).orders(
        Adopt(2), Greet(2, handover=False, within=30.0)
    )


def test_its_close_is_answered_once() -> None:
    play = left().until_due().until_due().orders(Answer(1))

    play.hears(TimerFired()).orders()
    play.after(1).hears(LinkOpened(2)).hears(LinkGreeted(2)).orders(Prove(2, 3.0))


def test_a_link_that_was_never_stable_is_answered_at_once() -> None:
    play = connected().after(5).hears(DepartureAnnounced(1, LEAVING)).orders(Answer(1))

    play.hears(LinkLost(1, LEAVING)).is_in(Waiting)


def test_a_link_that_is_not_greeted_yet_is_answered_at_once() -> None:
    play = Play().obtains(1).hears(LinkOpened(1)).hears(DepartureAnnounced(1, LEAVING))

    play.orders(Answer(1))


def test_a_successor_that_goes_away_is_answered_at_once() -> None:
    greeting_successor().hears(DepartureAnnounced(2, LEAVING)).orders(Answer(2))


def test_a_user_to_whom_it_is_the_end_has_it_at_once() -> None:
    play = stable().hears(DepartureAnnounced(1, LEAVING, Verdict.PERMANENT)).orders(Answer(1))

    play.hears(LinkLost(1, LEAVING, Verdict.PERMANENT)).is_in(object)
    assert "Stopped" == type(play.state).__name__


def test_a_session_that_ends_with_its_link_ends_now() -> None:
    consent = InteractionRequired("consent")
    play = (
        connected()
        .until_due()
        .gets_no_token(consent)
        .is_in(Doomed)
        .tells(RenewalFailed, EndDeferred)
    )

    play.hears(DepartureAnnounced(1, LEAVING)).orders(Answer(1)).hears(LinkLost(1, LEAVING))
    play.orders(Part(consent), Finish(consent))


def test_a_link_that_ends_before_the_next_one_is_dialled_keeps_the_wait_that_began() -> None:
    play = left().after(1).hears(LinkLost(1, LEAVING))

    play.is_in(Waiting).orders(Part(LEAVING)).waits(WAIT - 1)


def test_a_stop_meanwhile_releases_the_link() -> None:
    left().hears(StopRequested()).orders(Release(1), Part(None), Finish(None))


@pytest.mark.parametrize("error", [BUSY, TAKEN])
def test_a_successor_that_fails_is_tried_again_as_long_as_the_far_side_waits(
    error: HandshakeError,
) -> None:
    play = left().until_due().hears(DialFailed(2, error)).tells(RenewalFailed).is_in(Postponed)
    play.until_due().orders(Dial(3, handover=True)).hears(DialFailed(3, error))
    play.tells(RenewalFailed)

    assert not play.state.single, "a far side that goes away refuses for other reasons"
    play.is_in(Postponed)


def test_a_refused_token_is_replaced_before_the_next_link_is_dialled() -> None:
    play = left().until_due().hears(DialFailed(2, REFUSED)).until_due()

    play.orders(Authorize(2, Need.REPLACE, 1)).obtains(2).orders(Dial(3, handover=True))


def test_a_renewal_that_is_under_way_goes_on() -> None:
    succeeding().hears(DepartureAnnounced(1, LEAVING)).is_in(Succeeding).orders()
    connected().until_due().hears(DepartureAnnounced(1, LEAVING)).is_in(Asking).obtains(2).orders(
        Dial(2, handover=True)
    )


def test_a_postponed_renewal_is_not_put_off_any_further() -> None:
    play = connected().until_due().obtains(2).hears(DialFailed(2, BUSY)).waits(0.6)

    play.hears(DepartureAnnounced(1, LEAVING)).waits(0.6).until_due()
    play.orders(Dial(3, handover=True))


def test_a_source_that_fails_does_not_keep_a_token_that_still_works_from_the_next_link() -> None:
    play = connected().until_due().gets_no_token(TokenError("busy", status=503)).is_in(Postponed)

    play.hears(DepartureAnnounced(1, LEAVING)).waits(WAIT).until_due()
    play.orders(Dial(2, handover=True))


def test_a_token_with_too_little_life_left_is_renewed_first() -> None:
    play = connected(Policy(refresh_buffer=20), life=100).until_due().gets_no_token(BUSY)

    play.after(17).hears(DepartureAnnounced(1, LEAVING)).until_due().orders()
    play.until_due().orders(Authorize(3, Need.RENEW, 1)).obtains(2).orders(Dial(2, handover=True))


def test_there_is_no_use_in_renewing_a_link_in_band_that_goes_away() -> None:
    play = connected(IN_BAND).until_due().obtains(2).hears(DepartureAnnounced(1, LEAVING))

    play.waits(WAIT).until_due().orders(Dial(2, handover=True))
    assert 2 == play.state.step.lease.generation
    play = connected(IN_BAND).until_due().hears(DepartureAnnounced(1, LEAVING)).obtains(2)
    play.orders(Dial(2, handover=True))


def test_links_that_go_away_again_and_again_are_flapping() -> None:
    play = stable()
    for link in range(1, 6):
        play.hears(DepartureAnnounced(link, LEAVING)).until_due()
        if link == 5:
            break
        play.orders(Dial(link + 1, handover=True)).hears(LinkOpened(link + 1))
        play.hears(LinkGreeted(link + 1)).hears(LinkProven(link + 1)).after(1)

    assert 4 == play.state.past.short_links
    play.hears(LinkOpened(6)).hears(LinkGreeted(6)).hears(LinkProven(6)).after(1)
    play.hears(DepartureAnnounced(6, LEAVING)).waits(10.0).tells(Announced, Flapped)
    play.until_due().orders(Answer(6)).hears(LinkLost(6, LEAVING)).is_in(Waiting).waits(20.1)


def test_a_request_for_a_new_link_meanwhile_asks_for_a_token() -> None:
    left().hears(RenewalRequested()).orders(Authorize(2, Need.RENEW, 1))


def test_the_source_failing_after_that_does_not_end_it() -> None:
    play = left().hears(RenewalRequested()).hears(TokenFailed(2, InteractionRequired("consent")))

    play.is_in(Doomed).until_due().orders(Answer(1))
    assert Flapped not in map(type, play.told)
