#!/usr/bin/env bash
# The search for the number of requests in flight, on llama.cpp's server with four slots. See usage below.
# shellcheck disable=SC2329 # checks are called by name
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/services/llama-concurrency.sh [--rows 400] [PATH-TO-llbatch]

Installs llama.cpp's server with a model of 270 million parameters and four slots, starts it on loopback, runs the same rows
with --concurrency 1, 2, 4, 8 and 16 for 30 seconds each, and without one for 90, then with the best again, and
checks of the run without one:
  - it answers at least 0.9 of the tokens a second of the best fixed number (the lower of its two figures counts);
  - it has at most 64 requests in flight;
  - with --request-timeout 30s no row fails.

Needs Python 3.9 or newer and a package index (370 MB, into $LLBATCH_SERVICES or a temporary directory). Takes about six
minutes on two cores with nothing else to do.
Exit status: 0 if all held or nothing could be installed (it says so), 1 if a check failed.
HELP
}

# The requests in flight to a port, at most, until the file STOP is there: sockets PORT STOP
sockets() {
    python3 - "$@" <<'PYTHON'
import os, sys, time
port, stop, most = f":{int(sys.argv[1]):04X}", sys.argv[2], 0
while not os.path.exists(stop):
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    most = max(most, sum(row[2].endswith(port) and row[3] == "01" for row in rows[1:]))
    time.sleep(0.1)
print(most)
PYTHON
}

# Runs the rows for some seconds; prints the tokens answered a second. measure NAME SECONDS FLAG...
measure() {
    local name=$1 seconds=$2 status=0
    shift 2
    await timeout 300 "$BIN" run "$TMP/in.jsonl" --fresh -o "$TMP/$name.jsonl" --base-url "$LLAMA" --no-key \
        --deadline "${seconds}s" --grace 0s --summary "$TMP/$name.json" "$@" >"$TMP/$name.log" 2>&1 || status=$?
    # 5: the deadline; 0: all rows were answered before.
    ((status == 5 || status == 0)) || { tail -n 5 "$TMP/$name.log" >&2; die "$name ended with $status"; }
    read -r tokens duration < <(python3 "$MEASURE" get "$TMP/$name.json" tokens.completion duration_s)
    calc %.2f "$tokens / $duration"
}

ROWS=400
begin llama-concurrency "$@"
start_llama
requests "$TMP/in.jsonl"
best=0 best_number=0
for number in 1 2 4 8 16; do
    speed=$(measure "fixed-$number" 30 --concurrency "$number")
    say "--concurrency $number: $speed tokens a second"
    if holds "$speed > $best"; then best=$speed best_number=$number; fi
done
port=${LLAMA##*:}
start sockets "${port%/v1}" "$TMP/stop" >"$TMP/sockets"
sampler=$!
auto=$(measure auto 90 --request-timeout 30s)
touch "$TMP/stop"
wait "$sampler"
again=$(measure again 30 --concurrency "$best_number")
if holds "$again < $best"; then best=$again; fi
say "without one: $auto tokens a second; best fixed, --concurrency $best_number: $best"
check "$auto tokens a second are at least 0.9 of $best" holds "$auto >= 0.9 * $best"
check "$(cat "$TMP/sockets") requests in flight are at most 64" test "$(cat "$TMP/sockets")" -le 64
timeouts=$(python3 -c 'import json, sys; print(sum(e["count"] for e in json.load(open(sys.argv[1]))["errors"] if e["code"] == "timeout"))' "$TMP/auto.json")
check "$timeouts rows timed out" test "$timeouts" = 0
finish
