"""Every Python block of the pages runs as a program, and prints what the page says."""

from pathlib import Path

import pytest

from tests.documents.pages import PAGES, Block, Page
from tests.documents.world import play, says, world

HERE = Path(__file__).parent
BY_OTHER_NAMES = {"testing.md": HERE.parent / "testing" / "test_plugin.py"}


def module_of(page: Page) -> Path | None:
    """The tests that run a page whose blocks need more than servers on loopback."""
    stem = Path(page.path).stem.replace("-", "_")
    module = BY_OTHER_NAMES.get(page.path, HERE / f"test_{stem}.py")
    return module if module.exists() else None


BLOCKS = [block for page in PAGES if module_of(page) is None for block in page.blocks("python")]


@pytest.mark.slow  # a process each, as a user would start it
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


@pytest.mark.parametrize("page", [page for page in PAGES if module_of(page)], ids=str)
def test_a_module_of_a_page_s_name_is_about_that_page(page: Page):
    module = module_of(page)

    assert module is not None
    assert Path(page.path).name in module.read_text()


def test_some_pages_are_run_elsewhere_and_most_are_not():
    assert 5 < sum(module_of(page) is not None for page in PAGES) < len(PAGES) / 2
