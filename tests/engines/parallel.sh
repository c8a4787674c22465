#!/usr/bin/env bash
# samples/parallel.sh with a task that is killed (SIGKILL) in the middle: GNU parallel starts it again.
#   LLBATCH=PATH tests/engines/parallel.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs parallel jq curl
prepare
"$ROOT/samples/parallel.sh" in.jsonl out --concurrency $IN_FLIGHT >log 2>&1 &
recipe=$!
strike KILL 2/8 80
wait $recipe || die "the recipe ended with $?: $(tail -n 5 log)"
check out/results.jsonl 1
[[ $(jq .rows.total out/summary.json) == "$ROWS" ]] || die "the summary counts other rows"
