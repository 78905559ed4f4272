"""Fixtures: `oidc` and `toolkit`, each a process of the whole run, and as new for every test."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from tests.oauth.servers import Client, Oidc, Process, Toolkit
from tests.oauth.servers.wire import Tap

HERE = Path(__file__).parent
SOURCE = HERE / "oidc_provider"
CACHE = HERE.parents[2] / ".venv-oidc"  # in .gitignore, and `make clean` removes it
INSTALL_WITHIN = 180.0
ABLE = """
const able = typeof URL.parse === 'function' && typeof require('crypto').hash === 'function';
process.stdout.write(`${process.version} ${able ? 'able' : 'too old'}`);
"""  # what oidc-provider 9 needs, and some versions before 22 have
SUBJECT = "client.example"


# --- oidc-provider --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def oidc_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oidc]:
    node = find_node()
    modules = install()
    folder = tmp_path_factory.mktemp("oidc")
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    certificates = {
        name: authority.issue_cert(subject)
        for name, subject in {"client": SUBJECT, "other": "other.example"}.items()
    }
    for name, certificate in certificates.items():
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    keys: dict[str, PrivateKeyTypes] = {
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        "RS256": rsa.generate_private_key(65537, 2048),
    }
    config = {
        "tls": {
            "key": server.private_key_pem.bytes().decode(),
            "cert": "".join(each.bytes().decode() for each in server.cert_chain_pems),
            "ca": authority.cert_pem.bytes().decode(),
        },
        "keys": {name: _public(key) for name, key in keys.items()},
        "certificate": certificates["client"].cert_chain_pems[0].bytes().decode(),
        "subject": SUBJECT,
    }
    with Process([node, str(SOURCE / "server.mjs"), str(modules)], config) as process:
        yield Oidc(
            url=f"http://127.0.0.1:{process.ready['http']}",
            control=f"http://127.0.0.1:{process.ready['control']}",
            clients=_clients(process),
            secure_url=f"https://localhost:{process.ready['https']}",
            ca=folder / "ca.pem",
            certificates={name: folder / f"{name}.pem" for name in certificates},
            keys={name: _private(key) for name, key in keys.items()},
        )


@pytest.fixture
def oidc(oidc_process: Oidc) -> Oidc:
    oidc_process.reset()
    return oidc_process


@pytest.fixture
async def oidc_tap(oidc: Oidc) -> AsyncIterator[Tap]:
    """A tap in front of `oidc`: `oidc.behind(oidc_tap)` is the server as the client sees it."""
    async with Tap(oidc.url) as tap:
        yield tap


def _clients(process: Process) -> Mapping[str, Client]:
    return {name: Client(**each) for name, each in process.ready["clients"].items()}


def _public(key: PrivateKeyTypes) -> str:
    public = key.public_key()
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, kind).decode()


def _private(key: PrivateKeyTypes) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


# --- Installing it --------------------------------------------------------------------------------


def installed() -> Path:
    """Where the packages of this lock are, or will be."""
    key = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()[:16]
    return CACHE / key / "node_modules"


def find_node() -> str:
    """The path of a Node that can run oidc-provider; skips the test if there is none."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("oidc-provider needs Node, and there is no `node` on the path")
    try:
        found = subprocess.run(
            [node, "-e", ABLE], check=True, capture_output=True, text=True, timeout=60
        ).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"oidc-provider needs Node, and `node` does not run: {type(error).__name__}")
    if found[1:] != ["able"]:
        pytest.skip(f"oidc-provider needs a newer Node than {found[0]}")
    return node


def install() -> Path:
    """Install what the lock names, once for all runs; skips the test if that fails.

    Several runs may install at once: each into a folder of its own, and the first one's stays.
    """
    modules = installed()
    if modules.exists():
        return modules
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("oidc-provider has to be installed, and there is no `npm` on the path")
    try:
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as folder:
            place = Path(folder, "place")
            place.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, place)
            _npm_ci(npm, place)
            try:
                place.rename(modules.parent)
            except OSError:
                if not modules.exists():
                    raise
    except OSError as error:
        pytest.skip(f"oidc-provider could not be installed: {error.strerror}")
    return modules


def _npm_ci(npm: str, place: Path) -> None:
    options = "--ignore-scripts --no-audit --no-fund --no-progress --prefer-offline"
    retries = "--fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=60000"
    process = subprocess.Popen(
        [npm, "ci", *options.split(), *retries.split()],
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with process:
        try:
            output, _ = process.communicate(timeout=INSTALL_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.skip(
                f"`npm ci` of oidc-provider took over {INSTALL_WITHIN:g} s: {told(output, place)}"
            )
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        pytest.skip(
            f"`npm ci` of oidc-provider failed ({process.returncode}): {told(output, place)}"
        )


def told(output: bytes, place: Path) -> str:
    """What npm said last, and its code, without addresses and paths of this machine."""
    text = output.decode(errors="replace")
    hosts = set(re.findall(r"\w+://(?:[^\s/@]*@)?([^\s/:]+)", text))
    hosts |= set(re.findall(r"(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT) ([^\s:]+)", text))
    text = re.sub(r"\w+://\S+", "(address)", text).replace(str(place), ".")
    for host in sorted(hosts, key=len, reverse=True):
        text = text.replace(host, "(host)")
    lines = [line.strip() for line in text.splitlines()]
    lines = [re.sub(r"^npm (error|ERR!)\s*", "", line) for line in lines]
    advice = ("complete log", "_logs", "behind a proxy", "npm help")
    lines = [line for line in lines if line and not any(words in line for words in advice)]
    code = next((line.split()[1] for line in lines if re.fullmatch(r"code \w+", line)), None)
    said = lines[-1][:300] if lines else "it said nothing"
    return said if code is None or code in said else f"{code}: {said}"


# --- django-oauth-toolkit -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def toolkit_process() -> Iterator[Toolkit]:
    pytest.importorskip("oauth2_provider")
    command = [sys.executable, "-W", "ignore", str(HERE / "django_toolkit.py")]
    with Process(command, {}) as process:
        url = f"http://127.0.0.1:{process.ready['http']}"
        yield Toolkit(url=url, control=f"{url}/test", clients=_clients(process))


@pytest.fixture
def toolkit(toolkit_process: Toolkit) -> Toolkit:
    toolkit_process.reset()
    return toolkit_process


@pytest.fixture
async def toolkit_tap(toolkit: Toolkit) -> AsyncIterator[Tap]:
    """A tap in front of `toolkit`."""
    async with Tap(toolkit.url) as tap:
        yield tap
