"""Renewal without a gap, and what can go wrong with it, in virtual time."""

import asyncio
from typing import Any

import pytest

from dromos import ConnectionClosed, HandshakeError, PermanentError, TokenError
from dromos.events import (
    DepartureAnnounced,
    Disconnected,
    EndDeferred,
    Flapped,
    HandedOver,
    LinkLost,
    LinkOpened,
    RefreshStarted,
    RenewalFailed,
    RenewalStopped,
    TokenObtained,
)
from dromos.testing.memory import FarEnd
from tests.driver.harness import Notes, Stage, Tokens, until

pytestmark = pytest.mark.looptime


class Ready(Notes):
    """Has a method of its own for hand-overs."""

    async def on_handover(self, send: Any) -> None:
        self.calls.append(("handover", send.link))
        self.sends.append(send)


class InBand(Notes):
    """Renews on the live link."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self.answer = answer

    async def on_token_refresh(self, token: Any, send: Any) -> Any:
        self.calls.append(("token", token.access_token))
        if isinstance(self.answer, Exception):
            raise self.answer
        await send(f"auth {token.access_token}")
        return self.answer


def stage(**options: Any) -> Stage:
    """A session whose tokens live 100 s and are renewed 30 s early."""
    options.setdefault("tokens", Tokens(lifetime=100))
    options.setdefault("refresh_buffer", 30)
    return Stage(**options)


async def test_a_token_says_whether_a_refresh_has_brought_it() -> None:
    it = stage()
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 1)
    await it.cancel()

    assert [(1, False), (2, True)] == [(e.generation, e.renewed) for e in it.of(TokenObtained)]


async def test_a_refresh_that_prolongs_the_same_token_has_renewed_it() -> None:
    it = stage(tokens=Tokens(lifetime=100, slides=True))
    it.start()
    await until(lambda: len(it.of(TokenObtained)) == 3)
    await it.cancel()

    told = [(e.generation, e.renewed, e.expires_in) for e in it.of(TokenObtained)]
    assert [(1, False, 100), (1, True, 100), (1, True, 100)] == told


async def test_a_token_that_has_to_do_because_its_refresh_failed_was_not_renewed() -> None:
    it = stage(refresh_buffer=5)
    it.tokens.refresh_errors = [TokenError("busy", status=503)]
    it.start()
    await until(lambda: it.handler.sends)
    await asyncio.sleep(80)
    it.far.drop()  # with too little life left for a dial
    await until(lambda: len(it.handler.sends) == 2)
    await it.cancel()

    assert 1 == len(it.of(RefreshStarted))
    assert [(1, False), (1, False)] == [(e.generation, e.renewed) for e in it.of(TokenObtained)]


async def test_what_was_sent_before_a_clean_end_has_arrived_without_an_outbox() -> None:
    it = stage()
    it.start()
    await until(lambda: it.handler.sends)
    for n in range(3):
        await it.handler.sends[0](f"before {n}")
    await until(lambda: it.of(LinkLost))
    await it.handler.sends[0]("after")
    await it.bridge.close()

    assert [(3, 0), (1, 0)] == [(lost.sent, lost.unconfirmed) for lost in it.of(LinkLost)]


async def test_on_handover_is_called_in_place_of_on_connect() -> None:
    it = stage(handler=Ready())
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 2)
    await it.cancel()

    assert ["connect", "handover", "handover", "disconnect"] == it.handler.names


async def test_a_failed_successor_leaves_the_old_link_and_is_tried_again() -> None:
    it = stage()
    it.start()
    await until(lambda: it.handler.sends)
    it.dialer.then(*[HandshakeError("busy", status=503) for _ in range(3)])
    await until(lambda: it.of(HandedOver))
    await it.cancel()

    assert 3 == len(it.of(RenewalFailed))
    assert 1 == len(it.tokens.refreshes), "a token that was fetched survives a failed dial"
    assert [] == [event for event in it.of(LinkLost) if not event.released]
    assert 1 == it.metrics.connections


async def test_a_successor_whose_handler_fails_is_let_go() -> None:
    class Broken(Ready):
        async def on_handover(self, send: Any) -> None:
            await super().on_handover(send)
            if len(self.sends) < 4:
                raise RuntimeError("not yet")

    it = stage(handler=Broken())
    it.start()
    await until(lambda: it.of(HandedOver))
    await it.cancel()

    assert ["connect", "handover", "handover", "handover", "disconnect"] == it.handler.names


async def test_a_successor_that_does_not_answer_a_ping_is_let_go() -> None:
    async def far_side(link: FarEnd) -> None:
        link.answer_pings = len(it.dialer.links) != 2
        await link.wait_closed()

    it = stage(far_side=far_side)
    it.start()
    await until(lambda: it.of(HandedOver))
    await it.cancel()

    assert [3] == [event.new for event in it.of(HandedOver)]
    assert it.dialer.links[1].far.closed is not None


@pytest.mark.parametrize("code", [1000, 1008, 4001, 4409, 1003])
async def test_the_far_side_closing_the_old_link_as_the_new_one_opens_is_the_handover(
    code: int,
) -> None:
    async def far_side(link: FarEnd) -> None:
        if len(it.dialer.links) == 2:
            it.dialer.links[0].far.close(code)
        await link.wait_closed()

    it = stage(far_side=far_side, latency=0.01)
    it.start()
    await until(lambda: len(it.of(LinkOpened)) == 2)
    await asyncio.sleep(5)

    assert [2] == [event.new for event in it.of(HandedOver)]
    assert [] == it.of(Disconnected)
    assert not it.task.done()  # type: ignore[union-attr]
    await it.cancel()


async def test_a_far_side_that_wants_one_link_keeps_the_one_it_has_and_we_say_so_once() -> None:
    it = stage()
    it.start()
    await until(lambda: it.handler.sends)
    it.dialer.then(*[HandshakeError("taken", status=409) for _ in range(50)])
    await asyncio.sleep(1000)

    assert 1 == len(it.of(RenewalStopped))
    assert 3 == len(it.dialer.dials)
    assert len(it.tokens.refreshes) >= 10, "the token is renewed in memory"
    assert 1 == it.metrics.connections
    await it.cancel()


async def test_a_permanent_refresh_failure_waits_for_the_open_link() -> None:
    """One link open: no verdict about a refresh ends the session."""
    it = stage(tokens=Tokens(lifetime=100, refresh_errors=[PermanentError("gone for good")]))
    task = it.start()
    await until(lambda: it.of(EndDeferred))
    await asyncio.sleep(500)
    assert not task.done()
    assert 1 == len(it.tokens.refreshes)

    it.far.drop()
    await asyncio.wait([task])

    assert "gone for good" == str(task.exception())
    assert 1 == it.handler.names.count("disconnect")


async def test_in_band_renewal_keeps_the_link() -> None:
    it = stage(handler=InBand())
    it.start()
    await until(lambda: len(it.tokens.refreshes) == 3)
    await asyncio.sleep(1)
    await it.cancel()

    assert 1 == len(it.dialer.links)
    assert ["auth t2", "auth t3", "auth t4"] == it.far.received


@pytest.mark.parametrize("answer", [False, RuntimeError("the far side said no")])
async def test_in_band_renewal_that_fails_hands_over(answer: Any) -> None:
    it = stage(handler=InBand(answer))
    it.start()
    await until(lambda: it.of(HandedOver))
    await it.cancel()

    assert ("token", "t2") in it.handler.calls


async def test_renewal_keep_refreshes_in_memory_only() -> None:
    it = stage(renewal="keep")
    it.start()
    await until(lambda: len(it.tokens.refreshes) == 3)
    await it.cancel()

    assert 1 == len(it.dialer.links)


async def test_a_link_that_grows_too_old_is_handed_over_with_the_same_token() -> None:
    it = Stage(max_link_age=3600)
    it.start()
    await asyncio.sleep(3 * 3600 + 60)
    await it.cancel()

    assert 3 == len(it.of(HandedOver))

    assert [] == it.tokens.refreshes
    assert 1 == it.metrics.connections


async def test_the_end_of_the_links_own_token_is_no_failure() -> None:
    async def far_side(link: FarEnd) -> None:
        await asyncio.sleep(10)
        link.close(4401, "token expired")
        await link.wait_closed()

    it = Stage(tokens=Tokens(lifetime=9.5), far_side=far_side, renewal="keep", refresh_buffer=1)
    it.start()
    await until(lambda: len(it.handler.sends) == 20)
    await it.cancel()

    assert [] == it.of(Flapped)
    errors = [event.error for event in it.of(Disconnected)[:-1]]
    assert {4401} == {error.code for error in errors if isinstance(error, ConnectionClosed)}


async def test_a_refresh_that_fails_for_a_while_goes_on_until_it_works() -> None:
    errors: list[BaseException] = [TokenError("busy", status=502) for _ in range(7)]
    it = stage(tokens=Tokens(lifetime=100, refresh_errors=errors))
    it.start()
    await until(lambda: it.of(HandedOver))
    await it.cancel()

    assert 7 == len(it.of(RenewalFailed))
    assert all(event.retry_in is not None for event in it.of(RenewalFailed))


async def test_messages_of_both_links_come_in_order_and_none_is_lost() -> None:
    """A thousand a second over several hand-overs, each message on the link that serves."""
    sent: list[str] = []

    async def far_side(link: FarEnd) -> None:
        number = len(it.dialer.links)
        count = 0
        while link.closed is None:
            if number == len(it.dialer.links):
                sent.append(f"{number}.{count}")
                link.send(sent[-1])
                count += 1
            await asyncio.sleep(0.01)

    it = stage(tokens=Tokens(lifetime=10), far_side=far_side, latency=0.05)
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 3)
    await asyncio.sleep(3)
    heard = list(it.handler.messages)
    await it.cancel()

    assert sent[: len(heard)] == heard
    assert len(sent) - len(heard) < 20, "those under way when we looked"


async def test_only_so_many_dials_are_under_way_at_once() -> None:
    it = Stage(max_concurrent_dials=3, dial_latency=1.0)
    for _ in range(9):
        it.start()
    await asyncio.sleep(0.5)
    assert 3 == len(it.dialer.dials)

    await asyncio.sleep(3)

    assert 9 == len(it.dialer.links)
    await it.bridge.close()


@pytest.mark.parametrize("code", [1001, 1012])
async def test_a_far_side_that_goes_away_is_handed_over_from_while_it_waits(code: int) -> None:
    it = Stage()
    it.start()
    await asyncio.sleep(60)
    it.far.close(code, "restart")
    await until(lambda: it.of(HandedOver))
    await asyncio.sleep(5)

    assert [] == it.of(Disconnected)
    assert [1] == [event.link for event in it.of(DepartureAnnounced)]
    assert [True] == [event.released for event in it.of(LinkLost)]
    old = it.dialer.links[0].far.closed
    assert old is not None
    assert code == old.code
    it.handler.sends[0]("still here")
    await asyncio.sleep(1)
    assert ["still here"] == it.handler.messages
    await it.cancel()


async def test_a_far_side_that_goes_away_hears_our_answer_in_ten_seconds_at_the_latest() -> None:
    it = Stage()
    it.start()
    await asyncio.sleep(60)
    it.dialer.then(*[HandshakeError("busy", status=503) for _ in range(50)])
    far = it.far
    far.close(1001)
    await asyncio.sleep(9.9)
    assert far.closed is None
    await asyncio.sleep(0.2)

    assert far.closed is not None
    assert 1 == len(it.of(Disconnected))
    await it.cancel()


async def test_a_link_that_is_sent_away_before_it_is_stable_is_answered_at_once() -> None:
    it = Stage()
    it.start()
    await asyncio.sleep(5)
    it.far.close(1001)
    await asyncio.sleep(0.1)

    assert 1 == len(it.of(Disconnected))
    await it.cancel()


@pytest.mark.parametrize("code", [1000, 1008, 4001, 4409])
async def test_a_far_side_that_closes_the_old_link_before_it_answers_the_new_one(
    code: int,
) -> None:
    """Then no link is open for a moment, and what the code would have meant is forgotten."""

    async def first(link: FarEnd) -> None:
        await until(lambda: len(it.dialer.dials) == 2)
        link.close(code, "one link only")
        await link.wait_closed()

    it = stage(dial_latency=1.0)
    it.dialer.then(first)
    it.start()
    await until(lambda: len(it.of(LinkOpened)) == 2)
    await asyncio.sleep(5)

    assert ["connect", "disconnect", "connect"] == it.handler.names
    assert not it.task.done()  # type: ignore[union-attr]
    await it.cancel()


async def test_a_far_side_that_closes_the_new_link_keeps_the_old_one() -> None:
    async def far_side(link: FarEnd) -> None:
        if link is not it.dialer.links[0].far:
            link.close(4409, "one link only")
        await link.wait_closed()

    it = stage(far_side=far_side)
    it.start()
    await asyncio.sleep(1000)

    assert 1 == len(it.of(RenewalStopped))
    assert ["connect"] == [name for name in it.handler.names if name != "message"][:1]
    assert [] == it.of(Disconnected)
    await it.cancel()


async def test_a_new_dial_that_is_slow_keeps_nobody_waiting() -> None:
    it = stage(far_side=numbered)
    it.start()
    await until(lambda: it.handler.sends)
    it.dialer._dial_latency = 10.0
    await until(lambda: it.of(HandedOver))
    heard = list(it.handler.messages)
    await it.cancel()

    assert [str(number) for number in range(780)] == heard[:780], "the old link served meanwhile"


async def numbered(link: FarEnd) -> None:
    number = 0
    while link.closed is None:
        link.send(str(number))
        number += 1
        await asyncio.sleep(0.1)


async def test_a_new_link_that_dies_before_the_switch_leaves_the_old_one() -> None:
    async def far_side(link: FarEnd) -> None:
        if len(it.dialer.links) == 2:
            await asyncio.sleep(0.5)
            link.drop()
        await link.wait_closed()

    class Slow(Ready):
        async def on_handover(self, send: Any) -> None:
            await super().on_handover(send)
            await asyncio.sleep(1)

    it = stage(far_side=far_side, handler=Slow())
    it.start()
    await until(lambda: it.of(HandedOver))

    assert [3] == [event.new for event in it.of(HandedOver)]
    assert [] == it.of(Disconnected)
    await it.cancel()


async def test_a_new_link_that_dies_just_after_the_switch_is_a_loss_like_another() -> None:
    async def far_side(link: FarEnd) -> None:
        if len(it.dialer.links) == 2:
            await until(lambda: it.of(HandedOver))
            link.drop()
        await link.wait_closed()

    it = stage(far_side=far_side, handler=Ready())
    it.start()
    await until(lambda: len(it.handler.sends) == 3)
    await it.cancel()

    assert ["connect", "handover", "disconnect", "connect", "disconnect"] == it.handler.names


async def test_a_token_that_is_refused_in_the_middle_is_replaced_and_never_dialled_again() -> None:
    it = stage()
    it.start()
    await until(lambda: it.handler.sends)
    it.dialer.then(HandshakeError("who?", status=401))
    await until(lambda: it.of(HandedOver))
    await it.cancel()

    dialled = [dict(handshake.headers)["Authorization"] for handshake in it.dialer.dials]
    assert ["Bearer t1", "Bearer t2", "Bearer t3"] == dialled
    assert 1 == it.metrics.connections


async def test_a_token_that_is_refused_twice_in_the_middle_ends_it_with_the_link() -> None:
    it = stage()
    task = it.start()
    await until(lambda: it.handler.sends)
    it.dialer.then(*[HandshakeError("who?", status=401) for _ in range(5)])
    await until(lambda: it.of(EndDeferred))
    await asyncio.sleep(100)
    assert not task.done(), "the open link stays"
    it.far.drop()
    await asyncio.wait([task])

    error = task.exception()
    assert isinstance(error, PermanentError)
    assert isinstance(error.__cause__, HandshakeError)
    assert 401 == error.__cause__.status
    assert "a fresh token was refused as well" in str(error)
    assert 3 == len(it.dialer.dials)


@pytest.mark.parametrize("phase", ["dialling", "greeting", "proving"])
@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_a_stop_in_the_middle_of_a_hand_over_leaves_nothing(phase: str, how: str) -> None:
    class Slow(Ready):
        async def on_handover(self, send: Any) -> None:
            await super().on_handover(send)
            await asyncio.sleep(1 if phase == "greeting" else 0)

    async def far_side(link: FarEnd) -> None:
        link.answer_pings = len(it.dialer.links) == 1 or phase != "proving"
        await link.wait_closed()

    it = stage(far_side=far_side, handler=Slow(), dial_latency=1)
    task = it.start()
    await until(lambda: len(it.dialer.dials) == 2)
    await asyncio.sleep({"dialling": 0.5, "greeting": 1.5, "proving": 1.5}[phase])
    if how == "cancel":
        await it.cancel()
    else:
        await it.bridge.close()
        await asyncio.wait([task])

    assert 1 == it.handler.names.count("disconnect")
    assert all(link.far.closed is not None for link in it.dialer.links)
    assert [] == it.of(HandedOver)


class Everywhere(Ready):
    """Sends in every callback, and notes what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, Any] = {}

    async def try_to(self, where: str, send: Any) -> None:
        try:
            await send(f"from {where}")
        except Exception as error:
            self.results[where] = type(error).__name__
        else:
            self.results.setdefault(where, "sent")

    async def on_connect(self, send: Any) -> None:
        await super().on_connect(send)
        await self.try_to("on_connect", send)

    async def on_handover(self, send: Any) -> None:
        await super().on_handover(send)
        await self.try_to("on_handover", send)

    async def on_message(self, message: Any) -> None:
        if str(message).startswith("from on_connect"):
            await self.try_to("on_message", self.sends[0])

    async def on_token_refresh(self, token: Any, send: Any) -> bool:
        await self.try_to("on_token_refresh", send)
        return False

    async def on_disconnect(self, error: Exception | None) -> None:
        await super().on_disconnect(error)
        await self.try_to("on_disconnect", self.sends[-1])


async def test_sending_works_in_every_callback_but_the_last() -> None:
    it = stage(handler=Everywhere())
    it.start()
    await until(lambda: it.of(HandedOver))
    await asyncio.sleep(1)
    await it.cancel()

    assert {
        "on_connect": "sent",
        "on_message": "sent",
        "on_token_refresh": "sent",
        "on_handover": "sent",
        "on_disconnect": "NotConnected",
    } == it.handler.results
    assert ["from on_connect", "from on_message", "from on_token_refresh"] == it.dialer.links[
        0
    ].far.received
    assert ["from on_handover"] == it.dialer.links[1].far.received


async def test_the_end_of_a_successor_that_was_given_up_is_told_with_what_came_on_it() -> None:
    """Every link that was opened is lost once: what counts messages and links relies on it."""

    async def far_side(link: FarEnd) -> None:
        if len(it.dialer.links) == 2:
            for number in range(3):
                link.send(str(number))
            link.go_silent()
        await link.wait_closed()

    it = Stage(far_side=far_side, max_link_age=60)
    it.start()
    await until(lambda: len(it.of(HandedOver)) == 2)
    await it.cancel()

    assert [link.link for link in it.of(LinkOpened)] == sorted(
        link.link for link in it.of(LinkLost)
    )
    [given_up] = [lost for lost in it.of(LinkLost) if lost.link == 2]
    assert (3, True) == (given_up.messages, given_up.released)
