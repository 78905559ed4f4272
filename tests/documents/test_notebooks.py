"""The cells of docs/howto/notebooks.md, one after the other in one namespace, as a kernel does."""

import ast
import asyncio
import inspect
from types import CodeType
from typing import Any

from tests.documents.pages import Block, Page
from tests.documents.world import World, world

CELLS = Page("howto/notebooks.md").blocks("python")
ASYNCHRONOUS, PLAIN = CELLS[:4], CELLS[4:]


def compiled(cell: Block, around: World, flags: int = 0) -> CodeType:
    """Compile a cell so that it leaves the value of its last line in `_`."""
    tree = ast.parse(cell.with_addresses(around.addresses))
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        target = ast.Name("_", ast.Store())
        tree.body[-1] = ast.fix_missing_locations(ast.Assign([target], last.value))
    return compile(tree, str(cell), "exec", flags=flags)


async def run(cell: Block, around: World, names: dict[str, Any]) -> Any:
    """Execute a cell, and return the value of its last line."""
    names.pop("_", None)
    waits = eval(compiled(cell, around, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.iscoroutine(waits):
        await waits
    return names.get("_")


async def test_the_connection_stays_open_between_cells():
    names: dict[str, Any] = {}
    async with world() as around:
        opening, talking, looking, closing = ASYNCHRONOUS
        await run(opening, around, names)
        assert "hello" == await run(talking, around, names)
        around.far.drop_all()
        await around.far.wait_for_link(2)
        assert "hello" == await run(talking, around, names)
        assert 1 == (await run(looking, around, names)).counters.gaps
        await run(closing, around, names)
        await around.far.links[1].wait_closed()

    assert 1000 == around.far.links[1].close_code


async def test_the_plain_cells_need_no_await_and_no_loop():
    names: dict[str, Any] = {}
    async with world() as around:

        def kernel() -> Any:
            for cell in PLAIN:
                names.pop("_", None)
                exec(compiled(cell, around), names)
                yield names.get("_")

        opened, said, closed = await asyncio.to_thread(lambda: list(kernel()))
        await around.far.links[0].wait_closed()

    assert ("hello", None) == (said, closed)
    assert names["connection"] is opened
    assert ["hello"] == around.far.links[0].received
    assert 1000 == around.far.links[0].close_code
