//! Where batch files lie: written beside their places, and put there all together when the last one is complete.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::atomic_file::{AtomicFile, remove_stale};
use crate::error::Result;
use crate::split::{Opened, ShardFile};

/// Files that may be open at the same time: those being filled, and those that wait to be put in place.
const OPEN_FILES: u64 = 65_536;
/// Characters of a model's name in a file's name.
const SLUG: usize = 100;

/// Batch files on their way to their places. Dropped before [`Stage::commit`], none is left.
#[derive(Debug, Default)]
pub struct Stage {
    mode: u32,
    held: Rc<RefCell<Vec<AtomicFile>>>,
}

impl Stage {
    /// Files get `mode` (such as 0o666) less the umask, or keep what they have.
    pub fn new(mode: u32) -> Self {
        // Where it cannot be raised, the error of the file too many says so.
        let _ = rlimit::increase_nofile_limit(OPEN_FILES);
        Self { mode, held: Rc::default() }
    }

    /// A shard's file, to be put at `path`.
    pub fn open(&self, path: PathBuf) -> Result<Opened> {
        let _ = remove_stale(&path);
        let file = AtomicFile::create(&path, self.mode)?;
        Ok(Opened { path, file: Box::new(Staged { file, held: Rc::clone(&self.held) }) })
    }

    /// Makes every finished file durable and puts it in its place.
    ///
    /// # Errors
    /// I/O (74); files up to that one are in place.
    pub fn commit(self) -> Result<()> {
        self.held.take().into_iter().try_for_each(AtomicFile::commit)
    }
}

struct Staged {
    file: AtomicFile,
    held: Rc<RefCell<Vec<AtomicFile>>>,
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl ShardFile for Staged {
    fn finish(mut self: Box<Self>) -> Result<()> {
        self.file.flush().map_err(|e| {
            let path = self.file.path().display();
            crate::error::Error::io(format_args!("{path}: cannot write"), e)
        })?;
        self.held.borrow_mut().push(self.file);
        Ok(())
    }
}

/// A file that is only counted.
pub fn uncounted(path: &Path) -> Opened {
    struct Nowhere(io::Sink);
    impl Write for Nowhere {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl ShardFile for Nowhere {
        fn finish(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }
    Opened { path: path.to_owned(), file: Box::new(Nowhere(io::sink())) }
}

/// A file name for a shard: readable, safe in every shell and on every file system, and no other shard's, because of its
/// number.
pub fn file_name(number: u32, model: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let slug: String = model.chars().map(safe).take(SLUG).collect();
    // No hidden file, and nothing that reads as a flag.
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
            opened.file.write_all(name.as_bytes()).unwrap();
            opened.file.finish().unwrap();
        };
        let stage = Stage::new(0o666);
        fill(&stage, "a");
        fill(&stage, "b");
        let unfinished = stage.open(dir.path().join("c")).unwrap();
        assert!(!dir.path().join("a").exists());
        drop((stage, unfinished));
        assert_eq!(names(), 0, "nothing is left");

        let stage = Stage::new(0o666);
        fill(&stage, "a");
        fill(&stage, "b");
        stage.commit().unwrap();
        assert_eq!(names(), 2);
        assert_eq!(std::fs::read_to_string(dir.path().join("b")).unwrap(), "b");
    }
}
