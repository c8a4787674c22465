#!/usr/bin/env bash
# Drives the sandbox, in both dialects, with the SDKs that people test their own programs with: openai, together,
# langchain-openai and litellm for Python, openai and together-ai for Node. Each asks at once and streamed. openai-batches is
# the SDK of OpenAI with models, files and batches.
#
#   tests/interop/clients.sh [PATH-TO-llbatch] [CLIENT…]     CLIENT: openai openai-batches together
#                                                            langchain-openai litellm npm:openai npm:together-ai
#
# Each client prints its version. One that cannot be installed is skipped, and the script says so; with
# INTEROP_REQUIRED=1 that is a failure. Needs Python 3.10 or newer, Node 20 or newer, and their package indexes.
# INTEROP_CLIENTS names a directory to install into and use again; without it a temporary one is made.
# Half a gigabyte is installed. It takes two to three minutes, and half a minute when all is installed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here/../../target/debug/llbatch}
shift || true
[ -x "$target" ] || { echo "clients: no llbatch at $target: build it first, or name it" >&2; exit 1; }
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(openai openai-batches together langchain-openai litellm npm:openai npm:together-ai)

work=$(mktemp -d)
servers=()
finish() {
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
place=${INTEROP_CLIENTS:-$work/clients}
mkdir -p "$place" "$work/home"

version_of() {
    case $1 in
    openai | openai-batches) echo 3.57.0 ;;
    together) echo 3.1.1 ;;
    langchain-openai) echo 1.7.4 ;;
    litellm) echo 1.110.2 ;;
    npm:openai) echo 6.49.0 ;;
    npm:together-ai) echo 0.52.0 ;;
    *) echo "clients: unknown client $1" >&2; exit 1 ;;
    esac
}

# Installs a client unless it is there. The reason why it cannot be stands in $why.
why=
installed() {
    local client=${1%-batches} version log=$work/install.log
    version=$(version_of "$client")
    case $client in
    npm:*)
        command -v node >/dev/null && command -v npm >/dev/null || { why="node and npm are not there"; return 1; }
        [ -f "$place/node_modules/${client#npm:}/package.json" ] && return 0
        timeout 120 npm install --no-audit --no-fund --silent --prefix "$place" "${client#npm:}@$version" >"$log" 2>&1
        ;;
    *)
        command -v python3 >/dev/null || { why="python3 is not there"; return 1; }
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { why="Python is older than 3.10"; return 1; }
        [ -x "$place/venv/bin/pip" ] || python3 -m venv "$place/venv" >"$log" 2>&1 || { why="no virtual environment"; return 1; }
        "$place/venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('$client') != '$version')" \
            2>/dev/null && return 0
        timeout 300 "$place/venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --timeout 15 \
            "$client==$version" >"$log" 2>&1
        ;;
    esac || { why="$client==$version cannot be installed: $(tail -n 1 "$log")"; return 1; }
}

# Starts a sandbox. Its base URL stands in $url.
serve() {
    "$target" --state-dir "$work/state-$1" serve --dialect "$1" --batch-run 1s >"$work/url-$1" 2>"$work/serve-$1.log" &
    servers+=($!)
    for _ in $(seq 100); do
        [ -s "$work/url-$1" ] && break
        kill -0 "${servers[-1]}" 2>/dev/null || { cat "$work/serve-$1.log" >&2; exit 1; }
        sleep 0.1
    done
    url=$(head -n 1 "$work/url-$1")
}

serve together && together=$url
serve openai && openai=$url
failed=0
passed=0
skipped=0
for client in "${clients[@]}"; do
    if ! installed "$client"; then
        echo "clients: skipped $client: $why" >&2
        skipped=$((skipped + 1))
        continue
    fi
    case $client in
    npm:*) run=(node "$here/clients.mjs" "${client#npm:}" "$together" "$openai" "$place/node_modules") ;;
    *) run=("$place/venv/bin/python" "$here/clients.py" "$client" "$together" "$openai" "$work") ;;
    esac
    # A home of its own: no user's settings, nothing left behind. Loopback never goes through a proxy.
    if env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY -u all_proxy -u OPENAI_API_KEY \
        HOME="$work/home" NO_PROXY='*' TOGETHER_TELEMETRY_DISABLED=1 LITELLM_LOCAL_MODEL_COST_MAP=True \
        LANGSMITH_TRACING=false HF_HUB_OFFLINE=1 timeout 300 "${run[@]}"; then
        passed=$((passed + 1))
    else
        echo "clients: $client failed" >&2
        failed=$((failed + 1))
    fi
done
echo "clients: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && { [ "$skipped" = 0 ] || [ "${INTEROP_REQUIRED:-0}" != 1 ]; }
