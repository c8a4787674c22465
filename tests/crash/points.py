"""A SIGKILL or a disk error at every single write, fsync, rename and send of a small job; see points.sh."""

import argparse
import collections
import shutil
import sys

import disk
import tracer
import wire
from harness import ROOT, RUN, SETTLE, SUBMIT, Account, Calm, Home, Harness, Meter, must, rows, same, table, write_rows

ROWS, SHARDS, CONCURRENCY = 20, 2, 4
CLASSES = ["write", "pwrite64", "fsync,fdatasync", "rename,renameat,renameat2", "sendto,sendmsg,writev",
           "unlink,unlinkat,ftruncate", "mkdir,mkdirat"]
BATCH = {
    "submit": ("submit", "in.jsonl"),
    "wait": ("wait", "last", "--poll", "50ms"),
    "fetch": ("fetch", "last", "-o", "out.jsonl"),
}
REALTIME = {"run": (*RUN, "--concurrency", str(CONCURRENCY))}
# What a failing disk does: which call, with which error, from then on ("+") or once; and how a command may end then.
ERRORS = [("pwrite64", "ENOSPC", "+", (0, 74)), ("pwrite64", "EIO", "", (0, 74)), ("write", "ENOSPC", "", (0, 74)),
          ("fsync,fdatasync", "EIO", "", (0, 74)), ("rename,renameat,renameat2", "EIO", "", (0, 74)),
          ("mkdir,mkdirat", "ENOSPC", "", (0, 74)), ("unlink,unlinkat,ftruncate", "EIO", "", (0, 74)),
          ("pread64", "EIO", "", (0, 74)),
          ("pwrite64", "EINTR", "", (0,)), ("write", "EINTR", "", (0,)), ("fsync,fdatasync", "EINTR", "", (0, 74))]


class Points:
    def __init__(self, harness, commands):
        self.harness, self.commands, self.realtime = harness, commands, "run" in commands
        kind = "run" if self.realtime else "batch"
        # Slow enough that an answer keeps its place until it is on the disk.
        times = ("--latency", "25ms") if self.realtime else ("--batch-validation", "20ms", "--batch-run", "60ms")
        self.server = harness.serve(f"server-{kind}", "--keep", str(harness.dir / f"service-{kind}"), "--track", *times)
        self.calm = Calm(harness, RUN if self.realtime else SUBMIT)
        self.turn, self.lines, self.codes = 0, [], collections.Counter()
        self.most_sent = 0
        # Jobs that were submitted (and waited for), for the commands after it: each point gets a copy.
        self.molds = {name: self.mold(name) for name in list(commands)[1:]}

    def home(self, name, count=ROWS, most=16):
        self.turn += 1
        home = Home(self.harness, self.server, f"{name}-{self.turn}")
        home.rows = rows(f"{'r' if self.realtime else 'p'}{self.turn}", count, SHARDS, most=most)
        home.account = Meter(self.server) if self.realtime else Account(self.server)
        write_rows(home.dir / "in.jsonl", home.rows)
        return home

    def mold(self, name):
        home = self.home("mold")
        for command in self.commands:
            if command == name:
                # What the server made for it counts for each of its copies.
                home.made = {job["id"] for job in self.server.stats()["batches"]["jobs"]} - home.account.known
                return home
            home.until((0,), *self.commands[command])
        raise AssertionError(name)

    def fresh(self, name):
        """A home at which `name` is the next command, and that command alone is still to be disturbed."""
        if name not in self.molds:
            return self.home(name)
        mold = self.molds[name]
        self.turn += 1
        home = Home(self.harness, self.server, f"{name}-{self.turn}")
        home.rows, home.account = mold.rows, Account(self.server)
        home.account.known -= mold.made
        shutil.copy(mold.dir / "in.jsonl", home.dir)
        shutil.copytree(mold.state, home.state)
        return home

    def traced(self, home, *flags):
        return (sys.executable, tracer.__file__, "--log", str(home.dir / "trace"), *flags)

    def threads(self, name):
        """The names of the threads that make such calls in an undisturbed command, and the calls of each."""
        home = self.fresh(name)
        every = self.traced(home, "--calls", ",".join(tracer.CALLS | tracer.READS))
        must(home.run(*self.commands[name], under=every).code == 0, f"{name} fails when it is watched")
        calls = collections.Counter(tuple(line.split()[:2]) for line in (home.dir / "trace").read_text().splitlines())
        self.finish(home, name)
        for thread in sorted({thread for thread, _ in calls}):
            made = ", ".join(f"{n} {call}" for (of, call), n in sorted(calls.items()) if of == thread)
            print(f"{name}: thread {thread} makes {made}")
        return calls

    def finish(self, home, name):
        """The same command again, then the rest; then all that must hold."""
        if self.realtime:
            names = home.again(*self.commands[name])
            expected = self.calm.expected(home.rows)
            same(home.results(), expected)
            paid, twice = home.account.check(expected)
            must(twice <= min(names, CONCURRENCY), f"{twice} rows were paid twice, and {names} named as in doubt")
            counted = (0, paid, twice)
        else:
            for command in list(self.commands)[list(self.commands).index(name):]:
                home.until((0,), *self.commands[command])
            expected = self.calm.expected(home.rows)
            same(home.results(), expected)
            counted = home.account.check(expected, SHARDS)
        home.tidy()
        home.forget()
        return counted

    def point(self, name, thread, calls, n, strike, what, good):
        """One point; whether there was such a call at all."""
        home = self.fresh(name)
        with self.harness.noting(f"{home.dir.name}: {name}, {what} at {calls} number {n} of {thread}"):
            under = self.traced(home, "--calls", calls, "--thread", thread, "--nth", str(n), "--strike", *strike)
            done = home.run(*self.commands[name], under=under, sober=False)
            trace = (home.dir / "trace").read_text(errors="replace").splitlines()
            struck = next((i for i, line in enumerate(trace) if line.endswith(" struck")), None)
            if struck is None:
                must(done.code == 0, f"undisturbed, it ended with {done.code}")
                home.forget()
                return None
            self.codes[what, done.code] += 1
            must(done.killed if good is None else done.code in good, f"it ended with {done.code}: {done.err.strip()[-400:]}")
            must("panicked" not in done.err, f"it panicked: {done.err.strip()[:400]}")
            if done.code == 74 and self.realtime:
                # First of all, sending stops.
                sent = sum(line.split()[2].startswith("socket:") for line in trace[struck:])
                self.most_sent = max(self.most_sent, sent)
                must(sent <= CONCURRENCY, f"{sent} requests were sent after the disk had failed")
            # An output is there as a whole or not at all.
            if (home.dir / "out.jsonl").exists():
                same(home.results(), self.calm.expected(home.rows))
            return self.finish(home, name)
        return (0, 0, 0)

    def series(self, calls, strike, what, good, step):
        for name in self.commands:
            for thread in sorted({thread for thread, call in self.seen[name] if call in calls.split(",")}):
                points = batches = paid = twice = 0
                n = 1
                while (found := self.point(name, thread, calls, n, strike, what, good)) is not None:
                    points, batches, paid, twice = points + 1, batches + found[0], paid + found[1], twice + found[2]
                    n += step
                    if self.harness.enough():
                        return
                self.lines.append([f"{what} at {calls.split(',')[0]}", f"{name}, {thread}", points, batches, ROWS * points, paid, twice])
                print(".", end="", file=sys.stderr, flush=True)

    def go(self, only, step):
        self.seen = {name: self.threads(name) for name in self.commands}
        if only in (None, "kills"):
            for calls in CLASSES:
                self.series(calls, ("kill",), "kill", None, step)
        if only in (None, "errors"):
            for calls, error, suffix, good in ERRORS:
                self.series(calls, (error, *["--on"] * bool(suffix)), error + suffix, good, step)

    def report(self):
        print()
        table(["what", "in", "points", "batches", "rows", "paid", "paid twice"], self.lines)
        for what in sorted({what for what, _ in self.codes}):
            print(f"exit codes after {what}: " + ", ".join(f"{c}: {n}" for (w, c), n in sorted(self.codes.items(), key=str) if w == what))
        if self.realtime:
            print(f"requests sent after the disk had failed: {self.most_sent} at most")
            return
        self.harness.print_counters(self.server)


def main():
    parser = argparse.ArgumentParser(prog="tests/crash/points.sh")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--only", choices=["kills", "errors", "disk", "wire"])
    parser.add_argument("--of", choices=["run", "batch"])
    parser.add_argument("llbatch", nargs="?", default=ROOT / "target/debug/llbatch")
    args = parser.parse_args()
    with Harness(args.llbatch, SETTLE) as harness:
        if args.only in (None, "wire") and args.of != "run":
            wire.go(harness)
        why_not = tracer.usable()
        for of, commands in (("run", REALTIME), ("batch", BATCH)):
            if args.only == "wire" or args.of not in (None, of):
                continue
            points = Points(harness, commands)
            if why_not:
                print(f"skipped: no single points: {why_not}")
            elif args.only != "disk":
                points.go(args.only, args.step)
            if args.only in (None, "disk"):
                disk.go(points, why_not)
            points.report()
    return harness.verdict("every row once, nothing lost, one batch per shard")


if __name__ == "__main__":
    sys.exit(main())
