#!/usr/bin/env bash
# A small job (20 rows) is killed at every single write, fsync, rename, send, unlink and mkdir of `run`, and (in 2 shards) of
# `submit`, of `wait` and of `fetch`; and each of them meets a disk that fails or is full at every one of its writes, fsyncs,
# renames, unlinks and mkdirs, and of the reads of its databases.
#
#   tests/crash/points.sh [--of run|batch] [--only kills|errors|disk|wire] [--step N] [PATH-TO-llbatch]
#
# The n-th call of each thread is struck for n = 1, 2, … until a whole run makes fewer (--step N: every N-th, for a quick
# look); then the command is run again, and the rest; then everything of tests/crash/run.sh must hold. An error of the disk
# ends a command with 74, or with 0 where nothing of the job depends on that call; in `run`, no more is sent then than was
# in flight. A write that was interrupted (EINTR) is no error at all.
#   wire: the server makes a batch and answers with 500, a reset, HTML, half a reply, nothing; its list lags (`--list-lag
#         1s`, with `settle_after = "3s"`); the client is killed while no reply comes.
#   disk: the state, and the results, on a tmpfs with room for 16 KiB to 1 MiB (`run`: 8 MiB) beside what is there, which
#         grows before the second try; files that may not grow (`ulimit -f`); a state directory, new or used, and results
#         on a read-only disk, and a state directory on SMB (by a forged `statfs`): 74 before anything is sent. Skipped
#         where mounting is not allowed.
#
# tests/crash/tracer.py strikes the calls: what strace's `inject` does, but counted for the threads of one name. That needs
# Linux on x86-64 and a kernel that lets a process trace its child; elsewhere these points are skipped, and that is said.
# Within a thread the order of calls is the same each time but for how many rows the writer takes in one commit. Writes
# through mapped memory (SQLite's index of its log, which is rebuilt) are not reached.
#
# The configuration says `settle_after = "500ms"` where the list does not lag: a batch is made soon after it was asked for.
# Needs Python 3.9 or newer. It serves on loopback and ends the servers that it started.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$(dirname "$0")/points.py" "$@"
