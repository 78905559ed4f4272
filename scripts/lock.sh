#!/usr/bin/env bash
# Writes the locks from pyproject.toml, each a superset of the one before, with equal pins.
# Names and versions only: where packages come from is the installer's affair.
#   scripts/lock.sh               keep what is pinned, add and drop what pyproject.toml asks for
#   scripts/lock.sh --upgrade     take the newest versions that fit
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x .venv-lock/bin/uv ]; then
    "${PYTHON:-python3}" -m venv .venv-lock
    .venv-lock/bin/pip install --quiet 'uv>=0.13,<0.14'
fi

lock() {    # lock FILE WHAT ARGUMENTS...
    local file=$1 what=$2
    shift 2
    .venv-lock/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
        --no-header --no-annotate "$@" --output-file "$file" >/dev/null
    printf '# %s, for CPython 3.11 and newer. Written by scripts/lock.sh.\n' "$what" |
        cat - "$file" >"$file.new"
    mv "$file.new" "$file"
}

lock requirements-dev.lock "All that development needs" \
    --extra all --group build --group dev "$@"
lock requirements-test.lock "What the tests need" \
    --extra all --group build --group test --constraint requirements-dev.lock --upgrade
lock requirements-bench.lock "What the benchmarks need" \
    --extra all --group build --group bench --constraint requirements-dev.lock --upgrade
lock requirements-docs.lock "What the documents need" \
    --extra all --group build --group docs --constraint requirements-dev.lock --upgrade
lock requirements.lock "What the demo needs" \
    --extra cli --group build --constraint requirements-dev.lock --upgrade
lock requirements-compile.lock "What compiling the listener needs, and the tests" \
    --extra all --group build --group test --group compile --constraint requirements-dev.lock "$@"
