#!/usr/bin/env bash
# Inputs and results too large for a test: measures whether they come through, in how much memory, and how fast.
# See usage below for what it needs and how long it takes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../bench/lib.sh"

# Most memory that a command may take for any of them, and for a single line of 50 MB, which is held in one piece.
MOST_KIB=195312 LINE_KIB=307200

usage() {
    cat <<'HELP'
Usage: tests/hostile/run.sh [--bin FILE] [--rows N] [--keep DIR]

Checks exit codes, results and peak memory, and prints a line for each case on stdout.

  rows          `check` of a file of N lines [default: 10,000,000; about 1.1 GB]             under 200 MB
  duplicate     the same with the first line's id at the end: 65, and both lines named        under 200 MB
  run           `run` of it until a deadline of 60 s, which is far too early: 5, resumable    under 200 MB
  line          `run` of three rows, one of which is 50 MB long                               under 315 MB
  zeros, cell   `check` of a gzip of 4 GB that is one line, or one CSV cell: 65               under 200 MB
  errors        `submit --wait` of 100,000 rows that all fail: each in the results, in order  under 200 MB

Options:
  --bin FILE    test this binary instead of building one
  --rows N      lines of the large file
  --keep DIR    copy the logs there
  -h, --help    this text

Needs: python3; cargo for building; 5 GB of disk under target/ (or TMPDIR). No network, no root.
Takes about 8 minutes on two idle cores. Exit status: 0 if everything holds, else 1.
HELP
}

bin='' rows=10000000 keep=''
while (($#)); do
    case $1 in --bin | --rows | --keep) (($# > 1)) || usage_error "$1 takes a value" ;; esac
    case $1 in
        --bin) bin=$2; shift ;;
        --rows) rows=$2; number "$rows" --rows; shift ;;
        --keep) keep=$(realpath -m "$2"); shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage_error "unknown option $1" ;;
    esac
    shift
done

command -v python3 >/dev/null || die "python3 is missing"
prepare hostile
release_binary "$bin"
cd "$TMP"
export LLBATCH_STATE_DIR=$TMP/state
bad=0

# try CASE MOST_KIB EXIT-CODE ARGUMENT...: runs llbatch; what it said is in CASE.log.
try() {
    local name=$1 most=$2 wanted=$3 code wall cpu peak verdict=ok
    shift 3
    read -r code wall cpu peak _ < <(python3 "$MEASURE" run "$name.log" "$BIN" "$@")
    if [[ $code != "$wanted" ]]; then verdict="ended with $code, not $wanted"; fi
    if ((peak > most)); then verdict="took more than $((most / 1024)) MiB"; fi
    if [[ $verdict != ok ]]; then bad=1; tail -n 5 "$name.log" >&2; fi
    printf '%-10s exit %-3s %8.1f s  cpu %7.1f s  %4d MiB  %s\n' "$name" "$code" "$wall" "$cpu" $((peak / 1024)) "$verdict"
}
# holds_that CASE TEXT COMMAND...
holds_that() {
    local name=$1 text=$2
    shift 2
    if ! "$@"; then bad=1; printf '%-10s %s: NO\n' "$name" "$text"; fi
}

"$BIN" serve --batch-validation 0s --batch-run 100ms --fault status=400,on=row,contains=refuse >url 2>serve.log &
PIDS+=("$!")
for _ in $(seq 100); do [[ -s url ]] && break; sleep 0.1; done
url=$(<url)

say "writing $rows lines"
python3 - "$rows" "$MODEL" <<'PY'
import sys

rows, model = int(sys.argv[1]), sys.argv[2]
with open("rows.jsonl", "w") as out:
    for n in range(1, rows + 1):
        out.write('{"id":"row number %d","prompt":"question %d","model":"%s","max_tokens":16}\n' % (n, n, model))
with open("line.jsonl", "w") as out:
    for n in range(3):
        out.write('{"id":"%d","prompt":"%s","model":"m/x"}\n' % (n, "x y " * (12_500_000 if n == 1 else 2)))
with open("errors.jsonl", "w") as out:
    for n in range(100_000):
        out.write('{"id":"e%d","prompt":"refuse %d","model":"%s","max_tokens":4}\n' % (n, n, model))
PY
try rows "$MOST_KIB" 0 check rows.jsonl
holds_that rows "counts $rows rows" grep -q "^$(sed ':a;s/\B[0-9]\{3\}\>/,&/;ta' <<<"$rows") rows" rows.log
head -n 1 rows.jsonl >>rows.jsonl
try duplicate "$MOST_KIB" 65 check rows.jsonl
holds_that duplicate "names both lines" grep -q "first at rows.jsonl:1, again at rows.jsonl:$((rows + 1))" duplicate.log
head -n -1 rows.jsonl >shorter && mv shorter rows.jsonl
try run "$MOST_KIB" 5 run rows.jsonl -o rows.out.jsonl --deadline 60s --base-url "$url"
rm rows.jsonl
try line "$LINE_KIB" 0 run line.jsonl -o line.out.jsonl --base-url "$url"

say "packing 4 GB"
python3 - <<'PY'
import zlib

for name, head, part in [("zeros.jsonl.gz", b"", b"\0"), ("cell.csv.gz", b'id,prompt\na,"', b"xxxx,yyyy\n,zzzz\n")]:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    part *= (16 << 20) // len(part)
    with open(name, "wb") as out:
        out.write(packer.compress(head))
        for _ in range(256):
            out.write(packer.compress(part))
        out.write(packer.flush())
PY
try zeros "$MOST_KIB" 65 check zeros.jsonl.gz -m "$MODEL"
try cell "$MOST_KIB" 65 check cell.csv.gz -m "$MODEL"
holds_that cell "names the quote" grep -q 'cell.csv.gz:2:3: the quote' cell.log

try errors "$MOST_KIB" 3 submit errors.jsonl --wait -o errors.out.jsonl --base-url "$url"
holds_that errors "has every row with its error, in order" python3 - <<'PY'
import json

found = [json.loads(line) for line in open("errors.out.jsonl")]
assert [row["custom_id"] for row in found] == [f"e{n}" for n in range(100_000)]
assert all(row["error"]["code"] == "invalid_request" for row in found)
PY
if [[ -n $keep ]]; then mkdir -p "$keep" && cp ./*.log "$keep"; fi
((bad == 0)) || die "not everything holds"
