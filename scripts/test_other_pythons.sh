#!/usr/bin/env bash
# Runs the tests on every supported CPython of this machine but the one of .venv.
#   scripts/test_other_pythons.sh [PYTEST ARGUMENTS...]
# Leaves the tests marked `slow`, and the deepest searches, to the main run. Set PYTHONS to choose, e.g. PYTHONS="3.13".
set -euo pipefail
cd "$(dirname "$0")/.."

version='import sys; print("%d.%d" % sys.version_info[:2])'
here=$(.venv/bin/python -c "$version")

find_python() {     # find_python 3.12: the first one that runs (a pyenv shim may not) and can make a venv
    local check="import sys, venv, ensurepip
sys.exit(sys.implementation.name != 'cpython' or '%d.%d' % sys.version_info[:2] != '$1')"
    local candidate
    for candidate in $(type -ap "python$1") "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1"*/bin/python; do
        if [ -x "$candidate" ] && "$candidate" -c "$check" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

run() {             # run 3.12 PYTHON [PYTEST ARGUMENTS...]: set up, test, and say how it went
    local wanted=$1 python=$2 env=.venv-$1 code=0 output
    shift 2
    if [ ! -e "$env/ready" ] || [ requirements-test.lock -nt "$env/ready" ] || [ pyproject.toml -nt "$env/ready" ]; then
        "$python" -m venv --clear "$env"
        "$env/bin/pip" install --quiet --disable-pip-version-check -r requirements-test.lock
        "$env/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
        touch "$env/ready"
    fi
    # shellcheck disable=SC2086   # settings, as NAME=VALUE words
    output=$(env ${SHALLOW:-} "$env/bin/python" -m pytest -q -m "not slow" -p no:cacheprovider "$@" 2>&1) || code=$?
    [ "$code" = 0 ] || echo "$output"
    echo "CPython $wanted: $(tail -n 1 <<<"$output")"
    return "$code"
}

# Side by side, since most tests wait more than they compute; what each says comes in one piece.
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
declare -A running
for wanted in ${PYTHONS:-3.11 3.12 3.13 3.14}; do
    [ "$wanted" != "$here" ] || continue
    if ! python=$(find_python "$wanted"); then
        echo "CPython $wanted: skipped: no CPython $wanted on this machine"
        continue
    fi
    run "$wanted" "$python" "$@" >"$said/$wanted" 2>&1 &
    running[$wanted]=$!
done
failed=0
for wanted in "${!running[@]}"; do
    wait "${running[$wanted]}" || failed=1
    cat "$said/$wanted"
done
exit "$failed"
