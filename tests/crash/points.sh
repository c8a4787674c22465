#!/usr/bin/env bash
# A small job (20 rows, 2 shards) is killed at every single write, fsync, rename, send, unlink and mkdir of `submit`, of
# `wait` and of `fetch`; and each of them meets a disk that fails or is full at every one of its writes and fsyncs.
#
#   tests/crash/points.sh [--only kills|errors|disk|wire] [--step N] [PATH-TO-llbatch]
#
# The n-th call is struck for n = 1, 2, … until a whole run makes fewer (--step N: every N-th, for a quick look); then the
# command is run again, and the rest; then everything of tests/crash/run.sh must hold. An error of the disk ends a command
# with 74, or with 0 where nothing of the job depends on that call.
#   wire: the server makes a batch and answers with 500, a reset, HTML, half a reply, nothing; its list lags (`--list-lag
#         1s`, with `settle_after = "3s"`); the client is killed while no reply comes.
#   disk: a tmpfs holds the state, with room for 16 KiB to 1 MiB beside what is there, and grows before the second try; skipped
#         where mounting is not allowed.
#
# strace counts calls for each thread. All that is written, renamed or sent in these commands is so by one thread, the main
# one (reading the input and watching for signals are others, which do none of it); that is checked first, so that n
# reaches every call. Without strace these points are skipped, and that is said.
#
# The configuration says `settle_after = "0s"` where the list does not lag: a create that was killed before it was sent is
# settled at once. Needs Python 3.9 or newer. It serves on loopback and ends the servers that it started.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$(dirname "$0")/points.py" "$@"
