#!/usr/bin/env bash
# Drives the sandbox with Together's official SDK and CLI, so that our client and our sandbox are not wrong together.
#
#   tests/interop/run.sh [PATH-TO-llbatch]      starts `llbatch serve` and stops it at the end
#   tests/interop/run.sh http://127.0.0.1:PORT/v1   uses a sandbox that runs already
#
# Needs Python 3.9 or newer and a package index. Without them it says `skipped: …` and ends with 0 (with 1 if
# INTEROP_REQUIRED=1). Nothing here waits for ever: no network is noticed within a minute or two.
# INTEROP_VENV names a virtual environment to make or use again; without it a temporary one is made.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT

skip() {
    echo "interop: skipped: $1" >&2
    [ "${INTEROP_REQUIRED:-0}" = 1 ] && exit 1
    exit 0
}

command -v python3 >/dev/null || skip "python3 is not there"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || skip "$(python3 --version) is older than 3.9"
venv=${INTEROP_VENV:-$work/venv}
if ! [ -x "$venv/bin/tg" ]; then
    python3 -m venv "$venv" >"$work/venv.log" 2>&1 || skip "python3 cannot make a virtual environment"
    timeout 300 "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 15 together==3.1.1 \
        >"$work/pip.log" 2>&1 || skip "together==3.1.1 cannot be installed: $(tail -n 1 "$work/pip.log")"
fi

target=${1:-$here/../../target/debug/llbatch}
case $target in
http://*) url=$target fresh=0 binary= ;;
*)
    [ -x "$target" ] || { echo "interop: no llbatch at $target: build it first, or name it" >&2; exit 1; }
    "$target" --state-dir "$work/state" serve --listen 127.0.0.1:0 --track --keep "$work/service" >"$work/url" 2>"$work/serve.log" &
    server=$!
    for _ in $(seq 100); do
        [ -s "$work/url" ] && break
        kill -0 "$server" 2>/dev/null || { cat "$work/serve.log" >&2; exit 1; }
        sleep 0.1
    done
    url=$(head -n 1 "$work/url") fresh=1 binary=$target
    ;;
esac

# A home of its own: no user's settings, no login, nothing left behind. Loopback never goes through a proxy.
env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY -u all_proxy \
    HOME="$work/home" XDG_CONFIG_HOME="$work/home/config" NO_PROXY='*' TOGETHER_TELEMETRY_DISABLED=1 INTEROP_FRESH=$fresh INTEROP_LLBATCH="$binary" \
    timeout 300 "$venv/bin/python" "$here/run.py" "$url" "$venv/bin/tg" "$work"
