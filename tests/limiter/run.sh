#!/usr/bin/env bash
# Measures how well `llbatch run`, left to itself, finds a server's unknown limit (a rate, a window, or how many requests it
# works on at once): how much of it is used, and how many requests are refused. See usage below for what it needs and how long
# it takes.
# shellcheck disable=SC2329 # run_case is called through start
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../bench/lib.sh"

# The release that the figures were taken with; another may limit differently.
LITELLM=1.106.2
RATES=(2 10 100 1000)
TWO_RATES=(10 100)
WINDOWS=(120 600)
SLOTS=(1 4 16 64)

usage() {
    cat <<'HELP'
Usage: tests/limiter/run.sh [OPTIONS]

Runs `llbatch run` with no speed flags and a deadline against servers that allow R requests a second, and prints a table
on stdout with the share of R that was used (succeeded / (R x seconds)) and the share of all requests sent that was
refused (429). Progress on stderr.

Cases, each for R = 2, 10, 100, 1000:
  sandbox-R    llbatch serve --rps R --retry-after none: nothing but 429         target: >= 0.90 used, <= 0.02 refused
  headers-R    the same with --rate-headers                                      target: >= 0.95 used, <= 0.005 refused
  nginx-R      nginx limit_req, R a second, burst R/4 (at least 1), nodelay      target: >= 0.90 used, <= 0.02 refused
for R = 10 and 100:
  two-R        as sandbox-R, but two runs with one state directory, the second      target: >= 0.85 used, <= 0.02 refused
               started after a quarter of the time; both together
and for 120 and 600 requests a minute, over three times the seconds:
  window-RPM   llbatch serve --window RPM/60s: a fixed minute, retry-after when    target: >= 0.95 used, <= 0.03 refused
               it is used up, not a word before
  litellm-RPM  LiteLLM's proxy, a key with that rpm_limit, retry-after: 60       target: >= 0.90 used, <= 0.02 refused

and for servers that refuse nothing, over twice the seconds, measured in the second half:
  slots-K      llbatch serve --slots K --latency 1s: K = 1, 4, 16, 64 at once       target: >= 0.90 used, at most 64 in flight
               and the others queue; the note says how many were in flight                 up to K = 16, 256 above

Options:
  --bin FILE      measure this binary instead of building one
  --only LIST     only these cases, with commas; patterns: 'nginx-*,sandbox-100'
  --seconds N     length of a run [default: 60]; LiteLLM counts by the minute, so shorter ones say nothing there
  --jobs 1|2      cases at a time; two share the processors, so measure R = 1000 alone for the last word [default: 2]
  --litellm DIR   Python environment with LiteLLM's proxy [default: target/litellm-venv, made if missing]
  --no-litellm    leave LiteLLM out
  --keep DIR      copy each case's summary.json and logs there
  -h, --help      this text

Needs: Debian's nginx-light, libnginx-mod-http-echo and python3 (with python3-venv and the Python package registry for
LiteLLM's environment, made once, about 1 GB); cargo for building. No root, no database.
Takes about 20 minutes with two cases at a time.
Exit status: 0 when everything was measured, met or not; 1 when something could not be.
HELP
}

bin='' only='*' seconds=60 jobs=2 venv=$ROOT/target/litellm-venv litellm=1 keep=''
while (($#)); do
    case $1 in --bin | --only | --seconds | --jobs | --litellm | --keep) (($# > 1)) || usage_error "$1 takes a value" ;; esac
    case $1 in
        --bin) bin=$2; shift ;;
        --only) only=$2; shift ;;
        --seconds) seconds=$2; number "$seconds" --seconds; shift ;;
        --jobs) jobs=$2; [[ $jobs == [12] ]] || usage_error '--jobs takes 1 or 2'; shift ;;
        --litellm) venv=$(realpath -m "$2"); shift ;;
        --no-litellm) litellm='' ;;
        --keep) keep=$(realpath -m "$2"); shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage_error "unknown option $1" ;;
    esac
    shift
done

# Whether a case was asked for.
wanted() {
    local pattern patterns
    IFS=, read -ra patterns <<<"$only"
    for pattern in "${patterns[@]}"; do
        # shellcheck disable=SC2053 # a pattern is what it is
        [[ $1 == $pattern ]] && return
    done
    return 1
}

# Each of these starts a server and sets URL and SERVER (its process). serve_sandbox takes flags of `serve`, the others the
# number of requests that are allowed.
serve_sandbox() {
    local tries=100
    start "$BIN" serve --state-dir "$DIR/server-state" "$@" >"$DIR/url" 2>"$DIR/server.log"
    SERVER=$!
    until [[ -s $DIR/url ]]; do
        if ! kill -0 "$SERVER" 2>/dev/null || ((tries-- <= 0)); then
            cat "$DIR/server.log" >&2
            die "llbatch serve did not start"
        fi
        sleep 0.1
    done
    URL=$(head -n 1 "$DIR/url")
}
serve_nginx() {
    local port burst=$(($1 / 4))
    port=$(free_port)
    start_nginx "$DIR/nginx" "$port" "
        limit_req_zone \$server_port zone=all:1m rate=${1}r/s; log_format status '\$status';
        server {
            listen 127.0.0.1:$port backlog=4096; access_log $DIR/statuses status;
            location / {
                limit_req zone=all burst=$((burst > 1 ? burst : 1)) nodelay; limit_req_status 429; limit_req_log_level info;
                echo_read_request_body; echo '$COMPLETION';
            }
        }"
    SERVER=$NGINX URL=http://127.0.0.1:$port
}
serve_litellm() {
    local port
    port=$(free_port)
    cp "$ROOT/tests/limiter/litellm.yaml" "$ROOT/tests/limiter/key_auth.py" "$DIR/"
    # No price list from the network, no database, no telemetry; the proxy wants a master key that nobody uses.
    start env -u DATABASE_URL RPM_LIMIT="$1" LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_TELEMETRY=False \
        LITELLM_MASTER_KEY="sk-$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')" \
        "$venv/bin/litellm" --config "$DIR/litellm.yaml" --host 127.0.0.1 --port "$port" >"$DIR/server.log" 2>&1
    SERVER=$!
    wait_port "$port" "$SERVER" 120 || { tail -n 20 "$DIR/server.log" >&2; die "LiteLLM's proxy did not start"; }
    URL=http://127.0.0.1:$port
}

# What the server itself counted, as "answered refused"; nothing where it does not count.
server_counts() {
    case $1 in
        sandbox | headers | two | window | slots)
            python3 "$MEASURE" get "${URL%/v1}/sandbox/stats" bill.requests refused ;;
        nginx)
            awk '$1 == 200 { ok++ } $1 == 429 { refused++ } END { print ok + 0, refused + 0 }' "$DIR/statuses" ;;
    esac
}

# One case, in a process of its own: run_case KIND-NUMBER
run_case() {
    local kind=${1%-*} limit=${1##*-} rate time=$seconds used_target=0.90 refused_target=0.02
    local file burst status=0 succeeded sent limited counts used refused met=NO note='' second='' second_status=0 more half peak most
    # This process ends only what it starts itself, sooner than the script would end it.
    DIR=$TMP/$1 PIDS=() TMP='' GRACE=10
    on_exit
    mkdir "$DIR"
    rate=$limit
    # What may pass beyond the rate: a first burst here, a whole window of a minute with LiteLLM.
    burst=$((2 * limit + 200))
    case $kind in
        sandbox) serve_sandbox --rps "$limit" --retry-after none ;;
        two) used_target=0.85; serve_sandbox --rps "$limit" --retry-after none ;;
        headers) used_target=0.95 refused_target=0.005; serve_sandbox --rps "$limit" --retry-after none --rate-headers ;;
        window)
            time=$((3 * seconds)) rate=$(calc %.10g "$limit / 60") used_target=0.95 refused_target=0.03
            serve_sandbox --window "$limit/60s" ;;
        slots) time=$((2 * seconds)) refused_target=0; serve_sandbox --slots "$limit" --latency 1s --jitter 0.3 ;;
        nginx) serve_nginx "$limit" ;;
        litellm) time=$((3 * seconds)) rate=$(calc %.10g "$limit / 60"); serve_litellm "$limit" ;;
    esac
    # More rows than the limit lets through.
    await python3 "$MEASURE" input "$(calc %d "1.1 * $rate * $time + $burst")" "$DIR/input.jsonl"
    if [[ $kind == two ]]; then
        cp "$DIR/input.jsonl" "$DIR/second.jsonl"
        start bash -c 'sleep "$1"; shift; exec timeout --kill-after=10 "$@"' - $((time / 4)) $((time + 120)) "$BIN" run \
            "$DIR/second.jsonl" --fresh -o "$DIR/second-out.jsonl" --deadline "$((time - time / 4))s" --base-url "$URL" \
            --state-dir "$DIR/state" --summary "$DIR/second.json" >"$DIR/second.log" 2>&1
        second=$!
    fi
    if [[ $kind == slots ]]; then
        start bash -c 'sleep "$1"; exec python3 "$2" get "$3" bill.requests' - "$seconds" "$MEASURE" "${URL%/v1}/sandbox/stats" \
            >"$DIR/half"
    fi
    say "$1: running for $time s"
    await timeout --kill-after=10 $((time + 120)) "$BIN" run "$DIR/input.jsonl" -o "$DIR/out.jsonl" --deadline "${time}s" \
        --base-url "$URL" --state-dir "$DIR/state" --summary "$DIR/summary.json" >"$DIR/run.log" 2>&1 || status=$?
    if [[ -n $second ]]; then
        wait "$second" || second_status=$?
        ((second_status == 5)) || { tail -n 20 "$DIR/second.log" >&2; die "$1: the second run ended with $second_status instead of 5"; }
    fi
    if [[ -n $keep ]]; then
        mkdir -p "$keep/$1"
        for file in run.log summary.json second.log second.json server.log; do [[ ! -e $DIR/$file ]] || cp "$DIR/$file" "$keep/$1/"; done
    fi
    # 5: the deadline came, as it should. Anything else measured something else.
    ((status == 5)) || { tail -n 20 "$DIR/run.log" >&2; die "$1: llbatch run ended with $status instead of 5 (deadline)"; }
    read -r succeeded sent limited < <(python3 "$MEASURE" get "$DIR/summary.json" rows.succeeded http.sent http.rate_limited)
    if [[ -n $second ]]; then
        read -ra more < <(python3 "$MEASURE" get "$DIR/second.json" rows.succeeded http.sent http.rate_limited)
        succeeded=$((succeeded + more[0])) sent=$((sent + more[1])) limited=$((limited + more[2]))
    fi
    counts=$(server_counts "$kind")
    peak=0 most=0
    used=$(calc %.3f "$succeeded / ($rate * $time)")
    refused=$(calc %.4f "$limited / ($sent > 0 ? $sent : 1)")
    if [[ -n $counts && $counts != "$succeeded $limited" ]]; then note=" (server counted ${counts/ /\/})"; fi
    if [[ $kind == slots ]]; then
        # The search may take the first half. A slot answers one request a second.
        read -r half <"$DIR/half"
        used=$(calc %.3f "(${counts% *} - $half) / ($limit * $seconds)")
        peak=$(python3 "$MEASURE" get "${URL%/v1}/sandbox/stats" peak_in_flight) most=$((limit <= 16 ? 64 : 256))
        note=" (at most $peak in flight)"
    fi
    stop "$SERVER"
    if holds "$used >= $used_target && $refused <= $refused_target && $peak <= $most"; then met=yes; fi
    printf '%s\t%s/s\t%s\t%s\t%s\t%s\t>= %s, <= %s\t%s\n' "$1" "$(calc %.4g "$rate")" "$used" "$refused" "$sent" \
        "$succeeded/$limited$note" "$used_target" "$refused_target" "$met" >"$DIR/row"
    say "$1: used $used, refused $refused: $met"
}

need python3 awk timeout
prepare limiter
release_binary "$bin"
cases=() rpms=()
for kind in sandbox headers nginx; do
    for rate in "${RATES[@]}"; do if wanted "$kind-$rate"; then cases+=("$kind-$rate"); fi; done
done
for rate in "${TWO_RATES[@]}"; do if wanted "two-$rate"; then cases+=("two-$rate"); fi; done
for rpm in "${WINDOWS[@]}"; do if wanted "window-$rpm"; then rpms+=("window-$rpm"); fi; done
for slots in "${SLOTS[@]}"; do if wanted "slots-$slots"; then cases+=("slots-$slots"); fi; done
if [[ -n $litellm ]]; then
    for rpm in 120 600; do if wanted "litellm-$rpm"; then rpms+=("litellm-$rpm"); fi; done
fi
if [[ " ${rpms[*]} " == *' litellm-'* && ! -x $venv/bin/litellm ]]; then
    say "making a Python environment with LiteLLM's proxy in $venv"
    await python3 -m venv "$venv"
    await "$venv/bin/pip" install --quiet "litellm[proxy]==$LITELLM" || die "LiteLLM cannot be installed; --no-litellm leaves it out"
fi
if [[ " ${cases[*]} " == *' nginx-'* ]]; then need nginx; fi
((${#cases[@]} + ${#rpms[@]})) || die "no case matches --only $only"

# The long ones first, so that they run beside the others.
running=0 failed=0
for name in "${rpms[@]}" "${cases[@]}"; do
    if ((running >= jobs)); then
        wait -n || failed=1
        running=$((running - 1))
    fi
    start run_case "$name"
    running=$((running + 1))
done
for ((; running > 0; running--)); do wait -n || failed=1; done

facts "$(if [[ " ${rpms[*]} " == *' litellm-'* ]]; then printf 'LiteLLM %s' "$("$venv/bin/pip" list --format freeze 2>/dev/null | sed -n 's/^litellm==//p')"; fi)"
printf 'measured  %s s a case (windows %s s), %s at a time\n\n' "$seconds" $((3 * seconds)) "$jobs"
{
    printf 'case\tlimit\tused\trefused\tsent\tanswered/429\ttarget\tmet?\n'
    for name in "${cases[@]}" "${rpms[@]}"; do
        cat "$TMP/$name/row" 2>/dev/null || printf '%s\t–\t–\t–\t–\t–\t–\tnot measured\n' "$name"
    done
} >"$TMP/rows"
print_table "$TMP/rows"
exit "$failed"
