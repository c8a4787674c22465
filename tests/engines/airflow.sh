#!/usr/bin/env bash
# samples/airflow_dag.py by `airflow dags test`. One task's llbatch is killed (SIGKILL), and one gets a SIGTERM. Airflow tries
# both tasks again
#   LLBATCH=PATH [PYTHON_ENV=DIR] tests/engines/airflow.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3 jq curl
python_with apache-airflow
# Every task takes seconds.
LATENCY=300ms
prepare
export AIRFLOW_HOME=$TMP/airflow AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__DAGS_FOLDER=$TMP/dags RETRY_DELAY=0.2
export LLBATCH_INPUT=$TMP/in.jsonl LLBATCH_OUT=$TMP/out LLBATCH_STATE=$TMP/node LLBATCH_FLAGS="--concurrency $IN_FLIGHT"
mkdir dags out
cp "$ROOT/samples/airflow_dag.py" dags
airflow db migrate >migrate.log 2>&1 || die "no database: $(tail -n 5 migrate.log)"
airflow dags test llbatch >log 2>&1 &
recipe=$!
PIDS+=($recipe)
# The tasks come one after the other, in any order.
(until_works_on 2/8; strike KILL 2/8 1) &
first=$!
(until_works_on 5/8; strike TERM 5/8 1) &
wait $first && wait $! || die "a task was not struck: $(tail -n 20 log)"
wait $recipe || die "the DAG ended with $?: $(tail -n 20 log)"
check out/results.jsonl 1
