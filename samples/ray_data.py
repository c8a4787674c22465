"""Eight tasks of Ray Data that each answer an eighth of INPUT, and a merge of their results.

    python ray_data.py INPUT OUT [FLAGS FOR `llbatch run`, SUCH AS --max-cost 40]

All nodes see INPUT and OUT by the same paths. STATE names a directory of each node (default: /tmp/llbatch). A task that
fails is tried again, and goes on from the state on its node, on another node from OUT/answers. If a worker dies, its
llbatch ends too.
"""

import os
import subprocess
import sys
from glob import glob

import ray

TASKS = 8
source, out, *flags = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), *sys.argv[3:]
state = os.environ.get("STATE", "/tmp/llbatch")


class Again(Exception):
    """The task may go better the next time."""


def answer(batch):
    for task in batch["id"] + 1:
        ended = subprocess.run(["setpriv", "--pdeathsig", "TERM", "llbatch", "run", source, "--shard", f"{task}/{TASKS}",
            "--resume", "--wait-lock", "--tolerate-failures", "--answers", f"{out}/answers", "--state-dir", f"{state}/{task}", "-q",
            "-o", f"{out}/part-{task}.jsonl", "--summary", f"{out}/summary-{task}.json", *flags])
        if ended.returncode:  # Flags, key, money, input: another attempt would end alike.
            raise (RuntimeError if ended.returncode in (2, 4, 5, 65, 66) else Again)(f"llbatch: {ended.returncode}")
    return batch


os.makedirs(out, exist_ok=True)
tasks = ray.data.range(TASKS, override_num_blocks=TASKS)
tasks.map_batches(answer, batch_size=1, num_cpus=0.25, max_retries=5, retry_exceptions=[Again]).materialize()
sys.exit(subprocess.run(["llbatch", "merge", source, *glob(f"{out}/part-*.jsonl"), "-o", f"{out}/results.jsonl",
    "--summary", f"{out}/summary.json", "--part-summaries", *glob(f"{out}/summary-*.json")]).returncode)
