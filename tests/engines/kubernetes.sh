#!/usr/bin/env bash
# samples/kubernetes.yaml, checked by kubernetes-validate and played by kubelet.py. One pod is killed (SIGKILL) and one is
# drained (SIGTERM, then 30 s); each starts again without the disk of the first. A pod with an invalid input fails its index.
#   LLBATCH=PATH [PYTHON_ENV=DIR] tests/engines/kubernetes.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3 jq curl
python_with kubernetes-validate
# So many that a task has sealed a part (1,000 answers) before it is killed.
ROWS=14400 LATENCY=10ms
manifest=$ROOT/samples/kubernetes.yaml
kubernetes-validate --strict "$manifest" || die "the manifest is invalid"
prepare
mkdir data pods
cp in.jsonl data/prompts.jsonl
python3 "$ROOT/tests/engines/kubelet.py" "$manifest" "$TMP" >log 2>&1 &
kubelet=$!
for _ in $(seq 1200); do compgen -G 'data/answers/2-of-8-*/*.part.jsonl' >/dev/null && break || sleep 0.05; done
strike KILL JOB_COMPLETION_INDEX=1 1000
touch pods/4.drain
wait $kubelet || die "the job failed: $(cat log) $(tail -n 3 pods/*.log)"
grep -q 'index 1: exit 137: Count' log || die "the kill was not seen: $(cat log)"
grep -q 'index 4: exit 143, drained: Ignore' log || die "the drain was not seen: $(cat log)"
grep -q 'answered by other tasks of this job' pods/1.log || die "nothing was taken from the shared answers: $(cat pods/1.log)"
llbatch merge data/prompts.jsonl data/part-*.jsonl -o results.jsonl 2>merge.log || die "merge: $(cat merge.log)"
check results.jsonl 1 1000
echo '{"id": 1}' >data/prompts.jsonl
if python3 "$ROOT/tests/engines/kubelet.py" "$manifest" "$TMP" >log 2>&1; then die "an invalid input was accepted"; fi
[[ $(grep -c 'exit 65: FailIndex' log) == 8 ]] || die "an index was tried again: $(cat log)"
