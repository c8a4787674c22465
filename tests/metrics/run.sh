#!/usr/bin/env bash
# Prometheus' own tool reads what llbatch writes for it: `promtool check metrics` must find nothing to say about the files of
# --metrics and the text of `status --format prom`, of a run while it works and at its end, and of batches.
#
#   tests/metrics/run.sh [PATH-TO-llbatch]
#
# Needs Debian's prometheus (apt-get install prometheus), which brings promtool; PROMTOOL names another one. Without it this says
# `skipped: …` and ends with 0 (with 1 if METRICS_REQUIRED=1).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
llbatch=$(realpath "${1:-$here/../../target/debug/llbatch}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() {
    echo "metrics: skipped: $1" >&2
    [ "${METRICS_REQUIRED:-0}" = 1 ] && exit 1
    exit 0
}
fail() {
    echo "metrics: $1" >&2
    exit 1
}

[ -x "$llbatch" ] || fail "no llbatch at $llbatch: build it first, or name it"
promtool=${PROMTOOL:-$(command -v promtool || true)}
[ -n "$promtool" ] || skip "there is no promtool (apt-get install prometheus)"

cd "$work"
export HOME=$work LLBATCH_STATE_DIR=$work/state XDG_CONFIG_HOME=$work/config
unset TOGETHER_API_KEY TOGETHER_BASE_URL LLBATCH_CONFIG

accepts() {
    local said
    said=$("$promtool" check metrics <"$1" 2>&1) || fail "$1: promtool: $said"
    [ -z "$said" ] || fail "$1: promtool: $said"
    grep -q "^llbatch_$2" "$1" || fail "$1 has no llbatch_$2"
}

for n in $(seq 300); do
    echo "{\"id\":\"r$n\",\"prompt\":\"question $n\",\"model\":\"meta-llama/Llama-3.2-3B-Instruct-Turbo\",\"max_tokens\":8}"
done >in.jsonl
cp in.jsonl batch-in.jsonl
# A model with a name that must be escaped. The sandbox does not know it, so its row fails: 3.
printf '{"id":"x","prompt":"hello","model":"odd \\"name\\" \\\\ of\\na model","max_tokens":8}\n' >>in.jsonl

LLBATCH_SANDBOX='latency=200ms' "$llbatch" run in.jsonl --sandbox --concurrency 8 -o out.jsonl --metrics live.prom 2>run.log &
run=$!
for _ in $(seq 300); do [ -e live.prom ] && break; sleep 0.1; done
cp live.prom early.prom
accepts early.prom 'rows{'
if grep -q '^llbatch_job_exit_code' early.prom; then fail "a run that works has an exit code"; fi
"$llbatch" status --format prom >working.prom
accepts working.prom 'rows{'
code=0
wait "$run" || code=$?
[ "$code" = 3 ] || { cat run.log >&2; fail "the run ended with $code"; }
accepts live.prom 'job_exit_code'
grep -q '^llbatch_rows{.*state="succeeded"} 300$' live.prom || fail "not all rows are counted"
LLBATCH_SANDBOX='validation=0s,run=1s' "$llbatch" submit batch-in.jsonl --sandbox --wait -o batch.jsonl --metrics batch.prom 2>batch.log ||
    { cat batch.log >&2; fail "the batches failed"; }
accepts batch.prom 'cost_usd_total'
"$llbatch" status --format prom >all.prom
accepts all.prom 'job_end_timestamp_seconds'
echo "metrics: promtool accepts them all"
