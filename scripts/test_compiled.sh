#!/usr/bin/env bash
# Compiles the optional listener in place, runs with it the tests that receive on real links, and removes it again.
#   scripts/test_compiled.sh [PYTEST ARGUMENTS...]
# Says why and succeeds where nothing can be compiled. Leaves a listener that was there before.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
compiler=$("$python" -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "cc").split()[0])')
header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
if ! command -v "$compiler" >/dev/null; then
    echo "the compiled listener: skipped: no C compiler ($compiler) on this machine"
    exit
fi
if [ ! -e "$header" ]; then
    echo "the compiled listener: skipped: no header of CPython's ($header) on this machine"
    exit
fi

before=$(ls src/dromos/dialers/_compiled_for_* 2>/dev/null || true)
built=$("$python" hatch_build.py)
grep -qxF "$built" <<<"$before" || trap 'rm -f "$built"' EXIT

code=0
output=$(env -u DROMOS_NO_EXTENSIONS DROMOS_EXPECT_COMPILED=1 "$python" -m pytest -q -m 'not slow' -p no:cacheprovider --color=no "$@" \
    tests/compiled tests/dialers tests/bridge/test_real_sockets.py tests/bridge/test_slow_handler.py \
    tests/driver/test_straight.py tests/driver/test_blocked_loop.py tests/benchmarks/test_harness.py 2>&1) || code=$?
[ "$code" = 0 ] || echo "$output"
echo "the compiled listener: $(tail -n 1 <<<"$output")"
exit "$code"
