#!/usr/bin/env bash
# An hour of llbatch at work, while the network applies every fault at a modest rate.
#
#   tests/soak/run.sh [--minutes 60] [--rate 8] [--seed N] [PATH-TO-llbatch]
#
#   - one `run` of as many rows as fill the time, against a server that spoils one request in twelve; near the end it is
#     interrupted (SIGINT), and the same command finishes it;
#   - one `wait` for a batch that takes nearly all of the time, its polls spoiled likewise;
#   - small jobs over and over: submit, wait, fetch, retry of the rows that failed, clean; every call spoiled likewise, and
#     by faults of the sandbox as well.
#
# It fails if a row is lost, doubled, out of order or has another's answer; if more was paid than is promised; if a
# command ends with an unexpected code; or if the memory or the open files of an llbatch process grow. For that it compares
# the median of the last third of the samples with the first third, after a tenth for warming up. `--minutes 5` is a quick look.
#
# Takes the time that it is given and some minutes to finish, and less than a third of a core. Needs Linux (/proc), Python
# 3.9 or newer, and Cargo for the fault server (tests/soak/faults.rs). It serves on loopback and ends what it started.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
here="$(dirname "$0")"
cargo build --quiet --locked --manifest-path "$here/../../Cargo.toml" --example faults
exec python3 "$here/soak.py" "$@"
