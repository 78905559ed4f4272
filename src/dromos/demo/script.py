"""The steps: what goes wrong, in which order, and what must come of it."""

import asyncio
import time
from typing import Final

from dromos.demo.world import CONNECTION, PREPARATION, Plan, StepFailed, World
from dromos.errors import HandshakeError
from dromos.events import AttemptFailed, Connected, HandedOver, LinkLost, RetryScheduled

__all__ = ["STEPS"]


async def _connect(world: World) -> str:
    connected = await world.expect(Connected, since=0, within=10)
    link = await world.far.wait_for_link()
    await world.far.wait_for(lambda: link.received)
    return f"link {connected.link} is open; its token lives {world.lifetime:g} s"


async def _hand_over(world: World) -> str:
    old = world.far.link
    since = len(world.journal)
    event = await world.expect(HandedOver, since=since, within=world.lifetime + 5)
    await old.wait_closed()
    expires_at = old.expires_at or 0.0
    early = expires_at - (old.closed_at or expires_at)
    if old.closed_with == 4401 or early <= 0:
        raise StepFailed("the old link was still open when its token expired")
    return (
        f"link {event.new} took over from link {event.old}, "
        f"{early:.1f} s before the old token expired"
    )


async def _killed(world: World) -> str:
    await world.calm(3.5)
    since = len(world.journal)

    async def kill() -> None:
        await world.far.stop()
        await asyncio.sleep(1.5)
        await world.far.start()

    connected = await world.recover("killed", kill, what="far side killed", within=20)
    refused = sum(1 for e in world.journal[since:] if isinstance(e, AttemptFailed))
    return f"{_times(refused)} refused, then back after {connected.gap:.1f} s"


async def _silent(world: World) -> str:
    await world.calm(4.8)
    since = len(world.journal)
    silent = world.far.open_links
    frozen_at = time.time()

    async def freeze() -> None:
        world.far.go_silent()

    connected = await world.recover("silent", freeze, what="far side goes silent", within=20)
    if any(link.closed_at is not None for link in silent):
        raise StepFailed("the silent link's TCP connection did not stay open")
    for link in silent:
        link.drop()  # nobody is there any more
    lost = await world.expect(LinkLost, since=since, within=1)
    return f"noticed after {lost.at - frozen_at:.1f} s; back on link {connected.link}"


async def _refused(world: World) -> str:
    await world.calm(3.5)
    since = len(world.journal)

    refused_token = world.far.link.token

    async def revoke() -> None:
        world.gateway.revoke(CONNECTION)
        world.far.drop_all()

    connected = await world.recover("refused", revoke, what="token revoked", within=20)
    await world.expect(
        AttemptFailed, since=since, within=1, where=lambda event: _status(event) == 401
    )
    renewed = world.far.link.token
    if renewed == refused_token:
        raise StepFailed("the link was opened with the refused token")
    return f"401, then a fresh token; back after {connected.gap:.1f} s"


async def _limited(world: World) -> str:
    await world.calm(3.5)
    since = len(world.journal)

    async def limit() -> None:
        world.far.refuse(status=429, headers={"Retry-After": "2"}, body="too many")
        world.far.close_all(1011, "overloaded")

    connected = await world.recover("limited", limit, what="far side limits the rate", within=20)
    refused = await world.expect(
        AttemptFailed, since=since, within=1, where=lambda event: _status(event) == 429
    )
    waited = connected.at - refused.at
    if waited < 2:
        raise StepFailed(f"asked to wait 2 s, tried again after {waited:.1f} s")
    retry = await world.expect(RetryScheduled, since=world.journal.index(refused), within=1)
    return f"429 asked for 2 s, waited {retry.delay:.1f} s; back after {connected.gap:.1f} s"


async def _close(world: World) -> str:
    link = world.far.link
    assert world.agent.send is not None
    assert world.session is not None
    world.agent.send.close()
    async with asyncio.timeout(10):
        await world.session
    await link.wait_closed()
    if link.close_code != 1000:
        raise StepFailed(f"the far side saw close code {link.close_code}, not 1000")
    return "closed with 1000, and the far side answered"


def _times(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


def _status(event: AttemptFailed) -> int | None:
    return event.error.status if isinstance(event.error, HandshakeError) else None


STEPS: Final = (
    Plan(
        name="connect",
        title="connect with a token from the gateway",
        story="The agent has no token: the bridge asks the gateway, and opens link 1 with it.",
        act=_connect,
    ),
    Plan(
        name="handover",
        title="renew the token without a gap",
        story=(
            "This far side closes a link when its token expires.  Before that, the bridge has "
            "the token refreshed and opens the next link beside the old one, which serves on "
            f"while the agent takes {PREPARATION * 1000:.0f} ms to get ready on the next."
        ),
        act=_hand_over,
    ),
    Plan(
        name="killed",
        title="the far side is killed, and starts again",
        story="Every connection is reset and the port refuses for 1.5 s: backoff with jitter.",
        act=_killed,
    ),
    Plan(
        name="silent",
        title="the peer goes silent, its TCP connection open",
        story="Nothing arrives and nothing fails: only a ping without an answer tells.",
        act=_silent,
    ),
    Plan(
        name="refused",
        title="the token is revoked: 401 at the handshake",
        story="The far side refuses a token that has not expired: it is dropped and replaced.",
        act=_refused,
    ),
    Plan(
        name="limited",
        title="too many: 429 with Retry-After",
        story="The far side closes with 1011, then asks for 2 s of patience, and gets them.",
        act=_limited,
    ),
    Plan(
        name="again",
        title="renew the token again, after all that",
        story="Trouble leaves nothing behind: the next token comes without a gap as well.",
        act=_hand_over,
    ),
    Plan(
        name="close",
        title="close",
        story="The agent is done: a close with 1000, answered by the far side.",
        act=_close,
    ),
)
