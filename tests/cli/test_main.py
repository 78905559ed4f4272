"""The command itself: its version, its help, and what it says without its extra."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_connect import SOURCE


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": SOURCE, "PATH": ""},
        check=False,
    )


def test_it_tells_its_version():
    answer = run("-m", "dromos", "--version")

    assert (answer.returncode, answer.stdout) == (0, "dromos 0.1.0\n")


def test_it_tells_its_commands():
    answer = run("-m", "dromos", "-h")

    assert answer.returncode == 0
    assert "connect" in answer.stdout
    assert "demo" in answer.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full on demand")
@pytest.mark.parametrize("command", [("config",), ("doctor", "ws://127.0.0.1:9/x")])
def test_a_full_disk_is_told_in_a_line(command):
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "dromos", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": SOURCE, "PATH": ""},
            check=False,
        )

    said = "dromos: the output can't be written: No space left on device\n"
    assert (1, said) == (answer.returncode, answer.stderr)


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_a_missing_extra_is_named(missing):
    code = (
        f"import sys; sys.modules['{missing}'] = None; sys.argv[1:] = ['demo']; "
        "sys.stdout.isatty = lambda: True; from dromos.cli import main; main()"
    )

    answer = run("-c", code)

    assert answer.returncode == 78
    assert answer.stderr.endswith(f'needs {missing}: pip install "dromos[cli]"\n')


def test_an_interrupt_while_it_loads_is_no_error():
    code = (
        "import sys\n"
        "class Slow:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'dromos.cli.commands': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from dromos.cli import main; main()"
    )

    answer = run("-c", code)

    assert (130, "", "") == (answer.returncode, answer.stdout, answer.stderr)


def test_connecting_loads_neither_demonstration_nor_fakes():
    code = "import dromos.cli.commands, sys; print([m for m in sys.modules if 'dromos' in m])"

    loaded = run("-c", code).stdout

    assert "dromos.testing" not in loaded
    assert "dromos.demo.script" not in loaded


def test_the_command_speaks_of_its_flags_and_not_of_the_library():
    done = subprocess.run(
        [sys.executable, "-m", "dromos", "connect", "ws://far.example", "--token-env", "T"],
        capture_output=True,
        text=True,
        env={**os.environ, "T": "t"},
        check=False,
    )

    assert 2 == done.returncode
    assert "--insecure" in done.stderr
    assert "allow_insecure_transport" not in done.stderr
