#!/usr/bin/env bash
# samples/spark.py on a Spark with two workers on this machine. One task's llbatch is killed (SIGKILL), and so is the Python of
# another task. Spark starts both tasks again.
#   LLBATCH=PATH [PYTHON_ENV=DIR] tests/engines/spark.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3 java setpriv jq curl
python_with pyspark pandas pyarrow
# The first Python of a worker takes seconds to start.
LATENCY=700ms
prepare
export STATE=$TMP/node PYTHONDONTWRITEBYTECODE=1 PYSPARK_PYTHON SPARK_LOCAL_IP=127.0.0.1 SPARK_LOCAL_DIRS=$TMP/spark
PYSPARK_PYTHON=$(command -v python)
spark-submit --master 'local-cluster[2,4,1024]' --driver-memory 1g --conf spark.ui.enabled=false \
    --conf spark.executor.memory=1g --conf spark.driver.host=127.0.0.1 \
    "$ROOT/samples/spark.py" in.jsonl out --concurrency $IN_FLIGHT >log 2>&1 &
recipe=$!
PIDS+=($recipe)
until_works_on 5/8
python=$(ps -o ppid= -p "$(task_of 5/8)")
[[ $(cat "/proc/${python// /}/comm") == python* ]] || die "the parent of the task of shard 5/8 is no Python"
kill -KILL $python
echo "sent KILL to the Python of shard 5/8 (process$python)"
strike KILL 2/8 20
wait $recipe || die "the recipe ended with $?: $(tail -n 20 log)"
# Spark ends what its Python has started.
check out/results.jsonl 2
