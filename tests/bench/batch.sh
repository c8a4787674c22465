#!/usr/bin/env bash
# Measures the commands of a batch job against `cat` of the same bytes in the same minutes, and prints a table with its
# targets. See usage below for what it needs and how long it takes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/bench/batch.sh [OPTIONS]

Builds the binary that is shipped (profile dist), starts `llbatch serve --keep` (a process of its own) and measures `prepare`, `submit`, `wait`
and `fetch` of 120,000 rows; prints a table on stdout, progress on stderr. Client and server share the machine's cores:
believe the ratios and the CPU time, and let nothing else run meanwhile.

Options:
  --bin FILE     measure this binary instead of building one
  --rows N       rows of the input, a third for each of three models [default: 120000]
  --pairs N      rounds; medians are shown, and the least and the most of the ratios [default: 5]
  --million      also 1,000,000 rows once, for their memory (8 GB of disk, about 3 minutes)
  -h, --help     this text

Needs: python3; cargo for building. No root, no network (but for the crates of a first build).
Files are written under $TMPDIR, or else the project's target/, and removed at the end: 1 GB, with --million 8 GB.
Takes about 1 minute on two cores that do nothing else, beside the build and --million.

The input: batch lines of about 800 bytes, the same every time, the models taking turns. Each round has a server and a
state directory of its own and measures, after a sync of the disk each time:
  prepare        input -> three files, paired with `cat INPUT > FILE`
  submit         input -> a copy, three files, the job's database, three uploads, three batches
  wait           of a copy of that job: asks (the server makes the results while it is asked), downloads, joins, stores
  fetch          of the job as it was after submit, all results being made: downloads, verifies, joins, stores, and
                 writes -o FILE; paired with `cat RESULTS > FILE`
  fetch again    the same when all is in the store; paired with `cat RESULTS > FILE` too
A ratio is cat's wall time through the command's. cat writes without a flush to the disk; llbatch flushes what it keeps.
Exit status: 0 when everything was measured, met or not; 1 when something could not be.
HELP
}

bin='' rows=120000 pairs=5 million=''
options million "$@"

# measured CMD...: measures a command after a sync.
measured() {
    sync
    measure "$(basename "$1") $2" "$@"
}

# keep NAME [CAT]: adds what was measured to NAME's figures; CAT is the wall time of its yardstick.
keep() {
    local ratio='-'
    if [[ -n ${2-} ]]; then ratio=$(calc %.4f "$2 / $WALL"); fi
    printf '%s %s %s %s %s\n' "$WALL" "$CPU" "$PEAK" "${2:--}" "$ratio" >>"$TMP/figures-$1"
    say "  $1: $WALL s, CPU $CPU s, $((PEAK / 1024)) MiB${2:+, cat $2 s, ratio $ratio}"
}

yardstick() {
    sync
    await python3 "$MEASURE" run "$TMP/cat.log" sh -c 'cat "$1" >"$2"' cat "$1" "$TMP/cat.out" >"$TMP/measured"
    read -r _ YARD _ <"$TMP/measured"
    rm -f "$TMP/cat.out"
}

# A server with nothing on its disk.
start_server() {
    rm -rf "$TMP/kept" "$TMP/url"
    serve --keep "$TMP/kept" --batch-validation 50ms --batch-run 200ms
}

# Results that lost or failed rows, or changed their order, would make the figures worthless.
verify() {
    (($(wc -l <"$1") == $2)) || die "$1 has $(wc -l <"$1") lines, not $2"
    cmp -s <(cut -c 1-30 "$1" | grep -o '"row-[0-9]*"') <(grep -o '^{"custom_id": "row-[0-9]*"' "$INPUT" | cut -c 15-) ||
        die "$1 is not in the order of the input"
}

# One round of $1 rows. With a second argument figures have that ending, and there are no yardsticks.
round() {
    local rows=$1 ending=${2-} out=$TMP/out.jsonl
    INPUT=$TMP/input-$rows.jsonl
    [[ -e $INPUT ]] || await python3 "$MEASURE" batch-input "$rows" "$INPUT"
    rm -rf "$TMP/shards" "$TMP/state" "$TMP/waited"
    if [[ -z $ending ]]; then yardstick "$INPUT"; fi
    measured "$BIN" prepare "$INPUT" -q -o "$TMP/shards"
    keep "prepare$ending" "${YARD-}"
    rm -rf "$TMP/shards"
    start_server
    measured "$BIN" submit "$INPUT" -q --base-url "$URL" --state-dir "$TMP/state"
    keep "submit$ending"
    cp -r "$TMP/state" "$TMP/waited"
    measured "$BIN" wait last -q --poll 1s --base-url "$URL" --state-dir "$TMP/waited"
    keep "wait$ending"
    rm -rf "$TMP/waited"
    # The server's production is over: the wait has asked for every batch's end.
    measured "$BIN" fetch last -q -o "$out" --base-url "$URL" --state-dir "$TMP/state"
    verify "$out" "$rows"
    local wall=$WALL cpu=$CPU peak=$PEAK
    if [[ -z $ending ]]; then yardstick "$out"; fi
    WALL=$wall CPU=$cpu PEAK=$peak
    keep "fetch$ending" "${YARD-}"
    mv "$out" "$out.first"
    measured "$BIN" fetch last -q -o "$out" --base-url "$URL" --state-dir "$TMP/state"
    keep "again$ending" "${YARD-}"
    cmp "$out" "$out.first" || die 'the second fetch wrote other bytes'
    stop "$SERVER"
    BYTES="$(calc %.0f "$(stat -c %s "$INPUT") / 1e6") MB in, $(calc %.0f "$(stat -c %s "$out") / 1e6") MB out"
    rm -rf "$TMP/state" "$TMP/kept" "$out" "$out.first"
}

column() { cut -d ' ' -f "$2" "$TMP/figures-$1" | grep -v '^-$'; }
median_of() { column "$1" "$2" | python3 "$MEASURE" median; }

# row NAME LABEL MEMORY-TARGET [RATIO-TARGET]
row() {
    local name=$1 peak ratio='–' cat='–' target='' met=yes
    # Memory is not a matter of luck: the most of all rounds counts.
    peak=$(calc %.0f "$(column "$name" 3 | sort -n | tail -n 1) / 1024")
    if [[ $3 != - ]]; then
        target="< $3 MiB"
        holds "$peak < $3" || met=NO
    fi
    if [[ -n ${4-} ]]; then
        cat=$(calc '%.3f s' "$(median_of "$name" 4)")
        ratio=$(median_of "$name" 5)
        target="${target:+$target, }>= $4"
        holds "$ratio >= $4" || met=NO
        ratio="$(calc %.3f "$ratio") ($(calc %.3f "$(column "$name" 5 | sort -n | head -n 1)")–$(calc %.3f "$(column "$name" 5 | sort -n | tail -n 1)"))"
    fi
    printf '%s\t%s s\t%s s\t%s MiB\t%s\t%s\t%s\t%s\n' "$2" "$(calc %.2f "$(median_of "$name" 1)")" \
        "$(calc %.2f "$(median_of "$name" 2)")" "$peak" "$cat" "$ratio" "${target:-–}" "${target:+$met}" >>"$TMP/rows"
}

need python3 awk
prepare bench-batch
release_binary "$bin"
printf 'command\twall\tCPU\tpeak memory\tcat\tratio (least–most)\ttarget\tmet?\n' >"$TMP/rows"
for ((pair = 1; pair <= pairs; pair++)); do
    say "round $pair of $pairs, load $(cut -d ' ' -f 1-3 /proc/loadavg)"
    round "$rows"
done
sizes=$BYTES
row prepare prepare - 0.15
row submit submit 150
row wait wait 150
row fetch fetch 150 0.06
row again 'fetch again' 150 0.10
if [[ -n $million ]]; then
    say '1,000,000 rows'
    rm -f "$TMP"/input-*.jsonl
    unset YARD
    round 1000000 -million
    row prepare-million 'prepare, 1,000,000 rows' -
    for name in submit wait fetch; do row $name-million "$name, 1,000,000 rows" 150; done
    row again-million 'fetch again, 1,000,000 rows' 150
fi
# Without nginx, which has no part in this.
facts | grep -v '^versions'
printf 'versions  %s\n' "$("$BIN" --version)"
printf 'input     %s rows, %s\n\n' "$rows" "$sizes"
print_table "$TMP/rows"
