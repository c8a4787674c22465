"""An Airflow DAG with eight mapped tasks that each answer an eighth of INPUT, and a merge of their results.

All workers see INPUT and OUT by the same paths. A task that fails is tried again after RETRY_DELAY, and goes on where it
stopped: from its state, or on another worker from OUT/answers.
"""

import os
import subprocess
from datetime import timedelta
from glob import glob

from airflow.exceptions import AirflowFailException
from airflow.sdk import dag, task

TASKS = 8
INPUT, OUT = os.environ["LLBATCH_INPUT"], os.environ["LLBATCH_OUT"]
STATE = os.environ.get("LLBATCH_STATE", "/tmp/llbatch")
FLAGS = os.environ.get("LLBATCH_FLAGS", "").split()  # such as --max-cost 40
RETRY_DELAY = timedelta(seconds=float(os.environ.get("RETRY_DELAY", "60")))


@dag(schedule=None)
def llbatch():
    @task(retries=5, retry_delay=RETRY_DELAY)
    def answer(number):
        ended = subprocess.run(["llbatch", "run", INPUT, "--shard", f"{number}/{TASKS}", "--resume", "--wait-lock",
            "--tolerate-failures", "--answers", f"{OUT}/answers", "--state-dir", f"{STATE}/{number}",
            "-o", f"{OUT}/part-{number}.jsonl", "--summary", f"{OUT}/summary-{number}.json", *FLAGS])
        if ended.returncode in (2, 4, 5, 65, 66):  # Flags, key, money, input: another attempt would end alike.
            raise AirflowFailException(f"llbatch: {ended.returncode}")
        ended.check_returncode()  # 75 and the rest: later.
    @task
    def merge():
        subprocess.run(["llbatch", "merge", INPUT, *glob(f"{OUT}/part-*.jsonl"), "-o", f"{OUT}/results.jsonl",
            "--summary", f"{OUT}/summary.json", "--part-summaries", *glob(f"{OUT}/summary-*.json")], check=True)

    answer.expand(number=list(range(1, TASKS + 1))) >> merge()


llbatch()
