"""Create requests whose reply is lost: the server makes the batch, then answers wrongly or late, or its list lags."""

import shutil

from harness import Account, Calm, Home, must, rows, same, table, write_rows

ROWS, SHARDS = 60, 3
TIMES = ("--batch-validation", "50ms", "--batch-run", "200ms")
LAG = ("--list-lag", "1s")
DONE = "on=create,after"
# What happens to creates, and how long the list is given; the batch is made each time ("after") unless it says otherwise.
CASES = [
    ("500, made", [f"status=500,nth=1,{DONE}"], (), "0s"),
    ("500 each time, made", [f"status=500,times=1,{DONE}"], (), "0s"),
    ("503, made", [f"status=503,times=1,{DONE}"], (), "0s"),
    ("reset, made", [f"reset,times=1,{DONE}"], (), "0s"),
    ("closed, made", [f"close,times=1,{DONE}"], (), "0s"),
    ("HTML, made", [f"html,times=1,{DONE}"], (), "0s"),
    ("HTML 502, made", [f"status=502,shape=html,times=1,{DONE}"], (), "0s"),
    ("half a reply", ["truncate,times=1,on=create"], (), "0s"),
    ("empty 200, made", [f"empty-body,times=1,{DONE}"], (), "0s"),
    ("other JSON, made", [f"wrong-shape,times=1,{DONE}"], (), "0s"),
    ("500, not made", ["status=500,times=1,on=create"], (), "0s"),
    ("reset, not made", ["reset,times=1,on=create"], (), "0s"),
    ("500, made, list lags", [f"status=500,times=1,{DONE}"], LAG, "3s"),
    ("reset, made, list lags", [f"reset,times=1,{DONE}"], LAG, "3s"),
    ("500, not made, list lags", ["status=500,times=1,on=create"], LAG, "3s"),
    ("list fails too", [f"reset,times=1,{DONE}", "status=500,on=list,times=2"], (), "0s"),
]
# Killed while the reply does not come: these need a client that is gone.
HANGS = [
    ("hangs, made, killed", [f"hang,{DONE}"], (), "0s"),
    ("hangs, made, killed, list lags", [f"hang,{DONE}"], LAG, "3s"),
    ("hangs, not made, killed", ["hang,on=create"], (), "0s"),
]


def case(harness, calm, number, name, faults, flags, settle, hangs):
    harness.config.write_text(f'[submit]\nsettle_after = "{settle}"\n')
    keep = harness.dir / f"service-{number}"
    script = [part for fault in faults for part in ("--fault", fault)]
    server = harness.serve(f"wire-{number}", "--keep", str(keep), "--track", *TIMES, *flags, *script)
    home = Home(harness, server, f"wire-{number}-home")
    these = rows(f"w{number}", ROWS, SHARDS)
    write_rows(home.dir / "in.jsonl", these)
    account = Account(server)
    kills = 0
    if hangs:
        kills += home.run("submit", "in.jsonl", kill_after=1.0).killed
        must(kills, "a create that hangs did not hold it up")
        # The same address, the same service, without the fault.
        server.stop()
        address = server.url.removeprefix("http://").removesuffix("/v1")
        server = home.server = harness.serve(f"wire-{number}-again", "--listen", address, "--keep", str(keep), "--track",
                                           *TIMES, *flags)
        account.server = server
    home.until((0,), "submit", "in.jsonl")
    home.until((0,), "wait", "last", "--poll", "100ms")
    home.until((0,), "fetch", "last", "-o", "out.jsonl")
    expected = calm.expected(these)
    same(home.results(), expected)
    found = account.check(expected, SHARDS)
    home.tidy()
    struck = server.stats()["faults"]
    must(hangs or struck, "the fault did not strike")
    server.stop()
    home.forget()
    shutil.rmtree(keep)
    return [name, kills, struck, found[0], ROWS, *found[1:]]


def go(harness):
    config = harness.config.read_text()
    calm, lines = Calm(harness), []
    cases = [(*one, False) for one in CASES] + [(*one, True) for one in HANGS]
    for number, (name, faults, flags, settle, hangs) in enumerate(cases, 1):
        with harness.noting(f"create: {name}"):
            lines.append(case(harness, calm, number, name, faults, flags, settle, hangs))
    harness.config.write_text(config)
    table(["a create's reply", "kills", "faults", "batches", "rows", "paid once", "paid twice"], lines)
