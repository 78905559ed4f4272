"""The application of docs/howto/fastapi.md, served by uvicorn as the page says."""

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dromos.testing import FarSide, Gateway
from tests.documents.packages import search_path
from tests.documents.pages import Page
from tests.interop.processes import started

pytestmark = pytest.mark.slow  # processes, as a user would start them

(APP,) = Page("howto/fastapi.md").blocks("python")


@pytest.fixture
def application(other_packages: Path, tmp_path: Path) -> Iterator[tuple[str, FarSide]]:
    """Where it is served, and the far side that it is connected to."""
    with Gateway().threaded() as gateway, FarSide(gateway=gateway, echo=True).threaded() as far:
        gateway.add("your-connection-id")
        addresses = {
            "http://localhost:8081": gateway.url,
            "wss://external.system.com/ws": far.url,
        }
        (tmp_path / "app.py").write_text(APP.with_addresses(addresses))
        command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": search_path(other_packages)}
        with started(lambda port: [*command, "--port", str(port)], environment) as port:
            yield f"http://127.0.0.1:{port}", far


def ask(url: str, *, method: str = "GET") -> tuple[int, Any]:
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())


async def test_a_command_is_answered_over_the_connection(application: tuple[str, FarSide]):
    url, far = application
    await far.wait_for_link(1)

    answer = await asyncio.to_thread(ask, f"{url}/commands/7", method="POST")

    assert (200, {"id": 7}) == answer
    assert (200, {"state": "open"}) == await asyncio.to_thread(ask, f"{url}/connection")


async def test_the_application_serves_while_the_far_side_is_down(
    application: tuple[str, FarSide],
):
    url, far = application
    link = await far.wait_for_link(1)
    await far.stop()
    await link.wait_closed()

    answer = await asyncio.to_thread(ask, f"{url}/commands/7", method="POST")

    assert (503, {"detail": "the far side can't be reached"}) == answer
    state = (await asyncio.to_thread(ask, f"{url}/connection"))[1]["state"]
    assert "open" != state
