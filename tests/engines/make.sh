#!/usr/bin/env bash
# samples/tasks.mk with a task that is killed, and one that ends by SIGTERM and starts again without its state directory, as
# on another machine.
#   LLBATCH=PATH tests/engines/make.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs make jq curl
prepare
recipe() { make -j8 -k -f "$ROOT/samples/tasks.mk" INPUT=in.jsonl OUT=out FLAGS="--concurrency $IN_FLIGHT" >>log 2>&1; }
recipe &
first=$!
strike KILL 2/8 60
strike TERM 5/8 90
if wait $first; then die "make did not notice that two tasks failed"; fi
[[ ! -e out/results.jsonl ]] || die "results without two parts"
rm -r out/state/5
recipe || die "the second make ended with $?: $(tail -n 5 log)"
check out/results.jsonl 1
recipe
grep -q 'up to date' log || die "a third make did something"
