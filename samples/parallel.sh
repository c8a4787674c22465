#!/bin/sh
# Eight tasks of GNU parallel that each answer an eighth of INPUT, and a merge of their results.
#
#   parallel.sh INPUT OUT [FLAGS FOR `llbatch run`, SUCH AS --max-cost 40]
#   SSHLOGIN=node1,node2 STATE=/local/llbatch parallel.sh ...     on machines that see INPUT and OUT by the same paths
#
# A task that fails is tried again up to four times, and goes on where it stopped: from its state, or on another
# machine from OUT/answers. The same command again goes on too.
set -eu
tasks=8 input=$1 out=$2
shift 2
mkdir -p "$out"
# After the first interrupt, llbatch has 25 seconds for what is in flight.
# shellcheck disable=SC2046,SC2086 # numbers, and a flag that is there or not
parallel --quote ${SSHLOGIN:+--sshlogin "$SSHLOGIN" --workdir "$PWD"} --jobs $tasks --retries 4 --termseq TERM,25000,KILL \
    llbatch run "$input" --shard "{}/$tasks" --resume --tolerate-failures \
    --answers "$out/answers" --state-dir "${STATE:-$out/state}/{}" \
    -o "$out/part-{}.jsonl" --summary "$out/summary-{}.json" "$@" ::: $(seq $tasks)
exec llbatch merge "$input" "$out"/part-*.jsonl -o "$out/results.jsonl" --summary "$out/summary.json" \
    --part-summaries "$out"/summary-*.json
