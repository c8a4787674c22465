//! Opens databases, and turns errors of `SQLite` into errors with a remedy.

use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::image::PAGE;
use super::journal::Journaling;
use super::modes::is_read_only;
use crate::error::{Error, Exit, Result};

/// The time that a writer waits for another one. Transactions take milliseconds.
const BUSY: Duration = Duration::from_secs(20);

const MUST_BE_WRITABLE: &str =
    "the state directory must be writable; choose another one with --state-dir or LLBATCH_STATE_DIR";

/// The pause between tries to open a file that another process is creating.
const OPEN_PAUSE: Duration = Duration::from_millis(5);

/// The format of both kinds of database.
const FORMAT: i64 = 13;

/// A column that tables of an earlier format lack.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddedColumn {
    pub table: &'static str,
    pub name: &'static str,
    pub kind: &'static str,
}

/// The tables of a database: the schema creates missing tables, and missing columns are added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    pub schema: &'static str,
    pub added: &'static [AddedColumn],
}

/// Opens a database that only the user can read, and creates it if it is missing.
pub(super) fn open_db(path: &Path, tables: Tables, journaling: Journaling) -> Result<Connection> {
    if path.exists() && path.parent().is_some_and(is_read_only) {
        return open_read_only(path);
    }
    // SQLite gives its side files the mode of the main file, so the main file is created first. A file that is there stays
    // closed: to close any handle of it would end the locks of this process's other connections to it.
    if !path.exists() {
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(|e| {
            use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
            let unwritable = matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem);
            let error = Error::io(format!("{}: cannot be opened", path.display()), e);
            if unwritable { error.hint(MUST_BE_WRITABLE) } else { error }
        })?;
    }
    let open = || -> rusqlite::Result<(Connection, i64)> {
        let db = Connection::open(path)?;
        db.busy_timeout(BUSY)?;
        // This has an effect on new files only.
        db.pragma_update(None, "page_size", PAGE)?;
        match journaling {
            Journaling::Log => {
                db.pragma_update(None, "journal_mode", "WAL")?;
                db.pragma_update(None, "synchronous", "NORMAL")?;
            }
            Journaling::Rollback => use_rollback_journal(&db)?,
        }
        let version = version(&db)?;
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
        FORMAT => {}
        newer if newer > FORMAT => {
            return Err(Error::new(
                Exit::Io,
                format!("{} was written by a newer llbatch (format {newer})", path.display()),
            )
            .hint("upgrade llbatch, or choose another --state-dir"));
        }
        _ => upgrade(&db, tables).map_err(|e| damaged(path, &e))?,
    }
    Ok(db)
}

/// Sets a connection up for a network file system. Its locks hold between processes of this host.
fn use_rollback_journal(db: &Connection) -> rusqlite::Result<()> {
    // A database that has a log gives it up without the memory that processes share.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // An empty journal is as good as none, and its end needs no sync of the directory.
    db.pragma_update(None, "journal_mode", "TRUNCATE")?;
    db.pragma_update(None, "locking_mode", "NORMAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // A transaction that is written before its end would keep this process's other connections from reading.
    db.pragma_update(None, "cache_spill", "OFF")
}

/// Opens a database that cannot be written, such as one in a snapshot.
fn open_read_only(path: &Path) -> Result<Connection> {
    let open = |mode: &str| -> rusqlite::Result<(Connection, i64)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(format!("file:{}?{mode}", uri_path(path)), flags)?;
        db.busy_timeout(BUSY)?;
        let version = version(&db)?;
        Ok((db, version))
    };
    let opened = open("mode=ro").or_else(|error| {
        // SQLite cannot make the file that it reads a log with. Without a log it needs none.
        let log = path.with_extension("db-wal");
        if std::fs::metadata(log).is_ok_and(|log| log.len() > 0) { Err(error) } else { open("immutable=1") }
    });
    let copied = "copy the state directory to a place that can be written, and name the copy with --state-dir";
    match opened {
        Ok((db, FORMAT)) => Ok(db),
        Ok((_, version)) => Err(Error::new(
            Exit::Io,
            format!("{}: format {version} cannot be upgraded in a place that cannot be written", path.display()),
        )
        .hint(copied)),
        Err(error) => Err(damaged(path, &error).hint(copied)),
    }
}

/// A path in a URI: all bytes that could have a meaning there are escaped.
fn uri_path(path: &Path) -> String {
    use std::fmt::Write;
    let mut uri = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |r| r.get(0))
}

/// Creates missing tables and adds missing columns. Another process may do the same at the same time.
fn upgrade(db: &Connection, tables: Tables) -> rusqlite::Result<()> {
    let transaction = rusqlite::Transaction::new_unchecked(db, rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(tables.schema)?;
    for AddedColumn { table, name, kind } in tables.added {
        let found = "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2";
        if !transaction.prepare(found)?.exists([table, name])? {
            transaction.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {name} {kind}"))?;
        }
    }
    transaction.commit()
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// Turns an error of `SQLite` into one with a remedy that fits its cause.
pub(super) fn damaged(path: &Path, error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    if let rusqlite::Error::SqliteFailure(failure, _) = error
        && failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ
    {
        return broken(path, "the file is cut short");
    }
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free some space, then run the same command again: it resumes where it stopped",
        Some(ErrorCode::SystemIoFailure) => {
            "check the disk and its limits (`df`, `ulimit -f`), then run the same command again: it resumes where it \
             stopped"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => MUST_BE_WRITABLE,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another llbatch is writing; try again",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => return broken(path, &words(error)),
        // A value that llbatch never writes: text that is no UTF-8, a number where a text should be.
        None => return broken(path, &format!("a value in it is damaged ({})", words(error))),
        _ => "fix this, then run the same command again; it sends nothing twice",
    };
    Error::new(Exit::Io, format!("{}: {}", path.display(), words(error))).hint(hint)
}

/// The text of an error, without the text of SQLite's code, which repeats it.
fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

/// The error of a database that is damaged, missing or empty. Batches of its jobs may run all the same.
pub(super) fn broken(path: &Path, what: &str) -> Error {
    let error = Error::new(Exit::Io, format!("{}: {what}", path.display()));
    let job = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    if job == "ledger" {
        return error.hint(
            "the index of jobs is damaged, but each job is also in a file of its own. Move the index away, together with \
             ledger.db-wal, ledger.db-shm and ledger.db-journal: the next command enters the jobs into a new one",
        );
    }
    error.hint(format!(
        "restore the file from a backup, or give the job up with `llbatch clean {job} --force`; to send its rows again would \
         pay for them again. If it has batches, they keep running: `llbatch status --remote` lists them, and `llbatch fetch \
         BATCH-ID -o FILE` gets their answers"
    ))
}
