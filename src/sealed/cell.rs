//! A text that many tasks read, and that one of them at a time replaces: compare and swap, in a directory or an object.
//!
//! In a directory, each text is a file with the next number, made by a link that only one process can make. The file with
//! the highest number counts, and is never removed before a higher one is there. A caching file system may show an old
//! directory, but it makes no file twice.

use std::fs::{OpenOptions, read_to_string, remove_file};
use std::io::{ErrorKind, Result as IoResult, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::dir::{PartPlace, entries, make};
use crate::atomic_file::remove_abandoned;
use crate::error::{Error, Result};
use crate::objects::{ObjectBucket, SwapVersion};

/// The ending of the files' names.
const ENDING: &str = ".owner";
/// Looks at a directory in which the last file is being replaced.
const LOOKS: u32 = 3;
/// Files that killed processes did not get to link are this old.
const ABANDONED: Duration = Duration::from_hours(24);
/// The pause before a text is read back, in a store that puts without conditions. Others have then put theirs.
const SETTLING: Duration = Duration::from_secs(2);

/// The place of the text.
#[derive(Debug, Clone)]
pub(super) enum RecordCell {
    /// A directory for it alone.
    Files(PathBuf),
    /// An object.
    Object {
        /// Its bucket.
        bucket: Arc<ObjectBucket>,
        /// Its key.
        key: String,
    },
}

/// The place of a text that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CellVersion {
    File(u64),
    Object(SwapVersion),
}

/// A text that was read, to replace it if it is still the one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CellText {
    /// The text. Empty or cut off: it is being written.
    pub text: String,
    version: CellVersion,
}

impl RecordCell {
    /// The cell `name` in the folder of a job's parts.
    ///
    /// # Errors
    /// 74 if its directory cannot be made.
    pub fn open(folder: &PartPlace, name: &str) -> Result<Self> {
        match folder.join(name) {
            PartPlace::File(dir) => {
                make(&dir)?;
                remove_abandoned(&dir, ABANDONED);
                Ok(Self::Files(dir))
            }
            PartPlace::Object { bucket, key } => Ok(Self::Object { bucket, key }),
        }
    }

    /// Reads the text. `None`: nobody has written one.
    ///
    /// # Errors
    /// 74 if it cannot be read; 66 or 75 from a store.
    pub fn read(&self) -> Result<Option<CellText>> {
        match self {
            Self::Files(dir) => {
                let mut last = None;
                for _ in 0..LOOKS {
                    let Some(number) = numbers(dir)?.pop() else { return Ok(None) };
                    let version = CellVersion::File(number);
                    match read_to_string(file(dir, number)) {
                        Ok(text) => return Ok(Some(CellText { text, version })),
                        // The next one has replaced it. NFS says so with a stale handle.
                        Err(error)
                            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle) =>
                        {
                            last = Some(CellText { text: String::new(), version });
                        }
                        Err(error) => return Err(unusable(dir, error)),
                    }
                }
                Ok(last)
            }
            Self::Object { bucket, key } => Ok(bucket.read_to_swap(key)?.map(|(bytes, version)| {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                CellText { text, version: CellVersion::Object(version) }
            })),
        }
    }

    /// Replaces the text `before`; `None`: there was none. Returns false if another process was faster.
    /// `text` is one that nobody has written before.
    ///
    /// # Errors
    /// 74 if it cannot be written, 75 if the store cannot be reached.
    pub fn swap(&self, before: Option<&CellText>, text: &str) -> Result<bool> {
        match self {
            Self::Files(dir) => {
                let number = match before {
                    Some(CellText { version: CellVersion::File(number), .. }) => number + 1,
                    _ => 1,
                };
                add(dir, number, text)
            }
            Self::Object { bucket, key } => {
                let before = match before {
                    Some(CellText { version: CellVersion::Object(version), .. }) => Some(version),
                    _ => None,
                };
                // The answer to a request that was done may have been lost.
                Ok(bucket.swap(key, text.to_owned().into(), before)? || self.holds(text)?)
            }
        }
    }

    /// Returns true if the text, which this process has just put, is there to stay. Some stores put without conditions.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn has_settled(&self, text: &str) -> Result<bool> {
        match self {
            Self::Files(_) => Ok(true),
            // A store that heeds conditions refuses to make what is there.
            Self::Object { bucket, key } if !bucket.swap(key, text.to_owned().into(), None)? => Ok(true),
            Self::Object { .. } => {
                std::thread::sleep(SETTLING);
                self.holds(text)
            }
        }
    }

    fn holds(&self, text: &str) -> Result<bool> {
        Ok(self.read()?.is_some_and(|found| found.text == text))
    }
}

/// Makes the file of this number, if no other process does. Returns whether this one did, and no later one is there.
fn add(dir: &Path, number: u64, text: &str) -> Result<bool> {
    let path = file(dir, number);
    let made = create(dir, &path, text).map_err(|error| unusable(dir, error))?;
    // A server may have made the link, and its answer was lost.
    if !made && read_to_string(&path).ok().as_deref() != Some(text) {
        return Ok(false);
    }
    // A listing may miss a file that appears while the one before it goes.
    let found = [numbers(dir)?, numbers(dir)?].concat();
    if found.iter().any(|other| *other > number) {
        drop(remove_file(path));
        return Ok(false);
    }
    for older in found.into_iter().filter(|other| *other < number) {
        drop(remove_file(file(dir, older)));
    }
    Ok(true)
}

fn create(dir: &Path, path: &Path, text: &str) -> IoResult<bool> {
    let mut new = tempfile::Builder::new().prefix(".owner.llbatch-").suffix(".tmp").tempfile_in(dir)?;
    new.write_all(text.as_bytes())?;
    match std::fs::hard_link(new.path(), path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // Some file systems have no links.
        Err(_) => match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            // Half a record would stand for a new owner.
            Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).inspect_err(|_| drop(remove_file(path))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
    }
}

fn file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}{ENDING}"))
}

/// The numbers of the files, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>> {
    let number = |path: PathBuf| path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok();
    let mut numbers: Vec<u64> = entries(dir)?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn unusable(dir: &Path, error: std::io::Error) -> Error {
    Error::io(format!("{}: cannot be used", dir.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell() -> (tempfile::TempDir, RecordCell) {
        let dir = tempfile::tempdir().unwrap();
        let cell = RecordCell::open(&PartPlace::File(dir.path().to_owned()), "cell").unwrap();
        (dir, cell)
    }

    #[test]
    fn text_is_replaced_only_by_those_who_have_read_it() {
        let (_dir, cell) = cell();
        assert_eq!(cell.read().unwrap(), None);
        assert!(cell.swap(None, "a").unwrap());
        let first = cell.read().unwrap().unwrap();
        assert_eq!(first.text, "a");
        assert!(!cell.swap(None, "b").unwrap(), "it was there");
        assert!(cell.swap(Some(&first), "c").unwrap());
        assert!(!cell.swap(Some(&first), "d").unwrap(), "it was another one");
        // One that slept while the files of then were removed.
        let second = cell.read().unwrap().unwrap();
        assert!(cell.swap(Some(&second), "e").unwrap());
        assert!(!cell.swap(None, "f").unwrap());
        assert!(!cell.swap(Some(&first), "g").unwrap());
        assert_eq!(cell.read().unwrap().unwrap().text, "e");
        let RecordCell::Files(dir) = &cell else { panic!("a directory") };
        assert_eq!(entries(dir).unwrap(), [file(dir, 3)], "older files are removed");
    }

    #[test]
    fn one_of_many_at_once_wins_each_round() {
        let (_dir, cell) = cell();
        let wins = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (cell, wins) = (&cell, &wins);
                scope.spawn(move || {
                    for round in 0..100 {
                        let before = cell.read().unwrap();
                        if cell.swap(before.as_ref(), &format!("{writer} {round}")).unwrap() {
                            wins.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let last = numbers(&match &cell {
            RecordCell::Files(dir) => dir.clone(),
            RecordCell::Object { .. } => panic!("a directory"),
        });
        // A winner that is overtaken before it has looked around counts as one that lost.
        let (last, wins) = (last.unwrap(), wins.into_inner());
        assert!(last.len() == 1 && wins <= last[0] && wins > 0, "{last:?} {wins}");
    }
}
