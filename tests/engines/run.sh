#!/usr/bin/env bash
# Runs the recipes of samples/ for engines that start many tasks, each on this machine against the sandbox, with tasks that are
# killed in the middle and started again, and `merge` at the end.
#
#   tests/engines/run.sh [ENGINE...]        LLBATCH names the program [default: target/debug/llbatch]
#
# What must hold: every row once and in order, and no more rows paid again than were in flight at the kills. An engine that is
# not installed is skipped, and that is said. Ends with 1 if something did not hold.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if (($# == 0)); then
    mapfile -t engines < <(printf '%s\n' *.sh | sed 's/\.sh$//' | grep -vx -e run -e lib)
    set -- "${engines[@]}"
fi
status=0
for engine; do
    echo "== $engine"
    bash "./$engine.sh" || { status=1; echo "== $engine FAILED"; }
done
exit $status
