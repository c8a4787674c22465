#!/usr/bin/env bash
# Measures everything that has a target of speed, memory or size, and prints one table of measures, targets and verdicts.
# See usage below for what it needs and how long it takes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/bench/targets.sh [OPTIONS]

Builds the binary that is shipped (profile dist) and the reference loop, lets run.sh, batch.sh and check.sh of this directory
and tests/limiter/run.sh measure them one after the other, and prints on stdout: the table of all targets, each met or
missed; the figures of every round; the facts of the machine. Progress on stderr. Figures are medians of rounds; each
round runs llbatch and its yardstick one after the other. Let nothing else run meanwhile.

Options:
  --rounds N     rounds of each measure [default: 5]
  --bin FILE     measure this binary instead of building one
  --floor FILE   the reference loop beside it (the example `floor`), built unless given
  --only LIST    only these scripts, with commas: run, batch, check, limits
  --build        also measure a release build from nothing (several minutes)
  -h, --help     this text

Needs: what the four scripts need: nginx-light, libnginx-mod-http-echo, wrk, jq and python3; valgrind and a C compiler for
instructions; 4 GB of disk under $TMPDIR, or else the project's target/. No root, no network.
Takes about 22 minutes on two cores that do nothing else, beside the builds: run 10, batch 2, check 4, limits 5.
Exit status: 0 when everything was measured, met or not; 1 when something could not be. The table has what was measured.
HELP
}

bin='' floor='' rounds=5 only='' build=''
while (($#)); do
    case $1 in --bin | --floor | --rounds | --only) (($# > 1)) || usage_error "$1 takes a value" ;; esac
    case $1 in
        --bin) bin=$2; shift ;;
        --floor) floor=$2; shift ;;
        --rounds) rounds=$2; number "$rounds" --rounds; shift ;;
        --only) only=$2; shift ;;
        --build) build=1 ;;
        -h | --help) usage; exit 0 ;;
        *) usage_error "unknown option $1" ;;
    esac
    shift
done
[[ ,$only, =~ ^,((run|batch|check|limits|),)*$ ]] || usage_error "--only $only"

# Lets a script measure the binary. Its rows, figures and facts are kept under its name. part NAME SCRIPT OPTION...
part() {
    local name=$1
    if [[ -n $only && ,$only, != *,$name,* ]]; then return; fi
    say "$name: $2, $((SECONDS / 60)) minutes after the start"
    await env BENCH_ROWS="$TMP/$name.rows" "$ROOT/tests/$2" --bin "$BIN" "${@:3}" \
        >"$TMP/$name.out" 2> >(tee "$TMP/$name.log" >&2) || { say "error: $2 ended with $?"; failed=1; }
}

# The rows of a script that have a target, as: measure, measured, target, met or missed. rows NAME MEASURED, in which each
# {column} becomes that column's cell.
rows() {
    [[ -e $TMP/$1.rows ]] || return 0
    awk -F '\t' -v OFS='\t' -v form="$2" '
        NR == 1 { columns = split($0, header); next }
        $(columns - 1) ~ /[0-9]/ || $columns == "not measured" {
            text = form
            for (column = 1; column <= columns; column++) {
                start = index(text, "{" header[column] "}")
                if (start) text = substr(text, 1, start - 1) $column substr(text, start + length(header[column]) + 2)
            }
            verdict = $columns
            if (verdict ~ /^yes/) sub(/^yes/, "met", verdict)
            if (verdict == "NO" || verdict == "no") verdict = "MISSED"
            print $1, text, $(columns - 1), verdict
        }' "$TMP/$1.rows"
}

failed=0
need nginx wrk jq python3 awk
prepare targets
release_binary "$bin" --bin llbatch --example floor
FLOOR=${floor:-$(dirname "$BIN")/examples/floor}
[[ -x $FLOOR ]] || die "no reference loop at $FLOOR: cargo build --profile dist --example floor, or --floor FILE"

part run bench/run.sh --floor "$FLOOR" --pairs "$rounds" ${build:+--build}
part batch bench/batch.sh --pairs "$rounds"
part check bench/check.sh --pairs "$rounds" --jsonl
part limits limiter/run.sh --only 'sandbox-*,headers-*' --no-litellm

printf 'Targets: medians of %s rounds, after %s minutes\n\n' "$rounds" $((SECONDS / 60))
{
    printf 'measure\tmeasured\ttarget\tmet?\n'
    rows run '{figure}; {ratio} of {yardstick}'
    rows batch '{wall}, CPU {CPU}, {peak memory}; {ratio (least–most)} of cat'
    rows check '{wall}, CPU {CPU}, {peak memory}; check {check against it (least–most)}'
    rows limits 'used {used}, refused {refused}'
} | sed 's/; – of –//; s/; – of cat//; s/; check –//' | python3 "$MEASURE" table
for name in run batch check limits; do
    [[ -e $TMP/$name.log ]] || continue
    printf '\nRounds of %s\n' "$name"
    grep -e '^ ' -e '^round' "$TMP/$name.log" || true
    grep -E '^(date|machine|system|versions|input|measured)  ' "$TMP/$name.out" || true
done
exit "$failed"
