#!/usr/bin/env bash
# Power failures: records every write, sync, rename and removal of a job of 80 rows. Then it replays them up to a random cut,
# without those not synced by then (all of them, or random parts torn at sectors), and resumes the job.
#
#   tests/crash/power.sh [--cuts 100] [--seed N] [PATH-TO-llbatch]
#
# After each cut: databases whole, every row once and in order, results whole or not there, and no more rows paid again than
# were sent since the last sync (one a second) and in flight then. Names of files are taken to survive in their order.
# Needs Python 3.9 or newer, Linux on x86-64. It serves on loopback and ends the server that it started.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$(dirname "$0")/power.py" "$@"
