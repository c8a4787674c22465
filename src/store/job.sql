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
    body        TEXT
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
    refused     INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
