"""A headless Chromium that loads one page, and is gone."""

import asyncio
import contextlib
import shutil
import struct
import zlib
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium: apt-get install chromium"
)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Whatever a page would load from elsewhere must fail, and not reach anybody.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


async def dom(url: str, profile: Path, *, budget: int = 5000, dark: bool = False) -> str:
    """Return a page's document after so many milliseconds of its own time."""
    return (await _run(url, profile, f"--virtual-time-budget={budget}", "--dump-dom", dark=dark))[0]


async def screenshot(
    url: str, profile: Path, *, width: int = 1200, height: int = 700, dark: bool = False
) -> bytes:
    """Return a page as PNG."""
    image = profile / "page.png"
    options = (f"--window-size={width},{height}", f"--screenshot={image}")
    await _run(url, profile, "--virtual-time-budget=5000", *options, dark=dark)
    return image.read_bytes()


def pixels(image: bytes) -> list[list[tuple[int, int, int]]]:
    """Return the rows of a PNG as Chromium writes it: eight bits a colour, not interlaced.

    Its lines are told as differences to their neighbours (PNG, 3rd edition, 9.2).
    """
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(image):
        length, kind = struct.unpack_from(">I4s", image, at)
        chunks[kind] = chunks.get(kind, b"") + image[at + 8 : at + 8 + length]
        at += 12 + length
    width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (8, 0) == (depth, interlaced)
    step = {2: 3, 6: 4}[colours]
    told, row, rows = zlib.decompress(chunks[b"IDAT"]), bytearray(width * step), []
    for start in range(0, height * (width * step + 1), width * step + 1):
        row = _unfiltered(told[start], told[start + 1 : start + 1 + width * step], row, step)
        rows.append(list(zip(row[::step], row[1::step], row[2::step], strict=True)))
    return rows


def _unfiltered(way: int, told: bytes, above: bytes, step: int) -> bytearray:
    row = bytearray(told)
    for at in range(len(row) if way else 0):
        left, over = row[at - step] if at >= step else 0, above[at]
        corner = above[at - step] if at >= step else 0
        nearest = min((left, over, corner), key=lambda each: abs(left + over - corner - each))
        guess = (0, left, over, (left + over) // 2, nearest)[way]
        row[at] = (row[at] + guess) & 255
    return row


async def _run(url: str, profile: Path, *options: str, dark: bool) -> tuple[str, str]:
    assert CHROMIUM is not None
    colours = ["--blink-settings=preferredColorScheme=0"] if dark else []
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *FLAGS, *colours, f"--user-data-dir={profile}", *options, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return out.decode(), err.decode()
