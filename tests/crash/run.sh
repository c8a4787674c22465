#!/usr/bin/env bash
# A crash loop: `submit`, `wait`, `fetch`, `retry`, `cancel` and `submit --wait -o` are killed (SIGKILL) at random
# instants, up to three times in a row, and run again until they succeed.
#
#   tests/crash/run.sh [--kills 200] [--seed N] [PATH-TO-llbatch]
#
# After each job: one batch per shard on the server, every row once and in order with the bytes of an undisturbed run,
# every prompt paid once, nothing left over, databases whole. Ends with 1, and keeps the evidence, if anything is not so.
#
# The configuration says `settle_after = "0s"`: a create that was killed before it was sent is settled at once, because
# the sandbox lists a batch as soon as it is made. tests/crash/points.sh has the cases where the list lags.
# Needs Python 3.9 or newer. It serves on loopback and ends the servers that it started.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$(dirname "$0")/loop.py" "$@"
