#!/usr/bin/env bash
# Power that fails: all that a job of 80 rows writes, syncs, renames and removes is recorded; then it is replayed up to a
# random cut, less what had not been synced by then (all of it; or random parts of it, torn at sectors), and the job goes on.
#
#   tests/crash/power.sh [--cuts 100] [--seed N] [PATH-TO-llbatch]
#
# After each cut: databases whole, every row once and in order, results whole or not there, and no more rows paid again than
# were sent since the last sync (one a second) and in flight then. Names of files are taken to survive in their order.
# Needs Python 3.9 or newer, Linux on x86-64. It serves on loopback and ends the server that it started.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$(dirname "$0")/power.py" "$@"
