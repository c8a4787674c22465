"""Plays Kubernetes for an Indexed Job on this machine: the pods of a manifest as processes, its policies and its signals.

    kubelet.py MANIFEST DIR

The volume that all pods share is DIR/data. Each pod has an empty volume of its own, which is gone when it ends. To drain the
node of an index, create DIR/pods/INDEX.drain: its pod gets SIGTERM, after the grace period SIGKILL, and is no failure. What
happens is said, a line each. Ends with 1 if an index failed.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import yaml


class Index(threading.Thread):
    def __init__(self, spec, index, under):
        super().__init__()
        self.spec, self.index, self.under, self.failures, self.starts, self.failed = spec, index, under, 0, 0, False
        self.pod, self.drain = spec["template"]["spec"], under / f"pods/{index}.drain"

    def run(self):
        while True:
            drained, code = self.start_pod()
            if code == 0:
                return
            verdict = self.verdict(drained, code)
            print(f"index {self.index}: exit {code}{', drained' if drained else ''}: {verdict}", flush=True)
            self.failures += verdict == "Count"
            if verdict == "FailIndex" or self.failures > self.spec["backoffLimitPerIndex"]:
                self.failed = True
                return
            time.sleep(0.5)

    def start_pod(self):
        """Runs a pod to its end, on a node that has nothing of an earlier one: whether it was drained, and its exit code."""
        container = self.pod["containers"][0]
        self.starts += 1
        own = self.under / f"pods/{self.index}-{self.starts}"
        own.mkdir(parents=True)
        empty = {volume["name"] for volume in self.pod["volumes"] if "emptyDir" in volume}
        places = {mount["mountPath"]: own if mount["name"] in empty else self.under / mount["name"]
                  for mount in container["volumeMounts"]}
        words = [word.replace("$(JOB_COMPLETION_INDEX)", str(self.index)) for word in container["command"]]
        for path, place in places.items():
            words = [f"{place}{word[len(path):]}" if word == path or word.startswith(f"{path}/") else word for word in words]
        given = {entry["name"] for entry in container["env"]} - os.environ.keys()
        assert not given, f"no value for {given}"
        log = (self.under / f"pods/{self.index}.log").open("a")
        process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "JOB_COMPLETION_INDEX": str(self.index)})
        drained = False
        while process.poll() is None:
            if self.drain.exists():
                drained = True
                self.drain.unlink()
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(self.pod["terminationGracePeriodSeconds"])
                except subprocess.TimeoutExpired:
                    process.kill()
            time.sleep(0.02)
        shutil.rmtree(own)
        return drained, process.returncode if process.returncode >= 0 else 128 - process.returncode

    def verdict(self, drained, code):
        for rule in self.spec["podFailurePolicy"]["rules"]:
            if drained and any(seen["type"] == "DisruptionTarget" for seen in rule.get("onPodConditions", [])):
                return rule["action"]
            codes = rule.get("onExitCodes")
            if codes and (code in codes["values"]) == (codes["operator"] == "In"):
                return rule["action"]
        return "Count"


def main():
    manifest, under = yaml.safe_load(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).resolve()
    spec = manifest["spec"]
    assert manifest["kind"] == "Job" and spec["completionMode"] == "Indexed" and spec["parallelism"] == spec["completions"]
    indexes = [Index(spec, index, under) for index in range(spec["completions"])]
    for index in indexes:
        index.start()
    for index in indexes:
        index.join()
    sys.exit(any(index.failed for index in indexes))


main()
