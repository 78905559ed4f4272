"""Servers that we did not write, each a real process: installed once, started for the run."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from dromos.dialers import PicowsDialer, WebsocketsDialer
from tests.interop.fronts import FRONTS, MUTUAL, fronted
from tests.interop.processes import HERE, started

CACHE = HERE.parents[1] / ".venv-interop"  # in .gitignore, and `make clean` removes it
INSTALL_WITHIN = 240.0

SERVERS = {
    "websockets": ["{python}", "{here}/servers/plain.py", "websockets", "{port}"],
    "aiohttp": ["{python}", "{here}/servers/plain.py", "aiohttp", "{port}"],
    "tornado": ["{python}", "{here}/servers/plain.py", "tornado", "{port}"],
    "uvicorn": [
        *("{python}", "-m", "uvicorn", "asgi:app", "--app-dir", "{here}/servers"),
        *("--host", "127.0.0.1", "--port", "{port}", "--log-level", "error"),
    ],
    "hypercorn": [
        *("{python}", "-m", "hypercorn", "asgi:app", "--bind", "127.0.0.1:{port}"),
        *("--log-level", "error"),
    ],
    "daphne": [
        "{python}",
        "-m",
        "daphne",
        "-b",
        "127.0.0.1",
        "-p",
        "{port}",
        "asgi:app",
        "-v",
        "0",
    ],
    "ws": ["node", "{here}/npm/server.mjs", "{modules}", "{port}"],
}


def key(file: Path) -> str:
    """A name for what a lock asks for, on this interpreter."""
    data = file.read_bytes() + sys.version.encode()
    return hashlib.sha256(data).hexdigest()[:16]


def install(name: str, make: Callable[[Path], None]) -> Path:
    """Install something once for all runs; skip the test if that fails.

    Several runs may install at once: each into a folder of its own, and the first one's stays.
    """
    place = CACHE / name
    if place.exists():
        return place
    try:
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as folder:
            fresh = Path(folder, "place")
            make(fresh)
            try:
                fresh.rename(place)
            except OSError:
                if not place.exists():
                    raise
    except subprocess.TimeoutExpired:
        pytest.skip(f"the servers could not be installed within {INSTALL_WITHIN:g} s")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the servers could not be installed: {type(error).__name__}")
    return place


@pytest.fixture(scope="session")
def server_packages() -> Path:
    """Where the Python servers' packages are."""
    wanted = HERE / "requirements.txt"

    def make(place: Path) -> None:
        # `--target` rather than an environment: it can be moved once it is complete.
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(place)),
                *("--disable-pip-version-check", "-r", str(wanted)),
            ],
            check=True,
            capture_output=True,
            timeout=INSTALL_WITHIN,
        )

    return install(f"python-{key(wanted)}", make)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Where npm's `ws` is."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm's `ws` needs Node and npm")

    def make(place: Path) -> None:
        place.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "npm" / name, place)
        subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=place,
            check=True,
            capture_output=True,
            timeout=INSTALL_WITHIN,
        )

    return install(f"npm-{key(HERE / 'npm' / 'package-lock.json')}", make) / "node_modules"


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Each server, by name, and the port it listens on."""
    name = request.param
    needs = "node_modules" if name == "ws" else "server_packages"
    place = request.getfixturevalue(needs)

    def command(port: int) -> list[str]:
        words = {"python": sys.executable, "here": HERE, "port": port, "modules": place}
        return [part.format(**words) for part in SERVERS[name]]

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(place), str(HERE / "servers")))}
    with started(command, environment) as port:
        yield name, port


@pytest.fixture(params=[PicowsDialer, WebsocketsDialer])
def engine(request: pytest.FixtureRequest) -> Any:
    """Each dialer."""
    return request.param


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


@pytest.fixture
def far_port(server_packages: Path) -> Iterator[int]:
    """The port of a server that sends messages back."""
    words = [sys.executable, str(HERE / "servers" / "plain.py"), "websockets"]
    environment = {**os.environ, "PYTHONPATH": str(server_packages)}
    with started(lambda port: [*words, str(port)], environment) as port:
        yield port


@pytest.fixture(params=FRONTS)
def front(
    request: pytest.FixtureRequest, tmp_path: Path, authority: trustme.CA, far_port: int
) -> Iterator[tuple[str, int]]:
    """Each reverse proxy with TLS, before the same server; by name, and its port."""
    with fronted(request.param, "", tmp_path, authority, far_port) as port:
        yield request.param, port


@pytest.fixture(params=FRONTS)
def strict_front(
    request: pytest.FixtureRequest, tmp_path: Path, authority: trustme.CA, far_port: int
) -> Iterator[tuple[str, int]]:
    """The same, where clients need a certificate as well."""
    asking = MUTUAL[request.param]
    with fronted(request.param, asking, tmp_path, authority, far_port) as port:
        yield request.param, port
