#!/usr/bin/env bash
# `llbatch run` on llama.cpp's server with a real model. See usage below for what it needs and how long it takes.
# shellcheck disable=SC2329 # checks are called by name
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/services/llama.sh [--rows 200] [PATH-TO-llbatch]

Installs llama.cpp's server with a model of 270 million parameters, starts it on loopback, and checks:
  - N rows by `run`, killed with SIGKILL in the middle and resumed: every row once, in order, and every answer equals that
    of a plain request of the same body at temperature 0; no more is sent twice than was in flight.
  - A server that still loads its model (503) is waited for.
  - With a key of the server: the right one works, none or a wrong one is exit 4.
  - A prompt that is too long is its row's `context_length`, and no other row suffers.

Needs Python 3.9 or newer and a package index (370 MB, into $LLBATCH_SERVICES or a temporary directory). Takes about five
minutes on two cores, one with --rows 20.
Exit status: 0 if all held or nothing could be installed (it says so), 1 if a check failed.
HELP
}

# The rows of a job that are answered so far.
answered() { { "$BIN" status last --offline --json 2>/dev/null || true; } | python3 -c 'import json, sys; print(json.load(sys.stdin).get("jobs", [{"rows": {"succeeded": 0}}])[0]["rows"]["succeeded"])'; }
# A figure of a summary: figure FILE KEY.KEY
figure() { python3 "$MEASURE" get "$@"; }
run() { await timeout 900 "$BIN" run --base-url "$LLAMA" "$@"; }
ends_with() {
    local code=$1 status=0
    shift
    "$@" >"$TMP/command.log" 2>&1 || status=$?
    ((status == code)) || { say "ended with $status"; tail -n 5 "$TMP/command.log" >&2; return 1; }
}

begin llama "$@"
start_llama
requests "$TMP/in.jsonl"

start "$BIN" run "$TMP/in.jsonl" -o "$TMP/out.jsonl" --base-url "$LLAMA" --no-key --concurrency 4 2>"$TMP/first.log"
first=$!
until (($(answered) >= ROWS / 2)); do
    kill -0 "$first" 2>/dev/null || { tail -n 20 "$TMP/first.log" >&2; die 'the run ended before it was killed'; }
    sleep 0.2
done
stop "$first" KILL
kept=$(answered)
check "killed after $kept of $ROWS rows, the same command resumes" ends_with 0 \
    run "$TMP/in.jsonl" -o "$TMP/out.jsonl" --no-key --concurrency 4 --summary "$TMP/sum.json"
sent=$(figure "$TMP/sum.json" http.sent)
check "$sent requests for the $((ROWS - kept)) rows left" test "$sent" -le "$((ROWS - kept))"
check 'every answer is that of a plain request' same "$LLAMA" '' "$TMP/in.jsonl" "$TMP/out.jsonl"

seq 400 | tr '\n' ' ' | awk '{ for (i = 0; i < 9; i++) text = text $0; printf "{\"custom_id\":\"long\",\"prompt\":\"%s\"}\n{\"custom_id\":\"short\",\"prompt\":\"What is 2 plus 2?\"}\n", text }' >"$TMP/long.jsonl"
check 'a prompt that is too long fails alone' ends_with 3 \
    run "$TMP/long.jsonl" -m "$MODEL" --max-tokens 8 -o "$TMP/long-out.jsonl" --no-key
check 'with code context_length' grep -q '"custom_id":"long".*"code":"context_length"' "$TMP/long-out.jsonl"
check 'and the other row is answered' grep -q '"custom_id":"short".*"error":null' "$TMP/long-out.jsonl"
stop "$LLAMA_PID"

# While the model is loaded, every route answers 503.
head -n 8 "$TMP/in.jsonl" >"$TMP/few.jsonl"
key=a-key-of-the-server
port=$(free_port)
launch_llama "$port" "$key"
wait_port "$port" "$LLAMA_PID" 60 || die "llama.cpp's server does not listen"
export TOGETHER_API_KEY=$key
check 'a server that loads its model is waited for, with its key' ends_with 0 run "$TMP/few.jsonl" -o "$TMP/few-out.jsonl"
check 'every answer is that of a plain request' same "$LLAMA" "$key" "$TMP/few.jsonl" "$TMP/few-out.jsonl"
check 'no key is exit 4' ends_with 4 run "$TMP/few.jsonl" --fresh -o "$TMP/none.jsonl" --no-key
export TOGETHER_API_KEY=a-wrong-key-of-it
check 'a wrong key is exit 4' ends_with 4 run "$TMP/few.jsonl" --fresh -o "$TMP/none.jsonl"
finish
