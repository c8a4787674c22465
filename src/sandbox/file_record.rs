//! The record of a file in the state directory.

use serde::{Deserialize, Serialize};

use super::state_dir::{new_id, now_ms};

/// A file as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileRecord {
    /// Id, `file-…`.
    pub id: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub filename: String,
    /// Bytes that are stored; 0 before.
    pub bytes: u64,
    /// `batch-api`, …
    pub purpose: String,
    /// `jsonl`, …
    pub file_type: String,
    /// Lower-case hex SHA-256 as announced.
    pub checksum: Option<String>,
    /// Whether the bytes have arrived.
    pub stored: bool,
    /// Whether the last step was done.
    pub processed: bool,
    pub lines: u64,
}

impl FileRecord {
    /// A new record without bytes.
    pub fn new(filename: &str, purpose: &str) -> Self {
        Self {
            id: format!("file-{}", new_id()),
            created_ms: now_ms(),
            filename: filename.to_owned(),
            bytes: 0,
            purpose: purpose.to_owned(),
            file_type: "jsonl".to_owned(),
            checksum: None,
            stored: false,
            processed: false,
            lines: 0,
        }
    }
}
