"""The harness of the crash proofs: servers, commands to kill, and checks for afterwards. Standard library only."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

MODELS = [
    "meta-llama/Llama-3.2-3B-Instruct-Turbo",
    "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "Qwen/Qwen2.5-7B-Instruct-Turbo",
]
ROOT = Path(__file__).resolve().parents[2]
# The sandbox lists a batch as soon as it is made; but on a loaded machine it has been seen to make one 25 ms after the
# client that asked for it was dead.
SETTLE = '[submit]\nsettle_after = "500ms"\n'


# The directory of `run --files`.
MADE = "made"


def steady(line):
    """A line of results without the port of the server that an image's URL names."""
    return re.sub(rb"http://127\.0\.0\.1:\d+/images/", b"http://server/images/", line)


class Violation(Exception):
    """Something that must never be."""


def must(fact, text):
    if not fact:
        raise Violation(text)


class Server:
    """`llbatch serve`, ours from its start to its end."""

    def __init__(self, harness, name, *flags):
        self.log = harness.dir / f"{name}.log"
        self.process = subprocess.Popen(
            [harness.binary, "--state-dir", harness.dir / "serve-state", "serve", *flags],
            stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True, env=harness.env(harness.dir))
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise SystemExit(f"error: the sandbox does not start: {self.log.read_text()}")
        self.flags = ("--base-url", self.url)

    def stats(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url.removesuffix("/v1") + "/sandbox/stats", timeout=60) as answer:
            return json.load(answer)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Harness:
    """A directory for everything; it is kept as evidence if something was violated."""

    def __init__(self, binary, config, dialect="together"):
        self.dialect = dialect
        self.binary = str(Path(binary).resolve())
        if not os.access(self.binary, os.X_OK):
            raise SystemExit(f"error: no llbatch at {binary}: build it first, or name it")
        # On the disk that holds the project: an fsync must be a real one.
        base = Path(os.environ.get("TMPDIR") or ROOT / "target")
        base.mkdir(parents=True, exist_ok=True)
        self.dir = Path(tempfile.mkdtemp(prefix="crash-", dir=base))
        self.config = self.dir / "config.toml"
        self.config.write_text(config)
        self.servers, self.violations = [], []
        # Flags of every `run` and `submit`.
        self.flags = ()

    def env(self, home):
        """Nothing of the caller's: no key, no proxy, no configuration."""
        # The mode of the state directory alone is the caller's.
        mode = {name: os.environ[name] for name in ["LLBATCH_STATE_MODE"] if name in os.environ}
        return {"PATH": os.environ.get("PATH", ""), "HOME": str(home), "TOGETHER_API_KEY": "crash-test",
                "LLBATCH_CONFIG": str(self.config), "NO_PROXY": "*", "RUST_BACKTRACE": "1", **mode}

    def serve(self, name, *flags):
        server = Server(self, name, "--dialect", self.dialect, *flags)
        self.servers.append(server)
        if self.dialect != "together":
            # Only a service of the configuration has another dialect.
            with self.config.open("a") as config:
                config.write(f'[services.{name}]\nbase_url = "{server.url}"\ndialect = "{self.dialect}"\n'
                             'api_key_env = "TOGETHER_API_KEY"\n')
            server.flags = ("--service", name)
        return server

    @contextlib.contextmanager
    def noting(self, what):
        """A violation in here is reported and kept; the next trials go on."""
        try:
            yield
        except Violation as violation:
            self.violations.append(f"{what}: {violation}")
            print(f"VIOLATION in {self.violations[-1]}", file=sys.stderr)

    def enough(self):
        """Whether so much is wrong that more of it would teach nobody anything."""
        return len(self.violations) >= 10

    def progress(self, text):
        if sys.stderr.isatty():
            print(f"\r{text}", end="", file=sys.stderr)

    def print_counters(self, *servers):
        """What batches cost, by the servers' own counters: nothing twice."""
        for stats in (server.stats() for server in servers):
            print(f"by a server's own counters: {stats['batches']['created']} batches, {stats['bill']['requests']} rows paid, "
                  f"{stats['paid_again']} paid twice")
            if stats["paid_again"]:
                self.violations.append(f"{stats['paid_again']} prompts were paid twice")

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        if error:
            self.violations.append("the script itself was stopped")
        for server in self.servers:
            server.stop()
        if self.violations:
            print(f"\n{len(self.violations)} VIOLATIONS; the evidence stays in {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def verdict(self, promise):
        """Says whether it held, and is the exit code."""
        print(f"{promise}: " + ("NO" if self.violations else "yes"))
        return 1 if self.violations else 0


def rows(tag, count, models, unlucky=0, most=16):
    """Rows whose prompts nobody else asks: payments show per prompt. The first `unlucky` ones say so."""
    return [{"id": f"{tag}-{i}", "prompt": f"{'unlucky ' if i < unlucky else ''}question {i} of {tag}",
             "model": MODELS[i % models], "max_tokens": most} for i in range(count)]


def repeated(these, times=3):
    """The same requests several times, each row with an id of its own."""
    return [{**row, "id": f"{row['id']}-{turn}"} for row in these for turn in range(times)]


class Earlier:
    """A job that answers the requests of half of the rows before anything is killed, for --reuse and --reuse-from JOB or DIR."""

    def __init__(self, home, these, chance, command):
        # Of each model, whether there are two or three. Unlucky rows fail once.
        self.prompts = {row["prompt"] for i, row in enumerate(these) if i % 4 < 2 and "unlucky" not in row["prompt"]}
        known = [{**row, "id": f"earlier-{row['id']}"} for row in these if row["prompt"] in self.prompts]
        write_rows(home.dir / "earlier.jsonl", known)
        names = {"in.jsonl": "earlier.jsonl", "out.jsonl": "earlier.out.jsonl"}
        home.flags, taken = chance.choice((((), ("--reuse",)), ((), ("--reuse-from", "earlier")),
                                           (("--answers", "sealed"), ("--reuse-from", "sealed"))))
        # Sealed answers came in real time, and batches space their JSON in another way.
        self.respelled = bool(home.flags) and command == SUBMIT
        command = RUN if home.flags else command
        home.until((0,), *(names.get(part, part) for part in command), "--name", "earlier")
        for name in names.values():
            (home.dir / name).unlink()
        self.job = home.job()["job"]
        home.flags = taken

    def mark(self, these, lines):
        """The lines as they are if the answers of this job are reused."""
        reused = [line.endswith(b',"reused":true}\n') or row["prompt"] not in self.prompts for row, line in zip(these, lines)]
        if self.respelled:
            lines = [line if same else json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
                     for line, same in zip(lines, reused)]
        return [line if same else line[:-2] + b',"reused":true}\n' for line, same in zip(lines, reused)]


def write_rows(path, these):
    path.write_text("".join(json.dumps(row) + "\n" for row in these))


SUBMIT = ("submit", "in.jsonl", "--wait", "--poll", "100ms", "-o", "out.jsonl")
RUN = ("run", "in.jsonl", "-o", "out.jsonl")


class Calm:
    """Undisturbed runs: their results are what disturbed ones must come to, byte for byte."""

    def __init__(self, harness, command=SUBMIT):
        self.server = harness.serve(f"calm-{command[0]}", "--batch-validation", "0s", "--batch-run", "20ms")
        self.harness, self.command, self.lines, self.turn = harness, command, {}, 0
        # The files of all answers, by name.
        self.files = {}

    def learn(self, these):
        self.turn += 1
        home = Home(self.harness, self.server, f"calm-{self.command[0]}-{self.turn}")
        write_rows(home.dir / "in.jsonl", these)
        done = home.run(*self.command)
        if done.code != 0:
            raise SystemExit(f"error: an undisturbed run fails: {done.err}")
        out = (home.dir / "out.jsonl").read_bytes().splitlines(keepends=True)
        for row, line in zip(these, out, strict=True):
            if json.loads(line)["custom_id"] != row["id"]:
                raise SystemExit("error: an undisturbed run misplaces rows")
            self.lines[row["id"]] = steady(line)
        self.files.update(made(home.dir))
        shutil.rmtree(home.dir)

    def expected(self, these):
        if these[0]["id"] not in self.lines:
            self.learn(these)
        return [self.lines[row["id"]] for row in these]


class Done:
    """How a command ended."""

    def __init__(self, code, seconds, out, err):
        self.code, self.seconds, self.out, self.err = code, seconds, out, err
        self.killed = code == -signal.SIGKILL


class Home:
    """One user with a working directory, a state directory and a diary of every command."""

    def __init__(self, harness, server, name):
        self.harness, self.server = harness, server
        self.dir = harness.dir / name
        self.dir.mkdir()
        self.state = self.dir / "state"
        self.turn = 0
        # Flags of every `run` and `submit` here.
        self.flags = ()

    def run(self, *args, kill_after=None, under=(), timeout=180, sober=True):
        """Runs llbatch, killed after so many seconds if it has not ended. `under`: strace and its flags. `sober`: no panics."""
        self.turn += 1
        if args[0] in ("run", "submit"):
            args = (*args, *self.harness.flags, *self.flags)
        logs = self.dir / "log"
        logs.mkdir(exist_ok=True)
        out, err = logs / f"{self.turn:03}.out", logs / f"{self.turn:03}.err"
        began = time.monotonic()
        with out.open("w") as to, err.open("w") as talk:
            process = subprocess.Popen(
                [*under, self.harness.binary, "--state-dir", self.state, *self.server.flags, *args],
                stdin=subprocess.DEVNULL, stdout=to, stderr=talk, cwd=self.dir, env=self.harness.env(self.dir))
            try:
                code = process.wait(timeout if kill_after is None else kill_after)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
                must(kill_after is not None, f"{' '.join(args)} did not end within {timeout} s")
        done = Done(code, time.monotonic() - began, out.read_text(), err.read_text())
        with (logs / "diary").open("a") as diary:
            after = f" (kill after {kill_after:.4f} s)" if kill_after is not None else ""
            diary.write(f"{self.turn:03} {' '.join(map(str, args))}{after} {' '.join(map(str, under))}: {code}\n")
        must(not sober or "panicked" not in done.err, f"{args[0]} panicked: {done.err.strip()[:500]}")
        return done

    def until(self, good, *args, again=(75,), patience=60):
        """Runs a command again and again until it ends well; meanwhile it may say "later", and nothing else."""
        end = time.monotonic() + patience
        while True:
            done = self.run(*args)
            if done.code in good:
                return done
            must(done.code in again, f"{' '.join(args)} ended with {done.code}: {done.err.strip()[-600:]}")
            must(time.monotonic() < end, f"{' '.join(args)} never got done: {done.err.strip()[-600:]}")
            time.sleep(0.1)

    def job(self):
        """The entry of the last job, if there is one."""
        jobs = json.loads(self.until((0,), "status", "--offline", "--json").out)["jobs"]
        return jobs[0] if jobs else None

    def untold(self):
        """Whether the last job has ended, and its command was killed before its own end."""
        with contextlib.closing(sqlite3.connect(self.state / "ledger.db")) as ledger:
            return ledger.execute("SELECT untold FROM job ORDER BY seq DESC LIMIT 1").fetchone() == (1,)

    def again(self, *args):
        """The same `run` once more, unless its end was told (then it would be a new job); the rows that it names as in doubt."""
        job = self.job()
        if job and job["state"] == "completed" and not self.untold():
            return 0
        return named(self.until((0,), *args, again=()))

    def results(self, name="out.jsonl"):
        lines = (self.dir / name).read_bytes().splitlines(keepends=True)
        must(all(line.endswith(b"\n") for line in lines), f"{name} is torn")
        return [steady(line) for line in lines]

    def tidy(self):
        """No torn or left-over files, and databases that are whole."""
        for path in sorted(self.state.rglob("*")):
            name = path.name
            must(not name.endswith((".part", ".tmp")) and not name.startswith((".llb", "llb-")),
                 f"left over: {path.relative_to(self.dir)}")
            if name.endswith(".db"):
                whole(path)
        extra = {p.name for p in self.dir.iterdir()} - {"in.jsonl", "out.jsonl", "state", "log", "trace", "disk", "sealed", MADE}
        must(not extra, f"left over beside the output: {extra}")

    def forget(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def whole(path):
    """Checks a database, and counts the answers in it that were paid for."""
    db = sqlite3.connect(path)
    try:
        found = db.execute("PRAGMA integrity_check").fetchall()
        must(found == [("ok",)], f"{path}: {found}")
        tables = [name for name, in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return db.execute("SELECT count(*) FROM outcome WHERE ok AND leader IS NULL").fetchone()[0] if "outcome" in tables else 0
    finally:
        db.close()


def made(home):
    """The files of answers in a working directory, by name."""
    return {path.name: path.read_bytes() for path in (home / MADE).iterdir()} if (home / MADE).exists() else {}


def committed_files(path):
    """The lists of files in the answers that a database holds; their bodies may lie in the log beside it."""
    log, found = path.with_suffix("") / "answers.jsonl", []
    with contextlib.closing(sqlite3.connect(path)) as db:
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'outcome'").fetchone():
            return []
        for body, at, length in db.execute("SELECT body, at, len FROM outcome WHERE ok"):
            if at is not None:
                with log.open("rb") as bodies:
                    bodies.seek(at)
                    body = bodies.read(length)
            found.append(json.loads(body)["llbatch_files"])
    return found


def paid_hash(line):
    """The hash by which the sandbox counts payments: every answer begins with it."""
    body = json.loads(line)["response"]["body"]
    if "choices" not in body:
        # Of images: the id holds it.
        return body["id"][1:17]
    content = body["choices"][0]["message"]["content"]
    return content[content.index("[") + 1:content.index("]")]


class Account:
    """What the server made and billed for one job: one batch for each file, each prompt paid once."""

    def __init__(self, server):
        self.server = server
        stats = server.stats()
        self.known = {job["id"] for job in stats["batches"]["jobs"]}
        self.again = stats["paid_again"]

    def check(self, lines, shards, at_most=False, answered=None):
        """Batches, rows paid, rows paid twice. `lines`: the undisturbed results; `answered`: ids with an answer, if not all."""
        stats = self.server.stats()
        jobs = [job for job in stats["batches"]["jobs"] if job["id"] not in self.known]
        files = [job["input_file_id"] for job in jobs]
        must(len(set(files)) == len(files), f"two batches of one file: {jobs}")
        fits = len(jobs) <= shards if at_most else len(jobs) == shards
        must(fits, f"{len(jobs)} batches for {shards} shards: {jobs}")
        paid = 0
        for line in lines:
            row, times = json.loads(line)["custom_id"], stats["paid"].get(paid_hash(line), 0)
            want = int(answered is None or row in answered)
            must(times == want, f"{row} was paid {times} times, and answered {want} times")
            paid += times
        return len(jobs), paid, stats["paid_again"] - self.again


class Meter:
    """What the server billed for the rows of a realtime job, by prompt."""

    def __init__(self, server):
        self.server = server

    def check(self, lines):
        """Rows paid, payments beyond the first."""
        paid = self.server.stats()["paid"]
        times = [paid.get(prompt, 0) for prompt in {paid_hash(line) for line in lines}]
        must(all(times), f"{times.count(0)} answers were never paid for")
        return len(times), sum(times) - len(times)


def named(done):
    """How many rows a resumed run says may be billed twice."""
    found = re.search(r"warning: the last run was (?:killed|cut short): ([\d,]+) rows?(?: of the earlier input)? may", done.err)
    return int(found[1].replace(",", "")) if found else 0


def same(found, expected):
    """Every id once, in order, with the right answer."""
    if found == expected:
        return
    ids = [json.loads(line)["custom_id"] for line in found]
    want = [json.loads(line)["custom_id"] for line in expected]
    must(ids == want, f"ids are not those asked, in order: {len(ids)} of {len(want)}")
    for one, other in zip(found, expected):
        must(one == other, f"another result: {one!r}, not {other!r}")


def table(head, lines):
    cells = [head, *[[str(cell) for cell in line] for line in lines]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))


def seeded(seed):
    seed = int(time.time()) if seed is None else seed
    return seed, random.Random(seed)
