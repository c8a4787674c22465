#!/usr/bin/env bash
# How far off, and how fast, are the estimates of src/tokens? Usage: measure.sh [WORK]
#
# Gathers the samples at the first run (see gather.py: 250 MB of packages, a few minutes), builds the release tests (some
# minutes), then prints errors by class and source over the samples that the weights were not fitted to, and MB/s of one
# core on texts not seen before. What it fetches and writes stays in WORK (default: a folder below target/).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "${1:-$root/target/tokens}"
work=$(cd "${1:-$root/target/tokens}" && pwd)
[ -s "$work/samples.jsonl" ] || python3 "$here/gather.py" "$work"
cd "$root"
TOKEN_SAMPLES=$work cargo test --release --lib tokens::tests::measure -- --ignored --nocapture
