//! A new index.

use std::fs::OpenOptions;
use std::io::{Error, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{ENTRIES_COPIED, TABLES};
use crate::store::{Journaling, image};

/// Creates an empty index where there is none. Returns whether it did. After a failure, `SQLite` creates the index, or says
/// why it cannot.
pub(super) fn create(path: &Path, journaling: Journaling) -> bool {
    // SQLite would apply an old log to the new index. It knows how to remove one.
    if [path, &path.with_extension("db-wal"), &path.with_extension("db-journal")].iter().any(|path| path.exists()) {
        return false;
    }
    try_create(path, journaling).unwrap_or_else(|error| {
        tracing::debug!("{}: {error}", path.display());
        false
    })
}

fn try_create(path: &Path, journaling: Journaling) -> Result<bool> {
    // There are no jobs without a copy of their entry.
    let mark = |db: &rusqlite::Connection| db.pragma_update(None, "application_id", ENTRIES_COPIED);
    let image = image(TABLES, journaling, mark).map_err(Error::other)?;
    let new = path.with_extension("db.new");
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&new)?;
    // Another process may be doing the same. The name under which this one opened the file may be gone then.
    file.lock()?;
    if path.exists() {
        drop(std::fs::remove_file(&new));
        return Ok(false);
    }
    file.set_len(0)?;
    file.write_all(&image)?;
    file.sync_data()?;
    std::fs::rename(&new, path)?;
    Ok(true)
}
