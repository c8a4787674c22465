//! The downloaded files of a job's batches, where the bodies of answers stay.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::batches::BodyPlace;
use super::file_window::FileWindow;
use crate::error::{Error, Exit, Result};
use crate::json;

/// Bytes that are read at once where bodies follow each other. Each open file has as many in memory.
const WINDOW: usize = 16 << 10;
/// The most bytes between two bodies that follow each other: the rest of a line, and the start of the next one.
const BETWEEN: u64 = 1 << 10;

/// The answer files of one job, opened as they are needed.
#[derive(Debug)]
pub(super) struct AnswerFiles {
    dir: PathBuf,
    open: RefCell<HashMap<AnswerFileName, AnswerFile>>,
    /// Files whose content was just verified as a whole. Their bodies are not parsed again.
    pub(super) verified: HashSet<AnswerFileName>,
}

/// The number of a batch, and whether it is its file of failures.
pub type AnswerFileName = (u32, bool);

/// An open file, and the part of it that was read last.
#[derive(Debug)]
struct AnswerFile {
    file: File,
    window: FileWindow,
    verified: bool,
}

impl AnswerFile {
    /// Reads a body. Those that follow each other share a system call. A service may write its answers in any order, so a
    /// body that does not follow the last one is read alone.
    fn read(&mut self, place: BodyPlace) -> std::io::Result<Vec<u8>> {
        let Self { file, window, .. } = self;
        if window.held(place).is_none() {
            let follows = place.at.checked_sub(window.end()).is_some_and(|between| between <= BETWEEN);
            if !follows || place.len as usize > WINDOW {
                let mut bytes = vec![0; place.len as usize];
                file.read_exact_at(&mut bytes, place.at)?;
                window.jump(place.at + u64::from(place.len));
                return Ok(bytes);
            }
            window.read(file, place.at, WINDOW)?;
        }
        window.held(place).map(<[u8]>::to_vec).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

impl AnswerFiles {
    /// The answer files beside a job's database.
    pub(super) fn new(db: &Path) -> Self {
        Self { dir: db.with_extension(""), open: RefCell::default(), verified: HashSet::new() }
    }

    /// Reads the body at a place in a batch's files.
    pub(super) fn body(&self, batch: u32, place: BodyPlace) -> Result<Box<str>> {
        let BodyPlace { errors, at, .. } = place;
        let path = self.dir.join(if errors { failures_name(batch) } else { answers_name(batch) });
        let unreadable = |e: std::io::Error| {
            Error::io(format!("{}: the answers that were downloaded cannot be read", path.display()), e)
                .hint("`llbatch fetch` downloads the file again, if the service still has it")
        };
        let mut open = self.open.borrow_mut();
        let file = match open.entry((batch, errors)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let file = File::open(&path).map_err(unreadable)?;
                let verified = self.verified.contains(&(batch, errors));
                new.insert(AnswerFile { file, window: FileWindow::default(), verified })
            }
        };
        let bytes = file.read(place).map_err(unreadable)?;
        let valid = |text: &str| file.verified || !text.starts_with('{') || json::is_valid(text);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_same_in_any_order_and_of_any_length() {
        let dir = tempfile::tempdir().unwrap();
        let files = AnswerFiles::new(&dir.path().join("j-1.db"));
        std::fs::create_dir(dir.path().join("j-1")).unwrap();
        let (mut text, mut bodies) = (String::new(), Vec::new());
        for row in 0..400_usize {
            let body =
                format!("{{\"row\":{row},\"text\":\"{}\"}}", "é".repeat(if row % 90 == 7 { 20_000 } else { row }));
            text += "{\"custom_id\":\"a\",\"body\":";
            let place = BodyPlace { errors: false, at: text.len() as u64, len: body.len() as u32 };
            text += &body;
            text += if row % 50 == 3 { "}\n\n" } else { "}\n" };
            bodies.push((place, body));
        }
        std::fs::write(dir.path().join("j-1").join(answers_name(1)), &text).unwrap();
        let forward = 0..bodies.len();
        let shuffled = forward.clone().map(|n| n * 171 % 400);
        let pairs = forward.clone().map(|n| n ^ 1);
        for at in forward.clone().chain(shuffled).chain(forward.clone().rev()).chain(pairs).chain(forward) {
            let (place, body) = &bodies[at];
            assert_eq!(*files.body(1, *place).unwrap(), **body, "body {at}");
        }
        let beyond = BodyPlace { at: text.len() as u64 - 1, len: 5, errors: false };
        assert!(files.body(1, beyond).is_err());
    }
}
