"""The examinations of docs/howto/doctor.md, made on a gateway and a far side on loopback."""

import asyncio
import os
import sys

import pytest

from tests.documents.pages import Block, Page
from tests.documents.test_other_blocks import commands
from tests.documents.world import SOURCE, says, world

pytestmark = pytest.mark.slow  # processes, as a user would start them

WELL, UNKNOWN, WITHOUT = Page("howto/doctor.md").blocks("sh")


@pytest.mark.parametrize(
    ("block", "status"),
    [(WELL, 0), (UNKNOWN, 78), (WITHOUT, 0)],
    ids=["well", "unknown", "without a token"],
)
async def test_it_prints_what_the_page_says(block: Block, status: int):
    ((_, *arguments),) = commands(block)
    async with world() as around:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dromos"),
            *(around.addresses.get(word, word) for word in arguments),
            env={**os.environ, "PYTHONPATH": SOURCE},
            stdout=asyncio.subprocess.PIPE,
        )
        printed = (await process.communicate())[0].decode()

    assert status == process.returncode
    assert says(block.prints or "", printed), printed
