#!/bin/sh
# Eight Slurm tasks that each answer an eighth of INPUT, and a merge of their results when all have ended.
#
#   slurm.sh INPUT OUT [FLAGS FOR `llbatch run`, SUCH AS --max-cost 40]
#
# OUT is a directory that every node sees. STATE names a directory of the node.
# A task that is queued again goes on from its state, on another node from OUT/answers.
set -eu
tasks=8 input=$1 out=$2 state=${STATE:?names a local directory for the state}
shift 2
if [ -z "${SLURM_JOB_ID:-}" ]; then
    mkdir -p "$out"
    # The shell of a task gets TERM two minutes before its time is up.
    array=$(sbatch --parsable --array=1-$tasks --requeue --open-mode=append --signal=B:TERM@120 "$0" "$input" "$out" "$@")
    exec sbatch --dependency="afterany:$array" "$0" "$input" "$out"
fi
if [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
    exec llbatch merge "$input" "$out"/part-*.jsonl -o "$out/results.jsonl" --summary "$out/summary.json" \
        --part-summaries "$out"/summary-*.json
fi
task=$SLURM_ARRAY_TASK_ID
llbatch run "$input" --shard auto/$tasks --resume --tolerate-failures --state-dir "$state/$task" \
    --answers "$out/answers" -o "$out/part-$task.jsonl" --summary "$out/summary-$task.json" "$@" &
trap 'kill -TERM $pid' TERM
pid=$! code=0
wait $pid || code=$?
# A signal ends the first wait, and llbatch finishes what is in flight.
if kill -0 $pid 2>/dev/null; then
    code=0
    wait $pid || code=$?
fi
# The next start goes on from here.
case $code in
    75 | 130 | 143) [ "${SLURM_RESTART_COUNT:-0}" -ge 10 ] || scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit $code
