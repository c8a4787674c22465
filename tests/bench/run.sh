#!/usr/bin/env bash
# Measures llbatch against yardsticks taken on the same machine in the same minutes, and prints a table with its targets.
# See usage below for what it needs and how long it takes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/bench/run.sh [OPTIONS]

Builds the binary that is shipped (profile dist), starts nginx on loopback (a fixed answer at once, and after 200 ms) and measures
`llbatch run` against it; prints a table on stdout, progress on stderr. Identical runs vary on a shared machine:
believe the ratios, the CPU time and the instruction counts, and let nothing else run meanwhile.

Options:
  --bin FILE     measure this binary instead of building one
  --floor FILE   the reference loop beside it (the example `floor`), built unless given
  --pairs N      repetitions of each paired or repeated measure; medians are shown [default: 3]
  --only LIST    only these, with commas: throughput, long, latency, connections, instructions, startup, small, memory,
                 resume, build
  --small        only the run of one row
  --quick        leave out memory and resume: they take a million rows (3 GB of disk)
  --build        also measure a release build from nothing (several minutes)
  -h, --help     this text

Needs: Debian's nginx-light, libnginx-mod-http-echo, wrk and python3; valgrind and cc for the instruction count; cargo for
building; more than 4096 open files (ulimit -Hn). No root, no network (but for the crates of a first build).
Files are written under $TMPDIR, or else the project's target/, and removed at the end.
Takes about 2 minutes with --quick and 4 to 5 without, on two cores; --build takes 3 to 6 more.

What is measured:
  throughput     100,000 rows, nginx at 0 ms, 64 in flight, journal and results on disk; each run is paired with a run
                 of the reference loop (tests/bench/floor.rs: the least that such a program must do) and one of wrk
                 posting one fixed body over 64 connections (2 threads, 3 s). Wall time is the whole process's; the
                 ratio is the median of the pairs' ratios. Also the bytes of the state directory against the results
  long           10,000 answers of 50 KB, and 2,000 prompts of 106 KB, each paired with the reference loop; bytes
                 written are those that the kernel counts for the process
  latency        20,000 rows, nginx at 200 ms, 1000 and 2000 in flight, against rows / in flight x 0.2 s
  connections    20,000 rows, nginx at 200 ms: peak memory at 1000 and 2000 in flight less that at 64 (nginx at
                 0 ms), for each connection, of llbatch and of the reference loop
  instructions   user instructions (callgrind) a row, from runs of 6,000 and 2,000 rows: JSONL results, CSV and --flat
                 results of the same rows; and of 106 KB prompts, from 600 and 200 rows
  startup        user and system time of --version and --help, median of 20
  small          a run of one row: processor time and peak (medians of 9), and syncs of the disk, counted by
                 tests/crash/tracer.py where it may trace; in a new state directory, and in one with other jobs
  memory         peak of 1,000,000 rows against 20,000, 64 in flight; then `report` of the finished job
  resume         a run of 1,000,000 rows is killed (SIGKILL) when about half of them are answered; time from the start of
                 the same command to its first request, with its input in the page cache
Exit status: 0 when everything was measured, met or not; 1 when something could not be
(valgrind may be missing).
HELP
}

bin='' floor='' pairs=3 only='' quick='' build=''
while (($#)); do
    case $1 in --bin | --floor | --pairs | --only) (($# > 1)) || usage_error "$1 takes a value" ;; esac
    case $1 in
        --bin) bin=$2; shift ;;
        --floor) floor=$2; shift ;;
        --pairs) pairs=$2; number "$pairs" --pairs; shift ;;
        --only) only=$2; shift ;;
        --small) only=small ;;
        --quick) quick=1 ;;
        --build) build=1 ;;
        -h | --help) usage; exit 0 ;;
        *) usage_error "unknown option $1" ;;
    esac
    shift
done
[[ ,$only, =~ ^,((throughput|long|latency|connections|instructions|startup|small|memory|resume|build|),)*$ ]] || usage_error "--only $only"

# Whether a measure was asked for.
wanted() {
    if [[ -n $only ]]; then [[ ,$only, == *,$1,* ]]; return; fi
    case $1 in
        memory | resume) [[ -z $quick ]] ;;
        build) [[ -n $build ]] ;;
        *) true ;;
    esac
}

# One line of the table: row MEASURE FIGURE YARDSTICK RATIO TARGET CONDITION [STRETCH-CONDITION]
row() {
    local met=NO
    if holds "$6"; then met=yes; fi
    if [[ -n ${7-} ]] && holds "$7"; then met='yes (stretch)'; fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" "$met" >>"$TMP/rows"
    say "  $1: $2, $4 (target $5): $met"
}

skip() { printf '%s\t–\t–\t–\t–\tnot measured\n' "$1" >>"$TMP/rows"; say "  $1 was not measured: $2"; }
median() { printf '%s\n' "$@" | python3 "$MEASURE" median; }

# A file of so many rows; made once. Its name is in INPUT. input ROWS [KIND]
input() {
    local kind=${2:-input}
    INPUT=$TMP/$kind-$1.jsonl
    [[ -e $INPUT ]] || await python3 "$MEASURE" "$kind" "$1" "$INPUT"
}

# Runs every row of a file of $1 rows, $2 in flight, against port $3, with a new journal; $4 is the kind of input. Sets
# WALL, CPU (s), PEAK and WRITTEN (KiB). Its state directory and results stay until the next run.
llbatch_run() {
    local rows=$1 exit
    input "$rows" "${4-}"
    rm -rf "$TMP/state" "$TMP/out.jsonl" "$TMP/summary.json"
    await python3 "$MEASURE" run "$TMP/run.log" "$BIN" run "$INPUT" -o "$TMP/out.jsonl" --concurrency "$2" \
        --base-url "http://127.0.0.1:$3" --state-dir "$TMP/state" --summary "$TMP/summary.json" >"$TMP/measured"
    read -r exit WALL CPU PEAK WRITTEN <"$TMP/measured"
    # A figure of a run that failed rows or lost some would be worth nothing.
    if ((exit != 0)) || (($(wc -l <"$TMP/out.jsonl") != rows)) ||
        (($(python3 "$MEASURE" get "$TMP/summary.json" rows.succeeded) != rows)); then
        tail -n 20 "$TMP/run.log" >&2
        die "llbatch run of $rows rows ended with $exit and did not answer every row"
    fi
}

# The same by the reference loop. Sets WALL, CPU (s) and PEAK (KiB).
floor_run() {
    local rows=$1 exit
    input "$rows" "${4-}"
    rm -f "$TMP"/floor.jsonl*
    await python3 "$MEASURE" run "$TMP/floor.log" "$FLOOR" "$INPUT" "$TMP/floor.jsonl" \
        "http://127.0.0.1:$3/v1/chat/completions" "$2" >"$TMP/measured"
    read -r exit WALL CPU PEAK _ <"$TMP/measured"
    if ((exit != 0)) || (($(wc -l <"$TMP/floor.jsonl") != rows)); then
        tail -n 20 "$TMP/floor.log" >&2
        die "the reference loop ended with $exit and did not answer every row"
    fi
    rm -f "$TMP"/floor.jsonl*
}

# Measures llbatch against the reference loop: paired ROWS IN-FLIGHT PORT KIND [wrk]. Sets SPEED, the median of the ratios
# of their speeds, EFFORT, that of their processor times, and OURS, rows a second; with wrk in each round also RATE, its
# requests a second, and SHARE, the ratio to it.
paired() {
    local rows=$1 pair speeds=() efforts=() ours=() rates=() shares=() wall cpu
    for ((pair = 1; pair <= pairs; pair++)); do
        if [[ -n ${5-} ]]; then wrk_run "$3"; rates+=("$RATE"); fi
        floor_run "${@:1:4}"
        wall=$WALL cpu=$CPU
        llbatch_run "${@:1:4}"
        ours+=("$(calc %.0f "$rows / $WALL")")
        say "  pair $pair, load $(cut -d ' ' -f 1 /proc/loadavg):${5+ wrk $(calc %.0f "$RATE")/s,}" \
            "loop $(calc %.0f "$rows / $wall")/s, llbatch ${ours[-1]}/s;" \
            "CPU a row $(calc %.1f "$cpu / $rows * 1e6") and $(calc %.1f "$CPU / $rows * 1e6") µs"
        speeds+=("$(calc %.4f "$wall / $WALL")") efforts+=("$(calc %.4f "$CPU / $cpu")")
        if [[ -n ${5-} ]]; then shares+=("$(calc %.4f "${ours[-1]} / $RATE")"); fi
    done
    SPEED=$(median "${speeds[@]}") EFFORT=$(median "${efforts[@]}") OURS=$(calc %.0f "$(median "${ours[@]}")")
    if [[ -n ${5-} ]]; then RATE=$(median "${rates[@]}") SHARE=$(median "${shares[@]}"); fi
}

long() {
    local answers
    paired 10000 64 "$HEAVY"
    row '50 KB answers, 10,000 rows' "$OURS rows/s" 'reference loop' "$(calc %.2f "$SPEED")" '>= 0.70' "$SPEED >= 0.70"
    # Each is about 50,600 bytes.
    answers=$((10000 * 50600 / 1024))
    row 'bytes written of it' "$((WRITTEN / 1024)) MiB" "answers $((answers / 1024)) MiB" \
        "$(calc %.2f "$WRITTEN / $answers")" '<= 2.1' "$WRITTEN <= 2.1 * $answers"
    paired 2000 64 "$FAST" long-input
    row '106 KB prompts, 2,000 rows' "$OURS rows/s" 'reference loop' "$(calc %.2f "$SPEED")" '>= 0.60' "$SPEED >= 0.60"
}

# wrk's requests a second, over 64 connections for 3 s. Sets RATE.
wrk_run() {
    await wrk -t 2 -c 64 -d 3s -s "$ROOT/tests/bench/post.lua" "http://127.0.0.1:$1/v1/chat/completions" >"$TMP/wrk.log"
    if grep -q -e 'Non-2xx' -e 'Socket errors' "$TMP/wrk.log"; then cat "$TMP/wrk.log" >&2; die "wrk met errors"; fi
    RATE=$(sed -n 's/^Requests\/sec: *//p' "$TMP/wrk.log")
}

throughput() {
    local rows=100000 state results
    paired $rows 64 "$FAST" input wrk
    row 'run, 0 ms, 64 in flight, 100,000 rows' "$OURS rows/s" 'reference loop' "$(calc %.2f "$SPEED")" '>= 0.70' "$SPEED >= 0.70"
    row 'CPU a row of it' – 'reference loop' "$(calc %.2f "$EFFORT")" '<= 1.5' "$EFFORT <= 1.5"
    row 'share of wrk' "$OURS rows/s" "wrk $(calc %.0f "$RATE")/s" "$(calc %.2f "$SHARE")" – 1
    state=$(du -s -B 1 "$TMP/state" | cut -f 1) results=$(stat -c %s "$TMP/out.jsonl")
    row 'state directory of it' "$((state >> 20)) MiB" "results $((results >> 20)) MiB" \
        "$(calc %.3f "$state / $results")" '<= 1.15' "$state <= 1.15 * $results"
}

# latency IN_FLIGHT TARGET
latency() {
    local rows=20000 pair walls=() ideal wall ratio
    ideal=$(calc %.2f "$rows / $1 * 0.2")
    for ((pair = 1; pair <= pairs; pair++)); do
        llbatch_run $rows "$1" "$SLOW"
        say "  $1 in flight, $pair: $WALL s"
        walls+=("$WALL")
    done
    wall=$(median "${walls[@]}")
    ratio=$(calc %.3f "$wall / $ideal")
    row "run, 200 ms, $1 in flight, 20,000 rows" "$(calc %.2f "$wall") s" "ideal $ideal s" "$ratio" "<= $2" "$ratio <= $2"
}

# Memory of a connection: of llbatch_run, or of floor_run. connection WHAT IN-FLIGHT. Sets EACH (KiB).
connection() {
    local base
    "$1" 20000 64 "$FAST"
    base=$PEAK
    "$1" 20000 "$2" "$SLOW"
    EACH=$(calc %.1f "($PEAK - $base) / ($2 - 64)")
}

connections() {
    local many loop
    for many in 1000 2000; do
        connection floor_run $many
        loop=$EACH
        connection llbatch_run $many
        row "memory of a connection, $many in flight" "$EACH KiB" "loop $loop KiB" "$(calc %.2f "$EACH / $loop")" – 1
    done
}

# User instructions of a run in all threads: instructions_of ROWS KIND RESULTS [FLAG...]. Sets COUNT.
instructions_of() {
    local rows=$1 results=$TMP/$3
    input "$1" "$2"
    rm -rf "$TMP/state"
    await "${CLOCK[@]}" valgrind --tool=callgrind --callgrind-out-file=/dev/null "$BIN" run "$INPUT" -q -o "$results" "${@:4}" \
        --concurrency 64 --base-url "http://127.0.0.1:$FAST" --state-dir "$TMP/state" 2>"$TMP/valgrind.log" ||
        { tail -n 20 "$TMP/valgrind.log" >&2; die "the run under valgrind failed"; }
    # A table has a header.
    if [[ $results == *.csv ]]; then ((rows += 1)); fi
    (($(wc -l <"$results") == rows)) || die "the run under valgrind did not answer every row"
    COUNT=$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\).*/\1/p' "$TMP/valgrind.log")
}

# The same for one row, by the difference of two runs: instructions_a_row FEW KIND RESULTS [FLAG...]. Sets EACH.
instructions_a_row() {
    local few
    instructions_of "$1" "${@:2}"
    few=$COUNT
    instructions_of "$((3 * $1))" "${@:2}"
    EACH=$(((COUNT - few) / (2 * $1)))
}

# What each row of a table costs beside a row of JSONL: table NAME RESULTS [FLAG...], with the yardstick in LINE.
table() {
    local share
    instructions_a_row 2000 input "${@:2}"
    share=$(calc %.3f "$EACH / $LINE")
    row "instructions of $1" "$EACH" "JSONL $LINE" "$share" '<= 1.12' "$share <= 1.12"
}

instructions() {
    if ! { command -v valgrind && command -v cc; } >/dev/null; then skip 'user instructions a row' 'valgrind or cc is missing'; return; fi
    slow_clock
    instructions_a_row 2000 input out.jsonl
    LINE=$EACH
    row 'user instructions a row' "$LINE" – – '<= 105000' "$LINE <= 105000" "$LINE <= 90000"
    table 'CSV results' out.csv
    table '--flat results' flat.jsonl --flat
    instructions_a_row 200 long-input out.jsonl
    row 'the same of 106 KB prompts' "$EACH" – – – 1
}

startup() {
    local flag cpu
    for flag in --version --help; do
        cpu=$(python3 "$MEASURE" startup 20 "$BIN" "$flag")
        row "start-up, $flag" "$cpu ms CPU" – – '< 5 ms' "$cpu < 5"
    done
}

memory() {
    local pair few=() small large ratio
    for ((pair = 1; pair <= pairs; pair++)); do
        llbatch_run 20000 64 "$FAST"
        few+=("$PEAK")
    done
    llbatch_run 1000000 64 "$FAST"
    say "  1,000,000 rows: $WALL s, $(calc %.0f "1000000 / $WALL")/s, $(calc %.1f "$CPU / 1000000 * 1e6") µs CPU a row"
    small=$(calc %.1f "$(median "${few[@]}") / 1024")
    large=$(calc %.1f "$PEAK / 1024")
    ratio=$(calc %.2f "$large / $small")
    measure report "$BIN" report last --state-dir "$TMP/state"
    row 'report of that job' "$(calc %.3f "$WALL") s" – – '<= 0.2 s' "$WALL <= 0.2"
    row 'peak memory, 1,000,000 rows' "$large MiB" "20,000 rows: $small MiB" "$ratio" '<= 1.3, < 100 MiB' "$ratio <= 1.3 && $large < 100"
}

resume() {
    local rows=1000000 port run done=0 try times=() seconds
    local command=("$BIN" run)
    port=$(free_port)
    start_nginx "$TMP/nginx-resume" "$port" "$(server "$port" '')"
    local nginx=$NGINX
    input $rows
    rm -rf "$TMP/state"
    command+=("$INPUT" -o "$TMP/out.jsonl" --concurrency 64 --base-url "http://127.0.0.1:$port" --state-dir "$TMP/state")
    start "${command[@]}" 2>"$TMP/run.log"
    run=$!
    # The counts of a running job are some seconds old, so half of the rows are answered when they say somewhat less.
    while ((done < rows * 45 / 100)); do
        sleep 0.5
        kill -0 "$run" 2>/dev/null || { tail -n 20 "$TMP/run.log" >&2; die "the run to be killed ended by itself"; }
        # Before the job is written there is nothing to read.
        "$BIN" status --json --state-dir "$TMP/state" >"$TMP/status.json" 2>/dev/null || continue
        done=$(python3 "$MEASURE" get "$TMP/status.json" jobs.0.rows.succeeded 2>/dev/null) || done=0
    done
    stop "$run" KILL
    # The first request must come to a listener of ours at the same address: nginx makes room.
    stop "$nginx"
    for ((try = 1; try <= pairs; try++)); do
        await python3 "$MEASURE" first-request "$port" "$TMP/run.log" "${command[@]}" >"$TMP/measured" ||
            { tail -n 20 "$TMP/run.log" >&2; die "the resumed run sent nothing"; }
        read -r seconds <"$TMP/measured"
        done=$(sed -n 's/.*: \([0-9,]*\) answered before.*/\1/p' "$TMP/run.log" | tr -d ,)
        [[ -n $done ]] || { cat "$TMP/run.log" >&2; die "the run did not say that it resumed"; }
        say "  resume $try: $done rows answered before, first request after $seconds s"
        times+=("$seconds")
    done
    seconds=$(calc %.2f "$(median "${times[@]}")")
    row "resume of 1,000,000 rows, $((done / 10000))% answered" "$seconds s" – – '<= 3 s' "$seconds <= 3"
    rm -rf "$TMP/state"
}

build_time() {
    local exit wall
    need cargo
    # Fetching is the network's time, not the build's.
    await cargo fetch --locked --quiet --manifest-path "$ROOT/Cargo.toml" || die "cargo fetch failed"
    await env -u CARGO_TARGET_DIR python3 "$MEASURE" run "$TMP/run.log" cargo build --release --locked --offline \
        --manifest-path "$ROOT/Cargo.toml" --target-dir "$TMP/build" >"$TMP/measured"
    read -r exit wall _ <"$TMP/measured"
    ((exit == 0)) || { tail -n 20 "$TMP/run.log" >&2; die "the build failed"; }
    row 'release build from nothing' "$(calc %.0f "$wall") s" "$(nproc) cores" – '<= 240 s' "$wall <= 240"
    rm -rf "$TMP/build"
}

small() {
    local i cpus=() peaks=() cpu peak syncs state=$TMP/small log=$TMP/syncs
    local run=("$BIN" run "$TMP/input-1.jsonl" -o "$TMP/out.jsonl" --fresh --base-url "http://127.0.0.1:$FAST" --state-dir "$state")
    input 1
    for where in 'a new state directory' 'a used state directory'; do
        if await python3 "$ROOT/tests/crash/tracer.py" --log "$log" --calls fsync,fdatasync "${run[@]}" >"$TMP/run.log" 2>&1; then
            # The log has all calls.
            syncs=$(grep -c -w -e fsync -e fdatasync "$log")
            row "one row in $where" "$syncs syncs" – – "$([[ $where == *new* ]] && echo '≤ 10' || echo '≤ 8')" \
                "$syncs <= $([[ $where == *new* ]] && echo 10 || echo 8)"
        else
            skip "one row in $where" 'its system calls cannot be traced'
        fi
        for ((i = 1; i <= 9; i++)); do
            measure 'a run of one row' "${run[@]}"
            cpus+=("$CPU") peaks+=("$PEAK")
        done
    done
    cpu=$(calc %.1f "$(median "${cpus[@]}") * 1000") peak=$(calc %.1f "$(median "${peaks[@]}") / 1024")
    row 'one row, processor time' "$cpu ms" – – '≤ 15 ms' "$cpu <= 15"
    row 'one row, peak' "$peak MiB" – – '≤ 25 MiB' "$peak <= 25"
    rm -rf "$state" "$TMP/out.jsonl"
}

# nginx's text for a server on port $1 that answers after $2 (an echo directive, or nothing).
server() {
    printf 'server { listen 127.0.0.1:%s backlog=65535; location / { echo_read_request_body; %s echo %s; } }\n' "$1" "$2" "'$COMPLETION'"
}

# The same with an answer of about 50,600 bytes, which nginx does not take in one piece.
heavy() {
    local words='An answer of many words. '
    printf 'server { listen 127.0.0.1:%s backlog=65535; location / { echo_read_request_body; echo -n %s; echo_duplicate 2000 %s; echo %s; } }\n' \
        "$1" "'${COMPLETION%%The quick*}'" "'$words'" "'The quick${COMPLETION#*The quick}'"
}

need nginx wrk python3 awk
prepare bench
release_binary "$bin" --bin llbatch --example floor
FLOOR=${floor:-$(dirname "$BIN")/examples/floor}
[[ -x $FLOOR ]] || die "no reference loop at $FLOOR: cargo build --profile dist --example floor, or --floor FILE"
FAST=$(free_port)
SLOW=$(free_port)
HEAVY=$(free_port)
start_nginx "$TMP/nginx" "$SLOW" \
    "$(server "$FAST" '') $(server "$SLOW" 'echo_sleep 0.2;') $(heavy "$HEAVY")"

printf 'measure\tfigure\tyardstick\tratio\ttarget\tmet?\n' >"$TMP/rows"
if wanted startup; then say start-up; startup; fi
if wanted small; then say 'a small run'; small; fi
if wanted throughput; then say throughput; throughput; fi
if wanted long; then say 'long answers and prompts'; long; fi
if wanted latency; then say latency; latency 1000 1.10; latency 2000 1.35; fi
if wanted connections; then say connections; connections; fi
if wanted instructions; then say 'instructions (slow: counted in an emulator)'; instructions; fi
if wanted memory; then say memory; memory; fi
if wanted resume; then say resume; resume; fi
if wanted build; then say build; build_time; fi
size=$(calc %.1f "$(stat -L -c %s "$BIN") / 1e6")
row 'size of the binary' "$size MB" – – '< 22 MB' "$size < 22"

facts "$(wrk -v 2>&1 | sed -n 's/^wrk \([^ ]*\).*/wrk \1/p')"
printf '\n'
print_table "$TMP/rows"
