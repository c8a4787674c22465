#!/usr/bin/env bash
# A large input over 8 shards on this machine, against the same input in one process. See usage below.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/bench/shards.sh [--bin FILE] [--rows 1000000] [--answers]

Builds the binary that is shipped (profile dist) unless one is given, serves the sandbox without latency on loopback, and answers
an input in one process, then in 8 processes at once, each with its shard and its state directory. Then merges the 8 parts.
Prints the time, the peak memory of a process, the state directories against the input, and `merge` against `cat` of the parts.
With --answers each task also seals its answers in a directory. Needs Python 3.9 or newer and 5 GB of disk. Takes 3 minutes.
Exit status: 0 when everything was measured.
HELP
}

bin='' rows=1000000 answers=''
options answers "$@"
TASKS=8

# Bytes below these paths.
bytes() { du -sb --total "$@" | tail -n 1 | cut -f 1; }
mb() { calc '%.0f' "$1 / 1e6"; }

prepare shards
release_binary "$bin"
cd "$TMP"
python3 "$MEASURE" input "$rows" in.jsonl
serve --state-dir "$TMP/serve"
run() { "$BIN" run in.jsonl --base-url "$URL" -q "$@"; }

say "one process"
measure one "$BIN" run in.jsonl --base-url "$URL" -q --state-dir one -o one.jsonl
one_wall=$WALL one_peak=$PEAK one_state=$(bytes one) size=$(bytes in.jsonl) results=$(bytes one.jsonl)

say "$TASKS processes"
began=$(date +%s.%N) tasks=()
for ((task = 1; task <= TASKS; task++)); do
    start python3 "$MEASURE" run "run-$task.log" "$BIN" run in.jsonl --base-url "$URL" -q --shard "$task/$TASKS" \
        --state-dir "state-$task" -o "part-$task.jsonl" --summary "summary-$task.json" \
        ${answers:+--answers answers} >"measured-$task"
    tasks+=("$!")
done
for task in "${tasks[@]}"; do wait "$task" || die "a task failed: $(tail -n 3 run-*.log)"; done
wall=$(calc %.1f "$(date +%s.%N) - $began") peak=0
for ((task = 1; task <= TASKS; task++)); do
    read -r exit _ _ memory _ <"measured-$task"
    ((exit == 0)) || die "task $task ended with $exit: $(tail -n 3 "run-$task.log")"
    if ((memory > peak)); then peak=$memory; fi
done

say "merge"
measure cat bash -c 'cat part-*.jsonl >cat.jsonl'
cat_wall=$WALL
measure merge "$BIN" merge in.jsonl part-*.jsonl -o merged.jsonl --summary merged.json --part-summaries summary-*.json
merge_wall=$WALL merge_cpu=$CPU merge_peak=$PEAK
cmp <(cut -d '"' -f 4 one.jsonl) <(cut -d '"' -f 4 merged.jsonl) || die "the merged rows are in another order"
[[ $(wc -l <merged.jsonl) == "$rows" ]] || die "the merged file has other rows"

facts ''
{
    printf 'measure\tone process\t%s shards\tnote\n' $TASKS
    printf 'time\t%.1f s\t%s s\t%.2f of one\n' "$one_wall" "$wall" "$(calc %.3f "$wall / $one_wall")"
    printf 'peak of a process\t%s MB\t%s MB\t\n' "$(mb "$one_peak * 1024")" "$(mb "$peak * 1024")"
    printf 'state\t%s MB\t%s MB\tinput %s MB, results %s MB\n' "$(mb "$one_state")" "$(mb "$(bytes state-*)")" "$(mb "$size")" "$(mb "$results")"
    [[ -z $answers ]] || printf 'sealed answers\t\t%s MB\t%s parts\n' "$(mb "$(bytes answers)")" "$(find answers -name '*.part.jsonl' | wc -l)"
    printf 'merge\t\t%.1f s\t%.1f times cat (%.1f s), %.1f s of processor, %s MB\n' "$merge_wall" "$(calc %.2f "$merge_wall / $cat_wall")" \
        "$cat_wall" "$merge_cpu" "$(mb "$merge_peak * 1024")"
} | python3 "$MEASURE" table
