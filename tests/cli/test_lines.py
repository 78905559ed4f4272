"""Standard input as lines from whatever it is, and lines out."""

import asyncio
import contextlib
import os
import pty
import tty

import pytest

from dromos.cli.lines import BLOCK, Lines, Printer


async def read_all(descriptor: int) -> list[bytes]:
    return [line async for line in Lines(descriptor)]


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


async def test_lines_of_a_pipe_lose_their_ends_and_the_last_needs_none(pipe):
    out, into = pipe
    os.write(into, b"one\ntwo\r\n\nfour")
    os.close(into)

    assert await read_all(out) == [b"one", b"two", b"", b"four"]


async def test_a_regular_file_is_read_to_its_end(tmp_path):
    path = tmp_path / "input"
    line = b"x" * (2 * BLOCK + 17)
    path.write_bytes(line + b"\nlast\n")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert await read_all(descriptor) == [line, b"last"]
    finally:
        os.close(descriptor)


async def test_a_terminal_is_read_line_by_line():
    master, slave = pty.openpty()
    try:
        os.write(master, b"hello\n\x04")  # the second is end of input, on a new line
        assert await read_all(slave) == [b"hello"]
    finally:
        os.close(master)
        os.close(slave)


async def test_a_descriptor_that_fails_is_an_end():
    assert await read_all(999_999) == []


async def test_lines_are_printed_whole_and_in_order(pipe):
    out, into = pipe
    printer = Printer(into)

    await asyncio.gather(*(printer.print(b"line %d" % number) for number in range(100)))

    assert os.read(out, 10_000) == b"".join(b"line %d\n" % number for number in range(100))


async def test_a_reader_that_has_gone_is_an_error(pipe):
    out, into = pipe
    os.close(out)

    with pytest.raises(BrokenPipeError):
        await Printer(into).print(b"x")


async def test_a_raw_terminal_gets_the_bytes():
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        await Printer(slave).print(b"\x1b")
        assert os.read(master, 10) == b"\x1b\n"
    finally:
        os.close(master)
        os.close(slave)
