//! Opens databases, and turns errors of `SQLite` into errors with a remedy.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, Exit, Result};

/// The time that a writer waits for another one. Transactions take milliseconds.
const BUSY: Duration = Duration::from_secs(20);

const MUST_BE_WRITABLE: &str =
    "the state directory must be writable; choose another one with --state-dir or LLBATCH_STATE_DIR";

/// The pause between tries to open a file that another process is creating.
const OPEN_PAUSE: Duration = Duration::from_millis(5);

/// Opens a database that only the user can read. `upgrade` adds to tables of format 1 the columns that `schema` has.
pub(super) fn open_db(path: &Path, schema: &str, upgrade: &str) -> Result<Connection> {
    // SQLite gives its side files the mode of the main file, so the main file is created first.
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(|e| {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let unwritable = matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem);
        let error = Error::io(format!("{}: cannot be opened", path.display()), e);
        if unwritable { error.hint(MUST_BE_WRITABLE) } else { error }
    })?;
    let open = || -> rusqlite::Result<(Connection, i64)> {
        let db = Connection::open(path)?;
        db.busy_timeout(BUSY)?;
        // Results are long for the default page size. This has an effect on new files only.
        db.pragma_update(None, "page_size", 8192)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        let version = db.pragma_query_value(None, "user_version", |r| r.get(0))?;
        Ok((db, version))
    };
    let began = Instant::now();
    let (db, version) = loop {
        match open() {
            // The switch of a new file to WAL mode needs the file alone, and SQLite does not wait for that by itself.
            Err(e) if is_busy(&e) && began.elapsed() < BUSY => std::thread::sleep(OPEN_PAUSE),
            opened => break opened.map_err(|e| damaged(path, &e))?,
        }
    };
    match version {
        0 => db.execute_batch(&format!("BEGIN IMMEDIATE; {schema} COMMIT;")).map_err(|e| damaged(path, &e))?,
        1 => {
            let upgrade_tables = || {
                db.execute_batch("BEGIN IMMEDIATE")?;
                // Another process may have upgraded it meanwhile, and a column cannot be added twice.
                let version: i64 = db.pragma_query_value(None, "user_version", |r| r.get(0))?;
                db.execute_batch(&format!("{} {schema} COMMIT;", if version == 1 { upgrade } else { "" }))
            };
            upgrade_tables().map_err(|e| damaged(path, &e))?;
        }
        // The schema creates missing tables.
        2 => db.execute_batch(&format!("BEGIN IMMEDIATE; {schema} COMMIT;")).map_err(|e| damaged(path, &e))?,
        3 => {}
        newer => {
            return Err(Error::new(
                Exit::Io,
                format!("{} was written by a newer llbatch (format {newer})", path.display()),
            )
            .hint("upgrade llbatch, or choose another --state-dir"));
        }
    }
    Ok(db)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// Turns an error of `SQLite` into one with a remedy that fits its cause.
pub(super) fn damaged(path: &Path, error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free some space, then run the same command again: it resumes where it stopped",
        Some(ErrorCode::SystemIoFailure) => {
            "check the disk and its limits (`df`, `ulimit -f`), then run the same command again: it resumes where it \
             stopped"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => MUST_BE_WRITABLE,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another llbatch is writing; try again",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged; nothing was sent. Move it away, or choose another --state-dir"
        }
        _ => "nothing more was sent; fix this, then run the same command again: it resumes where it stopped",
    };
    // The message repeats the text of SQLite's code.
    let words = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    };
    Error::new(Exit::Io, format!("{}: {words}", path.display())).hint(hint)
}
