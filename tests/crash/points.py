"""A SIGKILL, or an error of the disk, at every single write, fsync, rename and send of a small job; see points.sh."""

import argparse
import collections
import re
import shutil
import subprocess
import sys

from house import ROOT, Account, Calm, Desk, House, Violation, must, rows, same, table, write_rows

# A create that was killed before it was sent can be settled at once: this server lists a batch as soon as it is made.
CONFIG = '[submit]\nsettle_after = "0s"\n'
ROWS, SHARDS = 20, 2
CLASSES = ["write", "pwrite64", "fsync,fdatasync", "rename,renameat,renameat2", "sendto,sendmsg,writev",
           "unlink,unlinkat,ftruncate", "mkdir,mkdirat"]
COMMANDS = {
    "submit": ("submit", "in.jsonl"),
    "wait": ("wait", "last", "--poll", "50ms"),
    "fetch": ("fetch", "last", "-o", "out.jsonl"),
}
# What a failing disk does: which call, with which error, from then on ("+") or once.
ERRORS = [("pwrite64", "ENOSPC", "+"), ("pwrite64", "EIO", ""), ("write", "ENOSPC", ""), ("fsync,fdatasync", "EIO", ""),
          ("rename,renameat,renameat2", "EIO", "")]
CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)[( ]")


def wakes(line):
    """What a runtime writes to wake itself is neither disk nor net."""
    return re.search(r"write\(\d+<(anon_inode:|UNIX|socket:)", line) is not None


class Points:
    def __init__(self, house):
        self.house = house
        self.server = house.serve("server", "--keep", str(house.dir / "service"), "--track",
                                  "--batch-validation", "20ms", "--batch-run", "60ms")
        self.calm = Calm(house)
        self.turn, self.lines, self.codes = 0, [], collections.Counter()
        # Jobs that were submitted (and waited for), for the commands after it: each point gets a copy.
        self.molds = {name: self.mold(name) for name in COMMANDS if name != "submit"}

    def desk(self, name):
        self.turn += 1
        desk = Desk(self.house, self.server, f"{name}-{self.turn}")
        desk.rows = rows(f"p{self.turn}", ROWS, SHARDS)
        desk.account = Account(self.server)
        write_rows(desk.dir / "in.jsonl", desk.rows)
        return desk

    def mold(self, name):
        desk = self.desk("mold")
        for command in COMMANDS:
            if command == name:
                # What the server made for it counts for each of its copies.
                desk.made = {job["id"] for job in self.server.stats()["batches"]["jobs"]} - desk.account.known
                return desk
            desk.until((0,), *COMMANDS[command])
        raise AssertionError(name)

    def fresh(self, name):
        """A desk at which `name` is the next command, and that command alone is still to be disturbed."""
        if name == "submit":
            return self.desk(name)
        mold = self.molds[name]
        self.turn += 1
        desk = Desk(self.house, self.server, f"{name}-{self.turn}")
        desk.rows, desk.account = mold.rows, Account(self.server)
        desk.account.known -= mold.made
        shutil.copy(mold.dir / "in.jsonl", desk.dir)
        shutil.copytree(mold.state, desk.state)
        return desk

    def strace(self, desk, calls, *inject):
        """strace counts the n-th call for each thread; `threads` says whose calls that leaves out."""
        return ("strace", "-f", "-qq", "-y", "-o", str(desk.dir / "trace"), "-e", f"trace={calls}", *inject)

    def threads(self):
        """What touches disk or net happens on the main thread, but for the results of ended batches, which a thread of
        their own stores. strace counts for each thread, so of that thread only the first calls are reached here; the
        random kills of run.sh reach the others."""
        for name, args in COMMANDS.items():
            desk = self.fresh(name)
            must(desk.run(*args, under=self.strace(desk, ",".join(CLASSES))).code == 0, f"{name} fails under strace")
            lines = (desk.dir / "trace").read_text(errors="replace").splitlines()
            calls = [call for line in lines if (call := CALL.match(line)) and not wakes(line)]
            who = collections.Counter(call[1] for call in calls)
            must(len(who) <= 2, f"{name}: {len(who)} threads write: {who}; points of the others are not reached")
            for calls_of_other in sorted(who.values())[:-1]:
                print(f"{name}: the thread that stores results makes {calls_of_other} calls: reached by random kills only")
            self.finish(desk, name)

    def finish(self, desk, name):
        """The same command again, then the rest; then all that must hold."""
        found = False
        for command, args in COMMANDS.items():
            found |= command == name
            if found:
                desk.until((0,), *args)
        expected = self.calm.expected(desk.rows)
        same(desk.results(), expected)
        counted = desk.account.check(expected, SHARDS)
        desk.tidy()
        desk.forget()
        return counted

    def point(self, name, calls, n, inject, what, good):
        """One point; whether there was such a call at all."""
        desk = self.fresh(name)
        try:
            under = self.strace(desk, calls, "-e", f"inject={calls}:{inject}:when={n}")
            done = desk.run(*COMMANDS[name], under=under, sober=False)
            trace = (desk.dir / "trace").read_text(errors="replace")
            struck = next((line for line in trace.splitlines() if "(INJECTED)" in line), "")
            hit = "+++ killed by SIGKILL" in trace if "SIGKILL" in inject else bool(struck)
            if not hit:
                must(done.code == 0, f"undisturbed, it ended with {done.code}")
                desk.forget()
                return None
            self.codes[what, "a wake-up struck" if wakes(struck) else done.code] += 1
            if not wakes(struck):
                must(good is None or done.code in good, f"it ended with {done.code}: {done.err.strip()[-400:]}")
                must("panicked" not in done.err, f"it panicked: {done.err.strip()[:400]}")
            # An output is there as a whole or not at all.
            if (desk.dir / "out.jsonl").exists():
                same(desk.results(), self.calm.expected(desk.rows))
            return self.finish(desk, name)
        except Violation as violation:
            self.house.violations.append(f"{desk.dir.name}: {name}, {what} at {calls} number {n}: {violation}")
            print(f"VIOLATION in {self.house.violations[-1]}", file=sys.stderr)
            return (0, 0, 0)

    def series(self, names, calls, inject, suffix, what, good, step):
        for name in names:
            points = batches = paid = twice = 0
            n = 1
            while (found := self.point(name, calls, f"{n}{suffix}", inject, what, good)) is not None:
                points, batches, paid, twice = points + 1, batches + found[0], paid + found[1], twice + found[2]
                n += step
                if len(self.house.violations) >= 10:
                    return
            self.lines.append([f"{what} at {calls.split(',')[0]}", name, points, batches, ROWS * points, paid, twice])
            print(".", end="", file=sys.stderr, flush=True)

    def report(self):
        print()
        table(["what", "in", "points", "batches", "rows", "paid once", "paid twice"], self.lines)
        for what in sorted({what for what, _ in self.codes}):
            print(f"exit codes after {what}: " + ", ".join(f"{c}: {n}" for (w, c), n in sorted(self.codes.items(), key=str) if w == what))
        again = self.server.stats()["paid_again"]
        print(f"by the server's own books: {again} prompts paid twice")
        if again:
            self.house.violations.append(f"{again} prompts were paid twice")


def small_disk(points):
    """A disk that is full sooner or later: a tmpfs for the state, made larger before the command is run again."""
    count = collections.Counter()
    for kib in (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024):
        desk = points.desk("disk")
        desk.rows = rows(f"d{kib}", 2000, SHARDS)
        write_rows(desk.dir / "in.jsonl", desk.rows)
        desk.state.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(desk.state)]
        mounted = subprocess.run(mount, capture_output=True, check=False) if shutil.which("mount") else None
        if mounted is None or mounted.returncode:
            desk.forget()
            return "skipped: mounting is not allowed here"
        resize = lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", desk.state], check=True)
        try:
            for name, args in COMMANDS.items():
                # So much room beside what is there already.
                resize(shutil.disk_usage(desk.state).used + kib * 1024)
                done = desk.run(*args)
                count[name, done.code] += 1
                must(done.code in (0, 74), f"full disk: {name} ended with {done.code}: {done.err.strip()[-400:]}")
                resize("64m")
                if done.code:
                    desk.until((0,), *args)
            expected = points.calm.expected(desk.rows)
            same(desk.results(), expected)
            desk.account.check(expected, SHARDS)
            desk.tidy()
        except Violation as violation:
            points.house.violations.append(f"{desk.dir.name}, tmpfs with room for {kib} KiB: {violation}")
            print(f"VIOLATION in {points.house.violations[-1]}", file=sys.stderr)
            shutil.copytree(desk.state, desk.dir / "evidence")
        finally:
            subprocess.run(["umount", desk.state], check=True)
        if not (desk.dir / "evidence").exists():
            desk.forget()
    return "room for 16 KiB to 1 MiB; commands by exit code: " + ", ".join(
        f"{name} {code}: {n}" for (name, code), n in sorted(count.items()))


def main():
    parser = argparse.ArgumentParser(prog="tests/crash/points.sh")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--only", choices=["kills", "errors", "disk", "wire"])
    parser.add_argument("llbatch", nargs="?", default=ROOT / "target/debug/llbatch")
    args = parser.parse_args()
    house = House(args.llbatch, CONFIG)
    try:
        if args.only in (None, "wire"):
            import wire
            wire.go(house)
        if args.only != "wire":
            points = Points(house)
            strace = shutil.which("strace") is not None
            if not strace:
                print("skipped: no strace here, so no single points")
            elif args.only in (None, "kills", "errors"):
                points.threads()
            if strace and args.only in (None, "kills"):
                for calls in CLASSES:
                    points.series(COMMANDS, calls, "signal=SIGKILL", "", "kill", None, args.step)
            if strace and args.only in (None, "errors"):
                for calls, error, suffix in ERRORS:
                    points.series(COMMANDS, calls, f"error={error}", suffix, error + suffix, (0, 74), args.step)
            if args.only in (None, "disk"):
                print("small disk: " + small_disk(points))
            points.report()
    except BaseException:
        house.violations.append("the script itself was stopped")
        raise
    finally:
        code = house.close()
    print("one batch per shard, every row once: " + ("yes" if code == 0 else "NO"))
    return code


if __name__ == "__main__":
    sys.exit(main())
