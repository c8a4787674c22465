-- The index of jobs. The rows of a job are in the job's own file.
CREATE TABLE IF NOT EXISTS job (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    name        TEXT,
    key         TEXT NOT NULL,      -- equal for commands with equal inputs, parameters and service
    transport   TEXT NOT NULL,
    state       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,   -- milliseconds since 1970
    updated_at  INTEGER NOT NULL,
    input       TEXT NOT NULL,      -- as the user typed them
    spec        TEXT NOT NULL,      -- JSON, from which llbatch resumes the job
    total       INTEGER NOT NULL DEFAULT 0,
    succeeded   INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    nanos       INTEGER,            -- cost so far, in 1e-9 USD; NULL: unknown price
    active_ms   INTEGER NOT NULL DEFAULT 0,
    exit        INTEGER,
    estimate    INTEGER,            -- estimated cost, in 1e-9 USD; NULL: unknown
    delivered   INTEGER NOT NULL DEFAULT 0, -- the results were written to an output
    untold      INTEGER NOT NULL DEFAULT 0  -- the job has ended, but the command that ended it has not: it may have been killed
) STRICT;
-- The spending history. It outlives the jobs.
CREATE TABLE IF NOT EXISTS spend (
    job         TEXT NOT NULL,
    day         TEXT NOT NULL,      -- a date in the user's time zone
    model       TEXT NOT NULL,
    rows        INTEGER NOT NULL,
    prompt      INTEGER NOT NULL,
    completion  INTEGER NOT NULL,
    nanos       INTEGER NOT NULL,   -- the known part of the cost
    unpriced    INTEGER NOT NULL,
    sandbox     INTEGER NOT NULL,   -- 1: the service is the sandbox, and nothing is charged
    PRIMARY KEY (job, day, model)
) STRICT, WITHOUT ROWID;
-- Tags of the jobs in the spending history.
CREATE TABLE IF NOT EXISTS tag (
    job         TEXT NOT NULL,
    name        TEXT NOT NULL,
    value       TEXT NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;
-- Reservations: money of the config file's budgets that a process may spend beyond what its job has recorded.
CREATE TABLE IF NOT EXISTS reserve (
    id          INTEGER PRIMARY KEY,
    job         TEXT NOT NULL,
    day         TEXT NOT NULL,      -- a date in the user's time zone
    nanos       INTEGER NOT NULL,
    -- 0: the process lives. 3: it lives, and waits for money of other processes. 1: it has ended, and may have spent this
    -- amount on that day. 2: it has ended and has spent it, but its job has not recorded that.
    ended       INTEGER NOT NULL DEFAULT 0,
    sandbox     INTEGER NOT NULL
) STRICT;
-- Exposure cache: amounts, in 1e-9 USD, that the open batches of a job may still cost.
CREATE TABLE IF NOT EXISTS held (
    job         TEXT PRIMARY KEY,
    stamp       TEXT NOT NULL,      -- version of the job's file when it was read; empty: the file may have changed since
    sent        INTEGER NOT NULL,   -- of batches that may have been created
    admitted    INTEGER NOT NULL    -- of batches that the budgets admit and that are not sent yet
) STRICT, WITHOUT ROWID;
-- Calibration: estimated and reported prompt tokens of jobs.
CREATE TABLE IF NOT EXISTS estimate (
    job         TEXT NOT NULL,
    model       TEXT NOT NULL,
    rows        INTEGER NOT NULL,
    estimated   INTEGER NOT NULL,
    actual      INTEGER NOT NULL,   -- reported by the service
    PRIMARY KEY (job, model)
) STRICT, WITHOUT ROWID;
-- The index of answers, which `--reuse` looks in: the jobs that were read, and their answers by a hash of the request.
CREATE TABLE IF NOT EXISTS answer_source (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    job         TEXT NOT NULL UNIQUE,
    version     TEXT NOT NULL       -- of the job, when it was read; empty: not all of it was read
) STRICT;
CREATE TABLE IF NOT EXISTS answer_place (
    hash        BLOB NOT NULL,      -- the key of the request, or its fingerprint where the input is gone
    job         INTEGER NOT NULL,
    row         INTEGER NOT NULL,
    "check"     INTEGER NOT NULL,   -- the beginning of the row's fingerprint
    PRIMARY KEY (hash, job, row)
) STRICT, WITHOUT ROWID;
-- Earlier forms of that index, which had one row of a job for each request.
DROP TABLE IF EXISTS answered;
DROP TABLE IF EXISTS answered_job;
-- Jobs that `clean` has removed.
CREATE TABLE IF NOT EXISTS removed (id TEXT PRIMARY KEY, name TEXT) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spend_day ON spend (day);
CREATE INDEX IF NOT EXISTS job_key ON job (key, seq);
PRAGMA user_version = 13;
