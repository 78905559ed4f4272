"""Servers that we did not write, each a real process: installed once, started for the run."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest
import trustme

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".venv-interop"  # in .gitignore, and `make clean` removes it
INSTALL_WITHIN = 240.0
START_WITHIN = 30.0

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


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


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


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    """Run a server until it listens, and end it."""
    # Its stderr goes to a file: workers that outlive it would hold a pipe open.
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            env=environment,
        )
        try:
            wait_for(process, port, said)
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the workers as well
            process.wait()


def wait_for(process: "subprocess.Popen[bytes]", port: int, said: IO[bytes]) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end:
        if process.poll() is not None:
            said.seek(0)
            text = said.read().decode(errors="replace")
            raise RuntimeError(f"the server ended at once: {text[-800:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)  # there is no event for a port that opens
        else:
            return
    raise RuntimeError(f"the server did not listen within {START_WITHIN:g} s")


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Each server, by name, and the port it listens on."""
    name, port = request.param, free_port()
    needs = "node_modules" if name == "ws" else "server_packages"
    place = request.getfixturevalue(needs)
    words = {"python": sys.executable, "here": HERE, "port": port, "modules": place}
    command = [part.format(**words) for part in SERVERS[name]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(place), str(HERE / "servers")))}
    with running(command, port, environment):
        yield name, port


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A private certificate authority."""
    return trustme.CA()


NGINX = """
daemon off; error_log stderr crit; pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};
    location / {{
      proxy_pass http://127.0.0.1:{to}; proxy_http_version 1.1; proxy_read_timeout 2s;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 2s
  timeout server 2s
  timeout tunnel 2s
frontend front
  bind 127.0.0.1:{port} ssl crt {pem}
  default_backend back
backend back
  server one 127.0.0.1:{to}
"""
CADDY = """
{{
  admin off
  auto_https off
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls {pem} {pem}
  reverse_proxy 127.0.0.1:{to}
}}
"""
FRONTS = {
    "nginx": (NGINX, ["nginx", "-e", "stderr", "-c", "{file}"]),
    "haproxy": (HAPROXY, ["haproxy", "-db", "-q", "-f", "{file}"]),
    "caddy": (CADDY, ["caddy", "run", "--adapter", "caddyfile", "--config", "{file}"]),
}


@pytest.fixture(params=FRONTS)
def front(
    request: pytest.FixtureRequest, tmp_path: Path, authority: trustme.CA, server_packages: Path
) -> Iterator[tuple[str, int]]:
    """Each reverse proxy with TLS, before the same server; by name, and its port."""
    name, port, to = request.param, free_port(), free_port()
    template, command = FRONTS[name]
    found = shutil.which(command[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"there is no `{command[0]}` on this machine (a Debian package)")
    pem, file = tmp_path / "server.pem", tmp_path / "config"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(pem)
    )
    file.write_text(template.format(port=port, to=to, pem=pem, folder=tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(server_packages), "HOME": str(tmp_path)}
    behind = [sys.executable, str(HERE / "servers" / "plain.py"), "websockets", str(to)]
    with ExitStack() as stack:
        stack.enter_context(running(behind, to, environment))
        words = [found, *(part.format(file=file) for part in command[1:])]
        stack.enter_context(running(words, port, environment))
        yield name, port
