"""A short search of every target; `make fuzz` is the long one."""

from collections.abc import Callable

import pytest

from tests.fuzz.run import search
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_a_stranger_sends_is_read_or_refused(name: str) -> None:
    assert search(TARGETS[name], 150) is None


def test_a_search_can_find_something() -> None:
    from hypothesis import given
    from hypothesis import strategies as st

    @given(st.integers())
    def small(number: int) -> None:
        assert number < 100

    found: Callable[[], None] = small
    assert "number=100" in str(search(found, 500))
