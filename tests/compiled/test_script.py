"""What `make compiled-test` leaves behind: the compiled listeners that were there before."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/test_compiled.sh"
BUILT = "src/dromos/dialers/_compiled_for_picows_2_0.cpython-311.so"
OF_ANOTHER_PYTHON = "src/dromos/dialers/_compiled_for_picows_2_0.cpython-312.so"

# In place of minutes: it compiles and tests nothing, and says that it did.
PYTHON = f"""#!/bin/sh
case "$1" in
    -c) exec "{sys.executable}" "$@" ;;
    hatch_build.py) touch {BUILT} && echo {BUILT} ;;
    *) echo "1 passed in 0.01s" ;;
esac
"""


@pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="it is a bash script")
@pytest.mark.parametrize("before", [[], [BUILT], [OF_ANOTHER_PYTHON], [BUILT, OF_ANOTHER_PYTHON]])
def test_it_leaves_what_was_there_and_nothing_else(before: list[str], tmp_path: Path) -> None:
    for name in ("scripts/test_compiled.sh", ".venv/bin/python", *before, BUILT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    for name in before:
        (tmp_path / name).touch()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    python = tmp_path / ".venv/bin/python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    ran = subprocess.run(
        [tmp_path / "scripts/test_compiled.sh"], check=True, capture_output=True, text=True
    )

    if "skipped" in ran.stdout:
        pytest.skip(ran.stdout.strip())
    assert "the compiled listener: 1 passed in 0.01s" == ran.stdout.strip()
    left = (tmp_path / "src/dromos/dialers").iterdir()
    assert sorted(before) == sorted(str(each.relative_to(tmp_path)) for each in left)
