"""Repeated SIGKILL at random instants of `run`, its resumption included; see run.sh."""

import collections
import shutil
import time

from harness import (MADE, RUN, Calm, Earlier, Home, Meter, committed_files, made, must, named, repeated, rows, same, table, whole,
                     write_rows)

# How long the server takes (and how much that varies), requests in flight, rows.
SETTINGS = [(0, 0, 8, 4000), (0, 0, 64, 8000), (30, 0.5, 40, 600), (60, 0.9, 3, 60), (200, 0.2, 100, 600),
            (300, 0.9, 400, 2000)]
# With --files each answer takes a sync or two, so there are fewer rows.
FEWER = 20
# Two images of each row, in the answer or at URLs.
IMAGES = ("--endpoint", "images", "--files", MADE, "--set", "n=2", "--set")
MOST_IN_A_ROW = 5


class Realtime:
    def __init__(self, harness, chance, kills, options):
        self.harness, self.chance, self.wanted = harness, chance, kills
        self.options = options
        self.command = (*RUN, "--stream") if options.stream else RUN
        if options.files:
            self.command = (*RUN, *IMAGES, chance.choice(('response_format="base64"', 'output_format="png"')))
        self.calm = Calm(harness, self.command)
        self.kills, self.codes, self.spans = collections.Counter(), collections.Counter(), {}
        self.lines = {}

    def committed(self, home):
        """Answers on the disk of a job that was just killed, and the check that its databases are whole: on a copy, because
        whoever opens a database mends it."""
        copy = home.dir.with_name(home.dir.name + "-copy")
        shutil.rmtree(copy, ignore_errors=True)
        if not home.state.exists():
            return 0
        shutil.copytree(home.state, copy)
        found = sum(whole(path) for path in sorted(copy.rglob("*.db")))
        if self.options.files:
            for path in sorted((copy / "jobs").glob("*.db")):
                for files in committed_files(path):
                    self.whole_files(home, files)
        shutil.rmtree(copy)
        return found

    def whole_files(self, home, files):
        """Every file that a committed row names is there, and has the bytes of an undisturbed run."""
        must(len(files) == 2, f"not two files: {files}")
        for file in files:
            path = home.dir / file["path"]
            must(path.exists(), f"a committed row names {path.name}, which is missing")
            must(path.read_bytes() == self.calm.files[path.name] and path.stat().st_size == file["bytes"], f"{path.name} is not whole")

    def all_files(self, home):
        """The directory holds the files of the rows, and nothing else."""
        if self.options.files:
            found, ids = made(home.dir), {row["id"] for row in self.these}
            own = ids | {f"{row}-2" for row in ids}
            want = {name: data for name, data in self.calm.files.items() if name.split(".")[0] in own}
            must(set(found) == set(want), f"files that belong to no row, or are missing: {sorted(set(found) ^ set(want))[:9]}")
            must(found == want, "a file has other bytes")

    def bill(self, server):
        """What was paid, once the server has noticed that nobody waits any more."""
        while True:
            before = server.stats()
            time.sleep(0.02)
            after = server.stats()
            if after["in_flight"] == 0 and after["requests"] == before["requests"]:
                return after["bill"]["requests"]

    def names(self, done, doubt):
        """A run that goes on says how many rows are in doubt; before that nothing is forgotten."""
        if "resuming job" in done.err:
            must(named(done) >= doubt, f"{doubt} rows in doubt, but {named(done)} named")

    def order(self):
        """The order of sending is no part of a job: a resumed run may have another one."""
        return ("--group-by-prefix",) if self.options.group_by_prefix and self.chance.random() < 0.75 else ()

    def turn(self, number, setting):
        ms, jitter, concurrency, count = setting
        count = max(count // FEWER, 40) if self.options.files else count
        server = self.harness.serve(f"run-{number}", "--track", "--latency", f"{ms}ms", "--jitter", str(jitter))
        home = Home(self.harness, server, f"run-{number}-home")
        # Answers that are cut off are not reused.
        these = rows(f"r{number}", count, 3, most=900 if self.options.reuse else 16)
        these = repeated(these) if self.options.dedupe else these
        self.these = these
        write_rows(home.dir / "in.jsonl", these)
        expected = self.calm.expected(these)
        earlier = Earlier(home, these, self.chance, self.command) if self.options.reuse else None
        expected = earlier.mark(these, expected) if earlier else expected
        args = (*self.command, "--concurrency", str(concurrency))
        line = self.lines.setdefault(setting, [0] * 6)
        lost, kills, most, doubt = 0, 0, 0, 0
        span = self.spans.setdefault(setting, 0.2 + count * max(ms / 1000 / concurrency, 0.0001))
        while kills < MOST_IN_A_ROW and sum(self.kills.values()) + kills < self.wanted:
            # Now and then right at the start, where databases and jobs are made.
            after = self.chance.uniform(0.001, 0.05 if self.chance.random() < 0.2 else span)
            done = home.run(*args, *self.order(), kill_after=after)
            self.names(done, doubt)
            if not done.killed:
                self.codes[done.code] += 1
                must(done.code == 0, f"it ended with {done.code}: {done.err.strip()[-600:]}")
                self.spans[setting] = 0.8 * span + 0.2 * done.seconds
                break
            kills += 1
            if (home.dir / "out.jsonl").exists():
                # Results under their name are whole; the job may know already that it is done.
                same(home.results(), expected)
                if home.job()["state"] == "completed":
                    break
            # Paid for, and not on the disk: these and no others will be paid for again.
            doubt = self.bill(server) - self.committed(home) - lost
            lost += doubt
            most = max(most, doubt)
            must(doubt <= concurrency, f"{doubt} in doubt with {concurrency} in flight")
        job = home.job()
        if not job or job["state"] != "completed" or (earlier and job["job"] == earlier.job):
            done = home.until((0,), *args, *self.order(), again=())
            self.names(done, doubt)
            self.codes[done.code] += 1
        same(home.results(), expected)
        self.all_files(home)
        paid, twice = Meter(server).check(expected)
        must(twice == lost, f"{twice} rows were paid twice, and {lost} answers were lost")
        home.tidy()
        self.kills[setting] += kills
        for i, n in enumerate((1, kills, paid, twice)):
            line[i] += n
        line[4] = max(line[4], most)
        line[5] = max(line[5], most / concurrency)
        server.stop()
        home.forget()

    def go(self):
        number = 0
        while sum(self.kills.values()) < self.wanted and not self.harness.enough():
            number += 1
            setting = SETTINGS[number % len(SETTINGS)]
            with self.harness.noting(f"run-{number} {setting}"):
                self.turn(number, setting)
            self.harness.progress(f"{sum(self.kills.values())} kills, {number} jobs")

    def report(self):
        print(f"\n{sum(self.kills.values())} kills of run; ended by themselves: "
              + ", ".join(f"{code}: {n}" for code, n in sorted(self.codes.items())))
        table(["run: latency, in flight", "jobs", "kills", "rows", "paid again", "most by one kill", "of those in flight"],
              [[f"{s[0]} ms ± {s[1]:.0%}, {s[2]}", *line[:5], f"{line[5]:.2f}"] for s, line in self.lines.items()])
