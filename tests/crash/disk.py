"""Disks that are full, read-only, limited or remote; see points.sh."""

import collections
import shutil
import subprocess

from harness import RUN, must, same

# More in flight than at single points, for there are more rows.
REALTIME = {"run": (*RUN, "--concurrency", "64")}
SIZES = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def commands(points):
    return REALTIME if points.realtime else points.commands


class NoMount(Exception):
    """Mounting is not allowed here."""


class Tmpfs:
    """A file system of its own at `path`, of so many bytes."""

    def __init__(self, path, size):
        self.path = path
        path.mkdir(mode=0o700, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
            raise NoMount

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=True)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def room(self, size):
        """So much room beside what is there already."""
        self.remount(f"size={shutil.disk_usage(self.path).used + size}")


def tried(home, count, name, args, where="", under=()):
    """A command that may find no room, and says so then."""
    done = home.run(*args, under=under)
    count[name + where, done.code] += 1
    must(done.code in (0, 74), f"{name}{where} ended with {done.code}: {done.err.strip()[-400:]}")
    return done.code


def resumed(points, home, args):
    """The same command once there is room: how many rows it names as in doubt."""
    if points.realtime:
        return home.again(*args)
    home.until((0,), *args)
    return 0


def paid_twice(points, home, names):
    """What must hold in the end. Answers that a full disk did not take are paid for again: those in flight, all of them named."""
    expected = points.calm.expected(home.rows)
    same(home.results(), expected)
    twice = home.account.check(expected)[1] if points.realtime else home.account.check(expected, 2)[2]
    must(twice <= names, f"{twice} rows were paid twice, and {names} named")
    home.tidy()
    return twice


def small(points, count, kib, rows, most):
    """The state on a disk that is full sooner or later; it is made larger before the command is run again."""
    home = points.home(f"disk-{kib}", rows, most)
    names = 0
    with Tmpfs(home.state, "1m") as tmpfs:
        for name, args in commands(points).items():
            tmpfs.room(kib * 1024)
            code = tried(home, count, name, args)
            tmpfs.remount("size=64m")
            names += resumed(points, home, args) if code else 0
        twice = paid_twice(points, home, names)
    home.forget()
    return twice


def results(points, count, kib):
    """The results on such a disk: nothing of the job is lost, and nothing is paid twice."""
    home = points.home(f"results-{kib}", 2000)
    *before, name = commands(points)
    for command in before:
        home.until((0,), *commands(points)[command])
    with Tmpfs(home.dir / "disk", "1m") as tmpfs:
        tmpfs.room(kib * 1024)
        args = [arg.replace("out.jsonl", "disk/out.jsonl") for arg in commands(points)[name]]
        code = tried(home, count, name, args, ", results")
        must((home.dir / "disk/out.jsonl").exists() == (code == 0), "results are there, but not whole")
        tmpfs.remount("size=64m")
        if code:
            home.until((0,), *args)
        shutil.copy(home.dir / "disk/out.jsonl", home.dir)
        twice = paid_twice(points, home, 0)
    (home.dir / "disk").rmdir()
    home.forget()
    return twice


def limited(points, count, kib):
    """Files may not grow beyond a limit (`ulimit -f`): an error like any other, not a deadly signal."""
    home = points.home(f"limit-{kib}", 2000)
    under = ("sh", "-c", f'ulimit -f {2 * kib}; exec "$@"', "sh")
    names = 0
    for name, args in commands(points).items():
        code = tried(home, count, name, args, ", ulimit -f", under)
        names += resumed(points, home, args) if code else 0
    twice = paid_twice(points, home, names)
    home.forget()
    return twice


def refused(points, why_not):
    """Where nothing can be kept, nothing is sent."""
    name, args = next(iter(commands(points).items()))
    seen = lambda: points.server.stats()["requests"]
    said = []

    def refuses(what, home, *words, args=args, under=(), code=74):
        before = seen()
        done = home.run(*args, under=under)
        must(done.code == code and seen() == before, f"{what}: {name} ended with {done.code} after {seen() - before} requests")
        must(all(word in done.err for word in words), f"{what}: said {done.err.strip()[-400:]}")
        said.append(what)

    home = points.home("refused")
    with Tmpfs(home.state, "1m") as tmpfs:
        tmpfs.remount("ro")
        refuses("an empty state directory on a read-only disk", home, "--state-dir")
        tmpfs.remount("rw,size=64m")
        home.until((0,), *args)
        tmpfs.remount("ro")
        refuses("a used state directory on a read-only disk", home, "--state-dir")
    home.forget()
    home = points.home("refused-results")
    with Tmpfs(home.dir / "disk", "1m") as tmpfs:
        tmpfs.remount("ro")
        there = [*RUN[:2], "-o", "disk/out.jsonl"] if points.realtime else [*args, "--wait", "-o", "disk/out.jsonl"]
        refuses("results on a read-only disk", home, "disk/out.jsonl", args=there)
    if not why_not:
        far = lambda kind: points.traced(home, "--calls", "statfs", "--nth", "1", "--strike", kind, "--on")
        refuses("a state directory on SMB", home, "SMB", "--state-dir", under=far("smb"))
        home.state.mkdir(exist_ok=True)
        lock = home.state / "host.lock"
        lock.write_text("host elsewhere\nprocess 7\nboot 0\nmachine 0\n")
        refuses("a state directory on NFS where another host works", home, "elsewhere", "host.lock", under=far("nfs"), code=75)
        lock.unlink()
    return said


def go(points, why_not):
    count, twice = collections.Counter(), 0
    try:
        cases = [(f"room for {kib} KiB", small, (kib, 2000, 16)) for kib in SIZES]
        # Long answers, so that 8 MiB are full too.
        cases += [("room for 8 MiB", small, (8192, 4000, 800))] if points.realtime else []
        cases += [(f"results with room for {kib} KiB", results, (kib,)) for kib in (16, 128, 512)]
        cases += [(f"files of {kib} KiB at most", limited, (kib,)) for kib in (64, 128, 256, 512, 1024)]
        for what, case, args in cases:
            with points.harness.noting(what):
                twice += case(points, count, *args)
        with points.harness.noting("where nothing can be kept"):
            print("refused before anything was sent: " + "; ".join(refused(points, why_not)))
    except NoMount:
        print("skipped: small disks: mounting is not allowed here")
    print(f"disks with room for {SIZES[0]} KiB to {'8' if points.realtime else '1'} MiB; commands by exit code: "
          + ", ".join(f"{name} {code}: {n}" for (name, code), n in sorted(count.items()))
          + (f"; {twice} rows paid twice, all of them named" if points.realtime else ""))
