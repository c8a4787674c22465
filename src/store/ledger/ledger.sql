-- The index of jobs. Each job's own file is the truth about its rows.
CREATE TABLE IF NOT EXISTS job (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    name        TEXT,
    key         TEXT NOT NULL,      -- of the command: same inputs, same parameters, same service
    transport   TEXT NOT NULL,
    state       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,   -- milliseconds since 1970
    updated_at  INTEGER NOT NULL,
    input       TEXT NOT NULL,      -- as typed, for people
    spec        TEXT NOT NULL,      -- JSON: what is needed to go on
    total       INTEGER NOT NULL DEFAULT 0,
    succeeded   INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    nanos       INTEGER,            -- spent so far, in 1e-9 USD; NULL: unknown price
    active_ms   INTEGER NOT NULL DEFAULT 0,
    exit        INTEGER,
    estimate    INTEGER,            -- what it may cost, in 1e-9 USD; NULL: not known
    delivered   INTEGER NOT NULL DEFAULT 0 -- its results were written somewhere
) STRICT;
-- What was spent when; it outlives the jobs.
CREATE TABLE IF NOT EXISTS spend (
    job         TEXT NOT NULL,
    day         TEXT NOT NULL,      -- a date in the user's time zone
    model       TEXT NOT NULL,
    rows        INTEGER NOT NULL,
    prompt      INTEGER NOT NULL,
    completion  INTEGER NOT NULL,
    nanos       INTEGER NOT NULL,   -- paid, the known part
    unpriced    INTEGER NOT NULL,
    sandbox     INTEGER NOT NULL,   -- nothing was really paid
    PRIMARY KEY (job, day, model)
) STRICT, WITHOUT ROWID;
-- Of the config file's budgets, what processes may still spend beyond what their jobs have told; one row a process.
CREATE TABLE IF NOT EXISTS reserve (
    id          INTEGER PRIMARY KEY,
    job         TEXT NOT NULL,
    day         TEXT NOT NULL,      -- a date in the user's time zone
    nanos       INTEGER NOT NULL,
    -- 0: the process lives; 3: and waits for others to give something back; else it is gone: 1: this much may have been
    -- spent on that day, 2: it was, and its job has not told
    ended       INTEGER NOT NULL DEFAULT 0,
    sandbox     INTEGER NOT NULL
) STRICT;
-- What the batches of jobs that have not ended may still cost, in 1e-9 USD, as each job's file said.
CREATE TABLE IF NOT EXISTS held (
    job         TEXT PRIMARY KEY,
    stamp       TEXT NOT NULL,      -- of that file; empty: not to be relied on
    sent        INTEGER NOT NULL,   -- by batches that may have been created
    admitted    INTEGER NOT NULL    -- by batches that may be
) STRICT, WITHOUT ROWID;
-- What jobs have taught about estimates of prompt tokens.
CREATE TABLE IF NOT EXISTS estimate (
    job         TEXT NOT NULL,
    model       TEXT NOT NULL,
    rows        INTEGER NOT NULL,
    estimated   INTEGER NOT NULL,
    actual      INTEGER NOT NULL,   -- as the service reported
    PRIMARY KEY (job, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spend_day ON spend (day);
CREATE INDEX IF NOT EXISTS job_key ON job (key, seq);
PRAGMA user_version = 3;
