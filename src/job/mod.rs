//! A job from its inputs to its summary.

pub mod ask;
pub mod batch;
pub mod claim;
pub mod clean;
mod consumer;
mod drive;
mod entry;
pub mod finish;
mod funds;
mod prepared;
mod reader;
pub mod remote;
pub mod report;
pub mod resume;
pub mod run;
mod run_end;
mod screen;
mod signals;
pub mod spec;
mod stop;
mod tally;
pub mod verdict;

use crate::error::Result;
use crate::store::Store;
pub use signals::outlive_file_limit;

/// Keeps standard input in a file; returns it and the hash of its content.
pub fn spool_stdin(store: &Store) -> Result<(tempfile::NamedTempFile, String)> {
    store.spool_stdin().map(|spooled| (spooled.file, spooled.hash))
}
