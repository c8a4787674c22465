#!/usr/bin/env bash
# samples/ray_data.py on a Ray of this machine. One task's llbatch is killed (SIGKILL), and one task's worker. Ray starts both
# tasks again.
#   LLBATCH=PATH [PYTHON_ENV=DIR] tests/engines/ray.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3 setpriv jq curl
python_with 'ray[data]'
# The first workers of a Ray take seconds to start.
LATENCY=500ms
prepare
export RAY_TMPDIR=$TMP/ray RAY_USAGE_STATS_ENABLED=0 STATE=$TMP/node PYTHONDONTWRITEBYTECODE=1
mkdir ray
python "$ROOT/samples/ray_data.py" in.jsonl out --concurrency $IN_FLIGHT >log 2>&1 &
recipe=$!
PIDS+=($recipe)
until_works_on 2/8
strike KILL 2/8 20
until_works_on 5/8
worker=$(ps -o ppid= -p "$(task_of 5/8)")
kill -KILL "$worker"
echo "sent KILL to the worker of shard 5/8 (process $worker)"
wait $recipe || die "the recipe ended with $?: $(tail -n 20 log)"
# Ray ends the llbatch of a worker that is gone.
check out/results.jsonl 2
