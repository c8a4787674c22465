#!/usr/bin/env bash
# Opens HTML reports in a real browser: no text of a row may run, the search must work, the page must fit a telephone, and
# light and dark must differ, and axe-core must find nothing to say about its accessibility. Leaves screenshots.
#
#   tests/html/run.sh [PATH-TO-llbatch] [DIRECTORY-FOR-SCREENSHOTS]      default: target/html
#
# Needs Debian's chromium (apt-get install chromium) and Python 3.9 or newer. Without them it says `skipped: …` and ends with 0 (with 1
# if HTML_REQUIRED=1). CHROMIUM names another browser of that family. axe-core comes from npm, or AXE names its axe.min.js; without
# either, the pages are looked at without it, and that is said.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
llbatch=$(realpath "${1:-$here/../../target/debug/llbatch}")
shots=$(realpath -m "${2:-$here/../../target/html}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() {
    echo "html: skipped: $1" >&2
    [ "${HTML_REQUIRED:-0}" = 1 ] && exit 1
    exit 0
}

[ -x "$llbatch" ] || { echo "html: no llbatch at $llbatch: build it first, or name it" >&2; exit 1; }
browser=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$browser" ] || skip "there is no chromium (apt-get install chromium)"
command -v python3 >/dev/null || skip "python3 is not there"

mkdir -p "$shots"
cd "$work"
export HOME=$work LLBATCH_STATE_DIR=$work/state XDG_CONFIG_HOME=$work/config
unset TOGETHER_API_KEY TOGETHER_BASE_URL LLBATCH_CONFIG
python3 "$here/inputs.py"

# Rows that fail are wanted: 3.
ends() {
    local wanted=$1 code=0
    shift
    "$@" 2>>"$work/said" || code=$?
    [ "$code" = "$wanted" ] || { cat "$work/said" >&2; echo "html: $* ended with $code, not $wanted" >&2; exit 1; }
}
ends 3 env LLBATCH_SANDBOX='latency=20ms' "$llbatch" run realtime.jsonl --sandbox --retries 0 --concurrency 16 \
    --name 'reviews of November' -o realtime.out.jsonl
ends 0 "$llbatch" report last --html realtime.html >realtime.txt
ends 3 env LLBATCH_SANDBOX='validation=0s,run=1s' "$llbatch" submit batch.jsonl --sandbox --wait -o batch.out.jsonl
ends 0 "$llbatch" report last --html batch.html >batch.txt
ends 0 "$llbatch" report output.jsonl errors.jsonl --batch --html files.html >files.txt
: >empty.jsonl
ends 0 "$llbatch" report empty.jsonl --html empty.html >empty.txt
cp ./*.html ./*.txt "$shots"

axe=${AXE:-}
if [ -z "$axe" ] && command -v npm >/dev/null && npm pack --silent --pack-destination "$work" axe-core >/dev/null 2>&1; then
    tar -xzf "$work"/axe-core-*.tgz -C "$work" package/axe.min.js
    axe=$work/package/axe.min.js
fi
[ -n "$axe" ] || echo "html: axe-core skipped: npm does not bring it" >&2
python3 "$here/browse.py" "$browser" "$work" "$shots" ${axe:+"$axe"}
echo "html: all pages are well; screenshots in $shots"
