#!/usr/bin/env bash
# samples/spark.py on a Spark with two workers, on addresses of their own, with speculation: one task is slow, and Spark starts
# a copy of it on the other worker, which has a state directory of its own. The copy waits, and every row is paid once.
#   LLBATCH=PATH [PYTHON_ENV=DIR] tests/engines/speculation.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3 java setpriv jq curl
python_with pyspark pandas pyarrow
prepare
# The rows of shard 5 take 4 seconds each, four at a time.
sed -i '5~8s/question/[[sandbox:delay=4s]] question/' in.jsonl
HOME_OF_SPARK=$(python -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')
export PYTHONDONTWRITEBYTECODE=1 PYSPARK_PYTHON SPARK_LOCAL_DIRS=$TMP/spark SPARK_WORKER_DIR=$TMP/work
PYSPARK_PYTHON=$(command -v python)
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$HOME_OF_SPARK/bin/spark-class" org.apache.spark.deploy.master.Master -h 127.0.0.1 -p "$port" --webui-port 0 >master.log 2>&1 &
PIDS+=($!)
for worker in 2 3; do
    # Tasks inherit the variables of their worker.
    STATE=$TMP/node-$worker SPARK_LOCAL_IP=127.0.0.$worker "$HOME_OF_SPARK/bin/spark-class" org.apache.spark.deploy.worker.Worker \
        -h 127.0.0.$worker -c 8 -m 1g --webui-port 0 "spark://127.0.0.1:$port" >"worker-$worker.log" 2>&1 &
    PIDS+=($!)
done
SPARK_LOCAL_IP=127.0.0.1 spark-submit --master "spark://127.0.0.1:$port" --driver-memory 1g --executor-memory 1g --conf spark.ui.enabled=false \
    --conf spark.driver.host=127.0.0.1 --conf spark.speculation=true --conf spark.speculation.multiplier=1.2 "$ROOT/samples/spark.py" in.jsonl out --concurrency $IN_FLIGHT >log 2>&1 &
recipe=$!
PIDS+=($recipe)
copies() { pgrep -fc -- "llbatch run $TMP/in.jsonl --shard 5/8 " || true; }
tries=1200
until (($(copies) == 2)); do
    ((tries-- > 0)) || die "Spark started no copy of the slow task: $(tail -n 5 log)"
    kill -0 $recipe 2>/dev/null || die "the recipe ended before: $(tail -n 20 log)"
    sleep 0.1
done
echo "two copies of the task of shard 5/8 work"
wait $recipe || die "the recipe ended with $?: $(tail -n 20 log)"
[[ -d node-2/5 && -d node-3/5 ]] || die "the copies shared a state directory"
check out/results.jsonl 0
[[ $(jq .rows.succeeded out/summary.json) == "$ROWS" ]] || die "the summary counts other rows"
