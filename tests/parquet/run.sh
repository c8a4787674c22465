#!/usr/bin/env bash
# Holds llbatch's Parquet files against PyArrow and DuckDB: both write inputs of many kinds and read results back, and every
# value and type is compared. Then files that must be refused, parts that are merged, and vectors.
#
#   tests/parquet/run.sh [PATH-TO-llbatch]               under a minute
#   tests/parquet/run.sh --million [PATH-TO-llbatch]     also a million rows beside the same rows as CSV: rows a second and
#                                                        peak memory, which is bounded; give an optimised build
#
# Needs Python 3.10 or newer and a package index for pyarrow and duckdb (100 MB). Without them it says `skipped: …` and ends
# with 0 (with 1 if PARQUET_REQUIRED=1). PARQUET_VENV names a virtual environment to make or use again.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() {
    echo "parquet: skipped: $1" >&2
    [ "${PARQUET_REQUIRED:-0}" = 1 ] && exit 1
    exit 0
}

million=
if [ "${1:-}" = --million ]; then million=--million; shift; fi
target=${1:-$here/../../target/debug/llbatch}
[ -x "$target" ] || { echo "parquet: no llbatch at $target: build it first, or name it" >&2; exit 1; }
target=$(cd "$(dirname "$target")" && pwd)/$(basename "$target")

command -v python3 >/dev/null || skip "python3 is not there"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || skip "$(python3 --version) is older than 3.10"
venv=${PARQUET_VENV:-$work/venv}
if ! "$venv/bin/python" -c 'import pyarrow, duckdb' 2>/dev/null; then
    python3 -m venv "$venv" >"$work/venv.log" 2>&1 || skip "python3 cannot make a virtual environment"
    timeout 300 "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 15 pyarrow==26.0.1 duckdb==2.0.1 \
        >"$work/pip.log" 2>&1 || skip "pyarrow and duckdb cannot be installed: $(tail -n 1 "$work/pip.log")"
fi
mkdir "$work/home"
env HOME="$work/home" XDG_CONFIG_HOME="$work/home/config" XDG_STATE_HOME="$work/home/state" NO_PROXY='*' \
    "$venv/bin/python" "$here/compare.py" $million "$target" "$work"
