#!/usr/bin/env bash
# A crash loop: `run`, and then `submit`, `wait`, `fetch`, `retry`, `cancel` and `submit --wait -o`, are killed (SIGKILL) at
# random instants, up to five (batches: three) times in a row, their resumption included, and run again until they succeed.
#
#   tests/crash/run.sh [--only run|batch] [--kills 200] [--seed N] [--dialect together|openai] [--stream] [--dedupe]
#                      [--reuse] [--files] [--group-by-prefix] [PATH-TO-llbatch]
#
# After each job: every row once and in order with the bytes of an undisturbed run, nothing left over, databases whole.
#   run    at 0 to 300 ms a request and 3 to 400 in flight. After each kill the answers on the disk are counted (on a copy)
#          against the server's bill: the difference will be paid again. Exactly these rows must be paid twice in the
#          end. They must be no more than were in flight (an answer is in flight until it is committed), and the next run
#          must name as many.
#          With --stream each answer is asked for as a stream.
#          With --dedupe each request comes three times, also in batches, and is paid once.
#          With --reuse an earlier job has answers to half of the requests, also in batches and sealed in a directory. None of them
#          is paid again.
#          With --files each row makes two images. After each kill every file that a committed row names is there and whole;
#          in the end the directory holds the files of the rows and nothing else.
#          With --group-by-prefix most runs send rows by their prompts, and the others resume them in the order of the input.
#   batch  one batch per shard on the server, every prompt paid once. --dialect names the form of its files and batches.
# Ends with 1 and keeps the evidence if a check fails.
#
# The configuration says `settle_after = "500ms"`: the sandbox lists a batch as soon as it is made, and it makes it soon after
# it was asked to. tests/crash/points.sh has the cases where the list lags.
# Needs Python 3.9 or newer; a release build, or the kills at 0 ms find less at work. It serves on loopback and ends the
# servers that it started.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$(dirname "$0")/loop.py" "$@"
