"""Eight tasks of Spark that each answer an eighth of INPUT, and a merge of their results.

    spark-submit spark.py INPUT OUT [FLAGS FOR `llbatch run`, SUCH AS --max-cost 40]

All nodes see INPUT and OUT by the same paths. STATE names a directory of each node (default: /tmp/llbatch). A task that
fails is tried again by Spark, and goes on from the state on its node, on another node from OUT/answers. If its Python dies,
llbatch ends too. With spark.speculation, the copy of a task waits for the one that works, and no row is paid twice.
"""

import os
import subprocess
import sys
from glob import glob

from pyspark import TaskContext
from pyspark.sql import SparkSession

TASKS = 8
source, out, *flags = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), *sys.argv[3:]


def answer(batches):
    state, attempt = os.environ.get("STATE", "/tmp/llbatch"), TaskContext.get().taskAttemptId()
    for batch in batches:
        for task in batch["id"] + 1:
            # A copy that Spark stops must not replace the summary of the one that ended.
            summary = f"{out}/summary-{task}.json"
            subprocess.run(["setpriv", "--pdeathsig", "TERM", "llbatch", "run", source, "--shard", f"{task}/{TASKS}",
                "--resume", "--wait-lock", "--tolerate-failures", "--answers", f"{out}/answers", "--state-dir", f"{state}/{task}", "-q",
                "-o", f"{out}/part-{task}.jsonl", "--summary", f"{summary}.{attempt}", *flags], check=True)
            os.replace(f"{summary}.{attempt}", summary)
        yield batch


os.makedirs(out, exist_ok=True)
spark = SparkSession.builder.appName("llbatch").getOrCreate()
spark.range(0, TASKS, 1, TASKS).mapInPandas(answer, "id long").collect()
spark.stop()
sys.exit(subprocess.run(["llbatch", "merge", source, *glob(f"{out}/part-*.jsonl"), "-o", f"{out}/results.jsonl",
    "--summary", f"{out}/summary.json", "--part-summaries", *glob(f"{out}/summary-*.json")]).returncode)
