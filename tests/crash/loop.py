"""Repeated SIGKILL at random instants of the batch commands; see run.sh."""

import argparse
import collections
import json
import sys
import time

from harness import ROOT, SETTLE, SUBMIT, Account, Calm, Earlier, Home, Harness, must, repeated, rows, same, seeded, table, write_rows
from realtime import Realtime

ROWS = 240
UNLUCKY = 30
POLL = ("--poll", "100ms")


class Loop:
    def __init__(self, harness, chance, kills, options):
        self.harness, self.chance, self.wanted, self.options = harness, chance, kills, options
        self.earlier = None
        self.server = harness.serve(
            "server", "--keep", str(harness.dir / "service"), "--track", "--batch-validation", "60ms", "--batch-run", "200ms",
            "--batch-cancel", "100ms", "--fault", "status=500,on=row,contains=unlucky,times=1")
        # There is something left to cancel, however slow the machine is.
        self.slow = harness.serve(
            "slow", "--keep", str(harness.dir / "slow-service"), "--track", "--batch-validation", "0s", "--batch-run", "6s",
            "--batch-cancel", "100ms")
        self.calm = Calm(harness)
        self.kills, self.survived, self.codes = collections.Counter(), collections.Counter(), collections.Counter()
        self.done = collections.defaultdict(lambda: [0] * 5)
        # How long a command takes: the most seen of late. Kills fall anywhere in it.
        self.spans = {}

    def attack(self, home, good, *args, over=lambda: False):
        """Kills a command one to three times, its own resumption included, then lets it end."""
        kind = args[0] + (" --wait" if "--wait" in args else "")
        for _ in range(self.chance.randint(1, 3)):
            span = self.spans.get(kind, 0.4)
            done = home.run(*args, kill_after=self.chance.uniform(0.001, span))
            if done.killed:
                self.kills[kind] += 1
                # Results under their name are whole: that is the end of such a command, seen or not.
                if over():
                    return None
                continue
            self.survived[kind] += 1
            self.codes[kind, done.code] += 1
            self.spans[kind] = 0.9 * span + 0.1 * min(span, done.seconds)
            if done.code in good:
                return done
            must(done.code == 75, f"{' '.join(args)} ended with {done.code}: {done.err.strip()[-600:]}")
        done = home.until(good, *args)
        self.codes[kind, done.code] += 1
        self.spans[kind] = max(self.spans.get(kind, 0), done.seconds)
        return done

    def expected(self, these):
        lines = self.calm.expected(these)
        return self.earlier.mark(these, lines) if self.earlier else lines

    def finish(self, home, these, account, shards, flow):
        self.attack(home, (0,), "wait", "last", *POLL)
        self.attack(home, (0,), "fetch", "last", "-o", "out.jsonl")
        self.check(home, these, account, shards, flow)

    def check(self, home, these, account, shards, flow):
        expected = self.expected(these)
        same(home.results(), expected)
        self.count(flow, these, account.check(expected, shards))
        home.tidy()
        # Once more, after everything: the same bytes, and nothing new on the server.
        home.until((0,), "fetch", "last", "-o", "out.jsonl")
        same(home.results(), expected)
        account.check(expected, shards)

    def count(self, flow, these, found):
        line = self.done[flow]
        for i, n in enumerate((1, found[0], len(these), *found[1:])):
            line[i] += n

    def plain(self, home, these, account, shards):
        job = self.attack(home, (0,), "submit", "in.jsonl").out.strip()
        must(job.startswith("j-"), f"submit printed {job!r}")
        self.finish(home, these, account, shards, "submit, wait, fetch")

    def at_once(self, home, these, account, shards):
        self.attack(home, (0,), "submit", "in.jsonl", "--wait", *POLL, "-o", "out.jsonl",
                    over=(home.dir / "out.jsonl").exists)
        self.check(home, these, account, shards, "submit --wait -o")

    def retry(self, home, these, account, shards):
        home.until((0,), "submit", "in.jsonl")
        home.until((3,), "wait", "last", *POLL)
        self.attack(home, (0,), "retry", "last")
        # The rows that failed are of all models: as many batches again.
        self.finish(home, these, account, 2 * shards, "retry")

    def cancel(self, home, these, account, shards):
        home.until((0,), "submit", "in.jsonl")
        time.sleep(self.chance.uniform(0, 2))
        self.cancelled(home, these, account, shards, "cancel", False)

    def cancel_half(self, home, these, account, shards):
        """A submit that was cut short is cancelled without going on with it."""
        done = home.run("submit", "in.jsonl", kill_after=self.chance.uniform(0.001, self.spans.get("submit", 0.4)))
        self.kills["submit"] += done.killed
        if self.jobs(home):
            self.attack(home, (0,), "cancel", "last", over=lambda: not self.jobs(home))
        if not self.jobs(home):
            # Killed before anything was sent; `cancel` forgot what there was.
            self.count("submit cut short, cancel", [], account.check([], 0))
            return
        self.cancelled(home, these, account, shards, "submit cut short, cancel", True)

    def jobs(self, home):
        return json.loads(home.until((0,), "status", "--offline", "--json").out)["jobs"]

    def cancelled(self, home, these, account, shards, flow, at_most):
        self.attack(home, (0,), "cancel", "last")
        self.attack(home, (0, 3), "wait", "last", *POLL)
        self.attack(home, (0, 3), "fetch", "last", "-o", "out.jsonl")
        found, answered = [], set()
        expected = self.expected(these)
        for line, right in zip(home.results(), expected):
            row = json.loads(line)
            if row["error"] is None:
                answered.add(row["custom_id"])
                found.append(line)
            else:
                must(row["error"]["code"] == "cancelled", f"neither answered nor cancelled: {line}")
                # The id at its place; an answer is compared as a whole.
                must(row["custom_id"] == json.loads(right)["custom_id"], f"out of order: {line}")
                found.append(right)
        same(found, expected)
        self.count(flow, these, account.check(expected, shards, at_most, answered))
        home.tidy()

    def go(self):
        flows = [self.plain, self.at_once, self.plain, self.retry, self.plain, self.cancel]
        # The last job may be the earlier one, if a submit was cut short.
        flows += [] if self.options.reuse else [self.cancel_half]
        turn = 0
        while sum(self.kills.values()) < self.wanted and not self.harness.enough():
            flow = flows[turn % len(flows)]
            turn += 1
            server = self.slow if flow in (self.cancel, self.cancel_half) else self.server
            home = Home(self.harness, server, f"turn-{turn}")
            shards = self.chance.choice((2, 3))
            most = 900 if self.options.reuse else 16
            these = rows(f"t{turn}", ROWS, shards, UNLUCKY if flow == self.retry else 0, most)
            these = repeated(these) if self.options.dedupe else these
            write_rows(home.dir / "in.jsonl", these)
            with self.harness.noting(f"{home.dir.name} ({flow.__name__})"):
                self.calm.expected(these)
                self.earlier = Earlier(home, these, self.chance, SUBMIT) if self.options.reuse else None
                flow(home, these, Account(server), shards)
                home.forget()
            self.harness.progress(f"{sum(self.kills.values())} kills, {turn} jobs")

    def report(self):
        print(f"\n{sum(self.kills.values())} kills: " + ", ".join(f"{n} of {kind}" for kind, n in sorted(self.kills.items())))
        print("ended by themselves: " + ", ".join(f"{kind} {code}: {n}" for (kind, code), n in sorted(self.codes.items())))
        table(["jobs by what was killed", "jobs", "batches", "rows", "paid once", "paid twice"],
              [[flow, *counts] for flow, counts in sorted(self.done.items())])
        self.harness.print_counters(self.server, self.slow)


def main():
    parser = argparse.ArgumentParser(prog="tests/crash/run.sh")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", choices=["run", "batch"])
    parser.add_argument("--dialect", choices=["together", "openai"], default="together")
    parser.add_argument("--stream", action="store_true", help="run asks for streams")
    parser.add_argument("--dedupe", action="store_true", help="each request comes three times and is sent once")
    parser.add_argument("--reuse", action="store_true", help="an earlier job has answers to half of the requests")
    parser.add_argument("--files", action="store_true", help="run makes images, two a row")
    parser.add_argument("--group-by-prefix", action="store_true", help="run sends rows by their prompts, mostly")
    parser.add_argument("llbatch", nargs="?", default=ROOT / "target/debug/llbatch")
    args = parser.parse_args()
    if args.files and (args.stream or args.dedupe or args.reuse or args.only == "batch"):
        parser.error("--files: images are neither streamed nor shared, and batches do not serve them")
    args.only = "run" if args.files else args.only
    seed, chance = seeded(args.seed)
    given = [args.stream and "stream", args.dedupe and "dedupe", args.reuse and "reuse", args.files and "files",
             args.group_by_prefix and "group-by-prefix"]
    more = "".join(f" --{name}" for name in given if name)
    print(f"crash loop: {args.kills} kills of each kind, --seed {seed}, --dialect {args.dialect}{more}")
    with Harness(args.llbatch, SETTLE, args.dialect) as harness:
        harness.flags = ("--dedupe",) if args.dedupe else ()
        kinds = {"run": lambda: Realtime(harness, chance, args.kills, args), "batch": lambda: Loop(harness, chance, args.kills, args)}
        for name, kind in kinds.items():
            if args.only in (None, name):
                loop = kind()
                loop.go()
                loop.report()
    return harness.verdict("every row once, nothing lost, one batch per shard")


if __name__ == "__main__":
    sys.exit(main())
