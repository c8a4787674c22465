#!/usr/bin/env python3
"""Helper of the benchmark scripts (standard library only).

  measure.py input ROWS FILE              batch lines of 400 to 2,000 bytes, the same every time
  measure.py batch-input ROWS FILE        batch lines of about 800 bytes for three models in turn, the same every time
  measure.py free-port                    a free port on loopback
  measure.py run LOG CMD...               runs CMD (stdout and stderr to LOG); prints: exit wall_s cpu_s peak_kib
  measure.py startup TIMES CMD...         median CPU time of CMD in milliseconds
  measure.py first-request PORT LOG CMD.. seconds from CMD's start to the first POST on PORT; CMD is killed then
  measure.py get FILE|URL KEY...          values out of a JSON document: rows.succeeded, jobs.0.rows.total
  measure.py median                       median of the numbers on stdin
  measure.py table                        the tab-separated lines on stdin as an aligned table
"""

# A child's peak memory is never reported as less than its parent's, so this stays small: what only one of the commands
# needs is imported there.
import os
import signal
import sys
import time

WORDS = "alpha beta gamma delta river stone water mountain letter table number question answer summary of and the".split()
MODEL = "meta-llama/Llama-3.2-3B-Instruct-Turbo"
BATCH_MODELS = [MODEL, "meta-llama/Llama-3.3-70B-Instruct-Turbo", "Qwen/Qwen2.5-7B-Instruct-Turbo"]
# The longest wait for the first request.
PATIENCE_S = 300


def make_input(rows, path):
    """Deterministic: one seed, lengths evenly spread, the text cut from one long run of words."""
    import random

    rng = random.Random(20260101)
    pool = " ".join(rng.choices(WORDS, k=200_000))
    with open(path, "w", encoding="ascii") as out:
        for row in range(rows):
            head = f'{{"custom_id": "row-{row:07}", "body": {{"model": "{MODEL}", "messages": [{{"role": "user", "content": "'
            tail = '"}], "max_tokens": 64, "temperature": 0.7}}\n'
            text = rng.randint(400, 2000) - len(head) - len(tail)
            at = rng.randrange(len(pool) - 2000)
            out.write(head + pool[at : at + text] + tail)


def make_batch_input(rows, path):
    """As above, of nearly one length."""
    import random

    rng = random.Random(20261101)
    pool = " ".join(rng.choices(WORDS, k=200_000))
    with open(path, "w", encoding="ascii") as out:
        for row in range(rows):
            model = BATCH_MODELS[row % len(BATCH_MODELS)]
            head = f'{{"custom_id": "row-{row:07}", "body": {{"model": "{model}", "messages": [{{"role": "user", "content": "'
            tail = '"}], "max_tokens": 64, "temperature": 0.7}}\n'
            text = rng.randint(750, 850) - len(head) - len(tail)
            at = rng.randrange(len(pool) - 1000)
            out.write(head + pool[at : at + text] + tail)


def free_port():
    import random
    import socket

    # Below the ports that systems give to clients: what is free now is still free when a slow server takes it.
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        print(port)
        return


def spawn(argv, log):
    """Starts a command with its output in a file; it is killed when this process is told to end."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)

    def end(*_):
        os.kill(pid, signal.SIGKILL)
        os._exit(143)

    signal.signal(signal.SIGTERM, end)
    return pid


def run(log, argv):
    start = time.monotonic()
    pid = spawn(argv, log)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - start
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{os.waitstatus_to_exitcode(status)} {wall:.4f} {cpu:.4f} {usage.ru_maxrss}")


def startup(times, argv):
    import statistics

    cpu = []
    for _ in range(times):
        pid = spawn(argv, os.devnull)
        _, status, usage = os.wait4(pid, 0)
        if status != 0:
            sys.exit(f"{' '.join(argv)} failed")
        cpu.append((usage.ru_utime + usage.ru_stime) * 1000)
    print(f"{statistics.median(cpu):.2f}")


def first_request(port, log, argv):
    import socket

    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    # The child's end is noticed at least this often.
    listener.settimeout(0.5)
    start = time.monotonic()
    pid = spawn(argv, log)
    seen = None
    while seen is None and time.monotonic() - start < PATIENCE_S:
        if os.waitpid(pid, os.WNOHANG)[0]:
            sys.exit(f"the command ended before it sent anything: see {log}")
        try:
            peer, _ = listener.accept()
        except TimeoutError:
            continue
        with peer:
            peer.settimeout(10)
            # A connection alone is no request.
            if peer.recv(4) == b"POST":
                seen = time.monotonic() - start
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if seen is None:
        sys.exit("no request came")
    print(f"{seen:.3f}")


def get(source, keys):
    import json
    import urllib.request

    with urllib.request.urlopen(source) if source.startswith("http://") else open(source, "rb") as file:
        document = json.load(file)
    values = []
    for key in keys:
        value = document
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        values.append(str(value))
    print(*values)


def table(lines):
    rows = [line.rstrip("\n").split("\t") for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        # The first column is words, the others are read by their ends.
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def main():
    match sys.argv[1:]:
        case ["input", rows, path]:
            make_input(int(rows), path)
        case ["batch-input", rows, path]:
            make_batch_input(int(rows), path)
        case ["free-port"]:
            free_port()
        case ["run", log, *argv] if argv:
            run(log, argv)
        case ["startup", times, *argv] if argv:
            startup(int(times), argv)
        case ["first-request", port, log, *argv] if argv:
            first_request(int(port), log, argv)
        case ["get", source, *keys] if keys:
            get(source, keys)
        case ["median"]:
            import statistics

            print(statistics.median(float(line) for line in sys.stdin if line.strip()))
        case ["table"]:
            table(sys.stdin)
        case _:
            sys.exit(__doc__)


main()
