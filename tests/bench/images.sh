#!/usr/bin/env bash
# Measures a run whose rows have images against `base64` of the same bytes. See usage below.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'HELP'
Usage: tests/bench/images.sh [OPTIONS]

Builds the binary that is shipped (profile dist), makes image files of 200 kB, and measures `check`, `run` and `prepare` of rows that
name one each. Prints a table on stdout, progress on stderr. The server is `llbatch serve`, which decodes each image, and shares
the machine's cores: believe the CPU time and the memory.

Options:
  --bin FILE     measure this binary instead of building one
  --rows N       rows, each with a file of its own [default: 10000]
  --pairs N      rounds; medians are shown [default: 3]
  -h, --help     this text

Needs: python3, base64; cargo for building. No root, no network. Files are written under $TMPDIR, or else the project's
target/, and removed at the end: 10,000 rows take 5 GB. Takes about 3 minutes on two cores.

A share is the wall time of `cat FILES | base64 -w 0 > /dev/null` through that of the command.
Exit status: 0 when everything was measured; 1 when something could not be.
HELP
}

bin='' rows=10000 pairs=3
while (($#)); do
    case $1 in --bin | --pairs | --rows) (($# > 1)) || usage_error "$1 takes a value" ;; esac
    case $1 in
        --bin) bin=$2; shift ;;
        --rows | --pairs) number "$2" "$1"; printf -v "${1#--}" %s "$2"; shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage_error "unknown option $1" ;;
    esac
    shift
done
release_binary "$bin"
prepare images

say "making $rows files of 200 kB"
python3 - "$TMP" "$rows" <<'PYTHON'
import os, random, sys
root, rows = sys.argv[1], int(sys.argv[2])
os.mkdir(f"{root}/files")
noise = random.Random(7).randbytes(400_000)
with open(f"{root}/in.csv", "w") as table:
    table.write("id,prompt,photo\n")
    for row in range(rows):
        name = f"files/{row}.png"
        start = random.Random(row).randrange(200_000)
        with open(f"{root}/{name}", "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n" + row.to_bytes(8, "big") + noise[start : start + 199_984])
        table.write(f"r{row},look at this,{name}\n")
PYTHON

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

# figures NAME CMD...: the medians of the rounds.
figures() {
    local name=$1 round yard
    shift
    for ((round = 0; round < pairs; round++)); do
        rm -rf "$TMP/state" "$TMP/batches" "$TMP/out.jsonl"
        measure base64 sh -c 'cd "$1" && find files -name "*.png" -print0 | xargs -0 cat | base64 -w 0 >/dev/null' sh "$TMP"
        yard=$WALL
        measure "$name" env -C "$TMP" LLBATCH_STATE_DIR="$TMP/state" "$BIN" "$@"
        printf '%s\n' "$WALL" >>"$TMP/$name.wall"
        printf '%s\n' "$CPU" >>"$TMP/$name.cpu"
        printf '%s\n' "$PEAK" >>"$TMP/$name.peak"
        calc '%.3f\n' "$yard / $WALL" >>"$TMP/$name.share"
        say "  $name: $WALL s, CPU $CPU s, $((PEAK / 1024)) MiB, base64 $yard s"
    done
    printf '%-10s %8s s  %8s s CPU  %6s MiB  %6s of base64\n' "$name" "$(median <"$TMP/$name.wall")" \
        "$(median <"$TMP/$name.cpu")" "$(($(median <"$TMP/$name.peak") / 1024))" "$(median <"$TMP/$name.share")" >>"$TMP/table"
}

serve --latency 0ms
ask=(in.csv --image photo -m "$MODEL" --max-tokens 16)
figures check check "${ask[@]}" --json
figures run run "${ask[@]}" --base-url "$URL" -o out.jsonl -q --summary s.json
(($(wc -l <"$TMP/out.jsonl") == rows)) || die "out.jsonl has $(wc -l <"$TMP/out.jsonl") lines, not $rows"
figures prepare prepare "${ask[@]}" -o batches
facts "$rows rows of 200 kB"
cat "$TMP/table"
