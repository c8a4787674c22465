#!/usr/bin/env bash
# Counts the user instructions of a row of `run`, and holds them against the number in instructions.txt. See usage below.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

KEPT=$ROOT/tests/bench/instructions.txt
# Rows of the two runs. The start, in which a run finds its pace, and the end are in both.
FEW=3000 MANY=8000
# Requests in flight. With many, answers are always there to be read, however late the server is: commits then serve many
# rows. With 64 the count of one binary rose by up to a fifth on a busy machine.
IN_FLIGHT=1000
# Percent that a count may be above the number.
MOST=3
# The least of some counts is compared: chance only adds to them.
TRIES=3

usage() {
    cat <<'HELP'
Usage: tests/bench/instructions.sh [OPTIONS]

Builds the binary in the profile `gate`, counts the user instructions of `llbatch run` in valgrind's callgrind for 3,000 and
for 8,000 rows of one fixed input, and compares the difference, for one row, with the number in
tests/bench/instructions.txt. The server is `llbatch serve`, which is not counted. The run's clock is slower than the
machine's, as the emulator is (tests/bench/slow_clock.c, built with cc). A count above the limit is repeated twice, and
the least counts.

Options:
  --bin FILE     count this binary of the profile `gate` instead of building one
  --keep         write the number to tests/bench/instructions.txt
  -h, --help     this text

Exit status: 0 if the count is at most 3% above the number, or valgrind or cc is missing (each is said); 1 if it is more, or
cannot be counted. If it is lower, write the new number with --keep, so that the gain is held.
HELP
}

bin='' keep=''
while (($#)); do
    case $1 in
        --bin) (($# > 1)) || usage_error "$1 takes a value"; bin=$2; shift ;;
        --keep) keep=1 ;;
        -h | --help) usage; exit 0 ;;
        *) usage_error "unknown option $1" ;;
    esac
    shift
done

# Batch lines of 400 to 2,000 bytes, the same on every machine: input ROWS FILE
input() {
    awk -v rows="$1" -v model="$MODEL" 'BEGIN {
        count = split("alpha beta gamma delta river stone water mountain letter table number question answer summary", words, " ")
        for (row = 1; row <= rows; row++) {
            seed = (seed * 16807 + 20260101) % 2147483647
            text = ""
            for (left = 230 + seed % 1600; left > 0; left -= length(word) + 1) {
                seed = (seed * 16807 + 1) % 2147483647
                word = words[1 + seed % count]
                text = text word " "
            }
            printf "{\"custom_id\": \"row-%07d\", \"body\": {\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"%s\"}], " \
                "\"max_tokens\": 64, \"temperature\": 0.7}}\n", row, model, text
        }
    }' >"$2"
}

# User instructions of a run of so many rows, in all its threads. Sets COUNT.
count() {
    local out=$TMP/out.jsonl
    input "$1" "$TMP/input.jsonl"
    rm -rf "$TMP/state"
    await "${CLOCK[@]}" valgrind --tool=callgrind --callgrind-out-file=/dev/null "$BIN" run "$TMP/input.jsonl" -q -o "$out" \
        --concurrency $IN_FLIGHT --base-url "$URL" --state-dir "$TMP/state" 2>"$TMP/valgrind.log" ||
        { tail -n 20 "$TMP/valgrind.log" >&2; die 'the run under valgrind failed'; }
    (($(wc -l <"$out") == $1)) || die 'the run under valgrind did not answer every row'
    COUNT=$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\).*/\1/p' "$TMP/valgrind.log")
}

# Instructions of one row. Sets EACH.
count_each() {
    local few
    count $FEW
    few=$COUNT
    count $MANY
    EACH=$(((COUNT - few) / (MANY - FEW)))
}

for tool in valgrind cc; do
    command -v $tool >/dev/null && continue
    say "skipped: instructions are not counted, because $tool is missing (Debian: apt-get install valgrind gcc libc6-dev)"
    exit 0
done
need awk rustc
prepare gate 2000
slow_clock
PROFILE=gate
release_binary "$bin" --bin llbatch
serve
compiler=$(rustc --version | cut -d ' ' -f 1-2)
read -r kept kept_compiler <"$KEPT"
least=''
for ((try = 1; try <= TRIES; try++)); do
    count_each
    say "  $EACH a row"
    if [[ -z $least ]] || ((EACH < least)); then least=$EACH; fi
    change=$(calc %+.1f "($least / $kept - 1) * 100")
    # A number that is kept should be the floor.
    if [[ -z $keep ]] && holds "$change <= $MOST"; then break; fi
done
if [[ -n $keep ]]; then
    printf '%s %s\n' "$least" "$compiler" >"$KEPT"
    say "$least instructions a row, written to ${KEPT#"$ROOT/"}"
    exit 0
fi
say "$least instructions a row, $change% against the $kept of ${KEPT#"$ROOT/"}"
if [[ $compiler != "$kept_compiler" ]]; then
    say "Not compared: $kept_compiler made the number, and this is $compiler. After a change of compilers: --keep"
elif holds "$change > $MOST"; then
    die "a row takes over $MOST% more instructions than before. Find what costs them (valgrind --tool=callgrind), or say in
the commit what they buy and write the new number: tests/bench/instructions.sh --keep"
elif holds "$change < -$MOST"; then
    say "A row takes over $MOST% fewer instructions than before. Hold the gain: tests/bench/instructions.sh --keep"
fi
