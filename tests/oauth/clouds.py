"""What the tests of the clouds' credentials share: verdicts, and a look for secrets."""

import asyncio
import threading
import traceback
from typing import Any

import pytest

from dromos._core.schedule import Need
from dromos._core.verdict import Stage, judge
from dromos.errors import BridgeError
from dromos.model import Verdict
from dromos.oauth.cache import TokenCache

CANARY = "CANARY-cloud-4c1d9e"


def verdicts(error: Exception) -> tuple[Verdict, Verdict]:
    """What an error means to a session that never had a token, and to one that had."""
    return (
        judge(error, stage=Stage.TOKEN, worked=False, rejected=False),
        judge(error, stage=Stage.TOKEN, worked=True, rejected=False),
    )


async def failure(source: Any) -> BridgeError:
    """Ask for a token in vain; what is raised is ours, and shows no secret."""
    with pytest.raises(BridgeError) as caught:
        await source.get_token("c")
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(told.format()) + repr(caught.value) + repr(vars(caught.value))
    assert CANARY not in shown, shown
    return caught.value


async def through_the_cache(source: Any, callers: int = 200) -> set[str]:
    """What so many sessions get at once, and that they get it from one call."""

    def judged(error: Exception, worked: bool) -> Verdict:
        return judge(error, stage=Stage.TOKEN, worked=worked, rejected=False)

    cache = TokenCache(source, judge=judged)
    grants = await asyncio.gather(*(cache.obtain(f"c{n}", need=Need.DIAL) for n in range(callers)))
    return {str(sorted(grant.token.credentials.values())) for grant in grants}


class Calls:
    """Counts calls, and notes that none blocks the loop's own thread."""

    def __init__(self) -> None:
        self.loop_thread = threading.get_ident()
        self.count = 0

    def note(self, *, may_be_loop: bool = False) -> None:
        self.count += 1
        assert may_be_loop or threading.get_ident() != self.loop_thread
