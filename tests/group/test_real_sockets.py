"""A group on real sockets: a far side that drops everybody, and one that refuses one for good."""

import asyncio

from dromos import Bridge, PermanentError
from dromos.oauth import OAuthClient
from dromos.testing import FarSide, Gateway
from tests.driver.harness import Notes, until

SIZE = 20


async def test_a_group_survives_a_far_side_that_drops_everybody() -> None:
    agents = [Notes() for _ in range(SIZE)]
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        for number in range(SIZE):
            gateway.add(f"c-{number}", lifetime=3600)
        async with (
            OAuthClient(gateway.url) as oauth,
            Bridge(oauth) as bridge,
            bridge.supervise() as group,
        ):
            for number, agent in enumerate(agents):
                group.start(f"c-{number}", far.url, agent)
            group.start("nobody-knows-it", far.url, Notes())
            async with asyncio.timeout(60):
                failure = await anext(group.failures())
            await until(lambda: all(len(agent.sends) == 1 for agent in agents))
            far.drop_all()
            await until(lambda: all(len(agent.sends) == 2 for agent in agents))

            assert SIZE == len(group)
            assert "nobody-knows-it" == failure.connection_id
            assert far.url.startswith(failure.endpoint.rstrip("/"))
            assert isinstance(failure.error, PermanentError)

    assert [["connect", "disconnect"] * 2] * SIZE == [agent.names for agent in agents]
