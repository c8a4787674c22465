//! The downloaded files of a job's batches, where the bodies of answers stay.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batches::BodyPlace;
use crate::error::{Error, Exit, Result};
use crate::json;

/// The answer files of one job, opened as they are needed.
#[derive(Debug)]
pub(super) struct AnswerFiles {
    dir: PathBuf,
    open: RefCell<HashMap<(u32, bool), Arc<File>>>,
}

impl AnswerFiles {
    /// The answer files beside a job's database.
    pub(super) fn new(db: &Path) -> Self {
        Self { dir: db.with_extension(""), open: RefCell::default() }
    }

    /// Reads the body at a place in a batch's files.
    pub(super) fn body(&self, batch: u32, place: BodyPlace) -> Result<Box<str>> {
        let BodyPlace { errors, at, len } = place;
        let path = self.dir.join(if errors { failures_name(batch) } else { answers_name(batch) });
        let unreadable = |e: std::io::Error| {
            Error::io(format!("{}: the answers that were downloaded cannot be read", path.display()), e)
                .hint("`llbatch fetch` downloads the file again, if the service still has it")
        };
        let mut open = self.open.borrow_mut();
        let file = if let Some(file) = open.get(&(batch, errors)) {
            Arc::clone(file)
        } else {
            let file = Arc::new(File::open(&path).map_err(unreadable)?);
            open.insert((batch, errors), Arc::clone(&file));
            file
        };
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, at).map_err(unreadable)?;
        let valid = |text: &str| !text.starts_with('{') || json::members(text).is_ok();
        match String::from_utf8(bytes) {
            Ok(text) if valid(&text) => Ok(text.into_boxed_str()),
            _ => Err(Error::new(Exit::Io, format!("{}: damaged at byte {at}", path.display()))
                .hint("`llbatch fetch` downloads the file again, if the service still has it")),
        }
    }
}

/// The name of the file with a batch's answers, in the job's directory.
pub fn answers_name(batch: u32) -> String {
    format!("batch-{batch}.output.jsonl")
}

/// The name of the file with a batch's failures, in the job's directory.
pub fn failures_name(batch: u32) -> String {
    format!("batch-{batch}.errors.jsonl")
}

/// The hash of a downloaded file. `None`: it cannot be read.
pub fn file_hash(path: &Path) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).ok()?).ok()?;
    Some(hasher.finalize().to_hex().to_string())
}
