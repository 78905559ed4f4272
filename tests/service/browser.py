"""A headless Chromium that loads one page, and is gone."""

import asyncio
import contextlib
import shutil
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
