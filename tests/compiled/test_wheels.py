"""What a build makes: a wheel for every platform, unless it was asked to compile."""

import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.compiled import EXPECTED

ROOT = Path(__file__).parents[2]
LISTENER = "dromos/dialers/_compiled"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed"
)


def build(target: str, to: Path, **variables: str) -> Path:
    """Build from this very tree, with what is installed here."""
    environment = {name: value for name, value in os.environ.items() if name != "DROMOS_COMPILE"}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(to)],
        cwd=ROOT,
        env=environment | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    (made,) = to.iterdir()
    return made


def of_the_listener(wheel: Path) -> list[str]:
    """The names in a wheel of what is compiled, or could be."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.startswith(LISTENER)]


def asked(root: Path, **variables: str) -> str:
    """What a build says that it needs besides hatchling."""
    script = "import hatchling.build; print(hatchling.build.get_requires_for_build_wheel())"
    environment = {name: value for name, value in os.environ.items() if name != "DROMOS_COMPILE"}
    command = [sys.executable, "-c", script]
    return subprocess.check_output(command, cwd=root, env=environment | variables, text=True)


def test_a_wheel_is_for_every_platform_and_needs_no_compiler(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path, PATH="")

    assert wheel.name.endswith("-py3-none-any.whl")
    assert [] == of_the_listener(wheel)
    assert "[]" == asked(ROOT).strip()


def test_who_asks_to_compile_is_given_the_tools_and_the_engine() -> None:
    needed = asked(ROOT, DROMOS_COMPILE="1")

    assert all(name in needed for name in ("cython>=3.2", "setuptools", "picows>=2.3.1"))


def test_the_source_distribution_can_be_compiled(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"hatch_build.py", "src/dromos/dialers/_compiled.pyx"} <= names
    assert not [name for name in names if name.endswith((".so", ".c", ".pyd"))]


@pytest.mark.skipif(not EXPECTED, reason="make compiled-test compiles")
def test_a_wheel_that_was_asked_for_has_the_listener_and_its_platform(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path, DROMOS_COMPILE="1")

    (name,) = of_the_listener(wheel)
    assert name.endswith((".so", ".pyd"))
    assert "none-any" not in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        (facts,) = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        assert b"Root-Is-Purelib: false" in archive.read(facts)
