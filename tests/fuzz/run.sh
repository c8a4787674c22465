#!/usr/bin/env bash
# Fuzzes every target, or those named, for some minutes each: first the seeds of corpus/, then what the fuzzer makes of
# them. A crash, a timeout or too much memory leaves its input in artifacts/ and ends the script with 1.
#
#   tests/fuzz/run.sh [--seeds] [MINUTES (10)] [TARGET...]
#
# --seeds: no fuzzing, only the seeds, as .ci/run does; with the stable compiler and without cargo-fuzz.
#
# Needs a C++ compiler, and to fuzz, cargo-fuzz (cargo install cargo-fuzz). Stable Rust is enough: there is no unsafe code
# of ours for a sanitizer to watch. What the fuzzer finds worth keeping goes to target/grown/, where the next run goes on;
# corpus/ stays as it is. To see a crash again: cargo fuzz run -s none --fuzz-dir tests/fuzz TARGET ARTIFACT.
set -euo pipefail
cd "$(dirname "$0")"

seeds=false minutes=10
if [[ ${1:-} == --seeds ]]; then seeds=true; shift; fi
if [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then minutes=$1; shift; fi
targets=("$@")
if ((${#targets[@]} == 0)); then
    for file in targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

if $seeds; then
    # In the target directory of the product, whose dependencies are these.
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../../target}
    cargo build --locked --bins
    bins=$CARGO_TARGET_DIR/debug
else
    export CARGO_TARGET_DIR=target
    cargo fuzz build -s none --fuzz-dir .
    bins=$(dirname "$(find target -path '*/release/rows' | head -n 1)")
fi

failed=0
for target in "${targets[@]}"; do
    mkdir -p "artifacts/$target" "target/grown/$target"
    options=(-rss_limit_mb=2048 -timeout=60 "-artifact_prefix=artifacts/$target/")
    if $seeds; then
        run=("$bins/$target" "${options[@]}" corpus/"$target"/*)
    else
        run=("$bins/$target" "${options[@]}" -max_total_time=$((minutes * 60)) -max_len=4096 -print_final_stats=1
            "-dict=dict/$target.dict" "target/grown/$target" "corpus/$target")
    fi
    log=artifacts/$target.log
    if "${run[@]}" >"$log" 2>&1; then
        if $seeds; then
            echo "$target: $(grep -c '^Running: ' "$log") seeds"
        else
            echo "$target: $(grep -E '^#[0-9]+.*DONE' "$log" | tail -n 1)"
        fi
    else
        failed=1
        echo "$target: FAILED"
        grep -aE "panicked at|ERROR: libFuzzer|^(left|right|Running|artifact_prefix)" -A 2 "$log" | tail -n 20
        echo "the whole of it: tests/fuzz/$log"
    fi
done
exit "$failed"
