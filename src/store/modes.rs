//! The permissions of the state directory and its index: the user alone may write, where llbatch can arrange it.

use std::fs::{Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Access;

/// Write permission of the group and of others.
const OTHERS_WRITE: u32 = 0o022;
/// Set on a directory that many users share, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Returns whether the user cannot write to an existing directory.
pub(super) fn is_read_only(dir: &Path) -> bool {
    dir.exists() && rustix::fs::access(dir, Access::WRITE_OK).is_err()
}

/// Takes permissions of others away where the files are the user's own. [`exposures`] names what is left.
pub(super) fn close_to_others(dir: &Path) {
    let narrow = |path: &Path, others: u32, fits: fn(&Metadata) -> bool| {
        let Ok(meta) = std::fs::metadata(path) else { return };
        let mode = meta.mode() & 0o7777;
        if mode & others != 0 && is_own(&meta) && fits(&meta) {
            tracing::info!("{}: mode {mode:o} is narrowed to {:o}", path.display(), mode & !others);
            // `exposures` names those that cannot be narrowed.
            drop(std::fs::set_permissions(path, Permissions::from_mode(mode & !others)));
        }
    };
    // The directory may be one of the user's choice: others may look into it, but write nothing.
    narrow(dir, OTHERS_WRITE, |meta| meta.is_dir() && meta.mode() & STICKY == 0);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db-journal"] {
        narrow(&dir.join(name), 0o077, Metadata::is_file);
    }
}

/// Names what others may still change or read.
pub(super) fn exposures(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let ledger = dir.join("ledger.db");
    for (path, others) in [(dir, OTHERS_WRITE), (&ledger, 0o077)] {
        let shown = path.display();
        if let Ok(link) = std::fs::read_link(path) {
            found.push(format!("{shown} is a link to {}", link.display()));
        }
        let Ok(meta) = std::fs::metadata(path) else { continue };
        if !is_own(&meta) {
            found.push(format!("{shown} belongs to another user (id {})", meta.uid()));
        }
        if meta.mode() & others != 0 {
            found.push(format!("{shown} is open to other users (mode {:o})", meta.mode() & 0o7777));
        }
    }
    found
}

fn is_own(meta: &Metadata) -> bool {
    meta.uid() == rustix::process::geteuid().as_raw()
}
