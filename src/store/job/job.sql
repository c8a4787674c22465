-- One job: a row per outcome, in the order of the input.
CREATE TABLE IF NOT EXISTS outcome (
    row         INTEGER PRIMARY KEY, -- 1-based over all inputs
    fp          BLOB NOT NULL,       -- fingerprint of the request
    ok          INTEGER NOT NULL,
    id          TEXT NOT NULL,
    model       TEXT NOT NULL,
    code        TEXT,                -- error code; NULL: answered
    message     TEXT,
    status      INTEGER,             -- HTTP
    prompt      INTEGER,             -- tokens; NULL: the server did not say
    completion  INTEGER,
    wasted_p    INTEGER NOT NULL,    -- tokens of answers that were thrown away
    wasted_c    INTEGER NOT NULL,
    at_risk     INTEGER NOT NULL,    -- attempts whose fate is unknown
    reserve_p   INTEGER NOT NULL,    -- most that one attempt can cost
    reserve_c   INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    latency_ms  INTEGER NOT NULL,
    body        TEXT,
    batch       INTEGER,             -- number of the batch that answered; NULL: realtime
    side        INTEGER,             -- in which file of that batch the body stands, if not here: 0 output, 1 errors
    at          INTEGER,             -- from which byte on
    len         INTEGER
) STRICT;
-- Failed rows that are being sent again: what they failed of stands until there is something newer. Columns as in outcome.
CREATE TABLE IF NOT EXISTS set_aside (
    row INTEGER PRIMARY KEY, fp BLOB NOT NULL, ok INTEGER NOT NULL, id TEXT NOT NULL, model TEXT NOT NULL, code TEXT,
    message TEXT, status INTEGER, prompt INTEGER, completion INTEGER, wasted_p INTEGER NOT NULL, wasted_c INTEGER NOT NULL,
    at_risk INTEGER NOT NULL, reserve_p INTEGER NOT NULL, reserve_c INTEGER NOT NULL, attempts INTEGER NOT NULL,
    refused INTEGER NOT NULL, latency_ms INTEGER NOT NULL, body TEXT, batch INTEGER, side INTEGER, at INTEGER, len INTEGER
) STRICT;
-- Outcomes that no longer stand for a row (sent again, or gone from the input): what they cost still counts.
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
    batch       INTEGER              -- as in outcome
) STRICT;
-- Rows that are sent again after a try that may have been billed, while they have no outcome: what their tries came to so far.
CREATE TABLE IF NOT EXISTS tried (
    row INTEGER PRIMARY KEY, model TEXT NOT NULL, wasted_p INTEGER NOT NULL, wasted_c INTEGER NOT NULL,
    at_risk INTEGER NOT NULL, reserve_p INTEGER NOT NULL, reserve_c INTEGER NOT NULL, attempts INTEGER NOT NULL,
    refused INTEGER NOT NULL
) STRICT;
-- Together batches of this job; each change is on the disk before the act that follows from it.
CREATE TABLE IF NOT EXISTS batch (
    number      INTEGER PRIMARY KEY, -- 1-based over all submissions of the job
    data        TEXT NOT NULL        -- JSON
) STRICT;
-- Which rows were asked in which batch.
CREATE TABLE IF NOT EXISTS request (
    batch       INTEGER NOT NULL,
    row         INTEGER NOT NULL,
    fp          BLOB NOT NULL,
    id          TEXT NOT NULL,
    wire        TEXT,                -- what travelled as custom_id, where it is not the id
    reserve_p   INTEGER NOT NULL,
    reserve_c   INTEGER NOT NULL,
    PRIMARY KEY (batch, row)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 3;
