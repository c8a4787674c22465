//! The directory of parts.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::JobMark;
use crate::error::{Error, Result};

/// The ending of a part's name.
pub(super) const ENDING: &str = ".part.jsonl";

/// A directory of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswersDir {
    path: PathBuf,
}

impl AnswersDir {
    /// The directory at `path`, which is made when it is missing.
    ///
    /// # Errors
    /// 74 if it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        make(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The directory at `path`, which is only read.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a job's parts, which is made when it is missing.
    pub(super) fn make_for(&self, of: &JobMark) -> Result<PathBuf> {
        let dir = self.dir_of(of);
        make(&dir)?;
        Ok(dir)
    }

    /// The parts of a job, by name.
    ///
    /// # Errors
    /// 74 if the directory cannot be read.
    pub fn parts_of(&self, of: &JobMark) -> Result<Vec<PathBuf>> {
        parts_in(&self.dir_of(of))
    }

    /// The parts of all jobs, by name, and those that lie in the directory itself: it may be that of one job.
    ///
    /// # Errors
    /// 74 if the directory cannot be read.
    pub fn all_parts(&self) -> Result<Vec<PathBuf>> {
        let mut parts = parts_in(&self.path)?;
        for dir in entries(&self.path)?.into_iter().filter(|entry| entry.is_dir()) {
            parts.append(&mut parts_in(&dir)?);
        }
        Ok(parts)
    }

    fn dir_of(&self, of: &JobMark) -> PathBuf {
        let shard = of.shard.as_deref().map_or_else(|| "whole".to_owned(), |shard| shard.replace('/', "-of-"));
        self.path.join(format!("{shard}-{}", of.content))
    }
}

fn parts_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut parts = entries(dir)?;
    // A name that begins with a dot is that of a part that is being written.
    parts.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(ENDING) && !name.starts_with('.')
    });
    Ok(parts)
}

/// The paths in a directory, sorted. None if it is missing.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| Error::io(format!("{}: cannot be read", dir.display()), error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.sort_unstable();
    Ok(paths)
}

fn make(dir: &Path) -> Result<()> {
    // Answers are private, as they are in the state directory.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Error::io(format!("{}: cannot be made", dir.display()), error))
}
