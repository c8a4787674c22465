#!/usr/bin/env bash
# Long and dull: llbatch at work for an hour while the network does everything wrong that it can, at a modest rate.
#
#   tests/soak/run.sh [--minutes 60] [--rate 8] [--seed N] [PATH-TO-llbatch]
#
#   - one `run` of as many rows as fill the time, against a server that spoils one request in twelve; near the end it is
#     interrupted (SIGINT), and the same command ends it;
#   - one `wait` for a batch that takes nearly all of the time, its questions spoiled likewise;
#   - small jobs over and over: submit, wait, fetch, retry of the rows that failed, clean; every call spoiled likewise, by the
#     sandbox's own faults too.
#
# It fails if a row is lost, doubled, out of order or carries another's answer; if more was paid than was promised; if a
# command ends with a code that is not expected; and if the memory or the open files of a process of llbatch grow: the
# median of the last third of the samples against the first, after a tenth for warming up. `--minutes 5` is a quick look.
#
# Takes the time that it is given and some minutes to finish, and less than a third of a core. Needs Linux (/proc), Python
# 3.9 or newer, and Cargo for the fault server (tests/soak/faults.rs). It serves on loopback and ends what it started.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
here="$(dirname "$0")"
cargo build --quiet --locked --manifest-path "$here/../../Cargo.toml" --example faults
exec python3 "$here/soak.py" "$@"
