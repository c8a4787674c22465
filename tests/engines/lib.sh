# shellcheck shell=bash
# For the scripts of this directory: a server, a task that is killed, and the checks for afterwards.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BIN=$(realpath "${LLBATCH:-$ROOT/target/debug/llbatch}")
TMP=$(mktemp -d "${TMPDIR:-/tmp}/engines-XXXXXX")
MODEL=meta-llama/Llama-3.2-3B-Instruct-Turbo
ROWS=400 IN_FLIGHT=4 LATENCY=100ms
PIDS=()

finish() {
    local status=$? pid
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    if ((status == 0)); then wait 2>/dev/null || true; fi
    if ((status == 0)); then rm -rf "$TMP"; else echo "kept for a look: $TMP" >&2; fi
}
trap finish EXIT

die() {
    echo "FAILED: $*" >&2
    exit 1
}

# Ends with 0 and says so if a program that a recipe needs is not installed.
needs() {
    local program
    for program in "$@"; do
        if ! command -v "$program" >/dev/null; then
            echo "skipped: $program is not installed"
            exit 0
        fi
    done
}

# Makes an environment of Python with these packages, and puts its programs first. Ends with 0 and says so if it cannot.
# PYTHON_ENV names one that is there.
python_with() {
    local env=${PYTHON_ENV:-$TMP/python}
    if [[ ! -d $env ]] && ! { python3 -m venv "$env" && "$env/bin/pip" install -q "$@"; } >"$TMP/pip.log" 2>&1; then
        echo "skipped: $* cannot be installed: $(tail -n 1 "$TMP/pip.log")"
        exit 0
    fi
    PATH="$env/bin:$PATH"
}

# Starts the sandbox, and writes the input. Everything that is started after it uses the sandbox.
prepare() {
    [[ -x $BIN ]] || die "no llbatch at $BIN: build it, or name it with LLBATCH"
    cd "$TMP"
    mkdir bin
    ln -s "$BIN" bin/llbatch
    for ((row = 1; row <= ROWS; row++)); do
        printf '{"id":"q%d","prompt":"question %d","model":"%s","max_tokens":16}\n' $row $row $MODEL
    done >in.jsonl
    "$BIN" serve --track --state-dir "$TMP/serve" --latency "$LATENCY" >url 2>serve.log &
    PIDS+=($!)
    for _ in $(seq 300); do [[ -s url ]] && break || sleep 0.1; done
    [[ -s url ]] || die "the sandbox did not start: $(cat serve.log)"
    # A recipe may have no place for this flag.
    printf '[run]\nconcurrency = %d\n' $IN_FLIGHT >config.toml
    export PATH="$TMP/bin:$PATH" TOGETHER_BASE_URL TOGETHER_API_KEY=engines LLBATCH_CONFIG=$TMP/config.toml NO_PROXY='*'
    TOGETHER_BASE_URL=$(head -n 1 url)
}

stats() {
    curl -sS --noproxy '*' "${TOGETHER_BASE_URL%/v1}/sandbox/stats" | jq -r "$1"
}

# Waits until the server has generated so many answers.
until_paid() {
    local tries=1200
    until (($(stats .bill.requests) >= $1)); do
        ((tries-- > 0)) || die "waited in vain for $1 answers"
        sleep 0.05
    done
}

# The process of llbatch that works on this shard in TMP. The shard is I/N, or the variable that says it: NAME=VALUE.
task_of() {
    local pid shard=$1 variable=TOGETHER_BASE_URL=$TOGETHER_BASE_URL
    if [[ $1 == *=* ]]; then shard='auto/[0-9]*' variable=$1; fi
    for pid in $(pgrep -f -- "run .*--shard $shard "); do
        if grep -qzFx "TOGETHER_BASE_URL=$TOGETHER_BASE_URL" "/proc/$pid/environ" 2>/dev/null &&
            grep -qzFx "$variable" "/proc/$pid/environ" && [[ $(readlink "/proc/$pid/exe") == "$BIN" ]]; then
            echo "$pid"
            return
        fi
    done
}

# Waits until a task works on a shard and has had time for some answers.
until_works_on() {
    local tries=2400
    until [[ -n $(task_of "$1") ]]; do
        ((tries-- > 0)) || die "waited in vain for a task of shard $1"
        sleep 0.05
    done
    sleep 2
}

# Sends a signal to the task of a shard once so many answers are paid: strike SIGNAL SHARD ANSWERS
strike() {
    local pid
    until_paid "$3"
    pid=$(task_of "$2")
    [[ -n $pid ]] || die "no task works on shard $2"
    kill "-$1" "$pid"
    struck=$((${struck:-0} + 1))
    echo "sent $1 to the task of shard $2 (process $pid)"
}

# Every row once, in order, answered; no more paid again than were in flight, and than answers that a lost disk took:
# check RESULTS KILLS [LOST]
check() {
    local paid again
    [[ -s $1 ]] || die "no results in $1"
    jq -r 'select(.error == null) | .custom_id' "$1" | cmp - <(seq -f 'q%g' "$ROWS") || die "rows of $1"
    paid=$(stats .bill.requests) again=$(stats '.paid_again')
    ((again <= $2 * IN_FLIGHT + ${3:-0})) || die "$again rows were paid again, with $2 tasks killed"
    ((paid - again == ROWS)) || die "$paid answers for $ROWS rows"
    echo "held: $ROWS rows, each once, $again paid again after $2 kills with $IN_FLIGHT in flight${3:+ and $3 unsealed at most}"
}
