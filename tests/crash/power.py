"""Power failures: the recorded writes of a job are replayed up to a cut, without those not synced by then; see power.sh."""

import argparse
import contextlib
import os
import pickle
import shutil
import sys
from pathlib import Path

import tracer
from harness import ROOT, RUN, Calm, Home, Harness, Meter, must, named, rows, same, seeded, table, write_rows

ROWS, LATENCY, CONCURRENCY = 80, "150ms", 4
# The file whose sync makes all answers before it lasting. With a rollback journal each commit is synced by itself.
LASTING = "answers.jsonl" if os.environ.get("LLBATCH_STATE_MODE") == "network" else ".db-wal"
SECTOR = 512


class Disk:
    """Files as they would be found again: bytes that were synced, and what was written since."""

    def __init__(self):
        self.safe, self.pending, self.ends, self.dirs = {}, {}, {}, []

    def apply(self, name, target, args, data):
        if name in ("write", "pwrite64"):
            at = args[3] if name == "pwrite64" else self.ends.get(target, 0)
            self.ends[target] = at + len(data)
            self.safe.setdefault(target, bytearray())
            self.pending.setdefault(target, []).append((at, data))
        elif name == "ftruncate":
            self.ends[target] = args[1]
            self.pending.setdefault(target, []).append((args[1], None))
        elif name in ("fsync", "fdatasync"):
            for change in self.pending.pop(target, []):
                self.change(target, *change)
        elif name.startswith("rename"):
            # Names are kept in order by the file system; the bytes behind them are not.
            old, new = target.split(" ")
            for table in (self.safe, self.pending, self.ends):
                table.pop(new, None)
                if old in table:
                    table[new] = table.pop(old)
        elif name in ("unlink", "unlinkat"):
            for table in (self.safe, self.pending, self.ends):
                table.pop(target, None)
        elif name in ("mkdir", "mkdirat"):
            self.dirs.append(target)

    def change(self, target, at, data):
        held = self.safe.setdefault(target, bytearray())
        size = at if data is None else max(len(held), at + len(data))
        held.extend(bytes(max(0, size - len(held))))
        if data is None:
            del held[at:]
        else:
            held[at:at + len(data)] = data

    def lose(self, chance):
        """The power fails. Without `chance` nothing survives that was not synced; with it some of it does, torn at sectors."""
        for target, changes in self.pending.items():
            for at, data in changes if chance else []:
                kept = chance.random()
                if kept < 0.4:
                    self.change(target, at, data)
                elif kept < 0.6 and data is not None:
                    self.change(target, at, data[:chance.randint(0, len(data) // SECTOR) * SECTOR])

    def write(self, under):
        for path in self.dirs:
            # A call that failed because the directory above was not there yet fails again; then come that one, and it.
            with contextlib.suppress(FileNotFoundError):
                Path(path).mkdir(mode=0o700, exist_ok=True)
        for target, held in self.safe.items():
            # The index of a log is rebuilt by whoever opens the database first.
            if target.startswith(f"{under}/") and not target.endswith("-shm"):
                Path(target).write_bytes(held)
                os.chmod(target, 0o600)


class Power:
    def __init__(self, harness, chance):
        self.harness, self.chance = harness, chance
        self.server = harness.serve("server", "--track", "--latency", LATENCY)
        self.calm = Calm(harness, RUN)
        self.home = Home(harness, self.server, "home")
        self.rows = rows("power", ROWS, 1)
        write_rows(self.home.dir / "in.jsonl", self.rows)
        self.expected = self.calm.expected(self.rows)
        log = harness.dir / "writes"
        under = (sys.executable, tracer.__file__, "--log", str(self.home.dir / "trace"), "--record", str(log))
        done = self.home.run(*RUN, "--concurrency", str(CONCURRENCY), under=under)
        must(done.code == 0, f"it fails when it is watched: {done.err}")
        self.ops = []
        with log.open("rb") as held:
            while True:
                try:
                    self.ops.append(pickle.load(held))
                except EOFError:
                    break
        self.sent = [name in ("writev", "sendto", "sendmsg") and target.startswith("socket:") for name, target, *_ in self.ops]
        must(sum(self.sent) == ROWS, f"{sum(self.sent)} sends for {ROWS} requests")
        syncs = sum(name in ("fsync", "fdatasync") and target.endswith(LASTING) and "/jobs/" in target for name, target, *_ in self.ops)
        print(f"{len(self.ops)} calls recorded: {sum(self.sent)} requests, {syncs} syncs of the job's log")

    def cut(self, at, chance):
        """Goes on from what is left at a cut: rows paid again, most that may be, rows named."""
        home, disk, synced = self.home, Disk(), 0
        for i, op in enumerate(self.ops[:at]):
            disk.apply(*op)
            if op[0] in ("fsync", "fdatasync") and "/jobs/" in op[1] and op[1].endswith(LASTING):
                synced = i
        disk.lose(chance)
        shutil.rmtree(home.state, ignore_errors=True)
        (home.dir / "out.jsonl").unlink(missing_ok=True)
        disk.write(home.dir)
        if (home.dir / "out.jsonl").exists():
            same(home.results(), self.expected)
        job = home.job()
        before, names = self.server.stats()["bill"]["requests"], 0
        if not job or job["state"] != "completed":
            names = named(home.until((0,), *RUN, "--concurrency", "40", again=()))
        again = self.server.stats()["bill"]["requests"] - before
        same(home.results(), self.expected)
        home.tidy()
        twice = sum(self.sent[:at]) - (ROWS - again)
        most = sum(self.sent[synced:at]) + CONCURRENCY
        must(twice <= most, f"{twice} rows were paid again, with {most} since the last sync")
        return twice, most, names

    def go(self, cuts):
        lines = []
        for what, chance in (("nothing unsynced survives", None), ("some of it survives, torn", self.chance)):
            line = [what, 0, 0, 0, 0]
            points = sorted(self.chance.sample(range(1, len(self.ops) + 1), min(cuts, len(self.ops))))
            for at in points:
                before = len(self.harness.violations)
                with self.harness.noting(f"{what}, cut at {at} {self.ops[at - 1][:2]}"):
                    twice, most, names = self.cut(at, chance)
                    line[1] += 1
                    line[2] += twice
                    line[3] = max(line[3], twice)
                    line[4] += max(0, twice - names)
                if len(self.harness.violations) > before:
                    shutil.copytree(self.home.dir, self.harness.dir / f"cut-{at}-{'torn' if chance else 'lost'}")
            lines.append(line)
        table(["after a power failure", "cuts", "paid again", "most at one cut", "of them not named"], lines)
        Meter(self.server).check(self.expected)


def main():
    parser = argparse.ArgumentParser(prog="tests/crash/power.sh")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int)
    parser.add_argument("llbatch", nargs="?", default=ROOT / "target/debug/llbatch")
    args = parser.parse_args()
    why_not = tracer.usable()
    if why_not:
        print(f"skipped: {why_not}")
        return 0
    seed, chance = seeded(args.seed)
    print(f"power loss: {args.cuts} cuts, twice, --seed {seed}")
    with Harness(args.llbatch, "") as harness:
        Power(harness, chance).go(args.cuts)
    return harness.verdict("databases whole, every row once, what was synced not paid again")


if __name__ == "__main__":
    sys.exit(main())
