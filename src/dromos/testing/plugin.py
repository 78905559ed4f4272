"""Fixtures for pytest: `pytest_plugins = ["dromos.testing.plugin"]` in your `conftest.py`.

The gateway and the far side run on threads of their own, so they serve plain tests and
asynchronous ones of any framework alike.
"""

from collections.abc import Iterator

import pytest

from dromos.testing.far_side import FarSide
from dromos.testing.gateway import Gateway
from dromos.testing.virtual import VirtualTime

__all__ = ["dromos_far_side", "dromos_gateway", "virtual_time"]


@pytest.fixture
def dromos_gateway() -> Iterator[Gateway]:
    """A token gateway on loopback, which knows the connection `c-1`."""
    with Gateway().threaded() as gateway:
        gateway.add("c-1", lifetime=3600)
        yield gateway


@pytest.fixture
def dromos_far_side(dromos_gateway: Gateway) -> Iterator[FarSide]:
    """A WebSocket server on loopback, which takes the gateway's tokens and sends messages back."""
    with FarSide(gateway=dromos_gateway, echo=True).threaded() as far:
        yield far


@pytest.fixture
def virtual_time() -> VirtualTime:
    """A bridge without a network, in a time that passes at once."""
    return VirtualTime()
