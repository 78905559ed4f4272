"""The programs of docs/howto/from-websocket-client.md, before and after."""

from pathlib import Path

import pytest

from tests.documents.packages import search_path
from tests.documents.pages import Page
from tests.documents.world import play, says, world

pytestmark = pytest.mark.slow  # processes, as a user would start them

BEFORE, AFTER = Page("howto/from-websocket-client.md").blocks("python")


async def test_before(other_packages: Path, tmp_path: Path):
    async with world() as around:
        path = search_path(other_packages)
        printed = await play(
            BEFORE, around.addresses, tmp_path, TOKEN=around.token, PYTHONPATH=path
        )

    assert says(BEFORE.prints or "", printed)


async def test_after_prints_the_same(tmp_path: Path):
    async with world() as around:
        printed = await play(AFTER, around.addresses, tmp_path, TOKEN=around.token)

    assert BEFORE.prints == AFTER.prints
    assert says(AFTER.prints or "", printed)


def test_what_the_table_calls_ours_exists():
    import inspect

    import dromos.sync
    from dromos.dialers import PicowsDialer

    assert {"ssl", "proxy", "headers"} <= set(inspect.signature(PicowsDialer).parameters)
    assert {"ping_interval", "ping_timeout"} <= dromos.sync.BridgeOptions.__optional_keys__
    with pytest.raises(TypeError, match="reconnect"):
        dromos.sync.Bridge(object(), reconnect=5)  # type: ignore[call-arg, arg-type]
