"""A bridge's connection to a server that we did not write."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import trustme

from dromos import Bridge, Connection, Dialer, RetryPolicy
from dromos.oauth import StaticToken

__all__ = ["connected", "reached", "trusting"]

SOON: Final = RetryPolicy(min_backoff=0, max_backoff=0.5)


@asynccontextmanager
async def connected(dialer: Dialer, url: str, **options: Any) -> AsyncGenerator[Connection]:
    """Open a connection with the token that every server here takes, for two minutes at most."""
    bridge = Bridge(StaticToken("good"), dialer=dialer, retry_policy=SOON, **options)
    async with asyncio.timeout(120), bridge, bridge.connect("c", url) as connection:
        yield connection


async def reached(connection: Connection, link: int) -> None:
    """Wait for a connection's link of this number, or a later one."""
    while (connection.link or 0) < link:  # noqa: ASYNC110  # it has no event for this
        await asyncio.sleep(0.02)


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a client of a private authority's servers needs."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
