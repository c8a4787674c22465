#!/usr/bin/env bash
# `llbatch run` on LiteLLM's proxy: limits, canned answers, a real model. See usage below for what it needs and how long it
# takes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/services/litellm.sh [--rows 200] [PATH-TO-llbatch]

Installs LiteLLM's proxy and llama.cpp's server, starts both on loopback, and checks:
  - N rows by `run`, killed with SIGKILL in the middle and resumed, on a canned answer and on the real model behind the
    proxy: every row once, in order, and every answer equals that of a plain request of the same body.
  - No row is lost under a limit of 60 requests in 10 seconds, nor under one of two requests at a time (429 for the rest).
    How much of the limit was used and how much was refused is printed.
  - A model that answers 500 fails its own rows only. An invalid key is exit 4.

Needs Python 3.9 or newer and a package index (1.4 GB, into $LLBATCH_SERVICES or a temporary directory). Takes about seven
minutes on two cores, three with --rows 50.
Exit status: 0 if all held or nothing could be installed (it says so), 1 if a check failed.
HELP
}

# N rows of a model under a key with a limit; prints how it was used. limited WHAT KEY MODEL BEST-SECONDS
limited() {
    local what=$1 key=$2 model=$3 best=$4 sent refused seconds
    requests "$TMP/limited.jsonl" "$model"
    export TOGETHER_API_KEY=$key
    check "$what: no row is lost" ends_with 0 \
        run "$LITELLM" "$TMP/limited.jsonl" --fresh -o "$TMP/limited-out.jsonl" --summary "$TMP/limited.json"
    check "$what: every row is answered" test "$(grep -c '"error":null' "$TMP/limited-out.jsonl")" -eq "$ROWS"
    read -r sent refused seconds < <(figure "$TMP/limited.json" http.sent http.rate_limited duration_s)
    printf '      %s: %s of %s requests refused, %s s (%s s is ideal)\n' "$what" "$refused" "$sent" "$seconds" "$best"
}

begin litellm "$@"
start_llama
start_litellm 10
requests "$TMP/in.jsonl"
killed_and_resumed "$LITELLM" sk-any "$TMP/in.jsonl" --concurrency 4
requests "$TMP/mock.jsonl" mock-slow
killed_and_resumed "$LITELLM" sk-any "$TMP/mock.jsonl" --concurrency 4

# The first window is free, and each later one admits 60 more.
limited '60 in 10 s' "sk-rpm-60-$RANDOM" mock-fast "$(((ROWS - 1) / 60 * 10))"
limited '2 in flight' sk-par-2 mock-slow "$(calc %.0f "$ROWS * 0.5 / 2")"

export TOGETHER_API_KEY=sk-any
for i in 1 2 3 4; do
    for model in mock-500 mock-fast; do
        printf '{"custom_id":"%s-%s","body":{"model":"%s","messages":[{"role":"user","content":"?"}]}}\n' "$model" "$i" "$model"
    done
done >"$TMP/mixed.jsonl"
check 'a model that answers 500 fails its rows' ends_with 3 \
    run "$LITELLM" "$TMP/mixed.jsonl" --retries 1 -o "$TMP/mixed-out.jsonl"
check 'and no others' test "$(grep -c '"mock-fast-.*"error":null' "$TMP/mixed-out.jsonl")" -eq 4
export TOGETHER_API_KEY=not-a-key
check 'an invalid key is exit 4' ends_with 4 run "$LITELLM" "$TMP/mixed.jsonl" --fresh -o "$TMP/none.jsonl"
finish
