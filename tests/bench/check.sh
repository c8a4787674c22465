#!/usr/bin/env bash
# Measures `llbatch check` of a large input against jq and wc reading the same file, and prints a table with its targets.
# See usage below for what it needs and how long it takes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/bench/check.sh [OPTIONS]

Builds the binary that is shipped (profile dist), makes a JSONL file of 1,000,000 batch lines (1.06 GB: prose, code, JSON and ten other
languages, a half of those as \u escapes; the same every time) and measures `check` of it; prints a table on stdout,
progress on stderr. Believe the ratios and the CPU time, and let nothing else run meanwhile.

Options:
  --bin FILE     measure this binary instead of building one
  --rows N       rows of the input [default: 1000000]
  --pairs N      rounds; medians are shown, and the least and the most of the ratios [default: 3]
  --jsonl        leave out CSV and gzip
  -h, --help     this text

Needs: jq, python3; cargo for building. No root, no network (but for the crates of a first build).
Files are written under $TMPDIR, or else the project's target/, and removed at the end: 2.4 GB.
Takes about 4 minutes on two cores that do nothing else, beside the build.

Each round runs, one after the other, all reading from the page cache:
  wc -l                  a bound: one look at each byte
  check FILE.jsonl       every row parsed and checked, ids compared, tokens estimated, priced
  jq -c . >/dev/null     what people have at hand to see whether a file is valid JSON
and at the end once each `check` of the same rows as CSV and as gzip. A ratio is the other's wall time through check's:
above 1, check is so many times as fast.
Exit status: 0 when everything was measured, met or not; 1 when something could not be.
HELP
}

bin='' rows=1000000 pairs=3 jsonl=''
options jsonl "$@"

# measured NAME CMD...: measures a command and keeps its figures under a name.
measured() {
    local name=$1
    measure "$@"
    say "  $name: $WALL s, CPU $CPU s, $((PEAK / 1024)) MiB"
    printf '%s %s %s\n' "$WALL" "$CPU" "$PEAK" >>"$TMP/figures-$name"
}

# Checks $2 with further arguments; figures go to $1. A check that missed rows would be worth nothing.
check() {
    local name=$1
    shift
    measured "$name" "$BIN" check --json --state-dir "$TMP/state" "$@"
    [[ $(python3 "$MEASURE" get "$TMP/run.log" rows problem_count) == "$rows 0" ]] || die "$name did not see $rows good rows"
    BYTES=$(python3 "$MEASURE" get "$TMP/run.log" bytes)
}

column() { cut -d ' ' -f "$2" "$TMP/figures-$1"; }
median_of() { column "$1" "$2" | python3 "$MEASURE" median; }
ratios() { paste -d ' ' <(column "$1" 1) <(column check 1) | awk '{ printf "%.4f\n", $1 / $2 }'; }

# row NAME LABEL [TARGET]: how many times as fast as NAME check was, round by round; the target is of that.
row() {
    local ratio='–' met=''
    if [[ -n ${3-} ]]; then
        ratio=$(ratios "$1" | python3 "$MEASURE" median)
        met=NO
        if holds "$ratio >= $3"; then met=yes; fi
        ratio="$(calc %.2f "$ratio") ($(calc %.2f "$(ratios "$1" | sort -n | head -n 1)")–$(calc %.2f "$(ratios "$1" | sort -n | tail -n 1)"))"
    fi
    line "$1" "$2" "$ratio" "${3:+>= $3}" "$met"
}

# line NAME LABEL RATIO TARGET MET
line() {
    local wall
    wall=$(median_of "$1" 1)
    printf '%s\t%s s\t%s s\t%s\t%s MiB\t%s\t%s\t%s\n' "$2" "$(calc %.2f "$wall")" "$(calc %.2f "$(median_of "$1" 2)")" \
        "$(calc %.0f "$BYTES / $wall / 1e6") MB/s" "$(calc %.0f "$(column "$1" 3 | sort -n | tail -n 1) / 1024")" "$3" "$4" "$5" >>"$TMP/rows"
}

need jq python3 awk
prepare bench-check
release_binary "$bin"
input=$TMP/input.jsonl
say "writing $rows rows"
await python3 "$MEASURE" check-input "$rows" "$input"
size=$(stat -c %s "$input")
for ((pair = 1; pair <= pairs; pair++)); do
    say "round $pair of $pairs, load $(cut -d ' ' -f 1-3 /proc/loadavg)"
    measured wc wc -l "$input"
    check check "$input"
    measured jq sh -c 'jq -c . "$1" >/dev/null' jq "$input"
done

printf 'command\twall\tCPU\tspeed\tpeak memory\tcheck against it (least–most)\ttarget\tmet?\n' >"$TMP/rows"
BYTES=$size
row wc 'wc -l' 0.12
row jq 'jq -c .' 15
peak=$(calc %.1f "$(column check 3 | sort -n | tail -n 1) / 1024")
met=NO
if holds "$peak < 100"; then met=yes; fi
line check check '–' '< 100 MiB' "$met"
if [[ -z $jsonl ]]; then
    say 'the same rows as CSV and as gzip'
    await python3 "$MEASURE" check-csv "$input" "$TMP/input.csv"
    await gzip -1 -k "$input"
    rm "$input"
    check csv "$TMP/input.csv"
    row csv 'check, as CSV'
    check gzip "$input.gz"
    row gzip 'check, as gzip (unpacked bytes)'
fi
# Without nginx, which has no part in this.
facts | grep -v '^versions'
printf 'versions  %s, %s\n' "$("$BIN" --version)" "$(jq --version)"
printf 'input     %s rows, %s MB\n\n' "$rows" "$(calc %.0f "$size / 1e6")"
print_table "$TMP/rows"
