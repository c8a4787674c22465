//! Batch files on their way to their places: written beside them, and put there together when the last one is complete.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::atomic_file::{AtomicFile, ObjectHelp, remove_stale};
use crate::error::{Error, Result};

/// Files that may be open at the same time: those being filled, and those that wait for the others.
const OPEN_FILES: u64 = 65_536;
/// Characters of a model's name in a file's name.
const SLUG: usize = 100;

/// A file that takes the lines of a batch.
pub trait BatchFileSink: Write {
    /// Ends the file: all lines are written.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// The file of a new batch, open and empty.
pub struct NewBatchFile {
    /// Its name.
    pub path: PathBuf,
    /// Takes the lines; it buffers, since they come one by one.
    pub sink: Box<dyn BatchFileSink>,
}

/// Batch files that appear together. If it is dropped before [`Stage::commit`], no file is left.
#[derive(Debug, Default)]
pub struct Stage {
    mode: u32,
    /// The directory for files on their way to a store.
    scratch: PathBuf,
    complete: Rc<RefCell<Vec<AtomicFile>>>,
}

impl Stage {
    /// Gives new files `mode` (such as 0o666) less the umask; replaced files keep theirs. Files on their way to a store lie
    /// in `scratch`.
    pub fn new(mode: u32, scratch: &Path) -> Self {
        // If the limit cannot be raised, opening one file too many gives an error.
        let _ = rlimit::increase_nofile_limit(OPEN_FILES);
        Self { mode, scratch: scratch.to_owned(), complete: Rc::default() }
    }

    /// Opens a file that [`Stage::commit`] puts at `path`.
    pub fn open(&self, path: PathBuf) -> Result<NewBatchFile> {
        let _ = remove_stale(&path);
        let scratch = || Ok(self.scratch.clone());
        let warn = |text: &str| tracing::warn!("{text}");
        let file = AtomicFile::open(&path, self.mode, &ObjectHelp { scratch: &scratch, warn: &warn })?;
        Ok(NewBatchFile { path, sink: Box::new(StagedFile { file, complete: Rc::clone(&self.complete) }) })
    }

    /// Makes every complete file durable and puts it in its place.
    ///
    /// # Errors
    /// 74 if that fails; files up to that one are in place.
    pub fn commit(self) -> Result<()> {
        self.complete.take().into_iter().try_for_each(AtomicFile::commit)
    }
}

struct StagedFile {
    file: AtomicFile,
    complete: Rc<RefCell<Vec<AtomicFile>>>,
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BatchFileSink for StagedFile {
    fn finish(mut self: Box<Self>) -> Result<()> {
        self.file.flush().map_err(|e| {
            let path = self.file.path().display();
            Error::io(format_args!("{path}: cannot write"), e)
        })?;
        self.complete.borrow_mut().push(self.file);
        Ok(())
    }
}

/// Makes a file that takes lines and keeps none of them.
pub(super) fn uncounted(path: &Path) -> NewBatchFile {
    struct Nowhere(io::Sink);
    impl Write for Nowhere {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl BatchFileSink for Nowhere {
        fn finish(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }
    NewBatchFile { path: path.to_owned(), sink: Box::new(Nowhere(io::sink())) }
}

/// Makes the file name of a batch: readable, safe in every shell and on every file system, and unique by its number.
pub fn file_name(number: u32, model: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let slug: String = model.chars().map(safe).take(SLUG).collect();
    // Neither a hidden file nor a name that reads as a flag.
    let slug = slug.trim_matches(['.', '-']);
    let slug = if slug.is_empty() { "model" } else { slug };
    format!("{slug}-{number:03}.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_harmless() {
        for (number, model, name) in [
            (1, "meta-llama/Llama-3.3-70B-Instruct-Turbo", "meta-llama-Llama-3.3-70B-Instruct-Turbo-001.jsonl"),
            (1_234, "m", "m-1234.jsonl"),
            (2, "../../etc/passwd", "etc-passwd-002.jsonl"),
            (3, "-rf ~\n\u{1b}[31m", "rf-----31m-003.jsonl"),
            (4, "/é/", "model-004.jsonl"),
        ] {
            assert_eq!(file_name(number, model), name);
        }
        assert!(file_name(u32::MAX, &"x/".repeat(5_000)).len() < 200);
    }

    #[test]
    fn files_appear_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let fill = |stage: &Stage, name: &str| {
            let mut opened = stage.open(dir.path().join(name)).unwrap();
            opened.sink.write_all(name.as_bytes()).unwrap();
            opened.sink.finish().unwrap();
        };
        let stage = Stage::new(0o666, dir.path());
        fill(&stage, "a");
        fill(&stage, "b");
        let unfinished = stage.open(dir.path().join("c")).unwrap();
        assert!(!dir.path().join("a").exists());
        drop((stage, unfinished));
        assert_eq!(names(), 0, "nothing is left");

        let stage = Stage::new(0o666, dir.path());
        fill(&stage, "a");
        fill(&stage, "b");
        stage.commit().unwrap();
        assert_eq!(names(), 2);
        assert_eq!(std::fs::read_to_string(dir.path().join("b")).unwrap(), "b");
    }
}
