"""What several of the core's tests share."""

from functools import cache

import pytest

from tests.core.exploration import Explore, explore


@pytest.fixture(scope="session")
def explored() -> Explore:
    """`explore`, which goes every way once in a test run.

    No cache at module level: a tool that forks test runs would keep it.
    """
    return cache(explore)
