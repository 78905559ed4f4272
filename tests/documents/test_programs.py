"""Every Python block of the pages runs as a program, and prints what the page says."""

from pathlib import Path

import pytest

from tests.documents.pages import PAGES, Block
from tests.documents.world import play, says, world

ELSEWHERE = {
    "howto/django.md": "tests/documents/test_django.py",
    "howto/fastapi.md": "tests/documents/test_fastapi.py",
    "howto/from-websocket-client.md": "tests/documents/test_websocket_client.py",
    "howto/notebooks.md": "tests/documents/test_notebooks.py",
    "howto/proxy-and-private-ca.md": "tests/documents/test_proxy_and_private_ca.py",
    "testing.md": "tests/testing/test_plugin.py",
    "tokens.md": "tests/documents/test_tokens.py",
    "tutorial.md": "tests/documents/test_tutorial.py",
}
"""Pages whose blocks need more than servers on loopback, and the tests that run them."""

BLOCKS = [block for page in PAGES if page.path not in ELSEWHERE for block in page.blocks("python")]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
async def test_a_block_runs_and_prints_what_the_page_says(block: Block, tmp_path: Path):
    async with world() as around:
        printed = await play(block, around.addresses, tmp_path, TOKEN=around.token)

    assert says(block.prints or "", printed), f"the page says otherwise:\n{printed}"


def test_what_the_page_says_is_compared_line_by_line():
    assert says("one\ntwo …\n", "one\ntwo 2\n")
    assert says("one\n…\n", "one\ntwo\nthree\n")
    assert says("one\n…\n", "one\n")
    assert says("…\nthree\n", "one\ntwo\nthree\n")
    assert says("", "")
    assert not says("", "one\n")
    assert not says("…\ntwo\n", "one\ntwo\nthree\n")
    assert not says("one\n", "one\ntwo\n")
    assert not says("one\ntwo\n", "one\n")


def test_each_page_that_is_run_elsewhere_is_there_and_names_a_test():
    root = Path(__file__).parents[2]
    paths = {page.path for page in PAGES}

    assert set(ELSEWHERE) <= paths
    assert all((root / test).exists() for test in ELSEWHERE.values())
