#!/usr/bin/env bash
# `llbatch` on object stores that are not ours, with kills in the middle of reads and writes. See usage below.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'HELP'
Usage: tests/objects/run.sh [--rows 20000] [--kills 5] [--only moto,s3rver,azurite,gcs] [PATH-TO-llbatch]

Installs moto, s3rver and azurite, starts each on loopback, and checks on each, and on moto as gs:// too (Google's XML API is
S3's; gcp-storage-emulator has only the JSON API, which llbatch does not use):
  - Results, failed rows and a summary written to it are the bytes that a file gets, read by a client that is not ours.
  - Rows read from it, also packed and from several objects below a prefix, are those of the file.
  - A run that reads from it and is killed with SIGKILL resumes: every row once, in order, and paid once.
  - A run that is killed while it writes to it leaves nothing visible. The same command again pays nothing, writes the whole
    object, and leaves no upload behind that was noted on the disk before the kill.
  - An object that is replaced while a run reads it stops the run, and results never mix two versions.
  - Copies of one task that share answers there (--answers) pay once, and one goes on for another that was killed.
  - A missing bucket, a missing object and a wrong key have their exit codes.
Then it runs roles.py in a network of its own: llbatch gets its keys from the metadata service of a machine, in clear and past any
proxy, and uses them on a store behind TLS. That needs user namespaces, ip and openssl.

What a store cannot do is said. Needs Python 3.9 or newer, Node 18 or newer, and package indexes (400 MB, into
$LLBATCH_OBJECTS or a temporary directory). Takes about five minutes on two cores.
Exit status: 0 if all held or nothing could be installed (it says so), 1 if a check failed.
HELP
}

ARGS=()
BINARY=target/release/llbatch
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --rows | --kills | --only) ARGS+=("$1" "$2"); shift 2 ;;
        *) BINARY=$1; shift ;;
    esac
done
[ -x "$BINARY" ] || { echo "no llbatch at $BINARY: build it, or name it" >&2; exit 2; }

DIR=${LLBATCH_OBJECTS:-$(mktemp -d)}
[ -n "${LLBATCH_OBJECTS:-}" ] || trap 'rm -rf "$DIR"' EXIT
if [ ! -x "$DIR/venv/bin/moto_server" ]; then
    { python3 -m venv "$DIR/venv" &&
        "$DIR/venv/bin/pip" install -q 'moto[server]' azure-storage-blob; } ||
        { echo "SKIPPED: the Python packages cannot be installed"; exit 0; }
fi
if [ ! -d "$DIR/node_modules/azurite" ]; then
    npm install --prefix "$DIR" --no-audit --no-fund --silent s3rver azurite ||
        { echo "SKIPPED: the Node packages cannot be installed"; exit 0; }
fi
if unshare -Urn true 2>/dev/null && command -v ip openssl >/dev/null; then
    unshare -Urn "$DIR/venv/bin/python" "$HERE/roles.py" "$BINARY"
else
    echo "SKIPPED: the role of a machine: no user namespaces, ip or openssl"
fi
"$DIR/venv/bin/python" "$HERE/stores.py" --tools "$DIR" --llbatch "$BINARY" "${ARGS[@]}"
