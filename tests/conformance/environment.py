"""Where the fuzzing server runs: a CPython 2.7 with pinned packages, installed once."""

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["INSTALL_WITHIN", "Unavailable", "environment"]

HERE: Final = Path(__file__).parent
PINS: Final = HERE / "requirements-2.7.txt"
VIRTUALENV: Final = HERE / "requirements-virtualenv.txt"
CACHE: Final = HERE.parents[1] / ".venv-autobahn"  # in .gitignore, and `make clean` removes it

INSTALL_WITHIN: Final = 300.0
"""Seconds.  Without a cache of pip's, and on a busy machine, it takes about one minute."""

_BUILD_TOOLS: Final = ("Cython", "setuptools", "wheel")
_ABLE: Final = """
import platform, ssl, sys, zlib
sys.exit(sys.version_info[:2] != (2, 7) or platform.python_implementation() != "CPython")
"""


class Unavailable(Exception):
    """Autobahn can't be run here; the message says why, and names nothing of this machine."""


def environment() -> Path:
    """Return the `python` that has Autobahn's test suite, installed if it was not.

    Raises:
        Unavailable: If there is no CPython 2.7, or the packages can't be installed.
    """
    interpreter = _find_interpreter()
    place = CACHE / _key(interpreter)
    python = place / "2.7" / "bin" / "python"
    ready = place / "ready"
    try:
        CACHE.mkdir(exist_ok=True)
        with _alone(CACHE / "lock", time.monotonic() + INSTALL_WITHIN):
            if not ready.exists():
                shutil.rmtree(place, ignore_errors=True)
                _install(interpreter, place, time.monotonic() + INSTALL_WITHIN)
                ready.touch()
    except OSError as error:
        raise Unavailable(f"Autobahn could not be installed: {error.strerror}") from error
    return python


def _find_interpreter() -> Path:
    """Return the first CPython 2.7 that runs: a shim of pyenv's may not."""
    folders = [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep) if each]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted(root.glob("versions/2.7*/bin"), reverse=True)
    for candidate in (folder / "python2.7" for folder in folders):
        if os.access(candidate, os.X_OK) and _is_able(candidate):
            return candidate
    raise Unavailable("Autobahn needs a CPython 2.7, and there is none on the path or in pyenv")


def _is_able(candidate: Path) -> bool:
    try:
        command = [str(candidate), "-c", _ABLE]
        done = subprocess.run(
            command, capture_output=True, timeout=60, check=False, env=_surroundings()
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _key(interpreter: Path) -> str:
    """Tell environments apart: other pins or another interpreter need another one."""
    parts = [PINS.read_bytes(), VIRTUALENV.read_bytes(), os.fsencode(interpreter)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


@contextmanager
def _alone(path: Path, deadline: float) -> Iterator[None]:
    """Hold a lock: several runs may install at once, and one does."""
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"another run has been installing Autobahn for {INSTALL_WITHIN:g} s"
                    ) from None
                time.sleep(0.2)
            else:
                break
        yield


def _install(interpreter: Path, place: Path, deadline: float) -> None:
    """Make the environment: virtualenv beside it, what builds packages, then all of them."""
    tools, target = place / "tools", place / "2.7"
    options = ["install", "--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=30"]
    _run([sys.executable, "-m", "venv", str(tools)], deadline)
    _run([_bin(tools, "pip"), *options, "--no-deps", "--requirement", str(VIRTUALENV)], deadline)
    quiet = ["--quiet", "--app-data", str(place / "seeds"), "--no-periodic-update"]
    _run([_bin(tools, "virtualenv"), *quiet, "-p", str(interpreter), str(target)], deadline)
    pip = [_bin(target, "python"), "-W", "ignore", "-m", "pip", *options, "--no-deps"]
    _run([*pip, "--constraint", str(PINS), *_BUILD_TOOLS], deadline)
    # Without isolation packages are built by what is pinned, and by nothing else.
    _run([*pip, "--no-build-isolation", "--requirement", str(PINS)], deadline)


def _bin(place: Path, name: str) -> str:
    return str(place / "bin" / name)


def _run(command: Sequence[str], deadline: float) -> None:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_surroundings(),
        start_new_session=True,  # so that what pip starts ends with it
    )
    step = Path(command[0]).name
    with process:
        try:
            output, _ = process.communicate(timeout=max(0, deadline - time.monotonic()))
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Unavailable(
                    f"installing Autobahn took over {INSTALL_WITHIN:g} s, the last step {step}"
                ) from None
            raise
    if process.returncode:
        raise Unavailable(f"Autobahn could not be installed: {step} said: {_told(output)}")


def _surroundings() -> dict[str, str]:
    """Return this process's environment without what would lead another Python astray."""
    astray = ("PYTHONHOME", "PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in astray}


def _told(output: bytes) -> str:
    """Return the last complaint, without addresses, hosts and paths of this machine."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and "DEPRECATION" not in line]
    errors = [line for line in lines if re.match(r"error\b", line, re.IGNORECASE)]
    last = (errors or lines or ["nothing"])[-1]
    last = re.sub(r"\w+://\S+", "(address)", last)
    last = re.sub(r"host='[^']*'", "(host)", last)
    return re.sub(r"(?<![\w.])/[\w./+-]+", "(path)", last)[:300]
