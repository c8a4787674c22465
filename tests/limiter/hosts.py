#!/usr/bin/env python3
"""Measures how four processes that know nothing of each other share one limit: each has a state directory of its own, as on four
hosts, and a quarter of the rows. Then one of them is ended (SIGTERM), and the others must take over its share.

    tests/limiter/hosts.py [--rows 7000] [--rate 100] [--hosts 4] [--only share|end] PATH-TO-llbatch

  share  used: rows / (rate x seconds until the last one ended). refused: 429 of all requests. slowest / fastest: seconds.
  end    one ends after 25 s of an endless input; the seconds until the others use 95% of the limit, over 3 s.
Targets: used >= 0.90, refused <= 0.02, slowest / fastest <= 1.3, the end taken over within 20 s. Prints what it measured.
Needs Python 3.9 or newer. Takes three minutes. It serves on loopback and ends the processes that it started. Ends with 1 if a
command failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

MODEL = "meta-llama/Llama-3.2-3B-Instruct-Turbo"


class Bench:
    def __init__(self, args, under):
        self.args, self.under = args, under
        self.env = {"PATH": os.environ["PATH"], "HOME": str(under), "TOGETHER_API_KEY": "limiter", "NO_PROXY": "*",
                    "LLBATCH_CONFIG": os.devnull}
        self.server = subprocess.Popen(
            [args.binary, "--state-dir", under / "serve", "serve", "--rps", str(args.rate), "--retry-after", "none"],
            stdout=subprocess.PIPE, stderr=(under / "serve.log").open("w"), text=True, env=self.env)
        self.url = self.server.stdout.readline().strip()
        self.hosts = []

    def write(self, rows):
        rows = ({"id": f"q{n}", "prompt": f"question {n}", "model": MODEL, "max_tokens": 16} for n in range(rows))
        (self.under / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def begin(self, name):
        for n in range(1, self.args.hosts + 1):
            own = self.under / f"{name}-{n}"
            own.mkdir()
            self.hosts.append(subprocess.Popen(
                [self.args.binary, "run", self.under / "in.jsonl", "--shard", f"{n}/{self.args.hosts}", "--base-url", self.url,
                 "--state-dir", own / "state", "-o", own / "out.jsonl", "--summary", own / "summary.json", "-q"],
                stderr=(own / "log").open("w"), env=self.env))

    def stats(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url.removesuffix("/v1") + "/sandbox/stats", timeout=60) as answer:
            return json.load(answer)

    def stop(self):
        for process in [*self.hosts, self.server]:
            if process.poll() is None:
                process.terminate()
        for process in [*self.hosts, self.server]:
            process.wait()


def share(bench):
    args = bench.args
    bench.write(args.rows)
    began = time.monotonic()
    bench.begin("share")
    ended = {}
    while len(ended) < args.hosts:
        for n, host in enumerate(bench.hosts):
            if n not in ended and host.poll() is not None:
                if host.returncode:
                    sys.exit(f"host {n + 1} ended with {host.returncode}")
                ended[n] = time.monotonic() - began
        time.sleep(0.02)
    seconds, seen = sorted(ended.values()), bench.stats()
    sent = seen["bill"]["requests"] + seen["refused"]
    print(f"share: {args.rows} rows by {args.hosts} at {args.rate}/s: used {args.rows / (args.rate * seconds[-1]):.3f}, refused "
          f"{seen['refused'] / sent:.4f}, slowest/fastest {seconds[-1] / seconds[0]:.2f} ({', '.join(f'{s:.1f} s' for s in seconds)})")


def end(bench):
    rate = bench.args.rate
    bench.write(rate * 600)
    bench.begin("end")
    time.sleep(25)
    before = bench.stats()["bill"]["requests"]
    time.sleep(5)
    full = (bench.stats()["bill"]["requests"] - before) / (5 * rate)
    bench.hosts[0].terminate()
    began, counts = time.monotonic(), []
    while time.monotonic() - began < 60:
        counts.append((time.monotonic() - began, bench.stats()["bill"]["requests"]))
        spans = [(at, n) for at, n in counts if counts[-1][0] - at >= 3]
        if spans and (counts[-1][1] - spans[-1][1]) / (counts[-1][0] - spans[-1][0]) >= 0.95 * rate:
            print(f"end: used {full:.3f} before; after one of {bench.args.hosts} ended, the others use 95% of {rate}/s again in the "
                  f"3 s from second {max(0, spans[-1][0]):.1f} on")
            return
        time.sleep(0.25)
    print(f"end: used {full:.3f} before; the others do not use 95% of {rate}/s within 60 s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=7000)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--only", choices=("share", "end"))
    parser.add_argument("binary")
    args = parser.parse_args()
    args.binary = str(Path(args.binary).resolve())
    for case in [one for one in (share, end) if args.only in (None, one.__name__)]:
        with tempfile.TemporaryDirectory() as under:
            bench = Bench(args, Path(under))
            try:
                case(bench)
            finally:
                bench.stop()


main()
