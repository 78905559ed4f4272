"""The files of docs/howto/django.md, in a project of their own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dromos.testing import FarSide, Gateway
from tests.documents.pages import Page
from tests.documents.world import SOURCE, play, says, world

pytestmark = pytest.mark.slow  # processes, as a user would start them

PAGE = Page("howto/django.md")
*FILES, THREAD = PAGE.blocks("python")
NAMES = re.findall(r"^`(agents/[\w/]+\.py)`:$", PAGE.text, re.MULTILINE)

MANAGE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background takes away
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""
SETTINGS = """
ROOT_URLCONF, INSTALLED_APPS, ALLOWED_HOSTS = "urls", ["agents"], ["*"]
SECRET_KEY, USE_TZ, DATABASES = "test", True, {}
"""
URLS = """
from agents.views import command
from django.urls import path
urlpatterns = [path("commands/<int:number>", command)]
"""
VISIT = """
import os, threading
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()
from django.test import Client
answers = []
def visit(number):
    answers.append(Client().get(f"/commands/{number}").json()["id"])
threads = [threading.Thread(target=visit, args=(n,)) for n in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(answers))
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[Path, FarSide]]:
    """A Django project with the page's files, and the far side that they lead to."""
    with Gateway().threaded() as gateway, FarSide(gateway=gateway, echo=True).threaded() as far:
        gateway.add("your-connection-id")
        addresses = {
            "http://localhost:8081": gateway.url,
            "wss://external.system.com/ws": far.url,
        }
        for name, block in zip(NAMES, FILES, strict=True):
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.with_addresses(addresses))
        for name, text in {
            "agents/__init__.py": "",
            "agents/management/__init__.py": "",
            "agents/management/commands/__init__.py": "",
            "manage.py": MANAGE,
            "settings.py": SETTINGS,
            "urls.py": URLS,
            "visit.py": VISIT,
        }.items():
            (tmp_path / name).write_text(text)
        yield tmp_path, far


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_the_command_keeps_a_connection_until_ctrl_c(project: tuple[Path, FarSide]):
    folder, far = project
    with start(folder, "manage.py", "agent") as process:
        await far.wait_for_link(1, timeout=30)
        assert process.stdout is not None
        assert "received hello from agent\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)

    assert "disconnected: None\n" == said
    assert 1000 == far.links[0].close_code


def test_views_on_several_threads_share_one_connection(project: tuple[Path, FarSide]):
    folder, far = project
    with start(folder, "visit.py") as process:
        said, complained = process.communicate(timeout=60)

    assert "[0, 1, 2, 3, 4]\n" == said
    assert "Traceback" not in complained
    assert 1 == len(far.links)
    assert 1000 == far.links[0].close_code


async def test_any_other_thread(tmp_path: Path):
    async with world() as around:
        printed = await play(THREAD, around.addresses, tmp_path)

    assert says(THREAD.prints or "", printed)
