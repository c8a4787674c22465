-- The outcomes of one job, one per row of its input.
CREATE TABLE IF NOT EXISTS outcome (
    row         INTEGER PRIMARY KEY, -- 1-based over all inputs
    fp          BLOB NOT NULL,       -- fingerprint of the request
    ok          INTEGER NOT NULL,
    id          TEXT NOT NULL,
    model       TEXT NOT NULL,
    code        TEXT,                -- error code; NULL: answered
    message     TEXT,
    status      INTEGER,             -- HTTP
    prompt      INTEGER,             -- tokens; NULL: the service did not report them
    completion  INTEGER,
    wasted_p    INTEGER NOT NULL,    -- tokens of discarded answers
    wasted_c    INTEGER NOT NULL,
    at_risk     INTEGER NOT NULL,    -- attempts without an answer, which the service may have billed
    reserve_p   INTEGER NOT NULL,    -- upper bound of one attempt
    reserve_c   INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    latency_ms  INTEGER NOT NULL,
    body        TEXT,                -- NULL if it lies elsewhere
    batch       INTEGER,             -- number of the batch that answered; NULL: realtime
    side        INTEGER,             -- the file that holds the body: of the batch 0 the output, 1 the errors; in realtime 0 the log
    at          INTEGER,             -- offset of the body in that file
    len         INTEGER,
    sum         INTEGER,             -- checksum of the other columns; NULL: an earlier llbatch wrote the row
    prices      INTEGER,             -- number of the prices at which the work was done; NULL or 0: the prices in force
    cached      INTEGER,             -- the part of prompt that the service had in its cache, here and below; NULL: 0
    reasoning   INTEGER,             -- the part of completion that is reasoning; NULL: 0
    wasted_cached INTEGER,           -- the same parts of wasted_p and wasted_c
    wasted_reasoning INTEGER,
    url         INTEGER,             -- number of the base URL of the last attempt; NULL: the service has one, or a batch answered
    leader      INTEGER,             -- the row whose outcome it is, by an equal request; 0: none of this job; NULL: its own
    first_token_ms INTEGER,          -- time to the first token of a stream; NULL: there was no stream
    rule        TEXT                 -- the rule that a rejected answer breaks; NULL: no answer was rejected
) STRICT;
-- Old outcomes of failed rows that are being retried: each stands until there is a new one. Columns as in outcome.
CREATE TABLE IF NOT EXISTS set_aside (
    row INTEGER PRIMARY KEY, fp BLOB NOT NULL, ok INTEGER NOT NULL, id TEXT NOT NULL, model TEXT NOT NULL, code TEXT,
    message TEXT, status INTEGER, prompt INTEGER, completion INTEGER, wasted_p INTEGER NOT NULL, wasted_c INTEGER NOT NULL,
    at_risk INTEGER NOT NULL, reserve_p INTEGER NOT NULL, reserve_c INTEGER NOT NULL, attempts INTEGER NOT NULL,
    refused INTEGER NOT NULL, latency_ms INTEGER NOT NULL, body TEXT, batch INTEGER, side INTEGER, at INTEGER, len INTEGER,
    sum INTEGER, prices INTEGER, cached INTEGER, reasoning INTEGER, wasted_cached INTEGER, wasted_reasoning INTEGER,
    url INTEGER, leader INTEGER, first_token_ms INTEGER, rule TEXT
) STRICT;
-- Outcomes that no longer stand for a row, because it was retried or left the input. Their cost still counts.
CREATE TABLE IF NOT EXISTS retired (
    model       TEXT NOT NULL,
    ok          INTEGER NOT NULL,
    prompt      INTEGER,
    completion  INTEGER,
    wasted_p    INTEGER NOT NULL,
    wasted_c    INTEGER NOT NULL,
    at_risk     INTEGER NOT NULL,
    reserve_p   INTEGER NOT NULL,
    reserve_c   INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    batch       INTEGER,             -- as in outcome
    prices      INTEGER,             -- as in outcome
    cached      INTEGER,
    reasoning   INTEGER,
    wasted_cached INTEGER,
    wasted_reasoning INTEGER
) STRICT;
-- Attempts so far of rows without an outcome that are sent again after an attempt that may have been billed.
CREATE TABLE IF NOT EXISTS tried (
    row INTEGER PRIMARY KEY, model TEXT NOT NULL, wasted_p INTEGER NOT NULL, wasted_c INTEGER NOT NULL,
    at_risk INTEGER NOT NULL, reserve_p INTEGER NOT NULL, reserve_c INTEGER NOT NULL, attempts INTEGER NOT NULL,
    refused INTEGER NOT NULL, prices INTEGER, wasted_cached INTEGER, wasted_reasoning INTEGER
) STRICT;
-- Rows that get the outcome of an equal request, their leader, as soon as that has one.
CREATE TABLE IF NOT EXISTS follower (
    leader INTEGER NOT NULL, row INTEGER NOT NULL, fp BLOB NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (leader, row)
) STRICT, WITHOUT ROWID;
-- Rows that may have been sent, where they are not sent in the order of the input; some of them have an outcome.
CREATE TABLE IF NOT EXISTS sent (row INTEGER PRIMARY KEY) STRICT;
-- The Together batches of this job. Each change is on the disk before llbatch acts on it.
CREATE TABLE IF NOT EXISTS batch (
    number      INTEGER PRIMARY KEY, -- 1-based over all submissions of the job
    data        TEXT NOT NULL,       -- JSON
    sum         INTEGER              -- checksum of the other columns, here and below
) STRICT;
-- The rows of each batch.
CREATE TABLE IF NOT EXISTS request (
    batch       INTEGER NOT NULL,
    row         INTEGER NOT NULL,
    fp          BLOB NOT NULL,
    id          TEXT NOT NULL,
    wire        TEXT,                -- custom_id in the file, where it differs from the id
    reserve_p   INTEGER NOT NULL,
    reserve_c   INTEGER NOT NULL,
    sum         INTEGER,
    PRIMARY KEY (batch, row)
) STRICT, WITHOUT ROWID;
-- Prices that were in force when the job was worked on. A later price changes no past figure.
CREATE TABLE IF NOT EXISTS price (
    number      INTEGER PRIMARY KEY,
    data        TEXT NOT NULL        -- JSON, by model
) STRICT;
-- Base URLs that answered rows, where the service has several.
CREATE TABLE IF NOT EXISTS url (
    number      INTEGER PRIMARY KEY,
    url         TEXT NOT NULL
) STRICT;
-- A copy of the job's entry in the index, from which a lost index is made anew.
CREATE TABLE IF NOT EXISTS entry (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    data        TEXT NOT NULL        -- JSON
) STRICT;
-- The totals of a job that has ended, as the report keeps them. Every write removes them.
CREATE TABLE IF NOT EXISTS totals (only INTEGER PRIMARY KEY CHECK (only = 1), data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 13;
