#!/usr/bin/env bash
# Batches of OpenAI's dialect on OGX, a server that really runs them. See usage below for what it needs and how long it takes.
# shellcheck disable=SC2329 # checks are called by name
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
OGX_PACKAGES=(ogx==1.5.0 aiohttp)

usage() {
    cat <<'HELP'
Usage: tests/services/ogx.sh [--rows 200] [PATH-TO-llbatch]

Installs OGX and llama.cpp's server with a model of 270 million parameters, starts both on loopback, and checks:
  - N rows by `submit --wait`, killed with SIGKILL while the batch runs, and resumed by the same command: one batch, every
    row once, in order, and every answer equals that of a plain request of the same body at temperature 0.
  - A submit that is killed while it creates a batch makes no second one.
  - `cancel` ends a batch, and each of its rows says so.
  - A batch is fetched by its id at the service, without the state directory that made it.

Needs Python 3.12 for OGX and a package index (900 MB, into $LLBATCH_SERVICES or a temporary directory). Takes about five
minutes on two cores, two with --rows 20.
Exit status: 0 if all held or nothing could be installed (it says so), 1 if a check failed.
HELP
}

# The command of a Python 3.12 that runs; a version manager's command may be there and run nothing.
python312() {
    local python
    for python in python3.12 "$HOME"/.pyenv/versions/3.12*/bin/python3.12 "$(uv python find 3.12 2>/dev/null || true)"; do
        if [[ -n $python ]] && "$python" -c '' 2>/dev/null; then
            printf '%s' "$python"
            return
        fi
    done
    return 1
}

# Installs OGX and starts it before the llama.cpp server at $LLAMA; sets OGX (its base URL).
start_ogx() {
    local python port dir=$TMP/ogx
    python=$(python312) || skip 'Python 3.12 is not there'
    python_env ogx "$python" "${OGX_PACKAGES[@]}"
    port=$(free_port)
    mkdir -p "$dir"
    sed "s|DIR|$dir|; s|PORT|$port|; s|LLAMA_URL|$LLAMA|" "$HERE/ogx.yaml" >"$dir/ogx.yaml"
    start env -C "$dir" OTEL_SDK_DISABLED=true HF_HUB_OFFLINE=1 HOME="$dir" TMPDIR="$dir" \
        "$CACHE/ogx/bin/ogx" run --insecure ogx.yaml >"$TMP/ogx.log" 2>&1
    OGX=http://127.0.0.1:$port/v1
    ready "$OGX/health" "$!" "$TMP/ogx.log" 180
}

llbatch() { await timeout 900 "$BIN" "$@"; }
ends_with() {
    local code=$1 status=0
    shift
    "$@" >"$TMP/command.log" 2>&1 || status=$?
    ((status == code)) || { say "ended with $status"; tail -n 5 "$TMP/command.log" >&2; return 1; }
}
# A field of the last job's first batch.
field() { "$BIN" status last --offline --json 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["batches"][0][sys.argv[1]])' "$1" 2>/dev/null || true; }
batches() { python3 -c 'import json, sys, urllib.request; print(len(json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1] + "/batches?limit=100"))["data"]))' "$OGX" 2>/dev/null || true; }
cancelled() { python3 -c 'import json, sys; sys.exit(any((row["error"] or {}).get("code") not in (None, "cancelled") for row in map(json.loads, open(sys.argv[1]))))' "$1"; }

begin ogx "$@"
start_llama
start_ogx
printf '[submit]\nsettle_after = "5s"\n[services.ogx]\nbase_url = "%s"\nkey = "none"\ndialect = "openai"\n' "$OGX" >"$LLBATCH_CONFIG"
export LLBATCH_SERVICE=ogx
requests "$TMP/in.jsonl"
sed -i "s|$MODEL|llamacpp/$MODEL|" "$TMP/in.jsonl"

submit=(submit "$TMP/in.jsonl" --wait --poll 2s -o "$TMP/out.jsonl")
start "$BIN" "${submit[@]}" 2>"$TMP/first.log"
first=$!
until [[ $(field status) == IN_PROGRESS && $(field progress) != None && $(field progress) != 0.0 ]]; do
    kill -0 "$first" 2>/dev/null || { tail -n 20 "$TMP/first.log" >&2; die 'the command ended before it was killed'; }
    sleep 0.2
done
stop "$first" KILL
check "killed at $(field progress) %, the same command resumes" ends_with 0 llbatch "${submit[@]}"
check 'one batch was made' test "$(batches)" = 1
check 'every answer is that of a plain request' same "$OGX" '' "$TMP/in.jsonl" "$TMP/out.jsonl"

head -n 8 "$TMP/in.jsonl" | sed 's/"q-/"few-/' >"$TMP/few.jsonl"
start "$BIN" submit "$TMP/few.jsonl" 2>"$TMP/few.log"
few=$!
until [[ $(batches) == 2 ]] || ! kill -0 "$few" 2>/dev/null; do sleep 0.01; done
stop "$few" KILL
check 'a submit that was killed is done again' ends_with 0 llbatch submit "$TMP/few.jsonl" --wait --poll 1s -o "$TMP/few-out.jsonl"
check 'without a second batch' test "$(batches)" = 2
check 'every answer is that of a plain request' same "$OGX" '' "$TMP/few.jsonl" "$TMP/few-out.jsonl"
id=$(field id)
check "$id is fetched by its id" ends_with 0 llbatch fetch "$id" --state-dir "$TMP/elsewhere" -o "$TMP/by-id.jsonl"
check 'every answer is that of a plain request' same "$OGX" '' "$TMP/few.jsonl" "$TMP/by-id.jsonl"

sed 's/"q-/"stop-/' "$TMP/in.jsonl" >"$TMP/stop.jsonl"
check 'a batch is submitted' ends_with 0 llbatch submit "$TMP/stop.jsonl"
check 'and cancelled' ends_with 0 llbatch cancel last
check 'its rows are there' ends_with 3 llbatch fetch last --wait --poll 1s -o "$TMP/stop-out.jsonl"
check 'each answered or cancelled' cancelled "$TMP/stop-out.jsonl"
finish
