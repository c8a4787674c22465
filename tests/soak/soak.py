"""An hour of mixed faults; see run.sh. The harness is that of the crash proofs."""

import argparse
import collections
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))
from harness import (ROOT, Account, Calm, Home, Harness, Violation, must, paid_hash, rows, same,  # noqa: E402
                   seeded, table, write_rows)

CONFIG = '[submit]\nsettle_after = "2s"\n'
SOON = ["reset-early", "reset", "close", "reset-in-head", "reset-after-head", "reset-in-body", "drip=1", "long-length",
        "short-length", "cut-lines", "eof-lines", "cut-chunk", "lost-chunk", "gzip-lie", "gzip-cut", "after=page", "after=500",
        "instead=500", "instead=429", "instead=503", "away=200"]
HANGS = ["hang", "hang-in-head", "hang-in-body"]
BOMBS = ["bomb=80", "zstd-bomb=80"]
# Faults after which nothing was paid.
FREE = ("reset-early", "instead=", "away=")
# A row that failed for good did so for one of these reasons.
CODES = {"network", "timeout", "bad_response", "server_error"}
# A row is sent again three times at most when it may have been paid.
MOST = 4
RUN = ("run", "in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--request-timeout", "4s", "--concurrency", "16")
SMALL, SHARDS = 60, 2


class Faults:
    """The fault server, ours from its start to its end."""

    def __init__(self, faults, *flags):
        program = ROOT / "target" / "debug" / "examples" / "faults"
        self.process = subprocess.Popen([program, *flags, *faults], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise SystemExit("error: the fault server does not start")

    def stats(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url.removesuffix("/v1") + "/faults/stats", timeout=60) as answer:
            return json.load(answer)

    def stop(self):
        self.process.kill()
        self.process.wait()


def address(server):
    return server.url.removeprefix("http://").removesuffix("/v1")


class Watch(threading.Thread):
    """Looks at every process of ours once a second: memory in MiB, open files."""

    def __init__(self, binary):
        super().__init__(daemon=True)
        self.binary, self.samples, self.over = binary, collections.defaultdict(list), threading.Event()

    def run(self):
        while not self.over.wait(1):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self.look(entry)

    def look(self, entry):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if words[0] != self.binary or int(parent) != os.getpid():
                return
            pages = int((entry / "statm").read_text().split()[1])
            files = len(os.listdir(entry / "fd"))
        except (OSError, ValueError, IndexError):
            return  # It has ended meanwhile.
        known = ("run", "submit", "wait", "fetch", "retry", "clean", "serve")
        name = next((word for word in words if word in known), "?")
        long = "--poll" in words and words[words.index("--poll") + 1] == "2s"
        self.samples["wait (all the time)" if long else name].append((pages * 4096 / 2**20, files))

    def verdict(self):
        """A line for each command. Memory may vary by an eighth or 8 MiB, files by 4."""
        lines, grown = [], []
        for name, samples in sorted(self.samples.items()):
            late = samples[len(samples) // 10:]
            third = len(late) // 3
            if third < 5:
                continue
            (rss, files), (rss_last, files_last) = (
                [statistics.median(column) for column in zip(*part)] for part in (late[:third], late[-third:]))
            lines.append([name, len(samples), f"{rss:.1f}", f"{rss_last:.1f}", f"{max(s[0] for s in samples):.1f}",
                          f"{files:.0f}", f"{files_last:.0f}"])
            # The sandbox keeps what was paid, for the accounts: that may grow.
            if name != "serve" and rss_last > rss + max(8, rss / 8):
                grown.append(f"the memory of `{name}` grew from {rss:.1f} to {rss_last:.1f} MiB")
            if files_last > files + 4:
                grown.append(f"the open files of `{name}` grew from {files:.0f} to {files_last:.0f}")
        table(["process", "samples", "MiB, first", "last third", "most", "files, first", "last third"], lines)
        must(not grown, "; ".join(grown))


class Long:
    """A command that goes on beside others."""

    def __init__(self, home, *args):
        self.home, self.name = home, args[0]
        logs = home.dir / "log"
        logs.mkdir(exist_ok=True)
        self.err = logs / f"long-{self.name}.err"
        self.process = subprocess.Popen(
            [home.harness.binary, "--state-dir", home.state, "--base-url", home.server.url, *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.err.open("a"), cwd=home.dir,
            env=home.harness.env(home.dir))

    def running(self):
        return self.process.poll() is None

    def end(self, good, timeout):
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Violation(f"`{self.name}` did not end: {self.err.read_text()[-600:]}") from None
        must(code in good, f"`{self.name}` ended with {code}: {self.err.read_text()[-600:]}")
        return code


class Soak:
    def __init__(self, harness, args, seed):
        self.harness, self.args = harness, args
        self.end = time.monotonic() + args.minutes * 60
        self.faults, flags = [], ("--rate", "0.083", "--seed", str(seed))
        quick = ("--batch-validation", "200ms", "--batch-run", "1s", "--batch-cancel", "100ms")
        row_fault = ("--fault", "status=500,on=row,contains=unlucky,times=1")
        own = ("--fault", "status=503,rate=0.02,on=put", "--fault", "reset,rate=0.02,on=register,after",
               "--fault", "status=500,rate=0.02,on=preprocess", "--fault", "status=503,rate=0.02,on=row,times=1")
        self.sandbox = harness.serve("sandbox", "--keep", str(harness.dir / "service"), "--track", *quick, *row_fault, *own)
        self.slow = harness.serve("slow", "--keep", str(harness.dir / "slow-service"), "--track", "--batch-validation", "1s",
                                "--batch-run", f"{max(1, int(args.minutes * 54))}s")
        self.oracle = self.fault_server(SOON + HANGS, *flags)
        # What hangs is waited for a minute here: less often. Memory that held a bomb goes back to the system when the allocator
        # next looks, which may take minutes: bombs are for commands that end.
        self.proxy = self.fault_server(SOON * 8 + HANGS + BOMBS, "--before", address(self.sandbox), *flags)
        self.slow_proxy = self.fault_server(SOON * 8 + HANGS, "--before", address(self.slow), *flags)
        self.calm = Calm(harness)
        self.cycles, self.small_rows, self.retried = 0, 0, 0

    def fault_server(self, faults, *flags):
        server = Faults(faults, *flags)
        self.faults.append(server)
        return server

    def close(self):
        for server in self.faults:
            server.stop()

    # The long run.

    def begin_run(self):
        self.home = Home(self.harness, self.oracle, "run")
        self.rows = rows("long", int(self.args.rate * self.args.minutes * 60), 1)
        write_rows(self.home.dir / "in.jsonl", self.rows)
        return Long(self.home, *RUN, "--rpm", str(int(self.args.rate * 60)))

    def end_run(self, run):
        if run.running():
            run.process.send_signal(signal.SIGINT)
        interrupted = run.end((0, 3, 130), 90) == 130
        if interrupted:
            # What is left, as fast as it goes.
            Long(self.home, *RUN).end((0, 3), 900)
        return interrupted

    def account_run(self, interrupted):
        found = [json.loads(line) for line in self.home.results()]
        ids = [row["id"] for row in self.rows]
        must([line["custom_id"] for line in found] == ids, f"ids are not those asked, in order: {len(found)} of {len(ids)}")
        stats = self.oracle.stats()
        answered, hashes, above = 0, set(), 0
        for row, line in zip(self.rows, found):
            if line["error"] is not None:
                code = line["error"]["code"]
                must(code in CODES, f"{row['id']} failed with {code}")
                continue
            content = line["response"]["body"]["choices"][0]["message"]["content"]
            must(content.endswith("] " + row["prompt"]), f"{row['id']} carries another row's answer: {content}")
            answered += 1
            name = paid_hash(json.dumps(line))
            hashes.add(name)
            times = stats["paid"].get(name, 0)
            must(times >= 1, f"{row['id']} was answered and not paid")
        must(len(hashes) == answered, "two rows have one answer")
        for name, times in stats["paid"].items():
            # Rows in flight at the interruption are counted anew.
            must(times <= MOST * (2 if interrupted else 1), f"{name} was paid {times} times")
            above += times > MOST
        must(above <= 16, f"{above} rows were paid more than {MOST} times")
        paid = sum(stats["paid"].values())
        faulty = sum(times for name, times in stats["faults"].items() if not name.startswith(FREE))
        # A service that goes away cuts what it was answering at that moment.
        cut = 16 * sum(times for name, times in stats["faults"].items() if name.startswith("away="))
        must(paid - answered <= faulty + cut, f"{paid} paid, {answered} answered, only {faulty} faulty")
        failed = len(found) - answered
        must(failed <= len(found) // 50, f"{failed} of {len(found)} rows failed")
        summary = json.loads((self.home.dir / "s.json").read_text())
        must(summary["rows"]["succeeded"] == answered and summary["rows"]["failed"] == failed, f"another summary: {summary}")
        must(paid == answered or summary["cost"]["at_risk_usd"] > 0, "money was at risk, and it is not said")
        (self.home.dir / "s.json").unlink()
        self.home.tidy()
        return [len(found), answered, failed, paid, paid - answered, sum(stats["faults"].values()), stats["requests"]]

    # The long wait.

    def begin_wait(self):
        self.waiting = Home(self.harness, self.slow_proxy, "waiting")
        self.waiting.rows = rows("slow", SMALL, 1)
        write_rows(self.waiting.dir / "in.jsonl", self.waiting.rows)
        self.waiting.account = Account(self.slow)
        self.waiting.until((0,), "submit", "in.jsonl", patience=600)
        return Long(self.waiting, "wait", "last", "--poll", "2s")

    def end_wait(self, wait):
        wait.end((0,), 300)
        home = self.waiting
        home.until((0,), "fetch", "last", "-o", "out.jsonl", patience=600)
        expected = self.calm.expected(home.rows)
        same(home.results(), expected)
        home.account.check(expected, 1)
        home.tidy()

    # Small jobs.

    def cycle(self):
        self.cycles += 1
        home = Home(self.harness, self.proxy, f"job-{self.cycles}")
        these = rows(f"c{self.cycles}", SMALL, SHARDS, unlucky=self.cycles % 2)
        write_rows(home.dir / "in.jsonl", these)
        account = Account(self.sandbox)
        patient = {"patience": 900}
        home.until((0,), "submit", "in.jsonl", **patient)
        home.until((0, 3), "wait", "last", "--poll", "500ms", **patient)
        done = home.until((0, 3), "fetch", "last", "-o", "out.jsonl", **patient)
        batches = SHARDS
        while done.code == 3:
            batches += 2
            self.retried += 1
            home.until((0,), "retry", "last", **patient)
            home.until((0, 3), "wait", "last", "--poll", "500ms", **patient)
            done = home.until((0, 3), "fetch", "last", "-o", "out.jsonl", **patient)
        expected = self.calm.expected(these)
        same(home.results(), expected)
        account.check(expected, batches, at_most=True)
        home.tidy()
        home.until((0,), "clean", "last", "--remote", **patient)
        home.forget()
        self.small_rows += len(these)

    def go(self):
        watch = Watch(self.harness.binary)
        watch.start()
        run, wait = self.begin_run(), self.begin_wait()
        began = reported = time.monotonic()
        while time.monotonic() < self.end:
            self.cycle()
            must(wait.running() or wait.process.returncode == 0, f"`wait` ended: {wait.err.read_text()[-600:]}")
            must(run.running() or run.process.returncode in (0, 3), f"`run` ended: {run.err.read_text()[-600:]}")
            if time.monotonic() - reported > 60:
                reported = time.monotonic()
                print(f"{(reported - began) / 60:.0f} min: {self.oracle.stats()['requests']} requests of `run`, "
                      f"{self.cycles} small jobs", flush=True)
            # Modest: the machine has other work.
            time.sleep(4)
        watch.over.set()
        watch.join()
        interrupted = self.end_run(run)
        self.end_wait(wait)
        line = self.account_run(interrupted)
        table(["rows of run", "answered", "failed", "paid", "paid again", "faults", "requests"], [line])
        faulty = sum(sum(server.stats()["faults"].values()) for server in (self.proxy, self.slow_proxy))
        table(["small jobs", "rows", "retries", "faulty calls"], [[self.cycles, self.small_rows, self.retried, faulty]])
        watch.verdict()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"CPU of the commands: {(used.ru_utime + used.ru_stime) / (time.monotonic() - began):.0%} of a core")


def main():
    # Started in the background of a script, it would ignore this, and so would every command that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="tests/soak/run.sh")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=8, help="rows a second of the long run")
    parser.add_argument("--seed", type=int)
    parser.add_argument("binary", nargs="?", default=ROOT / "target" / "release" / "llbatch")
    args = parser.parse_args()
    seed, _ = seeded(args.seed)
    print(f"seed {seed}")
    with Harness(args.binary, CONFIG) as harness, harness.noting("the soak"):
        soak = Soak(harness, args, seed)
        try:
            soak.go()
        finally:
            soak.close()
    sys.exit(1 if harness.violations else 0)


if __name__ == "__main__":
    main()
